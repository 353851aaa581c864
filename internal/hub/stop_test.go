package hub_test

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// running is a hub that Run serves.
type running struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan error
}

func run(t *testing.T, h *hub.Hub) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t, cancel, make(chan error, 1)}
	go func() { r.done <- h.Run(ctx) }()
	return r
}

func (r *running) stop() {
	r.t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		r.t.Errorf("hub ended with %v", err)
	}
}

// stopping tells the hub to stop while the test goes on. The channel is closed when
// it has stopped.
func (w *world) stopping() <-chan struct{} {
	done := make(chan struct{})
	go func() { w.Stop(); close(done) }()
	w.t.Cleanup(func() { <-done })
	return done
}

// An idle hub stops at once, whatever the grace, also with devices connected and
// strangers who say nothing.
func TestStopIdle(t *testing.T) {
	w := newWorld(t, hub.Options{ShutdownGrace: time.Hour})
	d := w.device(w.AddDevice("pi-1"))
	for _, address := range []string{w.Hub.Address().String(), w.Hub.MQTTAddress().String()} {
		config := w.trust()
		config.ServerName = "localhost"
		conn, err := tls.Dial("tcp", address, config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	start := time.Now()
	w.Stop()
	if took := time.Since(start); took > patience {
		t.Errorf("stopping took %s", took)
	}
	d.ended()
	again, err := openDir(t, w.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// Open streams get their grace: they go on, no new one comes in, and with the last
// one the hub stops.
func TestStopGrace(t *testing.T) {
	w := newWorld(t, hub.Options{ShutdownGrace: time.Hour})
	d := w.device(w.AddDevice("pi-1"))
	p := w.stream(d)
	asked := w.open("pi-1", "on-its-way", "", "")
	r := d.next()
	done := w.stopping()
	eventually(t, "no new stream is let in", func() bool {
		a := w.open("pi-1", "new", "", "0.01").answer()
		if a.status == 503 {
			e := a.wants(t, wire.ErrUnavailable)
			if e.Message != "the hub is stopping" {
				t.Errorf("%q", e.Message)
			}
		}
		return a.status == 503
	})
	p.echo(t)
	d.answer(r, 200)
	url, token := asked.accepted()
	relayed(t, w.leg(url, token), w.leg(r.URL, r.Token))
	p.echo(t)
	select {
	case <-done:
		t.Fatal("the hub stopped with streams open")
	default:
	}
	for _, leg := range []*websocket.Conn{p.service, p.device} {
		_ = leg.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
	}
	w.Log.WaitFor(t, "stream ended", "name=shell")
	w.Client().CloseIdleConnections()
	d.ping()
	w.Hub.DropControl("pi-1")
	w.Log.WaitFor(t, "device disconnected")
	select {
	case <-done:
		t.Fatal("the hub stopped with a stream open")
	default:
	}
}

// When the grace is over, open streams end with the reason.
func TestStopGraceOver(t *testing.T) {
	w := newWorld(t, hub.Options{ShutdownGrace: 300 * time.Millisecond})
	d := w.device(w.AddDevice("pi-1"))
	p := w.stream(d)
	waits := w.open("pi-1", "waits", "30", "30")
	d.next()
	start := time.Now()
	done := w.stopping()
	ends(t, p.device, wire.EndStopping)
	ends(t, p.service, wire.EndStopping)
	if e := waits.answer().wants(t, wire.ErrUnavailable); e.Message != "the hub is stopping" {
		t.Errorf("who waits for an answer hears %q", e.Message)
	}
	<-done
	if took := time.Since(start); took < 300*time.Millisecond || took > patience {
		t.Errorf("stopping took %s", took)
	}
	d.ended()
	w.Log.WaitFor(t, "stream ended", "name=shell", `reason="hub stopping"`)
}

// What a device was last seen is still known after a restart.
func TestStopKeepsActivity(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.device(w.AddDevice("pi-1"))
	w.Stop()
	again := newWorld(t, hub.Options{DataDir: w.DataDir})
	if d := again.get("pi-1"); d.ConnectionState != wire.Disconnected || d.LastActivityTime.IsZero() {
		t.Errorf("after the restart the device is %+v", d)
	}
}

// A hub that is never run can be closed, also twice.
func TestCloseWithoutRun(t *testing.T) {
	h, err := openDir(t, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(h.URL(), "https://localhost:") || h.MQTTAddress() != nil {
		t.Errorf("URL is %s, MQTT at %v", h.URL(), h.MQTTAddress())
	}
	h.Close()
	h.Close()
}

// A listener that fails stops the hub with an error.
func TestRunListenerFails(t *testing.T) {
	h, err := openDir(t, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	h.FailListener()
	if err := h.Run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "hub stopped: ") {
		t.Errorf("Run returned %v", err)
	}
}
