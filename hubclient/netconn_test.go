package hubclient

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	realhub "github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/wire"
)

// ends are a service and a device of one hub.
type ends struct {
	hub     *hubtest.Server
	service *Service
	device  *Device
}

// kinds of streams that ends can agree on.
const (
	plainStream    = false
	extendedStream = true
)

// newEnds connects both to a real hub. They agree on extended streams unless the service
// does not offer them.
func newEnds(t *testing.T, kind bool) ends {
	t.Helper()
	server := hubtest.New(t, realhub.Options{})
	t.Cleanup(func() { AwaitStreams(t) })
	s, err := NewService(server.ConnectionString("service"), Options{Proxy: noProxy})
	if err != nil {
		t.Fatal(err)
	}
	if kind == plainStream {
		s.hub.offer = wire.Offer{}
	}
	t.Cleanup(func() { s.Close() })
	d, err := DialDevice(t.Context(), server.AddDevice(testDevice), DeviceOptions{Options: Options{Proxy: noProxy}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return ends{server, s, d}
}

// AwaitStreams waits for streams that were closed: each goes on for as long as it
// takes the other end to know, which without a hub is long.
func AwaitStreams(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	stacks := make([]byte, 1<<20)
	for {
		n := runtime.Stack(stacks, true)
		if text := string(stacks[:n]); !strings.Contains(text, "stream.(*Extended)") && !strings.Contains(text, "stream.(*Conn).Finish") {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("streams go on:\n%s", stacks[:n])
		}
	}
}

func (e ends) listen(t *testing.T, service string) net.Listener {
	t.Helper()
	l, err := e.device.Listen(service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// pair opens a stream through a listener.
func (e ends) pair(l net.Listener) (service, device net.Conn, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wg sync.WaitGroup
	var accepting error
	wg.Go(func() {
		if device, accepting = l.Accept(); accepting != nil {
			cancel()
		}
	})
	to := l.Addr().(Addr)
	service, err = e.service.DialContext(ctx, to.Target, to.Service)
	if err != nil {
		l.Close()
	}
	wg.Wait()
	return service, device, errors.Join(err, accepting)
}

func (e ends) mustPair(t *testing.T, l net.Listener) (service, device net.Conn) {
	t.Helper()
	service, device, err := e.pair(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Close(); device.Close() })
	return service, device
}

// TestNetConn is what golang.org/x/net wants of any net.Conn, whichever end writes.
func TestNetConn(t *testing.T) { testNetConn(t, plainStream) }

func testNetConn(t *testing.T, kind bool) {
	e := newEnds(t, kind)
	l := e.listen(t, "echo")
	for name, swap := range map[string]bool{"service-first": false, "device-first": true} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				c1, c2, err = e.pair(l)
				if swap {
					c1, c2 = c2, c1
				}
				return c1, c2, func() { c1.Close(); c2.Close() }, err
			})
		})
	}
}

// TestConnErrors looks for what users of package net look for.
func TestConnErrors(t *testing.T) { testConnErrors(t, plainStream) }

func testConnErrors(t *testing.T, kind bool) {
	e := newEnds(t, kind)
	service, device := e.mustPair(t, e.listen(t, "echo"))
	want := Addr{testDevice, "echo"}
	if service.RemoteAddr() != want || device.LocalAddr() != want {
		t.Errorf("addresses are %v and %v", service.RemoteAddr(), device.LocalAddr())
	}
	for _, c := range []net.Conn{service, device} {
		if host, port, err := net.SplitHostPort(c.RemoteAddr().String()); err != nil || host == "" || port == "" {
			t.Errorf("remote address is %s", c.RemoteAddr())
		}
		if host, port, err := net.SplitHostPort(c.LocalAddr().String()); err != nil || host == "" || port == "" {
			t.Errorf("local address is %s", c.LocalAddr())
		}
	}
	if err := service.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := service.Read(make([]byte, 1))
	if !isOpError(err, "read") || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
		t.Errorf("it is no time-out: %v", err)
	}
	if err := service.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	// The stream goes on.
	if _, err := io.WriteString(device, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(service, got); err != nil || string(got) != "hello" {
		t.Fatalf("read %q, %v", got, err)
	}

	// Whoever closes wakes its own reader, and the other end reads io.EOF itself.
	woken := make(chan error, 1)
	go func() {
		_, err := device.Read(make([]byte, 1))
		woken <- err
	}()
	if err := device.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-woken; !isOpError(err, "read") || !errors.Is(err, net.ErrClosed) {
		t.Errorf("read while the end is closed: %v", err)
	}
	if _, err := service.Read(got); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for _, c := range []net.Conn{service, device} {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, err := c.Read(got); !isOpError(err, "read") || !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if _, err := c.Write(got); !isOpError(err, "write") || !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
	}
}

func isOpError(err error, op string) bool {
	e, ok := err.(*net.OpError)
	return ok && e.Op == op && e.Net == network
}

// A broken stream says why it is broken, under the net.OpError.
func TestConnBroken(t *testing.T) {
	e := newEnds(t, plainStream)
	service, device := e.mustPair(t, e.listen(t, "echo"))
	device.(*conn).Abort(wire.EndAborted)
	_, err := service.Read(make([]byte, 1))
	if ended, ok := errors.AsType[*EndError](err); !isOpError(err, "read") || !ok || ended.Reason != wire.EndAborted {
		t.Errorf("error is %v", err)
	}
}

func TestDialContextFails(t *testing.T) {
	e := newEnds(t, plainStream)
	e.listen(t, "echo")
	e.hub.AddDevice("offline")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	for name, c := range map[string]struct {
		ctx             context.Context
		target, service string
		want            error
		timeout         bool
	}{
		"rejected":   {t.Context(), testDevice, "other", ErrStreamRejected, false},
		"unknown":    {t.Context(), "pi-9", "echo", ErrDeviceNotFound, false},
		"bad target": {t.Context(), "pi 1", "echo", ErrBadName, false},
		"bad name":   {t.Context(), testDevice, "", ErrBadName, false},
		"cancelled":  {ended, testDevice, "echo", context.Canceled, false},
		"late":       {late, testDevice, "echo", context.DeadlineExceeded, true},
	} {
		c2, err := e.service.DialContext(c.ctx, c.target, c.service)
		if c2 != nil || !isOpError(err, "dial") || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v", name, c2, err)
			continue
		}
		if op := err.(*net.OpError); op.Addr != (Addr{c.target, c.service}) || op.Timeout() != c.timeout {
			t.Errorf("%s: %+v, time-out %v", name, op, op.Timeout())
		}
	}
}
