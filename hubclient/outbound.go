package hubclient

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/proxy"
)

// The kinds of proxies, by the scheme of their URL.
const (
	proxyHTTP   = "http"
	proxyHTTPS  = "https"
	proxySOCKS  = "socks5"
	proxySOCKSH = "socks5h"
)

// proxyPorts are the ports of proxies whose URL has none.
var proxyPorts = map[string]string{proxyHTTP: "80", proxyHTTPS: "443", proxySOCKS: "1080", proxySOCKSH: "1080"}

// dialTCP connects to addr, through a proxy where there is one for it. Its errors name the
// hop that failed, and never a password.
func (h *hub) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	through, err := h.proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}, Header: http.Header{}})
	if err != nil {
		return nil, &hopError{hopProxy, addr, err}
	}
	if through == nil {
		conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, h.hopFailed(ctx, hopTCP, addr, err)
		}
		return conn, nil
	}
	at := proxyHop(through)
	if proxyPorts[through.Scheme] == "" {
		return nil, &hopError{at, through.Host, fmt.Errorf("%s:// proxies cannot be used, only http://, https:// and socks5:// ones", word(through.Scheme))}
	}
	host := net.JoinHostPort(through.Hostname(), cmp.Or(through.Port(), proxyPorts[through.Scheme]))
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, host)
	if err != nil {
		return nil, h.hopFailed(ctx, at, host, err)
	}
	way, err := h.askProxy(ctx, conn, through, addr)
	if err != nil {
		conn.Close()
		return nil, h.hopFailed(ctx, at, host, err)
	}
	return way, nil
}

// proxyHop is the kind of a proxy.
func proxyHop(through *url.URL) hop {
	if strings.HasPrefix(through.Scheme, proxySOCKS) {
		return hopSOCKS
	}
	return hopProxy
}

// askProxy asks the proxy at the other end of conn for a way to addr, which is what it
// returns: conn, where it can be. The caller closes conn if it fails.
func (h *hub) askProxy(ctx context.Context, conn net.Conn, through *url.URL, addr string) (way net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	way = conn
	switch through.Scheme {
	case proxyHTTPS:
		secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: through.Hostname(), RootCAs: h.roots})
		if err = secure.HandshakeContext(ctx); err == nil {
			way, err = askHTTP(secure, through.User, addr)
		}
	case proxyHTTP:
		way, err = askHTTP(conn, through.User, addr)
	default:
		err = askSOCKS(ctx, conn, through.User, addr)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	return way, err
}

// askHTTP asks by CONNECT (RFC 9110 section 9.3.6). It returns conn, or what reads from it
// what has already come behind the answer.
func askHTTP(conn net.Conn, user *url.Userinfo, addr string) (net.Conn, error) {
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	in := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	// Its body is not touched: a 2xx has none, whatever its head says.
	answer, err := http.ReadResponse(in, request) //nolint:bodyclose // closing would read it; it holds nothing
	if err != nil {
		return nil, err
	}
	if answer.StatusCode/100 == 2 {
		if in.Buffered() == 0 {
			return conn, nil
		}
		early, _ := in.Peek(in.Buffered()) // buffered: cannot fail
		return &earlyConn{conn, early}, nil
	}
	said := fmt.Sprintf("answered %d %s to CONNECT %s", answer.StatusCode, http.StatusText(answer.StatusCode), addr)
	switch answer.StatusCode {
	case http.StatusProxyAuthRequired, http.StatusUnauthorized: // tinyproxy's word for a wrong password
		return nil, &explained{said, ErrProxyRefused}
	}
	return nil, errors.New(said)
}

// earlyConn gives first what came early.
type earlyConn struct {
	net.Conn
	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}

// askSOCKS asks by SOCKS5 (RFC 1928, with the user and password of RFC 1929). conn stays
// what it is, so that what is carried over it is as fast as without a proxy.
func askSOCKS(ctx context.Context, conn net.Conn, user *url.Userinfo, addr string) error {
	var auth *proxy.Auth
	if user != nil {
		password, _ := user.Password()
		auth = &proxy.Auth{User: user.Username(), Password: password}
	}
	dialer, err := proxy.SOCKS5("tcp", conn.RemoteAddr().String(), auth, nil)
	if err != nil {
		return err
	}
	asker, ok := dialer.(interface {
		DialWithConn(ctx context.Context, conn net.Conn, network, addr string) (net.Addr, error)
	})
	if !ok {
		return errors.New("SOCKS is not supported by this build")
	}
	_, err = asker.DialWithConn(ctx, conn, "tcp", addr)
	if failed, ok := errors.AsType[*net.OpError](err); ok && strings.HasPrefix(failed.Op, "socks") {
		err = failed.Err // the hop's name says the rest
	}
	if err == nil {
		return nil
	}
	if text := err.Error(); strings.Contains(text, "authentication") {
		return &explained{text, ErrProxyRefused}
	}
	return err
}
