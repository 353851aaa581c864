// Package hubclient is what a device or a service says to a hub, Azure's or
// farport's own.
//
//	Service ──HTTPS──▶ hub ◀──MQTT, as it is or in a WebSocket── Device
//	   │ Open                                      Next, Accept │
//	   └──WebSocket──▶ streaming endpoint ◀──WebSocket──────────┘
//	                       (both a Stream)
//
// Service.DialContext and Device.Listen are the same for users of package net.
//
// A Service opens streams, calls direct methods and keeps the identity registry; a
// Device is one control connection, over which it is asked for streams. Neither ever retries: that is
// package proxy's, as is carrying TCP connections over a Stream.
//
// Every error says which hop failed and matches one of the sentinels of errors.go
// where a caller may want to branch on it. What a hub says is cut short and quoted
// before it becomes part of an error's text; keys and tokens never do.
package hubclient

import (
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// ConnectionString says where a hub is and how to sign in to it. It shows its
// secrets only through Reveal.
type ConnectionString = credential.ConnectionString

// ParseConnectionString reads a connection string in Azure's form, with
// CaFingerprint=sha256:HEX as farport's one extra part. Its errors name the part
// that is wrong, never a value.
func ParseConnectionString(text string) (ConnectionString, error) {
	return credential.ParseConnectionString(text)
}

// Stream is a side's end of a device stream: a net.Conn with CloseWrite, and Abort, which
// lets the other end see a break. Whoever was given it closes it. Where device, service
// and hub are all farport's it keeps half-close, and outlives connections for as long
// as they have agreed on; such a one has a method NetworkChanged() as well, for when the
// machine has another address or was asleep. Otherwise it is plain: an end that has
// finished lets the other direction drain, and a lost connection is the stream's end.
type Stream = stream.Stream

// EndError is how Read and Write of a Stream say that it did not end in good
// order. Its Reason is the word in the hub's log, too.
type EndError = stream.EndError

// Target names the identity that cs signs in as: DEVICE or DEVICE/MODULE, as a target
// is written everywhere; "" for a service.
func Target(cs ConnectionString) string { return wire.TargetName(cs.DeviceID, cs.ModuleID) }

// SplitTarget takes a target's name apart; module is "" for a device.
func SplitTarget(target string) (device, module string) { return wire.SplitTarget(target) }

// ValidTarget reports whether name can be a target's: DEVICE or DEVICE/MODULE.
func ValidTarget(name string) bool { return wire.ValidTarget(name) }

// ValidStreamName reports whether a stream can have that name: 1 to 128 characters of
// A-Za-z0-9-._~ , except "." and "..".
func ValidStreamName(name string) bool { return wire.ValidStreamName(name) }

// Identity is a device or module identity as the hub's registry has it. Its keys are
// base64 text; it has them wherever the hub sent them, so mind where it is printed.
type Identity = wire.Device

// Authentication is how an identity proves itself.
type Authentication = wire.Authentication

// SymmetricKey holds an identity's two keys, base64 text.
type SymmetricKey = wire.SymmetricKey

// X509Thumbprint holds an identity's certificate thumbprints: SHA-1 or SHA-256 of the
// leaf's DER in hex, nil when unset.
type X509Thumbprint = wire.X509Thumbprint

// The values of an identity's or twin's Status and ConnectionState.
const (
	StatusEnabled  = wire.StatusEnabled
	StatusDisabled = wire.StatusDisabled
	Connected      = wire.Connected
	Disconnected   = wire.Disconnected
)

// The values of Authentication.Type: symmetric keys, a certificate known by its
// thumbprint, or one that a registered CA has signed.
const (
	AuthSAS        = wire.AuthSAS
	AuthSelfSigned = wire.AuthSelfSigned
	AuthCA         = wire.AuthCA
)

// Twin is what the hub knows of a device or module beside its identity: whether it is
// enabled and connected, its tags and properties.
type Twin = wire.Twin

// CA is a certificate authority that vouches for devices, as the hub has it.
type CA = wire.CA

// CAProposal asks the hub to register a CA.
type CAProposal = wire.CAProposal

// Options are what a Service and a Device have in common. The zero value works.
type Options struct {
	// RootCAs are the CAs to trust; nil means the system's. A connection string
	// with CaFingerprint trusts exactly that CA instead.
	RootCAs *x509.CertPool
	// Proxy picks the proxy for a request to an https URL, which is how every connection
	// to the hub and its streaming endpoint begins; nil means http.ProxyFromEnvironment.
	// It is of the kind http or https (asked by CONNECT, with a user and password if the
	// URL has them), or socks5 or socks5h, which are the same: the proxy looks names up.
	// The certificate of an https one is checked with RootCAs.
	Proxy func(*http.Request) (*url.URL, error)
	// StreamingHosts are host names, without port, that a stream's URL may name
	// besides those that belong to the hub anyway.
	StreamingHosts []string
	// ResumeWindow is how long a stream may be without a connection before it is lost, in
	// whole seconds, MaxResumeWindow at most; the other end and the hub may want it
	// shorter. Zero means DefaultResumeWindow, a negative value that streams do not
	// outlive their connections; half-close they keep.
	ResumeWindow time.Duration
	// UserAgent is told to the hub; "" means "farport".
	UserAgent string
	// Logger gets protocol steps at debug level; nil discards.
	Logger *slog.Logger
}
