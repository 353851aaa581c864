package hubclient

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// Azure's hubs and their streaming endpoints have names of their own. Source:
// docs/protocol.md, The streaming endpoint.
const (
	azureHubs      = ".azure-devices.net"
	azureEndpoints = ".streams.azure-devices.net"
)

// checkEndpoint says whether a stream may go to the URL that came with it: a wss
// URL on the hub's own host, on one of Options.StreamingHosts, on one of Azure's
// if the hub is Azure's, or on any whose certificate the pinned CA will vouch for.
// The error is ErrForeignEndpoint, unless it is the token that cannot be used.
func (h *hub) checkEndpoint(raw, token string) (*url.URL, error) {
	foreign := func(why string) error {
		return fmt.Errorf("%w: %s %s", ErrForeignEndpoint, quote(raw), why)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, foreign("is not a URL")
	case u.Scheme != "wss":
		return nil, foreign("is not a wss URL")
	case u.Hostname() == "" || u.User != nil || u.Fragment != "":
		return nil, foreign("has not the form wss://HOST:PORT/PATH")
	case !h.knows(u.Hostname()):
		return nil, foreign("names another host")
	case !goodToken(token):
		return nil, errors.New("hub sent no stream token that can be used")
	}
	return u, nil
}

// knows reports whether host may get a leg.
func (h *hub) knows(host string) bool {
	// Letters outside ASCII may become ASCII ones in another letter case.
	if strings.ContainsFunc(host, func(r rune) bool { return r > '~' }) {
		return false
	}
	same := func(other string) bool { return strings.EqualFold(host, other) }
	if same(h.cs.Host()) || same(h.cs.HostName) || slices.ContainsFunc(h.allowed, same) {
		return true
	}
	under := func(name, domain string) bool { return strings.HasSuffix(strings.ToLower(name), domain) }
	return under(h.cs.HostName, azureHubs) && under(host, azureEndpoints) || h.trust.pin != ""
}

// connect opens our end of a stream at an endpoint that checkEndpoint has passed. Nothing
// but the stream token, and for an extended stream the instance's secret, goes there.
func (h *hub) connect(ctx context.Context, endpoint *url.URL, token string, k keep) (Stream, error) {
	o := stream.DialOptions{
		TLS:       h.trust.config(endpoint.Hostname()),
		DialTCP:   h.dialTCP,
		UserAgent: h.agent,
	}
	var opened Stream
	var err error
	if k.grant.Extended {
		opened, err = orNone(stream.Join(ctx, endpoint.String(), token, stream.JoinOptions{
			DialOptions: o, Secret: h.instance.secret, Window: k.grant.Window, Linger: k.linger, Changed: k.changed,
		}))
	} else {
		opened, err = orNone(stream.Dial(ctx, endpoint.String(), token, o))
	}
	if err == nil {
		return opened, nil
	}
	if ctx.Err() != nil {
		return nil, callerGaveUp(ctx)
	}
	_, refused := errors.AsType[*stream.DialError](err)
	if _, ended := errors.AsType[*stream.JoinError](err); refused || ended {
		return nil, fmt.Errorf("%s: %w", quote(endpoint.Host), err)
	}
	if errors.Is(err, ErrHubUnreachable) {
		return nil, fmt.Errorf("streaming endpoint: %w", err) // dialTCP has named the hop
	}
	return nil, h.hopFailed(ctx, hopLeg, endpoint.Host, err)
}

// orNone keeps a nil of one type from becoming a Stream.
func orNone[S Stream](s S, err error) (Stream, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// goodToken reports whether token can stand in a header: visible ASCII, and not
// much longer than any hub sends.
func goodToken(token string) bool {
	return token != "" && len(token) <= 4*wire.MaxToken &&
		!strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })
}
