package hubclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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

// dialTimeout bounds each of looking up and connecting, the proxy's answer and the TLS
// handshake.
const dialTimeout = 10 * time.Second

// hub is what Service and Device know about their hub.
type hub struct {
	cs      ConnectionString
	proxy   func(*http.Request) (*url.URL, error)
	trust   trust
	roots   *x509.CertPool // Options.RootCAs, for the certificate of a proxy
	allowed []string       // Options.StreamingHosts
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
		roots:   o.RootCAs,
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

// dialTLS connects to addr, through a proxy where there is one for it, and verifies the certificate. Its errors name the hop that failed. It has the shape
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

// hopFailed names the hop that err comes from.
func (h *hub) hopFailed(ctx context.Context, at hop, addr string, err error) error {
	if e := certificateError(hostOf(addr), err); e != nil {
		if at.isProxy() { // whose certificate is none of the hub's
			return &hopError{at, addr, &explained{e.Error(), ErrUntrusted}}
		}
		return e
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	if lookUp, ok := errors.AsType[*net.DNSError](err); ok {
		if at.isProxy() {
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
