package hub_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

var (
	tokenAlphabet = regexp.MustCompile(`^[A-Za-z0-9._~-]{20,1000}$`)
	streamURL     = regexp.MustCompile(`^wss://localhost:[0-9]+/bridges/[0-9a-f]{32}$`)
)

func TestInitiateAccepted(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	asked := w.open("pi-1", "A-z.0_~", "30", "30")
	r := d.next()
	d.answer(r, 200)
	got := asked.answer()

	if got.status != 200 || got.body != "" || got.header.Get("Content-Length") != "0" {
		t.Errorf("answer is %d with %q, want 200 and nothing", got.status, got.body)
	}
	if v := got.header.Get("iothub-streaming-is-accepted"); v != "True" {
		t.Errorf("is-accepted is %q", v)
	}
	url, token := got.header.Get("iothub-streaming-url"), got.header.Get("iothub-streaming-auth-token")
	for side, v := range map[string][2]string{"device": {r.URL, r.Token}, "service": {url, token}} {
		if !streamURL.MatchString(v[0]) || len(v[0]) >= 1024 {
			t.Errorf("%s's URL is %q", side, v[0])
		}
		if !tokenAlphabet.MatchString(v[1]) {
			t.Errorf("%s's token is %q", side, v[1])
		}
	}
	if token == r.Token {
		t.Error("both sides have the same token")
	}
	if r.Name != "A-z.0_~" || r.RID != "1" {
		t.Errorf("device was asked %+v", r)
	}
}

// Each side gets its URL under the name by which it knows the hub, if it is one of
// the hub's, with the port that clients see.
func TestInitiateHosts(t *testing.T) {
	w := newWorld(t, hub.Options{Hosts: []string{"hub.example.test:8443", "other.example.test"}})
	port := w.Hub.URL()[strings.LastIndex(w.Hub.URL(), ":")+1:]
	if port != "8443" {
		t.Fatalf("hub's URL is %s", w.Hub.URL())
	}
	_, bound, _ := strings.Cut(w.Hub.Address().String(), ":")
	for used, want := range map[string]string{
		"hub.example.test":        "wss://hub.example.test:8443/",
		"HUB.example.test:1":      "wss://hub.example.test:8443/",
		"other.example.test":      "wss://other.example.test:" + bound + "/",
		"127.0.0.1:5":             "wss://127.0.0.1:" + bound + "/",
		"[::1]:5":                 "wss://[::1]:" + bound + "/",
		"evil.example.test":       "wss://hub.example.test:8443/",
		"hub.example.test.evil.x": "wss://hub.example.test:8443/",
	} {
		l := w.login(w.AddDevice(fmt.Sprintf("%x", used)))
		l.host = used
		d := w.connected(l)
		d.subscribe()
		asked := w.open(d.id, "shell", "", "")
		r := d.next()
		d.answer(r, 200)
		if !strings.HasPrefix(r.URL, want) {
			t.Errorf("device that knows the hub as %q got %s", used, r.URL)
		}
		if url, _ := asked.accepted(); !strings.HasPrefix(url, "wss://hub.example.test:8443/") {
			t.Errorf("service got %s", url)
		}
	}
}

func TestInitiateRejected(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	for _, status := range []int{400, 199, 300, 500} {
		asked := w.open("pi-1", "shell", "", "")
		r := d.next()
		d.answer(r, status)
		got := asked.answer()
		if got.status != 200 || got.body != "" || got.header.Get("iothub-streaming-is-accepted") != "False" ||
			got.header["Iothub-Streaming-Url"] != nil || got.header["Iothub-Streaming-Auth-Token"] != nil {
			t.Errorf("device said %d: answer is %d %v %q", status, got.status, got.header, got.body)
		}
		ws, a := w.tryLeg(r.URL, "Bearer "+r.Token)
		if ws != nil {
			t.Fatal("the device's leg could join a stream that it rejected")
		}
		a.wants(t, wire.ErrStreamGone)
	}
	eventually(t, "all streams are forgotten", w.Hub.TestIdle)
}

func TestInitiateOffline(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	for _, connect := range []string{"", "0", "0.0"} {
		if e := w.open("pi-1", "shell", connect, "30").answer().wants(t, wire.ErrDeviceNotOnline); e.Message != "device is not connected" {
			t.Errorf("connect time-out %q: %q", connect, e.Message)
		}
	}
	start := time.Now()
	got := w.open("pi-1", "shell", "0.6", "30").answer()
	got.wants(t, wire.ErrDeviceNotOnline)
	if waited := time.Since(start); waited < 600*time.Millisecond {
		t.Errorf("a connect time-out of 0.6 s ended after %s", waited)
	}
	if !strings.Contains(got.body, `\"info\":{\"timeout\":\"00:00:01\"}`) {
		t.Errorf("no time-out in %s", got.body)
	}

	d := w.device(cs)
	d.conn.Close()
	w.Log.WaitFor(t, "device disconnected", "device=pi-1")
	if e := w.open("pi-1", "shell", "", "").answer().wants(t, wire.ErrDeviceNotOnline); !strings.HasPrefix(e.Message, "device is not connected (last seen ") {
		t.Errorf("%q does not say when the device was seen", e.Message)
	}
	eventually(t, "all streams are forgotten", w.Hub.TestIdle)
}

func TestInitiateDeviceComes(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	first, second := w.open("pi-1", "a", "30", "30"), w.open("pi-1", "b", "30", "30")
	eventually(t, "two requests wait", func() bool { return w.Hub.TestWaiting("pi-1") == 2 })
	d := w.device(cs)
	for range 2 {
		d.answer(d.next(), 200)
	}
	first.accepted()
	second.accepted()
	if n := w.Hub.TestWaiting("pi-1"); n != 0 {
		t.Errorf("%d requests still wait", n)
	}
}

// A device that is connected but does not listen to stream requests is as good as
// offline, until it does.
func TestInitiateNeverSubscribed(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.connected(w.login(w.AddDevice("pi-1")))
	d.ping()
	w.open("pi-1", "shell", "", "30").answer().wants(t, wire.ErrDeviceNotOnline)
	w.open("pi-1", "shell", "0.2", "30").answer().wants(t, wire.ErrDeviceNotOnline)
	asked := w.open("pi-1", "shell", "30", "30")
	eventually(t, "the request waits", func() bool { return w.Hub.TestWaiting("pi-1") == 1 })
	d.subscribe()
	d.answer(d.next(), 200)
	asked.accepted()
}

func TestInitiateSilentDevice(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	start := time.Now()
	asked := w.open("pi-1", "shell", "30", "0.75")
	r := d.next()
	got := asked.answer()
	if waited := time.Since(start); waited < 750*time.Millisecond {
		t.Errorf("a response time-out of 0.75 s ended after %s", waited)
	}
	if e := got.wants(t, wire.ErrGatewayTimeout); e.Number != 504101 || e.Message != "device did not answer" {
		t.Errorf("error is %+v", e)
	}
	if !strings.Contains(got.body, `\"info\":{\"timeout\":\"00:00:01\"}`) {
		t.Errorf("no time-out in %s", got.body)
	}
	d.answer(r, 200) // too late: ignored
	d.ping()
	if ws, a := w.tryLeg(r.URL, "Bearer "+r.Token); ws != nil {
		t.Error("the leg of a stream that timed out could join")
	} else {
		a.wants(t, wire.ErrStreamGone)
	}
}

func TestInitiateNoSuchDevice(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.AddDevice("off")
	w.disable("off")
	for device, message := range map[string]string{
		"pi-9": `no device "pi-9"`,
		"off":  `device "off" is disabled`,
		"PI-9": `no device "PI-9"`,
	} {
		got := w.open(device, "shell", "30", "30").answer()
		if e := got.wants(t, wire.ErrDeviceNotFound); e.Message != message {
			t.Errorf("%q: %q, want %q", device, e.Message, message)
		}
		if !strings.HasPrefix(got.body, `{"Message":"ErrorCode:DeviceNotFound;`) || !strings.Contains(got.body, `"ExceptionMessage":"Tracking ID:`) {
			t.Errorf("%q: body %s", device, got.body)
		}
	}
}

func TestInitiateHandshakeTimeout(t *testing.T) {
	w := newWorld(t, hub.Options{HandshakeTimeout: 500 * time.Millisecond})
	d := w.device(w.AddDevice("pi-1"))
	w.AddDevice("off")

	// A device that was never there is offline, whichever time ran out: the C# SDK
	// asks for as long a connect time-out as the handshake may take.
	offline := w.open("off", "shell", "60", "60")
	silent := w.open("pi-1", "silent", "60", "60")
	d.next()
	joins := w.open("pi-1", "joins", "60", "60")
	r := d.next()
	d.answer(r, 200)
	joins.accepted()
	leg := w.leg(r.URL, r.Token)

	ends(t, leg, wire.EndExpired)
	offline.answer().wants(t, wire.ErrDeviceNotOnline)
	silent.answer().wants(t, wire.ErrGatewayTimeout)
	w.Log.WaitFor(t, "stream ended", "name=joins", "reason=expired", "joined=false")
	w.Log.WaitFor(t, "stream ended", "name=silent", "reason=expired")
	eventually(t, "all streams are forgotten", w.Hub.TestIdle)

	again := w.stream(d)
	w.Log.WaitFor(t, "stream opened", "device=pi-1")
	again.echo(t)
}

func TestInitiateDeviceGone(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	d := w.device(cs)
	at := w.open("pi-1", "at-once", "", "30")
	d.next()
	w.DropControl("pi-1")
	at.answer().wants(t, wire.ErrDeviceNotOnline)
	d.ended()

	// With a connect time-out the request goes to the device's next connection.
	d = w.device(cs)
	patient := w.open("pi-1", "patient", "30", "30")
	d.next()
	w.DropControl("pi-1")
	d = w.device(cs)
	d.answer(d.next(), 200)
	patient.accepted()
}

// The service that asked has gone: the stream is not kept for it.
func TestInitiateServiceGone(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	w.AddDevice("off")
	for _, body := range []string{"", "a payload, as in the preview of 2018"} {
		asked := w.openAs("pi-1", "asked", body, "60", "60") // longer than the test has patience
		r := d.next()
		waits := w.openAs("off", "waits", body, "60", "60")
		eventually(t, "the request waits", func() bool { return w.Hub.TestWaiting("off") == 1 })
		asked.cancel()
		waits.cancel()
		eventually(t, "all streams are forgotten", w.Hub.TestIdle)
		d.answer(r, 200)
		d.ping()
		if ws, _ := w.tryLeg(r.URL, "Bearer "+r.Token); ws != nil {
			t.Error("the leg could join")
		}
	}
	w.Log.WaitFor(t, "stream ended", "name=asked", "reason=aborted")
	w.Log.WaitFor(t, "stream ended", "name=waits", "reason=aborted")
}

// Whoever waits for a device that is taken away need not wait on.
func TestInitiateRevoked(t *testing.T) {
	w := newWorld(t, hub.Options{})
	for id, take := range map[string]func(){
		"disabled": func() { w.disable("disabled") },
		"deleted":  func() { w.as("DELETE", "/devices/deleted", "", nil) },
	} {
		w.AddDevice(id)
		asked := w.open(id, "shell", "30", "30")
		eventually(t, "the request waits", func() bool { return w.Hub.TestWaiting(id) == 1 })
		take()
		asked.answer().wants(t, wire.ErrDeviceNotFound)
		w.Log.WaitFor(t, "stream ended", "device="+id, "reason=revoked")
	}
	eventually(t, "all streams are forgotten", w.Hub.TestIdle)
}

func TestInitiateLimits(t *testing.T) {
	w := newWorld(t, hub.Options{MaxStreams: 2, MaxStreamsPerDevice: 1})
	a, b, c := w.device(w.AddDevice("a")), w.device(w.AddDevice("b")), w.device(w.AddDevice("c"))
	first := w.stream(a)
	e := w.open("a", "shell", "", "").answer().wants(t, wire.ErrThrottling)
	if e.Message != "the device's limit of open streams is reached" {
		t.Errorf("device's limit: %q", e.Message)
	}
	w.stream(b)
	e = w.open("c", "shell", "", "").answer().wants(t, wire.ErrThrottling)
	if e.Number != 429001 || e.Message != "the hub's limit of open streams is reached" {
		t.Errorf("hub's limit: %+v", e)
	}
	first.echo(t)
	first.device.Close()
	w.Log.WaitFor(t, "stream ended", "device=a")
	w.stream(c)
	c.ping()
}

// A device that lets requests lie is not asked for more at some point.
func TestInitiatePending(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	var waiting []*post
	for range 64 { // security.md T31
		waiting = append(waiting, w.open("pi-1", "shell", "", "30"))
	}
	first := d.next()
	for range 63 {
		d.next()
	}
	w.open("pi-1", "shell", "", "30").answer().wants(t, wire.ErrThrottling)
	d.answer(first, 200)
	d.ping()
	again := w.open("pi-1", "again", "", "30")
	d.answer(d.next(), 200)
	again.accepted()
	for _, p := range waiting {
		p.cancel()
	}
}

func TestInitiateBadRequests(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.AddDevice("pi-1")
	for _, seconds := range []string{"-1", "abc", "1e2", "+1", "300.1", "301", "1,5", " ", "NaN", "Inf", "0x1p-2", "1.2.3", ".", "99999999999999999999"} {
		for _, header := range []string{wire.HeaderConnectTimeout, wire.HeaderResponseTimeout} {
			a := w.as("POST", "/twins/pi-1/streams/shell", "", http.Header{header: {seconds}})
			// net/http trims the blank, which leaves no header at all.
			if seconds == " " {
				a.wants(t, wire.ErrDeviceNotOnline)
				continue
			}
			a.wants(t, wire.ErrArgumentInvalid)
		}
	}
	for _, name := range []string{"a%20b", "a+b", "a%2Bb", "a$b", "%3Fx", "a:b", "a%26b", "%E2%82%AC", "a%00b", "a%0Ab", "a%252Fb", strings.Repeat("n", 129)} {
		w.as("POST", "/twins/pi-1/streams/"+name, "", nil).wants(t, wire.ErrArgumentInvalid)
	}
	for _, name := range []string{strings.Repeat("n", 128), "...", "~", "%41"} {
		w.as("POST", "/twins/pi-1/streams/"+name, "", nil).wants(t, wire.ErrDeviceNotOnline)
	}
	for _, path := range []string{"/twins/pi-1/streams/", "/twins/pi-1/streams", "/twins/pi-1/modules/m/streams", "/twins/pi-1/modules/m/streams/"} {
		w.as("POST", path, "", nil).wants(t, wire.ErrNotFound)
	}
	w.as("POST", "/twins/pi-1/streams/shell", strings.Repeat("x", 64<<10), nil).wants(t, wire.ErrDeviceNotOnline)
	w.as("POST", "/twins/pi-1/streams/shell", strings.Repeat("x", 64<<10+1), nil).wants(t, wire.ErrMessageTooLarge)
	if !w.Hub.TestIdle() {
		t.Error("a refused request left a stream")
	}
}
