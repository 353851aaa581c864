package hubclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/farportio/farport/internal/wire"
)

// What callers branch on, with errors.Is. What is said of a device is said of a module
// too.
var (
	ErrUnauthorized    = errors.New("hub refused the credentials")
	ErrDeviceNotFound  = errors.New("device is unknown or disabled")
	ErrDeviceOffline   = errors.New("device is not connected")
	ErrDeviceExists    = errors.New("device exists already")
	ErrCANotFound      = errors.New("CA is not registered")
	ErrPrecondition    = errors.New("device was changed by somebody else")
	ErrStreamRejected  = errors.New("device rejected the stream")
	ErrThrottled       = errors.New("hub is asked too often")
	ErrTimeout         = errors.New("timed out")
	ErrHubUnreachable  = errors.New("hub is not reachable")
	ErrProxyRefused    = errors.New("proxy refused the credentials")
	ErrProxyFailed     = errors.New("proxy leads nowhere")
	ErrUntrusted       = errors.New("certificate is not trusted")
	ErrForeignEndpoint = errors.New("stream URL does not belong to the hub")
	ErrBadName         = errors.New("not a possible name")
)

// In words of their own, as a module's name stands beside them.
var (
	errModuleNotFound = &explained{"module is unknown", ErrDeviceNotFound}
	errModuleExists   = &explained{"module exists already", ErrDeviceExists}
)

// HubError is an error as the hub answered it. It matches the sentinel that its
// number, name or status stands for. The strings are the hub's own words: quote
// them before they are shown.
type HubError struct {
	Status     int    // HTTP status
	Number     int    // six digits, 0 when the hub gave none
	Name       string // such as "DeviceNotFound", "" when the hub gave none
	Message    string // what the hub had to say, at most maxAnswer bytes
	TrackingID string // to be told to the hub's operator, "" when the hub gave none
}

// meaning is the sentinel that e stands for, or wraps it; nil if there is none.
func (e *HubError) meaning() error {
	switch {
	case e.has(wire.ErrDeviceNotFound):
		return ErrDeviceNotFound
	case e.has(wire.ErrModuleNotFound):
		return errModuleNotFound
	case e.has(wire.ErrDeviceNotOnline):
		return ErrDeviceOffline
	case e.has(wire.ErrDeviceExists):
		return ErrDeviceExists
	case e.has(wire.ErrModuleExists):
		return errModuleExists
	}
	switch e.Status {
	case http.StatusUnauthorized:
		return ErrUnauthorized
	case http.StatusPreconditionFailed:
		return ErrPrecondition
	case http.StatusTooManyRequests:
		return ErrThrottled
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return ErrTimeout
	}
	return nil
}

// has reports whether e is the error of that code. The same status may come
// from anybody on the way, so it takes the number or the name as well.
func (e *HubError) has(code wire.ErrorCode) bool {
	return e.Status == code.Status() && (e.Number == code.Number || e.Name == code.Name)
}

// Is reports whether target is the sentinel that the answer stands for.
func (e *HubError) Is(target error) bool { return target != nil && errors.Is(e.meaning(), target) }

// Error returns one line: the meaning, if it is a known one, and what the hub says
// of it; otherwise all that the hub answered.
func (e *HubError) Error() string {
	if m := e.meaning(); m != nil {
		switch {
		case e.Message == "":
			return m.Error()
		case strings.HasPrefix(e.Message, m.Error()):
			return printable(e.Message)
		}
		return m.Error() + " (" + printable(e.Message) + ")"
	}
	said := "hub answered " + strconv.Itoa(e.Status)
	if e.Name != "" {
		said += " " + word(e.Name)
	} else if text := http.StatusText(e.Status); text != "" {
		said += " " + text
	}
	if e.Message != "" {
		said += ": " + quote(e.Message)
	}
	if e.TrackingID != "" {
		said += ", tracking ID " + word(e.TrackingID)
	}
	return said
}

// hubError reads an answer that is not 2xx. body is at most maxAnswer bytes of it.
func hubError(status int, header http.Header, body []byte) *HubError {
	e := HubError(wire.ParseError(status, header, body))
	if to := header.Get("Location"); status >= 300 && status < 400 && to != "" {
		e.Message = "redirect to " + to + " is not followed"
	}
	return &e
}

// UntrustedError says why the certificate of a hub or streaming endpoint was not
// trusted. It matches ErrUntrusted.
type UntrustedError struct {
	Host string // name that was connected to
	// Fingerprint is "sha256:" and the hex of the last certificate presented,
	// which is the CA's with a farport hub; "" when none was presented.
	Fingerprint string
	Err         error // what is wrong with it
}

// Error returns one line that names host, reason and fingerprint.
func (e *UntrustedError) Error() string {
	s := "certificate of " + quote(e.Host) + " is not trusted: " + e.Err.Error()
	if e.Fingerprint != "" {
		s += " (last certificate presented: " + e.Fingerprint + ")"
	}
	return s
}

// Is reports whether target is ErrUntrusted.
func (e *UntrustedError) Is(target error) bool { return target == ErrUntrusted }

// Unwrap returns what is wrong with the certificate.
func (e *UntrustedError) Unwrap() error { return e.Err }

// hop is a step on the way to the hub.
type hop string

const (
	hopDNS   hop = "DNS look-up"
	hopTCP   hop = "TCP connection"
	hopProxy hop = "HTTP proxy"
	hopSOCKS hop = "SOCKS proxy"
	hopTLS   hop = "TLS handshake"
	hopHTTP  hop = "HTTPS connection"
	hopMQTT  hop = "MQTT connection"
	hopLeg   hop = "connection to the streaming endpoint"
)

func (h hop) isProxy() bool { return h == hopProxy || h == hopSOCKS }

// hopError says at which hop the connection failed. It matches ErrHubUnreachable, and
// ErrProxyFailed where that was a proxy.
type hopError struct {
	hop  hop
	addr string // host or host:port, as it was asked for
	err  error
}

func (e *hopError) Error() string { return string(e.hop) + " " + quote(e.addr) + ": " + e.err.Error() }

func (e *hopError) Is(target error) bool {
	return target == ErrHubUnreachable || target == ErrProxyFailed && e.hop.isProxy()
}

func (e *hopError) Unwrap() error { return e.err }

// timeoutError says that there was no answer in time. It matches ErrTimeout.
type timeoutError struct {
	what string
	wait time.Duration
}

func (e *timeoutError) Error() string { return "no " + e.what + " within " + e.wait.String() }

func (e *timeoutError) Is(target error) bool { return target == ErrTimeout }

// callerGaveUp turns the end of a caller's context into an error. A deadline that
// has passed is ErrTimeout too.
func callerGaveUp(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// named says what a target is and its name: device "pi-1", module "pi-1/m1".
func named(target string) string {
	kind := "device "
	if strings.Contains(target, "/") {
		kind = "module "
	}
	return kind + quote(target)
}

// maxQuote is how many bytes of somebody else's words an error shows.
const maxQuote = 256

// quote shows somebody else's words in one line of printable characters.
func quote(s string) string {
	if len(s) > maxQuote {
		s = strings.ToValidUTF8(s[:maxQuote], "") + "..."
	}
	return strconv.Quote(s)
}

// printable shows s as it is when it is short and has nothing but printable
// characters, and in quotes otherwise.
func printable(s string) string {
	if len(s) <= maxQuote && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return quote(s)
}

// word shows s as it is when it is a name or number, and in quotes otherwise.
func word(s string) string {
	if wire.ValidStreamName(s) {
		return s
	}
	return quote(s)
}
