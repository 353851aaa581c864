package doctor

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/farportio/farport/hubclient"
)

const (
	// clockGrace is how far clocks may differ without anybody minding, and clockMost how
	// far the hub's may be ahead before every token is expired when it arrives: a token is
	// good for an hour. Source: docs/protocol.md, SAS tokens.
	clockGrace = 5 * time.Minute
	clockMost  = time.Hour + clockGrace
	// clockBlur is what the hub's whole seconds cannot tell.
	clockBlur = 2 * time.Second
	// soonExpired is how long before its end a certificate is warned of. Source:
	// docs/security.md, T25.
	soonExpired = 30 * 24 * time.Hour
)

// Path lists the checks of the way to a hub, up to the point where somebody has to sign
// in. trust says whose word counts for the hub's certificate, such as "the system's CAs".
func Path(p *hubclient.Path, trust string) []Check {
	return []Check{
		{"dns", func(ctx context.Context) (Result, error) { return resolve(ctx, p) }},
		{"tcp", func(ctx context.Context) (Result, error) { return connect(ctx, p) }},
		{"proxy", func(ctx context.Context) (Result, error) { return through(ctx, p) }},
		{"tls", func(ctx context.Context) (Result, error) { return handshake(ctx, p, trust) }},
		{"clock", func(ctx context.Context) (Result, error) { return clock(ctx, p) }},
		{"websocket", func(ctx context.Context) (Result, error) { return upgrade(ctx, p) }},
	}
}

func resolve(ctx context.Context, p *hubclient.Path) (Result, error) {
	host, addresses, err := p.Resolve(ctx)
	switch {
	case err != nil:
		return Result{}, err
	case net.ParseIP(host) != nil:
		return Result{Detail: host + " is an address, nothing to look up"}, nil
	}
	return Result{Detail: host + " is " + strings.Join(addresses, ", ")}, nil
}

func connect(ctx context.Context, p *hubclient.Path) (Result, error) {
	to, err := p.Connect(ctx)
	if err != nil {
		return Result{}, err
	}
	return Result{Detail: "connected to " + to.String()}, nil
}

func through(ctx context.Context, p *hubclient.Path) (Result, error) {
	proxy, err := p.Proxy()
	switch {
	case err != nil:
		return Result{}, err
	case proxy == nil:
		return Result{Detail: "none is used"}, nil
	}
	if err := p.Through(ctx); err != nil {
		return Result{}, &Problem{err.Error(), "the proxy must let CONNECT through to the hub's host and port; its user and password go into the proxy's URL, hosts that need no proxy into NO_PROXY", err}
	}
	return Result{Detail: proxy.String() + " connects to the hub"}, nil
}

func handshake(ctx context.Context, p *hubclient.Path, trust string) (Result, error) {
	state, err := p.Handshake(ctx)
	if err != nil {
		return Result{}, err
	}
	leaf := state.PeerCertificates[0]
	left := time.Until(leaf.NotAfter)
	r := Result{Detail: fmt.Sprintf("%s, certificate by %s, trusted by %s, good until %s",
		tls.VersionName(state.Version), strconv.Quote(cmp.Or(leaf.Issuer.CommonName, leaf.Issuer.String())), trust, leaf.NotAfter.UTC().Format(time.DateOnly))}
	if left < soonExpired {
		r.Status, r.Hint = Warning, "the hub's operator has to replace its certificate by then"
	}
	return r, nil
}

func clock(ctx context.Context, p *hubclient.Path) (Result, error) {
	c, err := p.Clock(ctx)
	if err != nil {
		return Result{}, err
	}
	if !c.Known {
		return Result{Status: Warning, Detail: "the hub did not say what time it is", Hint: "compare this machine's clock with another one"}, nil
	}
	apart := c.Ahead.Abs().Round(time.Second)
	text := "this machine's clock is " + apart.String() + " behind the hub's"
	if c.Ahead < 0 {
		text = "this machine's clock is " + apart.String() + " ahead of the hub's"
	}
	const mend = "set the clock that is wrong, best by NTP; keys are proved by tokens that have a time in them"
	switch {
	case c.Ahead > clockMost:
		return Result{}, &Problem{text + ": every token is expired when it arrives", mend, hubclient.ErrUnauthorized}
	case apart > clockGrace:
		return Result{Status: Warning, Detail: text, Hint: mend}, nil
	}
	if apart <= clockBlur {
		text = "this machine's clock is in step with the hub's"
	}
	return Result{Detail: text + "; an HTTPS request took " + short(c.RoundTrip) + " there and back"}, nil
}

func upgrade(ctx context.Context, p *hubclient.Path) (Result, error) {
	err := p.Upgrade(ctx)
	if e, ok := errors.AsType[*hubclient.HubError](err); ok {
		return Result{}, &Problem{
			"asked for a WebSocket, got HTTP status " + strconv.Itoa(e.Status) + " instead of 101",
			"something before the hub, such as a reverse proxy, load balancer or firewall, does not let WebSockets through: have it pass on Upgrade and Connection headers",
			hubclient.ErrHubUnreachable,
		}
	}
	if err != nil {
		return Result{}, err
	}
	return Result{Detail: "the hub takes WebSockets, where devices sign in"}, nil
}

// MQTT is the check of a further port, which only devices with --transport mqtt use; 0 is
// the default one. A hub without it is as good for all others, so it is not in Path.
func MQTT(p *hubclient.Path, port int) Check {
	return Check{"mqtt", func(ctx context.Context) (Result, error) {
		addr, err := p.MQTT(ctx, port)
		if err != nil {
			return Result{}, &Problem{err.Error(), "open the port in firewalls and on the hub (--mqtt-listen), or leave out --transport mqtt: the default needs no port but that of HTTPS", err}
		}
		return Result{Detail: addr + " takes TLS, where devices with --transport mqtt sign in"}, nil
	}}
}

// short is d with no more digits than tell something.
func short(d time.Duration) string {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	if d < time.Second {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
