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
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// dialTimeout bounds each of looking up and connecting, the HTTP proxy's answer
// and the TLS handshake.
const dialTimeout = 10 * time.Second

// hub is what Service and Device know about their hub.
type hub struct {
	cs      ConnectionString
	proxy   func(*http.Request) (*url.URL, error)
	trust   trust
	allowed []string // Options.StreamingHosts
	agent   string
	logger  *slog.Logger

	instance *Instance
	offer    wire.Offer // what we are ready for, as instance
}

func newHub(cs ConnectionString, o Options, instance *Instance) *hub {
	h := &hub{
		cs:      cs,
		proxy:   o.Proxy,
		trust:   newTrust(cs.CAFingerprint, o.RootCAs),
		allowed: o.StreamingHosts,
		agent:   cmp.Or(o.UserAgent, "farport"),
		logger:  cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),

		instance: instance,
		offer:    instance.offer(o),
	}
	if h.proxy == nil {
		h.proxy = http.ProxyFromEnvironment
	}
	return h
}

// authority is the hub's host, with its port where it is not the one of https.
func (h *hub) authority() string {
	return strings.TrimSuffix(h.cs.Address(), ":443")
}

// dialTLS connects to addr, through an HTTP proxy where there is one for it, and
// verifies the certificate. Its errors name the hop that failed. It has the shape
// of http.Transport.DialTLSContext.
func (h *hub) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	return h.dialTLSWith(ctx, network, addr, h.trust.config(hostOf(addr)))
}

func (h *hub) dialTLSWith(ctx context.Context, network, addr string, config *tls.Config) (net.Conn, error) {
	conn, err := h.dialTCP(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, h.hopFailed(ctx, hopTLS, addr, err)
	}
	return secure, nil
}

func (h *hub) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	proxy, err := h.proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}, Header: http.Header{}})
	if err != nil {
		return nil, &hopError{hopProxy, addr, err}
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	if proxy == nil {
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, h.hopFailed(ctx, hopTCP, addr, err)
		}
		return conn, nil
	}
	if proxy.Scheme != "http" {
		return nil, &hopError{hopProxy, proxy.Host, fmt.Errorf("%s:// proxies cannot be used, only http:// ones", word(proxy.Scheme))}
	}
	through := net.JoinHostPort(proxy.Hostname(), cmp.Or(proxy.Port(), "80"))
	conn, err := dialer.DialContext(ctx, network, through)
	if err != nil {
		return nil, h.hopFailed(ctx, hopProxy, through, err)
	}
	if err := connect(ctx, conn, proxy.User, addr); err != nil {
		conn.Close()
		return nil, h.hopFailed(ctx, hopProxy, through, err)
	}
	return conn, nil
}

// connect asks the HTTP proxy at the other end of conn for a way to addr.
func connect(ctx context.Context, conn net.Conn, user *url.Userinfo, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	// Nothing can follow the answer in the buffer, as in TLS the client speaks first.
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), request)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	if !stop() {
		return context.Cause(ctx)
	}
	return nil
}

// hopFailed names the hop that err comes from.
func (h *hub) hopFailed(ctx context.Context, at hop, addr string, err error) error {
	if e := certificateError(hostOf(addr), err); e != nil {
		return e
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	if lookUp, ok := errors.AsType[*net.DNSError](err); ok {
		if at == hopProxy {
			return &hopError{at, addr, errors.New(lookUp.Err)}
		}
		return &hopError{hopDNS, hostOf(addr), &explained{lookUp.Err, err}}
	}
	return &hopError{at, addr, plain(err)}
}

// plain takes what the hop's name says already off a network error.
func plain(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return &explained{"timed out", err}
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		return &explained{call.Err.Error(), err}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &explained{"closed by the other end", err}
	}
	return &explained{printable(err.Error()), err}
}
