package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/wire"
	"github.com/farportio/farport/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a hub with a device-proxy and a service.
type world struct {
	t       *testing.T
	hub     *hubtest.Server
	service *hubclient.Service
	device  chan proxy.Event
	events  chan proxy.Event
	dialled chan struct{} // a control connection was made
	via     string        // port that the device connects to in place of the hub's, "" for the hub's
}

func newWorld(t *testing.T, o hub.Options) *world {
	t.Helper()
	w := &world{t: t, hub: hubtest.New(t, o), device: make(chan proxy.Event, 1000), events: make(chan proxy.Event, 1000), dialled: make(chan struct{}, 1000)}
	s, err := hubclient.NewService(w.hub.ConnectionString("iothubowner"), hubclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w.service = s
	return w
}

// add registers a device and runs a device-proxy for it.
func (w *world) add(id string, o proxy.DeviceOptions, d hubclient.DeviceOptions) (stop func()) {
	w.t.Helper()
	identity, err := w.service.CreateDevice(w.t.Context(), hubclient.Identity{DeviceID: id})
	if err != nil {
		w.t.Fatal(err)
	}
	owner := w.hub.ConnectionString("iothubowner")
	address := owner.Address()
	if w.via != "" {
		address = net.JoinHostPort(owner.Host(), w.via)
	}
	cs, err := hubclient.ParseConnectionString("HostName=" + address + ";DeviceId=" + id + ";SharedAccessKey=" + identity.Authentication.SymmetricKey.PrimaryKey + ";CaFingerprint=sha256:" + owner.CAFingerprint)
	if err != nil {
		w.t.Fatal(err)
	}
	o.DeviceID = id
	d.Instance = hubclient.NewInstance()
	o.Dial = func(ctx context.Context) (*hubclient.Device, error) {
		conn, err := hubclient.DialDevice(ctx, cs, d)
		if err == nil {
			w.dialled <- struct{}{}
		}
		return conn, err
	}
	o.Events = func(e proxy.Event) { w.device <- e }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- proxy.RunDevice(ctx, o) }()
	w.expect(w.device, proxy.Connected)
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("device-proxy: %v", err)
		}
		done <- nil
	}
	w.t.Cleanup(stop)
	return stop
}

func (w *world) expect(from chan proxy.Event, kind proxy.EventKind) proxy.Event {
	w.t.Helper()
	for {
		select {
		case e := <-from:
			if e.Kind == kind {
				return e
			}
			w.t.Logf("event %+v", e)
		case <-time.After(20 * time.Second):
			w.t.Fatalf("no event of kind %d", kind)
		}
	}
}

// forward listens for a device's service and returns the address.
func (w *world) forward(device, service string) string {
	w.t.Helper()
	l, err := proxy.Listen(proxy.ServiceOptions{
		Hub: w.service, DeviceID: device, Events: func(e proxy.Event) { w.events <- e },
		Open: hubclient.OpenOptions{ConnectTimeout: wire.DefaultConnectTimeout, ResponseTimeout: wire.DefaultResponseTimeout},
	}, []proxy.Forward{{Address: "127.0.0.1:0", Service: service}})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("service-proxy: %v", err)
		}
	})
	return l.Addrs()[0].String()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// wantRefused connects to a service-proxy that refuses, which may reset the connection
// even before Dial has returned.
func wantRefused(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err == nil {
		defer c.Close()
		wantReset(t, c)
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
}

// echo sends text and reads it back.
func echo(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v; want %q", got, err, text)
	}
}

// wantReset reads until the connection ends, which must be with a reset.
func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("connection ended with %v, want a reset", err)
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	for _, transport := range []hubclient.Transport{hubclient.MQTTWS, hubclient.MQTT} {
		t.Run(fmt.Sprint(transport), func(t *testing.T) { t.Parallel(); testEcho(t, transport) })
	}
}

func testEcho(t *testing.T, transport hubclient.Transport) {
	w := newWorld(t, hub.Options{})
	w.add("Pi_4.A+b", proxy.DeviceOptions{Target: hubtest.Echo(t)}, hubclient.DeviceOptions{Transport: transport, MQTTPort: w.hub.MQTTPort()})
	c := dial(t, w.forward("Pi_4.A+b", "default"))
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Fatalf("read %q, %v", got, err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Fatalf("after FIN read %q, %v; want a clean end", rest, err)
	}
	c.Close()
	if e := w.expect(w.events, proxy.Ended); e.Err != nil || e.Up != 5 || e.Down != 5 {
		t.Errorf("service side ended with %+v", e)
	}
	if e := w.expect(w.device, proxy.Ended); e.Err != nil || e.Up != 5 || e.Down != 5 {
		t.Errorf("device side ended with %+v", e)
	}
}

func TestEndsAreToldApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	behave := map[string]func(*net.TCPConn){
		"fin": func(c *net.TCPConn) { // answers, then ends in good order
			_, _ = c.Write([]byte("bye"))
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		},
		"rst": func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 1))
			_ = c.SetLinger(0)
		},
		"sink": func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) },
	}
	services := make(map[string]string)
	seen := make(chan error, 10) // how the target's read of "watch" ended
	for name, handle := range behave {
		services[name] = hubtest.Serve(t, handle)
	}
	services["watch"] = hubtest.Serve(t, func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		seen <- err
	})
	w.add("pi-1", proxy.DeviceOptions{Services: services}, hubclient.DeviceOptions{})

	t.Run("target ends first", func(t *testing.T) {
		t.Parallel()
		c := dial(t, w.forward("pi-1", "fin"))
		if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
			t.Errorf("read %q, %v; want a clean end after \"bye\"", got, err)
		}
	})
	t.Run("target resets", func(t *testing.T) {
		t.Parallel()
		c := dial(t, w.forward("pi-1", "rst"))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		wantReset(t, c)
	})
	t.Run("client resets", func(t *testing.T) {
		t.Parallel()
		c := dial(t, w.forward("pi-1", "watch"))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		w.expect(w.events, proxy.Opened)
		_ = c.SetLinger(0)
		c.Close()
		if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("target saw %v, want a reset", err)
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	closed := hubtest.Serve(t, func(*net.TCPConn) {})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	w.add("pi-1", proxy.DeviceOptions{Services: map[string]string{"ok": closed, "dead": dead}, MaxStreams: 1}, hubclient.DeviceOptions{})

	for _, c := range []struct {
		device, service string
		want            error
		told            string // what the device's side says; "" when it is not asked
	}{
		{"pi-1", "dead", hubclient.ErrStreamRejected, "connection refused"},
		{"pi-1", "nothing", hubclient.ErrStreamRejected, "no such service"},
		{"pi-1", "169.254.169.254:80", hubclient.ErrStreamRejected, ""}, // a ":" is no part of a name
		{"pi-9", "ok", hubclient.ErrDeviceNotFound, ""},
	} {
		wantRefused(t, w.forward(c.device, c.service))
		e := w.expect(w.events, proxy.Refused)
		if c.service == "169.254.169.254:80" {
			if e.Err == nil {
				t.Errorf("%s: opened", c.service)
			}
		} else if !errors.Is(e.Err, c.want) {
			t.Errorf("%s/%s: %v, want %v", c.device, c.service, e.Err, c.want)
		}
		if c.told != "" {
			if e := w.expect(w.device, proxy.Refused); !strings.Contains(e.Err.Error(), c.told) {
				t.Errorf("device says %v, want %q in it", e.Err, c.told)
			}
		}
	}
}

func TestManyStreamsKeepTheirBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t)}, hubclient.DeviceOptions{})
	addr := w.forward("pi-1", "default")
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			data := make([]byte, random.IntN(1<<20)+1)
			for j := range data {
				data[j] = byte(random.Uint32())
			}
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			wg.Go(func() { _, _ = conn.Write(data) })
			got := make([]byte, len(data))
			if _, err := io.ReadFull(conn, got); err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
				t.Errorf("connection %d: %d bytes came back wrong: %v", i, len(data), err)
			}
		})
	}
	wg.Wait()
}

func TestStreamsOutliveTokensAndControlConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t)}, hubclient.DeviceOptions{TokenLife: 2 * time.Second})
	c := dial(t, w.forward("pi-1", "default"))
	echo(t, c, "before")
	w.expect(w.device, proxy.Opened)
	for range 3 { // the first, and two that renewed the token
		<-w.dialled
	}
	echo(t, c, "after renewals")
	w.hub.DropControl("pi-1")
	<-w.dialled
	<-w.dialled // one of them after the drop, whatever renewal was under way
	echo(t, c, "after a lost control connection")
	echo(t, dial(t, w.forward("pi-1", "default")), "a new one")
}

func TestDisabledAndDeletedDevices(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"disabled", "deleted"} {
		w := newWorld(t, hub.Options{})
		w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t)}, hubclient.DeviceOptions{})
		c := dial(t, w.forward("pi-1", "default"))
		echo(t, c, "before")
		d, err := w.service.GetDevice(t.Context(), "pi-1")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if how == "disabled" {
			d.Status = "disabled"
			_, err = w.service.UpdateDevice(t.Context(), d, d.ETag)
		} else {
			err = w.service.DeleteDevice(t.Context(), "pi-1", "*")
		}
		if err != nil {
			t.Fatal(err)
		}
		wantReset(t, c)
		if e := w.expect(w.events, proxy.Ended); !strings.Contains(fmt.Sprint(e.Err), string(wire.EndRevoked)) {
			t.Errorf("%s: stream ended with %v, want %q", how, e.Err, wire.EndRevoked)
		}
		w.expect(w.device, proxy.Retrying)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %v to end", how, took)
		}
	}
}

func TestFirstConnectRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	owner := w.hub.ConnectionString("iothubowner")
	cs, err := hubclient.ParseConnectionString("HostName=" + owner.Address() + ";DeviceId=pi-1;SharedAccessKey=d3Jvbmc=;CaFingerprint=sha256:" + owner.CAFingerprint)
	if err != nil {
		t.Fatal(err)
	}
	err = proxy.RunDevice(t.Context(), proxy.DeviceOptions{Target: "127.0.0.1:1", Dial: func(ctx context.Context) (*hubclient.Device, error) {
		return hubclient.DialDevice(ctx, cs, hubclient.DeviceOptions{})
	}})
	if !errors.Is(err, hubclient.ErrUnauthorized) {
		t.Fatalf("RunDevice: %v, want ErrUnauthorized", err)
	}
}

// closer notes that it was closed.
type closer struct {
	bytes.Buffer
	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

func TestStdio(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	reset := hubtest.Serve(t, func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
	})
	w.add("pi-1", proxy.DeviceOptions{Services: map[string]string{"reset": reset, "echo": hubtest.Echo(t)}}, hubclient.DeviceOptions{})
	o := proxy.ServiceOptions{Hub: w.service, DeviceID: "pi-1", Open: hubclient.OpenOptions{ConnectTimeout: wire.DefaultConnectTimeout}}

	t.Run("input ends first", func(t *testing.T) {
		var out closer
		if err := proxy.RunStdio(t.Context(), o, "echo", strings.NewReader("hello"), &out); err != nil || out.String() != "hello" || !out.closed {
			t.Errorf("got %q (closed: %v), %v", out.String(), out.closed, err)
		}
	})
	t.Run("device breaks off, input never ends", func(t *testing.T) {
		in, hold := io.Pipe()
		defer hold.Close()
		go func() { _, _ = hold.Write([]byte("x")) }()
		var out closer
		err := proxy.RunStdio(t.Context(), o, "reset", in, &out)
		if end, ok := errors.AsType[*hubclient.EndError](err); !ok || end.Reason != wire.EndReset || out.closed {
			t.Errorf("got %v (output closed: %v), want a break", err, out.closed)
		}
	})
	t.Run("told to stop", func(t *testing.T) {
		in, hold := io.Pipe()
		defer hold.Close()
		ctx, cancel := context.WithCancel(t.Context())
		o := o
		o.Events = func(e proxy.Event) {
			if e.Kind == proxy.Opened {
				cancel()
			}
		}
		if err := proxy.RunStdio(ctx, o, "echo", in, new(closer)); err == nil {
			t.Error("a stream that was cut ended cleanly")
		}
	})
}

// A hub that was away at first may still refuse the credentials for good.
func TestRefusedOnceReachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := []error{hubclient.ErrHubUnreachable, hubclient.ErrHubUnreachable, hubclient.ErrUntrusted, hubclient.ErrUnauthorized}
		var told []error
		err := proxy.RunDevice(t.Context(), proxy.DeviceOptions{
			Watch: make(changes).watch,
			Dial: func(context.Context) (*hubclient.Device, error) {
				err := answers[0]
				answers = answers[1:]
				return nil, err
			},
			Events: func(e proxy.Event) { told = append(told, e.Err) },
		})
		if !errors.Is(err, hubclient.ErrUnauthorized) || len(answers) > 0 {
			t.Errorf("RunDevice: %v, %d attempts left", err, len(answers))
		}
		if len(told) != 2 || told[0] != hubclient.ErrHubUnreachable || told[1] != hubclient.ErrUntrusted {
			t.Errorf("told %v, want each cause once", told)
		}
	})
}
