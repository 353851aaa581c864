package proxy_test

import (
	"context"
	"io"
	"net"
	"testing"
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
}

func newWorld(t *testing.T, o hub.Options) *world {
	t.Helper()
	w := &world{t: t, hub: hubtest.New(t, o), device: make(chan proxy.Event, 1000), events: make(chan proxy.Event, 1000)}
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
	cs, err := hubclient.ParseConnectionString("HostName=" + owner.Address() + ";DeviceId=" + id + ";SharedAccessKey=" + identity.Authentication.SymmetricKey.PrimaryKey + ";CaFingerprint=sha256:" + owner.CAFingerprint)
	if err != nil {
		w.t.Fatal(err)
	}
	o.DeviceID = id
	o.Dial = func(ctx context.Context) (*hubclient.Device, error) { return hubclient.DialDevice(ctx, cs, d) }
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

func TestEcho(t *testing.T) {
	for _, transport := range []hubclient.Transport{hubclient.MQTTWS, hubclient.MQTT} {
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
}
