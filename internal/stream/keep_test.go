package stream

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// bubbleRelay is a relay over net.Pipe, and what reaches it.
type bubbleRelay struct {
	*relay
	listener *pipeListener
	config   *tls.Config
	hole     atomic.Pointer[atomic.Bool] // of the newest connection
	delay    time.Duration               // of what an end and the relay send each other
}

func newBubbleRelay(t *testing.T, e *endpoint) *bubbleRelay {
	r := &bubbleRelay{
		relay:    &relay{streams: make(map[string]*relayed)},
		listener: &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})},
		config:   e.tls(),
	}
	r.config.ServerName = "example.com"
	server := &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(r.join)}
	config := &tls.Config{Certificates: e.TLS.Certificates, SessionTicketsDisabled: true}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(tls.NewListener(Listener(r.listener), config))
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		r.tasks.Wait()
	})
	return r
}

// open joins, over a connection that can become a hole.
func (r *bubbleRelay) open(t *testing.T, side string) *Extended {
	t.Helper()
	o := r.options()
	o.TLS = r.config
	o.Window = 5 * time.Minute
	o.DialTCP = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		r.listener.conns <- far
		hole := new(atomic.Bool)
		r.hole.Store(hole)
		if r.delay > 0 {
			return newSlowConn(near, r.delay), nil
		}
		return &holeConn{near, hole}, nil
	}
	e, err := Join(t.Context(), "wss://example.com/s", "s."+side, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wantGone(t, e) })
	return e
}

// holeConn swallows everything once hole is set.
type holeConn struct {
	net.Conn
	hole *atomic.Bool
}

func (c *holeConn) Read(p []byte) (n int, err error) {
	for {
		if n, err = c.Conn.Read(p); err != nil || !c.hole.Load() {
			return n, err
		}
	}
}

func (c *holeConn) Write(p []byte) (int, error) {
	if c.hole.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// slowConn delivers what is written, and what comes, after a delay.
type slowConn struct {
	net.Conn
	in *io.PipeReader
}

func newSlowConn(c net.Conn, delay time.Duration) *slowConn {
	in, late := io.Pipe()
	s := &slowConn{c, in}
	go func() {
		err := postpone(late, c, delay)
		_ = late.CloseWithError(err)
	}()
	return s
}

// postpone copies, each piece after a delay.
func postpone(dst io.Writer, src io.Reader, delay time.Duration) error {
	type piece struct {
		b   []byte
		due time.Time
	}
	pieces := make(chan piece, 10_000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := range pieces {
			time.Sleep(time.Until(p.due))
			_, _ = dst.Write(p.b)
		}
	}()
	defer func() {
		close(pieces)
		<-done
	}()
	for {
		b := make([]byte, 128<<10)
		n, err := src.Read(b)
		if err != nil {
			return err
		}
		pieces <- piece{b[:n], time.Now().Add(delay)}
	}
}

func (c *slowConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (c *slowConn) Close() error {
	_ = c.in.Close()
	return c.Conn.Close()
}

// A long path, of 100 ms there and back, carries 40 MB/s and more in one stream once the
// credit has grown to what that needs (performance.md).
func TestExtendedLongPath(t *testing.T) {
	e := newEndpoint(t)
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRelay(t, e)
		r.delay = 50 * time.Millisecond // one way only, but of both ends: 100 ms there and back
		service, device := r.open(t, "service"), r.open(t, "device")
		exchangeOne(t, service, device)
		const grown, size = 32 << 20, 64 << 20
		go func() {
			b := make([]byte, 64<<10)
			for range (grown + size) / len(b) {
				_, _ = service.Write(b)
			}
		}()
		if _, err := io.CopyN(io.Discard, onlyReader{device}, grown); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := io.CopyN(io.Discard, onlyReader{device}, size); err != nil {
			t.Fatal(err)
		}
		speed := size / 1e6 / time.Since(start).Seconds()
		if speed < 40 {
			t.Errorf("%.0f MB/s", speed)
		}
	})
}

// An idle stream stays for days, with its legs renewed before the tokens run out.
func TestExtendedIdle(t *testing.T) {
	e := newEndpoint(t)
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRelay(t, e)
		service, device := r.open(t, "service"), r.open(t, "device")
		exchangeOne(t, service, device)
		joins := r.joined()
		time.Sleep(17 * time.Hour)
		if n := r.joined(); n != joins {
			t.Errorf("joined %d times in the first hours", n-joins)
		}
		time.Sleep(31 * time.Hour)
		if n := r.joined() - joins; n < 4 || n > 16 {
			t.Errorf("joined %d times in two days", n)
		}
		exchangeOne(t, service, device)
	})
}

// A path that has become a hole is noticed: within 5 s while an acknowledgement is owed,
// 15 s while nothing happens, and 2 s when the network has changed. farport-v1.md section
// 3, Dead paths.
func TestExtendedDeadPath(t *testing.T) {
	e := newEndpoint(t)
	for name, test := range map[string]struct {
		do   func(service, device *Extended)
		most time.Duration
	}{
		"busy":    {func(_, device *Extended) { _, _ = device.Write([]byte("y")) }, 5 * time.Second},
		"idle":    {func(_, device *Extended) {}, 15 * time.Second},
		"changed": {func(_, device *Extended) { device.NetworkChanged() }, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newBubbleRelay(t, e)
				service, device := r.open(t, "service"), r.open(t, "device")
				exchangeOne(t, service, device)
				time.Sleep(time.Second)
				r.hole.Load().Store(true) // the device's
				start := time.Now()
				test.do(service, device)
				if name == "busy" {
					if _, err := io.ReadFull(service, make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
				}
				go func() { _, _ = service.Write([]byte("x")) }()
				if _, err := io.ReadFull(device, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(start); d > test.most+2*time.Second {
					t.Errorf("resumed after %v, want %v", d, test.most)
				}
			})
		})
	}
}

// The other side has gone for ever: the stream is lost when the window is over, and what
// was written on a closed one is kept for no longer.
func TestExtendedWindow(t *testing.T) {
	e := newEndpoint(t)
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRelay(t, e)
		service, device := r.open(t, "service"), r.open(t, "device")
		exchangeOne(t, service, device)
		r.refuseWith(func(w http.ResponseWriter, req *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			return true
		})
		r.hole.Load().Store(true)
		if _, err := device.Write([]byte("unsent")); err != nil {
			t.Error(err)
		}
		start := time.Now()
		_, err := service.Read(make([]byte, 1))
		wantEnd(t, err, wire.EndLost)
		if d := time.Since(start); d < 5*time.Minute || d > 5*time.Minute+20*time.Second {
			t.Errorf("lost after %v", d)
		}
		_ = device.Close()
		<-device.Ended()
		if d := time.Since(start); d > 15*time.Minute {
			t.Errorf("gone after %v", d)
		}
	})
}

// A stream that waits, of which nobody wants to be told, sleeps meanwhile.
func TestExtendedWaitsAsleep(t *testing.T) {
	e := newEndpoint(t)
	synctest.Test(t, func(t *testing.T) {
		r := newBubbleRelay(t, e)
		service, device := r.open(t, "service"), r.open(t, "device")
		exchangeOne(t, service, device)
		r.refuseWith(func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusBadGateway)
			return true
		})
		r.hole.Load().Store(true) // the device's
		time.Sleep(30 * time.Second)
		var longest time.Duration
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			service.mu.Lock()
			longest = max(longest, time.Until(service.due))
			service.mu.Unlock()
		}
		if longest <= 10*time.Millisecond {
			t.Errorf("it never sleeps for longer than %v", longest)
		}
	})
}
