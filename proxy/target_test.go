package proxy_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/wire"
	"github.com/farportio/farport/proxy"
)

// A module is called by one name, in what is asked for as in what is told.
func TestModuleIsATarget(t *testing.T) {
	t.Parallel()
	const module = "pi-1/m1"
	asked := make(chan string, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		wire.WriteError(w, wire.ErrDeviceNotOnline, "module is not connected", "1f6e", 0)
	}))
	defer server.Close()
	cs, err := hubclient.ParseConnectionString("HostName=" + server.Listener.Addr().String() + ";SharedAccessKeyName=service;SharedAccessKey=d3Jvbmc=")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	direct := func(*http.Request) (*url.URL, error) { return nil, nil }
	service, err := hubclient.NewService(cs, hubclient.Options{RootCAs: roots, Proxy: direct})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	w := &world{t: t, service: service, events: make(chan proxy.Event, 10)}
	wantRefused(t, w.forward(module, "ssh"))
	if e := w.expect(w.events, proxy.Refused); e.Device != module || !strings.Contains(e.Err.Error(), `module "pi-1/m1"`) {
		t.Errorf("event is %+v", e)
	}
	if path := <-asked; path != wire.StreamPath(module, "ssh") {
		t.Errorf("asked for %s", path)
	}
}

// Whoever connects with a device's identity takes its control connection away. The
// device-proxy comes back, streams go on.
func TestEvicted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t)}, hubclient.DeviceOptions{})
	addr := w.forward("pi-1", "default")
	c := dial(t, addr)
	echo(t, c, "before")
	identity, err := w.service.GetDevice(t.Context(), "pi-1")
	if err != nil {
		t.Fatal(err)
	}
	cs := w.hub.ConnectionString("iothubowner")
	text := "HostName=" + cs.Address() + ";DeviceId=pi-1;SharedAccessKey=" + identity.Authentication.SymmetricKey.PrimaryKey + ";CaFingerprint=sha256:" + cs.CAFingerprint
	if cs, err = hubclient.ParseConnectionString(text); err != nil {
		t.Fatal(err)
	}
	other, err := hubclient.DialDevice(context.Background(), cs, hubclient.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	w.expect(w.device, proxy.Retrying)
	w.expect(w.device, proxy.Connected)
	<-other.Done()
	echo(t, c, "after")
	echo(t, dial(t, addr), "a new one")
}
