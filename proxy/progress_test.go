package proxy_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/proxy"
)

// A device-proxy that cannot connect can be asked since when, and when it will try again.
func TestConnecting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var traffic proxy.Traffic
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		attempts := make(chan time.Time, 1000)
		go func() {
			done <- proxy.RunDevice(ctx, proxy.DeviceOptions{
				Watch:   make(changes).watch,
				Traffic: &traffic,
				Dial: func(context.Context) (*hubclient.Device, error) {
					if since, next := traffic.Connecting(); !since.Equal(began) || !next.IsZero() {
						t.Errorf("while it tries: since %v, next %v; want %v and none", since, next, began)
					}
					attempts <- time.Now()
					return nil, errors.New("no network")
				},
			})
		}()
		<-attempts
		for range 20 {
			synctest.Wait() // until it waits
			since, next := traffic.Connecting()
			if !since.Equal(began) {
				t.Errorf("not connected since %v, want %v", since, began)
			}
			if at := <-attempts; !at.Equal(next) {
				t.Errorf("the next attempt was at %v, not %v", at, next)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Once it is connected, it is not connecting, also when it had to connect again.
func TestConnectedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	var traffic proxy.Traffic
	w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t), Traffic: &traffic}, hubclient.DeviceOptions{})
	for range 2 {
		if since, next := traffic.Connecting(); !since.IsZero() || !next.IsZero() {
			t.Errorf("connected, and connecting since %v, next %v", since, next)
		}
		w.hub.DropControl("pi-1")
		w.expect(w.device, proxy.Retrying)
		w.expect(w.device, proxy.Connected)
	}
}

// A stream counts as being set up from its connection on until it is open.
func TestSettingUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	cs := w.hub.AddDevice("pi-1") // not there yet
	var traffic, ofDevice proxy.Traffic
	l, err := proxy.Listen(proxy.ServiceOptions{
		Hub: w.service, DeviceID: "pi-1", Traffic: &traffic, Events: func(e proxy.Event) { w.events <- e },
		Open: hubclient.OpenOptions{ConnectTimeout: 5 * time.Minute},
	}, []proxy.Forward{{Address: "127.0.0.1:0", Service: "default"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	service, device := make(chan error, 1), make(chan error, 1)
	go func() { service <- l.Run(ctx) }()
	conn := dial(t, l.Addrs()[0].String())
	for began := time.Now(); traffic.SettingUp() != 1; time.Sleep(time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%d streams are being set up, want 1", traffic.SettingUp())
		}
	}
	go func() {
		device <- proxy.RunDevice(ctx, proxy.DeviceOptions{
			DeviceID: "pi-1", Target: hubtest.Echo(t), Traffic: &ofDevice,
			Dial: func(ctx context.Context) (*hubclient.Device, error) {
				return hubclient.DialDevice(ctx, cs, hubclient.DeviceOptions{})
			},
		})
	}()
	w.expect(w.events, proxy.Opened)
	echo(t, conn, "hello")
	if here, there := traffic.SettingUp(), ofDevice.SettingUp(); here != 0 || there != 0 {
		t.Errorf("once it is open, %d and %d streams are being set up", here, there)
	}
	conn.Close()
	cancel()
	if err := errors.Join(<-service, <-device); err != nil {
		t.Error(err)
	}
}
