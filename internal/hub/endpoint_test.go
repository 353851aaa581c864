package hub_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/wire"
)

// Either leg may come first, the device's even before its accept.
func TestLegOrders(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	for _, order := range []string{"device, accept, service", "accept, device, service", "accept, service, device"} {
		asked := w.open("pi-1", "shell", "", "")
		r := d.next()
		var p pair
		var url, token string
		for _, step := range strings.Split(order, ", ") {
			switch step {
			case "accept":
				d.answer(r, 200)
				url, token = asked.accepted()
			case "device":
				p.device = w.leg(r.URL, r.Token)
				send(t, p.device, "banner") // what comes early is kept
			case "service":
				p.service = w.leg(url, token)
				send(t, p.service, "hello")
			}
		}
		receive(t, p.service, "banner")
		receive(t, p.device, "hello")
		p.echo(t)
	}
}

// A stream token opens its own side of its own stream and nothing else. Every
// refusal is a 401 of the same words.
func TestLegTokens(t *testing.T) {
	w := newWorld(t, hub.Options{})
	other := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	foreign := other.device(other.AddDevice("pi-1"))
	other.open("pi-1", "shell", "", "")
	foreignToken := foreign.next().Token

	first, second := w.open("pi-1", "a", "", ""), w.open("pi-1", "b", "", "")
	r, r2 := d.next(), d.next()
	d.answer(r, 200)
	d.answer(r2, 200)
	first.answer()
	second.answer()
	expired, err := w.Hub.TestLegToken(r.Token, time.Now().Add(-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	body, mac, _ := strings.Cut(r.Token, ".")
	_, mac2, _ := strings.Cut(r2.Token, ".")
	for name, c := range map[string]struct{ url, authorization string }{
		"nothing":            {r.URL, ""},
		"an empty token":     {r.URL, "Bearer "},
		"garbage":            {r.URL, "Bearer garbage"},
		"no scheme":          {r.URL, r.Token},
		"another scheme":     {r.URL, "Basic " + r.Token},
		"a SAS token":        {r.URL, w.owner()},
		"a SAS as bearer":    {r.URL, "Bearer " + w.owner()},
		"the other stream":   {r2.URL, "Bearer " + r.Token},
		"no such stream":     {r.URL[:len(r.URL)-32] + strings.Repeat("0", 32), "Bearer " + r.Token},
		"another hub":        {r.URL, "Bearer " + foreignToken},
		"expired":            {r.URL, "Bearer " + expired.Reveal()},
		"no signature":       {r.URL, "Bearer " + body + "."},
		"the body alone":     {r.URL, "Bearer " + body},
		"another signature":  {r.URL, "Bearer " + body + "." + mac2},
		"a padded signature": {r.URL, "Bearer " + r.Token + "="},
		"a longer signature": {r.URL, "Bearer " + r.Token + "A"},
		"a space behind":     {r.URL, "Bearer  " + r.Token},
		"three parts":        {r.URL, "Bearer " + body + "." + body + "." + mac},
		"too long":           {r.URL, "Bearer " + strings.Repeat("x", 2000)},
	} {
		ws, got := w.tryLeg(c.url, c.authorization)
		if ws != nil {
			t.Errorf("%s: the leg joined", name)
			continue
		}
		if e := got.wants(t, wire.ErrUnauthorizedAccess); e.Message != "stream token is not valid" {
			t.Errorf("%s: %q", name, e.Message)
		}
	}
	// The tokens that were tried with the wrong thing are still good for the right one.
	w.leg(r.URL, r.Token)
	w.leg(r2.URL, r2.Token)
}

// A stream token gives no other right.
func TestLegTokenElsewhere(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	w.open("pi-1", "a", "", "")
	r := d.next()
	for _, authorization := range []string{"Bearer " + r.Token, r.Token, "SharedAccessSignature " + r.Token} {
		w.call(call{method: "GET", path: "/devices", auth: authorization}).wants(t, wire.ErrUnauthorizedAccess)
	}
	if _, code, err := w.connect(login{id: "pi-1", password: r.Token}); code != 5 || err != nil {
		t.Errorf("a stream token as password: CONNACK %d, %v", code, err)
	}
	d.ping()
}

func TestLegUsedTwice(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	p := w.stream(d)
	for side, token := range map[string]string{"device": p.deviceToken, "service": p.serviceToken} {
		ws, got := w.tryLeg(p.url, "Bearer "+token)
		if ws != nil {
			t.Fatalf("%s's token was good for a second leg", side)
		}
		got.wants(t, wire.ErrUnauthorizedAccess)
		p.echo(t)
		// Both sources are in the log.
		w.Log.WaitFor(t, "level=WARN", "leg refused", "device=pi-1", "side="+side, " remote=127.0.0.1:", " taken_from=127.0.0.1:")
	}
}

// A side's token is for that side: two bearers of the same one do not meet.
func TestLegSides(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	asked := w.open("pi-1", "a", "", "")
	r := d.next()
	d.answer(r, 200)
	url, token := asked.accepted()
	if w.Hub.SideOf(r.Token) != wire.SideDevice || w.Hub.SideOf(token) != wire.SideService {
		t.Errorf("the tokens are for the sides %q and %q", w.Hub.SideOf(r.Token), w.Hub.SideOf(token))
	}
	service := w.leg(url, token)
	if ws, got := w.tryLeg(url, "Bearer "+token); ws != nil {
		t.Fatal("the service took both sides")
	} else {
		got.wants(t, wire.ErrUnauthorizedAccess)
	}
	relayed(t, service, w.leg(r.URL, r.Token))
}

func TestLegAfterEnd(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	p := w.stream(d)
	p.device.Close()
	ends(t, p.service, wire.EndNetwork)
	w.Log.WaitFor(t, "stream ended", "reason=network", "joined=true", "up=4", "down=4", "device_remote=127.0.0.1:", "service_remote=127.0.0.1:")
	for _, token := range []string{p.deviceToken, p.serviceToken} {
		ws, got := w.tryLeg(p.url, "Bearer "+token)
		if ws != nil {
			t.Fatal("a leg joined a stream that has ended")
		}
		if e := got.wants(t, wire.ErrStreamGone); e.Status != http.StatusGone {
			t.Errorf("status %d", e.Status)
		}
	}
	if !w.Hub.TestIdle() {
		t.Error("the stream is not forgotten")
	}
}

// The gateway requires no subprotocol, echoes the first one offered, and declines
// compression.
func TestLegHandshake(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	for _, c := range []struct {
		offered []string
		want    string
	}{{nil, ""}, {[]string{"MQTT"}, "MQTT"}, {[]string{"AMQP", "HTTP"}, "AMQP"}} {
		asked := w.open("pi-1", "a", "", "")
		r := d.next()
		d.answer(r, 200)
		asked.answer()
		dialer := websocket.Dialer{TLSClientConfig: w.trust(), Subprotocols: c.offered, EnableCompression: true}
		ws, got, err := dialer.Dial(r.URL, http.Header{"Authorization": {"Bearer " + r.Token}})
		if err != nil {
			t.Fatal(err)
		}
		ws.Close()
		if ws.Subprotocol() != c.want || got.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("offered %q: got %q, extensions %q", c.offered, ws.Subprotocol(), got.Header.Get("Sec-WebSocket-Extensions"))
		}
	}
	// A good token without a WebSocket behind it ends the stream.
	asked := w.open("pi-1", "plain", "", "")
	r := d.next()
	d.answer(r, 200)
	asked.answer()
	if got := w.call(call{method: "GET", path: r.URL[strings.Index(r.URL, "/bridges"):], auth: "Bearer " + r.Token}); got.status != 400 {
		t.Errorf("no upgrade: %d", got.status)
	}
	w.Log.WaitFor(t, "stream ended", "name=plain", "reason=network", "joined=false")
}

// When the hub that had the name before is another one, its tokens mean nothing.
func TestLegOfRestartedHub(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	asked := w.open("pi-1", "a", "", "")
	r := d.next()
	d.answer(r, 200)
	asked.answer()
	address, dir := w.Hub.Address().String(), w.DataDir
	w.Stop()
	again := &world{hubtest.New(t, hub.Options{DataDir: dir, Listen: address}), t}
	ws, got := again.tryLeg(r.URL, "Bearer "+r.Token)
	if ws != nil {
		t.Fatal("the token of a stream outlived it")
	}
	got.wants(t, wire.ErrStreamGone)
}
