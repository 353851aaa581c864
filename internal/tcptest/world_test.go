//go:build unix

package tcptest

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/proxy"
)

// TestMain lets many rows run at once, since most of their time they wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// quiet is how long rows leave a connection without a byte: longer than a plain stream
// lets a half-closed one drain, and with FARPORT_TEST_LONG longer than any time of the
// protocol but the window.
func quiet() time.Duration {
	if os.Getenv("FARPORT_TEST_LONG") != "" {
		return 6 * time.Minute
	}
	return 7 * time.Second
}

// road is a way from a client to a row's target.
type road struct {
	address string           // for the client to dial
	target  *net.TCPListener // where the row's target accepts; nil: nobody does
}

// connect returns both ends of a new connection.
func (r road) connect(t *testing.T) (client, target *net.TCPConn) {
	t.Helper()
	near, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.target.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	far, err := r.target.AcceptTCP()
	if err != nil {
		_ = near.Close()
		t.Fatalf("nothing came to the target: %v", err)
	}
	return near.(*net.TCPConn), far
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

// direct is a road without anything on it.
func direct(t *testing.T) road {
	l := listen(t)
	return road{l.Addr().String(), l}
}

// nowhere is a port that nobody listens on: tcpmux's. One that was free a moment ago might be
// given to the next listener.
const nowhere = "127.0.0.1:1"

// through makes a road for each name, over a hub with both proxies. The road of the name
// refusedDial leads to a port that nobody listens on.
func through(t *testing.T, names []string) map[string]road {
	t.Helper()
	const id = "pi-1"
	h := hubtest.New(t, hub.Options{})
	cs := h.AddDevice(id)
	service, err := hubclient.NewService(h.ConnectionString("service"), hubclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close() })

	roads := make(map[string]road)
	targets := make(map[string]string)
	var forwards []proxy.Forward
	for _, name := range names {
		r := road{target: listen(t)}
		targets[name] = r.target.Addr().String()
		if name == refusedDial {
			r.target, targets[name] = nil, nowhere
		}
		roads[name] = r
		forwards = append(forwards, proxy.Forward{Address: "127.0.0.1:0", Service: name})
	}
	runDevice(t, id, cs, targets)

	l, err := proxy.Listen(proxy.ServiceOptions{
		Hub: service, DeviceID: id,
		Open: hubclient.OpenOptions{ConnectTimeout: hubclient.DefaultConnectTimeout, ResponseTimeout: hubclient.DefaultResponseTimeout},
	}, forwards)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "service-proxy", l.Run)
	for i, a := range l.Addrs() {
		r := roads[names[i]]
		r.address = a.String()
		roads[names[i]] = r
	}
	return roads
}

// runDevice runs a device-proxy and waits until the hub has accepted it.
func runDevice(t *testing.T, id string, cs hubclient.ConnectionString, targets map[string]string) {
	t.Helper()
	connected := make(chan struct{}, 100)
	options := proxy.DeviceOptions{
		DeviceID: id, Services: targets,
		Dial: func(ctx context.Context) (*hubclient.Device, error) {
			return hubclient.DialDevice(ctx, cs, hubclient.DeviceOptions{})
		},
		Events: func(e proxy.Event) {
			if e.Kind == proxy.Connected {
				connected <- struct{}{}
			}
		},
	}
	run(t, "device-proxy", func(ctx context.Context) error { return proxy.RunDevice(ctx, options) })
	select {
	case <-connected:
	case <-time.After(patience):
		t.Fatal("the hub has not accepted the device")
	}
}

// run runs a proxy until the test ends.
func run(t *testing.T, name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	})
}
