package hubclient

import (
	"errors"
	"net/http"
	"net/url"
	"testing"
)

// The hops are the proxy's where there is one, and its password is nowhere.
func TestPathThroughProxy(t *testing.T) {
	hub := (&testHub{api: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }}).start(t)
	proxy := newHTTPProxy(t, "200 OK")
	p := NewPath(hub.connectionString(""), Options{Proxy: proxy.use(url.UserPassword("me", "secret"))})
	if got, err := p.Proxy(); err != nil || got.String() != "http://"+proxy.addr {
		t.Errorf("proxy is %v, %v", got, err)
	}
	if host, addresses, err := p.Resolve(t.Context()); err != nil || host != "127.0.0.1" || len(addresses) != 1 {
		t.Errorf("resolved %q to %v, %v", host, addresses, err)
	}
	if to, err := p.Connect(t.Context()); err != nil || to.String() != proxy.addr {
		t.Errorf("connected to %v, %v", to, err)
	}
	if err := p.Through(t.Context()); err != nil {
		t.Error(err)
	}
	if state, err := p.Handshake(t.Context()); err != nil || len(state.PeerCertificates) == 0 {
		t.Errorf("handshake: %v", err)
	}
	if c, err := p.Clock(t.Context()); err != nil || !c.Known || c.RoundTrip <= 0 {
		t.Errorf("clock %+v, %v", c, err)
	}
	// Through, Handshake and Clock, by one connection each: Connect asks for nothing.
	if seen := proxy.requests(); len(seen) != 3 {
		t.Errorf("%d connections through the proxy, want 3", len(seen))
	}
}

func TestPathRefused(t *testing.T) {
	hub := (&testHub{api: func(http.ResponseWriter, *http.Request) {}}).start(t)
	proxy := newHTTPProxy(t, "407 Who are you")
	p := NewPath(hub.connectionString(""), Options{Proxy: proxy.use(nil)})
	if _, err := p.Connect(t.Context()); err != nil {
		t.Error(err)
	}
	err := p.Through(t.Context())
	if !errors.Is(err, ErrHubUnreachable) {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), "HTTP proxy", "answered 407")
}
