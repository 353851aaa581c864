package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Defaults of Options that a command line shows.
const (
	DefaultHandshakeTimeout = wire.HandshakeTimeout
	DefaultShutdownGrace    = 10 * time.Second
	DefaultResumeWindow     = wire.DefaultResumeWindow
	MaxResumeWindow         = wire.MaxResumeWindow
)

// Options configure a hub. DataDir is required.
type Options struct {
	// DataDir keeps everything the hub must not forget. It is made when missing.
	DataDir string
	// Listen is the HTTPS address; "" means :443, port 0 lets the system pick one.
	Listen string
	// MQTTListen is the address of MQTT in TLS; "" means none.
	MQTTListen string
	// Hosts are the hub's public names, each with an optional port where the one
	// that clients see differs from Listen's. The first is the hub's name in
	// connection strings. None means localhost when Listen is a loopback address,
	// else the machine's host name. localhost, 127.0.0.1 and ::1 always count too.
	Hosts []string
	// Certificate is the server certificate; nil means one signed by the hub's own
	// private CA, renewed by itself.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// HandshakeTimeout is how long a stream may take from the request until both
	// legs have joined. Zero means DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// ResumeWindow is the most that is granted an extended stream of being without a
	// connection, in whole seconds, to MaxResumeWindow. Zero means DefaultResumeWindow, a
	// negative value that streams do not outlive their connections; half-close they
	// keep.
	ResumeWindow time.Duration
	// MaxStreams and MaxStreamsPerDevice bound the streams open at once. Zero means
	// the defaults of package rendezvous.
	MaxStreams          int
	MaxStreamsPerDevice int
	// ShutdownGrace is how long open streams may go on once Run is told to stop.
	// Zero means DefaultShutdownGrace, a negative value none at all.
	ShutdownGrace time.Duration

	Logger *slog.Logger // nil discards
}

func (o *Options) setDefaults(hostname func() (string, error)) error {
	if o.Listen == "" {
		o.Listen = ":443"
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if o.ShutdownGrace == 0 {
		o.ShutdownGrace = DefaultShutdownGrace
	}
	if o.ResumeWindow == 0 {
		o.ResumeWindow = DefaultResumeWindow
	}
	if o.ResumeWindow = max(o.ResumeWindow, 0); o.ResumeWindow > MaxResumeWindow {
		return fmt.Errorf("resume window of %s is longer than %s", o.ResumeWindow, MaxResumeWindow)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Hosts) > 0 {
		return nil
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("listen address %q: %w", o.Listen, err)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		o.Hosts = []string{"localhost"}
		return nil
	}
	name, err := hostname()
	if err != nil {
		return fmt.Errorf("find this machine's host name: %w", err)
	}
	o.Hosts = []string{name}
	return nil
}

// localNames always count as the hub's, besides those it was given.
var localNames = []string{"localhost", "127.0.0.1", "::1"}

// names are the hub's host names: what its certificate says, which hosts tokens
// may be made out to, and how a stream URL is written. No request can add one.
type names struct {
	first string
	ports map[string]string // lower-case name to the port that clients see
	order []string
}

// ErrBadHost is in the error of Open for one of Options.Hosts that is no host.
var ErrBadHost = errors.New("not a NAME or NAME:PORT")

// newNames reads hosts; a name without a port is reached at listenPort.
func newNames(hosts []string, listenPort int) (names, error) {
	n := names{ports: make(map[string]string)}
	for _, h := range append(hosts[:len(hosts):len(hosts)], localNames...) {
		host, port := strings.ToLower(h), strconv.Itoa(listenPort)
		if net.ParseIP(host) == nil && strings.Contains(host, ":") {
			var err error
			if host, port, err = net.SplitHostPort(host); err != nil {
				return n, fmt.Errorf("host name %q: %w", h, ErrBadHost)
			}
		}
		if p, err := strconv.Atoi(port); !validHost(host) || err != nil || p < 1 || p > 65535 {
			return n, fmt.Errorf("host name %q: %w", h, ErrBadHost)
		}
		if _, twice := n.ports[host]; !twice {
			n.ports[host] = port
			n.order = append(n.order, host)
		}
	}
	n.first = n.order[0]
	return n, nil
}

// validHost reports whether host is an IP address, or a name that can stand in a
// certificate, a connection string and a URL (RFC 1123 §2.1, and underscores, which
// some networks have).
func validHost(host string) bool {
	if net.ParseIP(host) != nil {
		return true
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return len(host) <= 253
}

// has reports whether host, without a port, is one of the hub's names.
func (n names) has(host string) bool {
	_, ok := n.ports[strings.ToLower(host)]
	return ok
}

// address writes the name that a client used, as host:port with the port that
// clients see; any other text stands for the hub's first name.
func (n names) address(used string) string {
	host := strings.ToLower(used)
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	port, ok := n.ports[host]
	if !ok {
		host, port = n.first, n.ports[n.first]
	}
	return net.JoinHostPort(host, port)
}

// hostName is the first name as a connection string has it: with a port unless
// that is 443.
func (n names) hostName() string {
	return strings.TrimSuffix(n.address(n.first), ":443")
}
