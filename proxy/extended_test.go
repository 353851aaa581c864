package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/wire"
	"github.com/farportio/farport/proxy"
)

// pastDrain is longer than a plain stream would leave its other direction open.
const pastDrain = wire.DrainSilence + time.Second

// An end that has finished still gets what the other one has to say, however late.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	const size = 300_000
	text := strings.Repeat("x", size)
	late := hubtest.Serve(t, func(c *net.TCPConn) { // answers long after the client's end
		n, _ := io.Copy(io.Discard, c)
		time.Sleep(pastDrain)
		_, _ = io.WriteString(c, text[:n])
		_ = c.CloseWrite()
	})
	taken := make(chan int64, 1)
	early := hubtest.Serve(t, func(c *net.TCPConn) { // ends first, and listens
		_, _ = io.WriteString(c, "bye")
		_ = c.CloseWrite()
		n, err := io.Copy(io.Discard, c)
		if err != nil {
			n = -1
		}
		taken <- n
	})
	w.add("pi-1", proxy.DeviceOptions{Services: map[string]string{"late": late, "early": early}}, hubclient.DeviceOptions{})
	t.Run("client first", func(t *testing.T) {
		t.Parallel()
		c := dial(t, w.forward("pi-1", "late"))
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || len(got) != size {
			t.Errorf("read %d bytes, %v; want all %d and a clean end", len(got), err, size)
		}
	})
	t.Run("target first", func(t *testing.T) {
		t.Parallel()
		c := dial(t, w.forward("pi-1", "early"))
		if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
			t.Fatalf("read %q, %v", got, err)
		}
		time.Sleep(pastDrain)
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWrite()
		if n := <-taken; n != size {
			t.Errorf("the target got %d bytes, want %d and a clean end", n, size)
		}
	})
}

// stopHub stops the hub as SIGTERM would, and returns what starts it again.
func (w *world) stopHub(o hub.Options) (again func()) {
	w.t.Helper()
	o.DataDir, o.Listen = w.hub.DataDir, w.hub.Hub.Address().String()
	w.hub.Stop()
	return func() { w.hub = hubtest.New(w.t, o) }
}

// A stream survives the hub's restart, both proxies say so, and it counts as open.
func TestResume(t *testing.T) {
	t.Parallel()
	o := hub.Options{DataDir: t.TempDir()}
	w := newWorld(t, o)
	w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t), MaxStreams: 1}, hubclient.DeviceOptions{})
	addr := w.forward("pi-1", "default")
	c := dial(t, addr)
	echo(t, c, "before")
	began := time.Now()
	again := w.stopHub(o)
	for _, side := range []chan proxy.Event{w.events, w.device} {
		if e := w.expect(side, proxy.Waiting); e.Stream != 1 || e.Device != "pi-1" || e.Window != wire.DefaultResumeWindow {
			t.Errorf("told %+v", e)
		}
	}
	if _, err := io.WriteString(c, "meanwhile"); err != nil {
		t.Fatal(err)
	}
	again()
	for _, side := range []chan proxy.Event{w.events, w.device} {
		if e := w.expect(side, proxy.Resumed); e.Stream != 1 || e.Duration <= 0 || e.Duration > time.Since(began) {
			t.Errorf("told %+v, and it is %v since the hub was stopped", e, time.Since(began))
		}
	}
	got := make([]byte, len("meanwhile"))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "meanwhile" {
		t.Fatalf("read %q, %v", got, err)
	}
	echo(t, c, "after")
	wantRefused(t, addr) // the device has one slot
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("at the end read %q, %v", rest, err)
	}
	for _, side := range []chan proxy.Event{w.events, w.device} {
		if e := w.expect(side, proxy.Ended); e.Err != nil || e.Up != 20 || e.Down != 20 {
			t.Errorf("ended with %+v", e)
		}
	}
}

// Without a window a lost connection is a lost stream, on both sides.
func TestNoResume(t *testing.T) {
	t.Parallel()
	o := hub.Options{DataDir: t.TempDir()}
	w := newWorld(t, o)
	w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t)}, hubclient.DeviceOptions{Options: hubclient.Options{ResumeWindow: -1}})
	c := dial(t, w.forward("pi-1", "default"))
	echo(t, c, "before")
	w.stopHub(o)
	wantReset(t, c)
	for _, side := range []chan proxy.Event{w.events, w.device} {
		e := w.expect(side, proxy.Ended)
		if end, ok := errors.AsType[*hubclient.EndError](e.Err); !ok || !end.Lost() {
			t.Errorf("ended with %v, want a loss", e.Err)
		}
	}
}

// A proxy that is told to stop gives a suspended stream its grace, and no more.
func TestGraceOfSuspendedStreams(t *testing.T) {
	t.Parallel()
	const grace = time.Second
	o := hub.Options{DataDir: t.TempDir()}
	w := newWorld(t, o)
	stop := w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t), GracePeriod: grace}, hubclient.DeviceOptions{})
	c := dial(t, w.forward("pi-1", "default"))
	echo(t, c, "before")
	w.stopHub(o)
	w.expect(w.device, proxy.Waiting)
	began := time.Now()
	stop()
	if took := time.Since(began); took < grace || took > grace+30*time.Second {
		t.Errorf("stopped after %v, want the grace of %v and a moment", took, grace)
	}
	e := w.expect(w.device, proxy.Ended)
	if end, ok := errors.AsType[*hubclient.EndError](e.Err); !ok || end.Reason != wire.EndShutdown {
		t.Errorf("ended with %v, want %q", e.Err, wire.EndShutdown)
	}
}

// A stop that finds the stream connected is told to the other side at once.
func TestGraceOfOpenStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	stop := w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t), GracePeriod: 500 * time.Millisecond}, hubclient.DeviceOptions{})
	c := dial(t, w.forward("pi-1", "default"))
	echo(t, c, "before")
	stop()
	wantReset(t, c)
	e := w.expect(w.events, proxy.Ended)
	if end, ok := errors.AsType[*hubclient.EndError](e.Err); !ok || end.Reason != wire.EndShutdown {
		t.Errorf("ended with %v, want %q", e.Err, wire.EndShutdown)
	}
}

// pipe is an output whose reader may have gone.
type pipe struct {
	mu     sync.Mutex
	gone   bool
	got    strings.Builder
	closed chan struct{}
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return 0, syscall.EPIPE
	}
	return p.got.Write(b)
}

func (p *pipe) Close() error {
	close(p.closed)
	return nil
}

func TestStdioHalfClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	heard := make(chan string, 1)
	ended := make(chan error, 1)
	w.add("pi-1", proxy.DeviceOptions{Services: map[string]string{
		"early": hubtest.Serve(t, func(c *net.TCPConn) {
			_ = c.CloseWrite()
			text, err := io.ReadAll(c)
			if err != nil {
				text = []byte(err.Error())
			}
			heard <- string(text)
		}),
		"late": hubtest.Serve(t, func(c *net.TCPConn) {
			_, _ = io.Copy(io.Discard, c)
			time.Sleep(pastDrain)
			_, _ = io.WriteString(c, "late")
		}),
		"talker": hubtest.Serve(t, func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_, _ = io.WriteString(c, "x")
			_, err := io.Copy(io.Discard, c)
			ended <- err
		}),
	}}, hubclient.DeviceOptions{})
	o := proxy.ServiceOptions{Hub: w.service, DeviceID: "pi-1", GracePeriod: 5 * time.Second}

	t.Run("device first", func(t *testing.T) {
		t.Parallel()
		in, hold := io.Pipe()
		out := &pipe{closed: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- proxy.RunStdio(context.Background(), o, "early", in, out) }()
		<-out.closed
		time.Sleep(pastDrain)
		_, _ = io.WriteString(hold, "late")
		hold.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if text := <-heard; text != "late" {
			t.Errorf("the target heard %q", text)
		}
	})
	t.Run("input first", func(t *testing.T) {
		t.Parallel()
		out := &pipe{closed: make(chan struct{})}
		if err := proxy.RunStdio(context.Background(), o, "late", strings.NewReader("x"), out); err != nil || out.got.String() != "late" {
			t.Errorf("got %q, %v", out.got.String(), err)
		}
	})
	t.Run("output broken", func(t *testing.T) {
		t.Parallel()
		in, hold := io.Pipe()
		defer hold.Close()
		go func() { _, _ = io.WriteString(hold, "x") }()
		err := proxy.RunStdio(context.Background(), o, "talker", in, &pipe{gone: true, closed: make(chan struct{})})
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("got %v, want what the output says", err)
		}
		if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the target's connection ended with %v, want a reset", err)
		}
	})
}
