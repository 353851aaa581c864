package hub_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// end is one end of an extended stream, as far as the hub is concerned.
type end struct {
	w          *world
	url, token string
	secret     string
	joins      uint64
}

// extended opens an extended stream to a new device; nobody has joined.
func (w *world) extended(name string, window time.Duration) (d *device, device, service *end) {
	w.t.Helper()
	secret := wire.NewInstance()
	d = w.offering(name, wire.Offer{Instance: wire.InstanceID(secret), Window: window}.Word())
	device, service = w.openExtended(d, secret, window)
	return d, device, service
}

func (w *world) openExtended(d *device, secret string, window time.Duration) (device, service *end) {
	w.t.Helper()
	device, service = &end{w: w, secret: secret}, &end{w: w, secret: wire.NewInstance()}
	asked := w.openOffering(d.id, "shell", wire.Offer{Instance: wire.InstanceID(service.secret), Window: window}.Header())
	r := d.next()
	d.answer(r, wire.StatusAccept)
	device.url, device.token = r.URL, r.Token
	service.url, service.token = asked.accepted()
	return device, service
}

// try joins with a counter.
func (e *end) try(join uint64) (*stream.Leg, *stream.JoinError) {
	e.w.t.Helper()
	ctx, cancel := context.WithTimeout(e.w.t.Context(), patience)
	defer cancel()
	leg, fresh, err := stream.DialLeg(ctx, e.url, e.token, stream.LegJoin{Join: join, Secret: e.secret}, stream.DialOptions{TLS: e.w.trust()})
	if refused, ok := errors.AsType[*stream.JoinError](err); ok {
		return nil, refused
	}
	if err != nil {
		e.w.t.Fatal(err)
	}
	if fresh != "" {
		e.token = fresh
	}
	leg.LimitSilence(patience)
	e.w.t.Cleanup(leg.Drop)
	return leg, nil
}

// join joins once more.
func (e *end) join() *stream.Leg {
	e.w.t.Helper()
	e.joins++
	leg, refused := e.try(e.joins)
	if leg == nil {
		e.w.t.Fatalf("join %d: %v", e.joins, refused)
	}
	return leg
}

// wantRefused checks that the next join gets a status and a reason.
func (e *end) wantRefused(status int, reason wire.EndReason) {
	e.w.t.Helper()
	e.joins++
	leg, refused := e.try(e.joins)
	if leg != nil {
		e.w.t.Fatalf("join %d was admitted, want %d %q", e.joins, status, reason)
	}
	if refused.Status != status || refused.End != reason {
		e.w.t.Fatalf("join %d: %v, want %d %q", e.joins, refused, status, reason)
	}
}

func say(t *testing.T, leg *stream.Leg, data, text string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	if err := errors.Join(leg.WriteData([]byte(data), deadline), leg.WriteText([]byte(text), deadline)); err != nil {
		t.Fatal(err)
	}
}

// hear reads data, and then a text.
func hear(t *testing.T, leg *stream.Leg, data, text string) {
	t.Helper()
	got := ""
	buf := make([]byte, 1000)
	for {
		n, message, err := leg.Read(buf)
		got += string(buf[:n])
		switch {
		case err != nil:
			t.Fatalf("heard %q, then %v; want %q, %q", got, err, data, text)
		case message == nil:
		case got != data || string(message) != text:
			t.Fatalf("heard %q, %q; want %q, %q", got, message, data, text)
		default:
			return
		}
	}
}

// through sends something in each direction.
func through(t *testing.T, a, b *stream.Leg) {
	t.Helper()
	say(t, a, "ping", "A 1 2")
	hear(t, b, "ping", "A 1 2")
	say(t, b, "pong", "A 3 4")
	hear(t, a, "pong", "A 3 4")
}

// wantCode reads to the hub's close frame, and echoes it.
func wantCode(t *testing.T, leg *stream.Leg, code int, text string) {
	t.Helper()
	buf := make([]byte, 1000)
	for {
		_, _, err := leg.Read(buf)
		if err == nil {
			continue
		}
		closed, ok := errors.AsType[*stream.CloseFrame](err)
		if !ok || closed.Code != code || closed.Text != text {
			t.Fatalf("leg ended with %v, want %d %q", err, code, text)
		}
		leg.Close(code, text)
		return
	}
}

// The legs meet in any order, lose each other, and meet again.
func TestExtendedResume(t *testing.T) {
	w := newWorld(t, hub.Options{})
	_, device, service := w.extended("pi-1", time.Minute)
	d := device.join()
	say(t, d, "early", "H 1 0 65536 00000000")
	s := service.join()
	hear(t, s, "early", "H 1 0 65536 00000000")
	through(t, d, s)
	w.Log.WaitFor(t, "stream opened", "device=pi-1", "name=shell")

	d.Drop()
	wantCode(t, s, wire.ClosePeerAway, "peer away")
	w.Log.WaitFor(t, "stream waiting", "device=pi-1")
	s = service.join()
	d = device.join()
	through(t, s, d)
	w.Log.WaitFor(t, "stream resumed", "device=pi-1")

	// A new leg takes over.
	s2 := service.join()
	wantCode(t, s, wire.CloseReplaced, "replaced")
	wantCode(t, d, wire.ClosePeerAway, "peer away")
	d = device.join()
	through(t, s2, d)

	s2.Close(wire.CloseNormal, "")
	wantCode(t, d, wire.CloseEnded, "finished")
	w.Log.WaitFor(t, "stream ended", "reason=finished", "joined=true", "up=12", "down=17")
	device.wantRefused(http.StatusGone, wire.EndFinished)
	service.wantRefused(http.StatusGone, wire.EndFinished)
	if !w.Hub.TestIdle() {
		t.Error("the stream is not forgotten")
	}
}

// What a join is refused for (docs/farport-v1.md, section 2).
func TestExtendedRefused(t *testing.T) {
	w := newWorld(t, hub.Options{})
	_, device, service := w.extended("pi-1", time.Minute)
	d, s := device.join(), service.join()
	through(t, d, s)

	secret, token := device.secret, device.token
	device.secret = wire.NewInstance()
	device.wantRefused(http.StatusUnauthorized, wire.EndRefused)
	w.Log.WaitFor(t, "level=WARN", "it may have leaked", "device=pi-1", "side=device")
	device.secret, device.token = secret, token+"x"
	device.wantRefused(http.StatusUnauthorized, wire.EndRefused)
	expired, err := w.Hub.TestLegToken(token, time.Now().Add(-time.Second))
	if err != nil {
		t.Fatal(err)
	}
	device.token = expired.Reveal()
	device.wantRefused(http.StatusUnauthorized, wire.EndRefused)
	device.token = token

	if leg, refused := device.try(1); leg != nil || refused.Status != http.StatusConflict || refused.Highest != 1 || refused.End != "" {
		t.Errorf("a join that is not newer: %v", refused)
	}
	// The token is not for a plain stream, nor is what is not a WebSocket a join.
	if ws, got := w.tryLeg(device.url, "Bearer "+token); ws != nil || got.status != http.StatusBadRequest || got.header.Get(wire.HeaderEnd) != "" {
		t.Errorf("a plain leg with the token: %d %v", got.status, got.header)
	}
	path := device.url[strings.Index(device.url, wire.PathBridges):]
	header := http.Header{wire.HeaderJoin: {"7"}, wire.HeaderInstance: {secret}, "Sec-Websocket-Protocol": {wire.SubprotocolExtended}}
	if got := w.call(call{method: "GET", path: path, auth: "Bearer " + token, header: header}); got.status != http.StatusBadRequest {
		t.Errorf("no upgrade: %d", got.status)
	}
	through(t, d, s) // undisturbed
}

// A token without a resume window is for one use, and losing a leg ends the stream.
func TestExtendedWithoutResume(t *testing.T) {
	w := newWorld(t, hub.Options{})
	_, device, service := w.extended("pi-1", 0)
	d, s := device.join(), service.join()
	through(t, d, s)
	device.wantRefused(http.StatusUnauthorized, wire.EndRefused)
	through(t, d, s)
	s.Drop()
	wantCode(t, d, wire.CloseEnded, "lost")
	service.wantRefused(http.StatusGone, wire.EndLost)
}

// An abort reaches the other end, and is acknowledged when that has taken note.
func TestExtendedAbort(t *testing.T) {
	w := newWorld(t, hub.Options{})
	dev, device, service := w.extended("pi-1", time.Minute)
	d, s := device.join(), service.join()
	through(t, d, s)
	closed := make(chan struct{})
	go func() { defer close(closed); d.Close(wire.CloseBrokenOff, "shutdown") }()
	wantCode(t, s, wire.CloseEnded, "shutdown")
	<-closed
	w.Log.WaitFor(t, "stream ended", "reason=shutdown")
	device.wantRefused(http.StatusGone, wire.EndShutdown)

	// With the other end away, it is on disk before it is acknowledged.
	device, service = w.openExtended(dev, device.secret, time.Minute)
	d = device.join()
	d.Close(wire.CloseBrokenOff, "reset")
	eventually(t, "settled", func() bool {
		device.joins++
		_, refused := device.try(device.joins)
		if refused != nil && refused.Status != http.StatusGone && refused.Status != http.StatusServiceUnavailable {
			t.Fatal(refused)
		}
		return refused != nil && refused.End == wire.EndReset
	})
	address, dir := w.Hub.Address().String(), w.DataDir
	w.Stop()
	again := &world{hubtest.New(t, hub.Options{DataDir: dir, Listen: address}), t}
	service.w = again
	service.wantRefused(http.StatusGone, wire.EndReset)
}

// A stream outlives its hub: both ends join again at the next one with the same data dir.
func TestExtendedRestart(t *testing.T) {
	w := newWorld(t, hub.Options{ShutdownGrace: time.Hour})
	_, device, service := w.extended("pi-1", time.Minute)
	d, s := device.join(), service.join()
	through(t, d, s)
	address, dir := w.Hub.Address().String(), w.DataDir
	done := w.stopping()
	wantCode(t, d, wire.CloseRestart, "")
	wantCode(t, s, wire.CloseRestart, "")
	<-done
	w.Log.WaitFor(t, "stream suspended", "device=pi-1", "up=4", "down=4")

	again := &world{hubtest.New(t, hub.Options{DataDir: dir, Listen: address}), t}
	device.w, service.w = again, again
	s = service.join()
	d = device.join()
	through(t, s, d)
	if again.Hub.TestOpen() != 1 {
		t.Error("the stream is not counted")
	}
	// The first hub's counters are forgotten, not those of this one.
	if leg, refused := service.try(2); leg != nil || refused.Highest != 2 {
		t.Errorf("an old join: %v", refused)
	}
}

// A hub that is killed has told nobody. What it acknowledged is still true at the next.
func TestExtendedKilled(t *testing.T) {
	w := newWorld(t, hub.Options{})
	dev, device, service := w.extended("pi-1", time.Minute)
	d, s := device.join(), service.join()
	through(t, d, s)
	brokenOff, other := w.openExtended(dev, device.secret, time.Minute)
	brokenOff.join().Close(wire.CloseBrokenOff, "reset")
	w.Log.WaitFor(t, "stream ended", "reason=reset") // it is settled

	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(w.DataDir)); err != nil { // as the disk is at that moment
		t.Fatal(err)
	}
	again := &world{hubtest.New(t, hub.Options{DataDir: dir}), t}
	before, after := w.Hub.Address().(*net.TCPAddr).Port, again.Hub.Address().(*net.TCPAddr).Port
	for _, e := range []*end{device, service, brokenOff, other} {
		e.w, e.url = again, strings.Replace(e.url, strconv.Itoa(before), strconv.Itoa(after), 1)
	}
	d, s = device.join(), service.join()
	through(t, d, s)
	brokenOff.wantRefused(http.StatusGone, wire.EndReset)
	other.wantRefused(http.StatusGone, wire.EndReset)
}

// Taking access away ends live legs at once, and absent ends at their next join, also
// when it has been given back meanwhile.
func TestExtendedRevoked(t *testing.T) {
	w := newWorld(t, hub.Options{})
	for how, take := range takeAway(w) {
		_, device, service := w.extended(how, time.Minute)
		d, s := device.join(), service.join()
		through(t, d, s)
		take(how)
		wantCode(t, d, wire.CloseEnded, "revoked")
		wantCode(t, s, wire.CloseEnded, "revoked")
		device.wantRefused(http.StatusGone, wire.EndRevoked)
		w.Log.WaitFor(t, "stream ended", "device="+how, "reason=revoked")
	}
	for _, name := range []string{"pi-1", "pi-1/mod"} { // a module shares its device's status
		_, device, service := w.extended(name, time.Minute)
		address, dir := w.Hub.Address().String(), w.DataDir
		w.Stop()
		w = &world{hubtest.New(t, hub.Options{DataDir: dir, Listen: address}), t}
		device.w, service.w = w, w
		w.disable("pi-1")
		w.update(wire.Device{DeviceID: "pi-1", Status: wire.StatusEnabled})
		device.wantRefused(http.StatusGone, wire.EndRevoked)
		service.wantRefused(http.StatusGone, wire.EndRevoked)
	}
}

// A device-proxy that was started anew ends the streams of the one before, unless a live
// leg proves that one alive.
func TestExtendedInstance(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	l := w.login(cs)
	secret := wire.NewInstance()
	l.agents = []string{wire.Offer{Instance: wire.InstanceID(secret), Window: time.Minute}.Word()}
	first := w.connected(l)
	first.subscribe()
	device, service := w.openExtended(first, secret, time.Minute)
	d, s := device.join(), service.join()
	through(t, d, s)

	l.agents = []string{wire.Offer{Instance: wire.InstanceID(wire.NewInstance()), Window: time.Minute}.Word()}
	w.connected(l)
	through(t, d, s)
	d.Drop()
	wantEither(t, s, wire.EndInstance)
	service.wantRefused(http.StatusGone, wire.EndInstance)
	w.Log.WaitFor(t, "stream ended", "device=pi-1", "reason=instance")
}

// So it is when the hub was started anew, too.
func TestExtendedInstanceAfterRestart(t *testing.T) {
	w := newWorld(t, hub.Options{})
	dev, device, service := w.extended("pi-1", time.Minute)
	d, s := device.join(), service.join()
	through(t, d, s)
	address, dir := w.Hub.Address().String(), w.DataDir
	cs := w.AddDevice("other")
	w.Stop()
	dev.ended()
	w = &world{hubtest.New(t, hub.Options{DataDir: dir, Listen: address}), t}
	service.w = w
	s = service.join()
	owner := w.get("pi-1")
	cs.DeviceID, cs.SharedAccessKey = "pi-1", keyOf(t, owner.Authentication.SymmetricKey.PrimaryKey)
	l := w.login(cs)
	l.agents = []string{wire.Offer{Instance: wire.InstanceID(wire.NewInstance()), Window: time.Minute}.Word()}
	w.connected(l)
	wantCode(t, s, wire.CloseEnded, "instance")
}

// wantEither is wantCode for a leg whose partner goes just as the stream ends.
func wantEither(t *testing.T, leg *stream.Leg, reason wire.EndReason) {
	t.Helper()
	_, _, err := leg.Read(make([]byte, 100))
	closed, ok := errors.AsType[*stream.CloseFrame](err)
	if !ok || closed.Code != wire.ClosePeerAway && (closed.Code != wire.CloseEnded || closed.Text != string(reason)) {
		t.Fatalf("leg ended with %v", err)
	}
}

// More than may be held for a leg without a partner ends the stream.
func TestExtendedHeld(t *testing.T) {
	w := newWorld(t, hub.Options{})
	_, device, service := w.extended("pi-1", time.Minute)
	d := device.join()
	say(t, d, strings.Repeat("x", wire.EarlyData), "E 65536")
	say(t, d, "x", "E 65537")
	wantCode(t, d, wire.ClosePolicy, "")
	service.wantRefused(http.StatusGone, wire.EndProtocol)

	_, device, _ = w.extended("pi-2", time.Minute)
	d = device.join()
	_ = d.WriteText([]byte(strings.Repeat("a", wire.MaxControl+1)), time.Now().Add(patience))
	wantCode(t, d, wire.CloseProtocol, "")
	device.wantRefused(http.StatusGone, wire.EndProtocol)

	// An empty text says nothing, and still takes memory.
	_, device, _ = w.extended("pi-3", time.Minute)
	dialer := websocket.Dialer{TLSClientConfig: w.trust(), HandshakeTimeout: patience, Subprotocols: []string{wire.SubprotocolExtended}}
	ws, _, err := dialer.Dial(device.url, http.Header{
		"Authorization": {"Bearer " + device.token}, wire.HeaderJoin: {"1"}, wire.HeaderInstance: {device.secret},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	for range wire.HeldText + 1 {
		_ = ws.WriteMessage(websocket.TextMessage, nil)
	}
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, wire.ClosePolicy) {
		t.Errorf("the leg ended with %v", err)
	}
}

// A first join that comes too late finds that the stream has expired.
func TestExtendedExpired(t *testing.T) {
	w := newWorld(t, hub.Options{HandshakeTimeout: 2 * time.Second})
	_, device, _ := w.extended("pi-1", time.Minute)
	w.Log.WaitFor(t, "stream ended", "reason=expired", "joined=false")
	device.wantRefused(http.StatusGone, wire.EndExpired)
}
