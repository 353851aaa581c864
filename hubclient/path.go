package hubclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Path is the way to a hub, hop by hop, for whoever looks for the one that fails. Each
// method makes a connection of its own and ends it; none of them signs in. Errors name
// the hop, as those of Service and Device do. It is safe for concurrent use.
type Path struct{ hub *hub }

// NewPath returns the way that a client with these options takes. It does no I/O.
func NewPath(cs ConnectionString, o Options) *Path {
	return &Path{newHub(cs, o, NewInstance())}
}

// Proxy returns scheme, host and port of the proxy on the way, without its password; nil
// when there is none.
func (p *Path) Proxy() (*url.URL, error) {
	addr := p.hub.cs.Address()
	proxy, err := p.hub.proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}, Header: http.Header{}})
	if err != nil {
		return nil, &hopError{hopProxy, addr, err}
	}
	if proxy == nil {
		return nil, nil
	}
	port := cmp.Or(proxy.Port(), proxyPorts[proxy.Scheme], "80")
	return &url.URL{Scheme: proxy.Scheme, Host: net.JoinHostPort(proxy.Hostname(), port)}, nil
}

// first is what the first TCP connection goes to, the hub or its proxy.
func (p *Path) first() (at hop, addr string, err error) {
	proxy, err := p.Proxy()
	switch {
	case err != nil:
		return hopProxy, "", err
	case proxy != nil:
		return proxyHop(proxy), proxy.Host, nil
	}
	return hopTCP, p.hub.cs.Address(), nil
}

// Resolve looks up the host that the first TCP connection goes to.
func (p *Path) Resolve(ctx context.Context) (host string, addresses []string, err error) {
	at, addr, err := p.first()
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host = hostOf(addr)
	if addresses, err = net.DefaultResolver.LookupHost(ctx, host); err != nil {
		return host, nil, p.hub.hopFailed(ctx, at, addr, err)
	}
	return host, addresses, nil
}

// Connect makes the first TCP connection and returns the address it came to.
func (p *Path) Connect(ctx context.Context) (net.Addr, error) {
	at, addr, err := p.first()
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, p.hub.hopFailed(ctx, at, addr, err)
	}
	defer conn.Close()
	return conn.RemoteAddr(), nil
}

// Through connects to the hub's port, through the proxy where there is one.
func (p *Path) Through(ctx context.Context) error {
	conn, err := p.hub.dialTCP(ctx, "tcp", p.hub.cs.Address())
	if err != nil {
		return err
	}
	return conn.Close()
}

// Handshake does the TLS handshake, with the certificate checked as ever.
func (p *Path) Handshake(ctx context.Context) (tls.ConnectionState, error) {
	conn, err := p.hub.dialTLS(ctx, "tcp", p.hub.cs.Address())
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState(), nil
}

// Clock is how the hub's clock differs from ours.
type Clock struct {
	// Ahead is by how much the hub's is ahead, true to a second and half the RoundTrip.
	Ahead time.Duration
	// RoundTrip is how long an HTTPS request took on a connection that stood already.
	RoundTrip time.Duration
	// Known is false when the hub did not say what time it is.
	Known bool
}

// Clock asks the hub for the time, which stands in the head of every answer. What the
// answer says otherwise does not matter.
func (p *Path) Clock(ctx context.Context) (Clock, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, &timeoutError{"answer from the hub", callTimeout})
	defer cancel()
	transport := &http.Transport{DialTLSContext: p.hub.dialTLS, MaxResponseHeaderBytes: maxHeader}
	defer transport.CloseIdleConnections()
	var c Clock
	for range 2 { // the first one also connects
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.hub.authority()+wire.PathHealth, nil)
		if err != nil {
			return c, err
		}
		request.Header.Set("User-Agent", p.hub.agent)
		sent := time.Now()
		answer, err := transport.RoundTrip(request)
		if err != nil {
			return c, p.hub.hopFailed(ctx, hopHTTP, p.hub.cs.Address(), err)
		}
		c.RoundTrip = time.Since(sent)
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // only the head matters
		answer.Body.Close()
		said, err := http.ParseTime(answer.Header.Get("Date"))
		c.Known = err == nil
		// The head has whole seconds, cut off.
		c.Ahead = said.Add(time.Second / 2).Sub(sent.Add(c.RoundTrip / 2))
	}
	return c, nil
}

// Upgrade opens the WebSocket that devices connect by, and closes it before anybody
// signs in. A *HubError is an answer other than 101, by the hub or whatever stands
// before it.
func (p *Path) Upgrade(ctx context.Context) error {
	conn, err := p.hub.dialWebSocket(ctx, p.hub.trust.config(p.hub.cs.Host()))
	if err != nil {
		return orCallerGaveUp(ctx, err)
	}
	return conn.Close()
}

// MQTT does the TLS handshake with the hub's port for Transport MQTT, zero being
// DefaultMQTTPort, and returns the address that it asked for.
func (p *Path) MQTT(ctx context.Context, port int) (addr string, err error) {
	addr = p.hub.mqttAddress(port)
	conn, err := p.hub.dialTLS(ctx, "tcp", addr)
	if err != nil {
		return addr, err
	}
	return addr, conn.Close()
}

// SignIn makes a call that needs no more than a right to read, and changes nothing.
func (s *Service) SignIn(ctx context.Context) error {
	if _, err := s.do(ctx, call{method: http.MethodGet, path: wire.PathStatistics}); err != nil {
		return fmt.Errorf("sign in to %s: %w", s.hub.authority(), err)
	}
	return nil
}
