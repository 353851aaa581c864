// Package wire names everything that farport's two ends and its hub put on the
// network: paths, headers, MQTT topics, JSON shapes, error numbers, close codes
// and the limits both sides keep to. It does no I/O and imports only the
// standard library, so that client and server can share it without linking each
// other. What the names mean is told in docs/protocol.md; a header or topic
// spelled out in any other package is a mistake.
package wire

import (
	"strings"
	"time"
)

// API versions a farport client sends. A hub takes any.
const (
	// APIVersionService is the api-version of every HTTPS request. It is the
	// latest one known to have been pointed at the real service for streams.
	// Source: docs/protocol.md, Starting a stream.
	APIVersionService = "2018-10-20-preview"
	// APIVersionDevice is the api-version in a device's MQTT user name. Source:
	// docs/protocol.md, Connecting.
	APIVersionDevice = "2020-09-30"
)

// Sizes, in bytes unless said otherwise.
const (
	// MaxID bounds a device or module ID (docs/protocol.md, Identity registry).
	MaxID = 128
	// MaxStreamName bounds a stream name (docs/protocol.md, Stream request).
	MaxStreamName = 128
	maxMethodName = 128
	// MaxMethodPayload bounds the JSON of a direct method, either way, and MaxTwinPart
	// each of a twin's three documents (docs/protocol.md, Twins; Direct methods).
	MaxMethodPayload = 128 << 10
	MaxTwinPart      = 32 << 10
	// MaxURL bounds path of a stream URL and MaxToken a stream token: the C SDK
	// copies each, with a few bytes around it, into a 1024-byte buffer.
	MaxURL   = 1000
	MaxToken = 1000
	// Chunk is the most payload one WebSocket message carries; 64 KiB is safe
	// with every known SDK (docs/protocol.md, Data).
	Chunk = 64 << 10
)

// Times that both sides rely on.
const (
	// HandshakeTimeout is how long a stream may take from the request until both
	// legs have joined (docs/protocol.md, Timeouts).
	HandshakeTimeout = 60 * time.Second
	// ClientSlack is what a client waits beyond connect and response time-out
	// before it gives the hub up (docs/protocol.md, Answer).
	ClientSlack = 15 * time.Second
	// DefaultConnectTimeout and DefaultResponseTimeout are what farport's own
	// service-proxy asks for.
	DefaultConnectTimeout  = 5 * time.Second
	DefaultResponseTimeout = 30 * time.Second
	// MaxStreamTimeout is the longest connect or response time-out the hub takes.
	MaxStreamTimeout = 300 * time.Second

	// PingInterval is how long a leg may be idle before it is pinged, DeadAfter
	// how long it may stay silent before it is given up.
	PingInterval = 30 * time.Second
	DeadAfter    = 75 * time.Second
	// WriteStall is how long one write to a leg may take before the leg is given up.
	WriteStall = 60 * time.Second
	// DrainSilence bounds the way a plain stream ends: once one direction is
	// done, the other may go on until it was silent for this long.
	DrainSilence = 5 * time.Second

	// DeviceKeepAlive is what the device-proxy asks for on MQTT, and
	// MaxDeviceSilence what the hub grants anybody: 1.5 times the longest
	// keep-alive allowed (docs/protocol.md, Connecting).
	DeviceKeepAlive  = 45 * time.Second
	MaxDeviceSilence = 1767 * time.Second
)

// Side says which end of a stream is meant.
type Side string

// The two sides of a stream.
const (
	SideDevice  Side = "device"
	SideService Side = "service"
)

// Other returns the opposite side.
func (s Side) Other() Side {
	if s == SideDevice {
		return SideService
	}
	return SideDevice
}

// ValidID reports whether id can name a device or module: 1 to 128 characters
// of ASCII letters, digits and - . + % _ # * ? ! ( ) , = @ $ ' : , except "."
// and "..", which paths give a meaning of their own, and those with "%2F", which a
// resource in a SAS token may not hide. Source: docs/protocol.md, Identity registry.
func ValidID(id string) bool {
	return id != "." && id != ".." && made(id, MaxID, "-.+%_#*?!(),=@$':") && !strings.Contains(strings.ToUpper(id), "%2F")
}

// TargetName is what an identity is called wherever one string has to say it: a
// device's ID, or DEVICE/MODULE, since no ID holds a slash. It is also the MQTT client
// ID (docs/protocol.md, Connecting).
func TargetName(device, module string) string {
	if module == "" {
		return device
	}
	return device + "/" + module
}

// SplitTarget takes a TargetName apart; module is "" for a device.
func SplitTarget(name string) (device, module string) {
	device, module, _ = strings.Cut(name, "/")
	return device, module
}

// ValidTarget reports whether name is a TargetName of valid IDs.
func ValidTarget(name string) bool {
	device, module, isModule := strings.Cut(name, "/")
	return ValidID(device) && (!isModule || ValidID(module))
}

// ValidMethodName reports whether a direct method's name can travel in a topic: 1 to
// 128 visible ASCII characters, except those that mean something in topics and
// queries, and those Azure excludes. Source: docs/protocol.md, Direct methods.
func ValidMethodName(name string) bool {
	return made(name, maxMethodName, "-._~!*|^`")
}

// ValidStreamName reports whether name can travel in a topic unescaped, since no
// SDK decodes it: 1 to 128 characters of A-Za-z0-9-._~ , except "." and "..".
// Source: docs/protocol.md, Stream request.
func ValidStreamName(name string) bool {
	return name != "." && name != ".." && made(name, MaxStreamName, "-._~")
}

// made reports whether s has 1 to limit characters, each an ASCII letter, a
// digit or one of extra.
func made(s string, limit int, extra string) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			if strings.IndexByte(extra, c) < 0 {
				return false
			}
		}
	}
	return true
}
