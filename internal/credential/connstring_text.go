package credential

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
)

// String returns the connection string with its secrets redacted, for messages
// and logs.
func (c ConnectionString) String() string {
	return c.text(c.SharedAccessKey.String(), redactedIf(c.SharedAccessSignature != ""))
}

// Format writes String whatever the verb.
func (c ConnectionString) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// LogValue returns String for log/slog.
func (c ConnectionString) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Reveal returns the connection string with its secrets, in one canonical form:
// parsed again it gives c.
func (c ConnectionString) Reveal() string {
	return c.text(c.SharedAccessKey.Reveal(), c.SharedAccessSignature.Reveal())
}

// text writes the parts that are set, with key and signature as given.
func (c ConnectionString) text(key, signature string) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+value)
		}
	}
	host := bracket(c.HostName)
	if c.port() != defaultPort {
		host = c.withPort(c.HostName)
	}
	add(partHostName, host)
	add(partDeviceID, c.DeviceID)
	add(partModuleID, c.ModuleID)
	add(partSharedAccessKeyName, c.SharedAccessKeyName)
	add(partSharedAccessKey, key)
	add(partSharedAccessSignature, signature)
	if c.X509 {
		add(partX509, "true")
	}
	add(partGatewayHostName, bracket(c.GatewayHostName))
	if c.CAFingerprint != "" {
		add(partCAFingerprint, fingerprintAlgorithm+c.CAFingerprint)
	}
	return strings.Join(parts, ";")
}

func redactedIf(set bool) string {
	if set {
		return redacted
	}
	return ""
}

// Host returns the name to connect to and to verify the certificate for: the
// gateway's where there is one. It has neither port nor brackets.
func (c ConnectionString) Host() string { return cmp.Or(c.GatewayHostName, c.HostName) }

// Address returns Host and port as net.Dial takes them.
func (c ConnectionString) Address() string { return c.withPort(c.Host()) }

func (c ConnectionString) withPort(host string) string {
	return net.JoinHostPort(host, strconv.Itoa(c.port()))
}

// port is Port, also for a value put together by hand that leaves it zero.
func (c ConnectionString) port() int { return cmp.Or(c.Port, defaultPort) }

// IsDevice reports whether c signs in as a device or one of its modules.
func (c ConnectionString) IsDevice() bool { return c.DeviceID != "" }

// SAS returns a token for the hub, device or module that c names: a new one that
// holds until expires, or the ready one that c carries, whose expiry is its own.
// With X.509 there is none, which is an error.
func (c ConnectionString) SAS(expires time.Time) (Secret, error) {
	if c.SharedAccessSignature != "" {
		return c.SharedAccessSignature, nil
	}
	resource := Resource(c.HostName, c.DeviceID, c.ModuleID)
	if c.SharedAccessKey.IsZero() {
		return "", fmt.Errorf("sign SAS token for %q: the connection string has no key", resource)
	}
	return Sign(resource, c.SharedAccessKeyName, c.SharedAccessKey, expires), nil
}

// Split parts c from its one secret, which a keyring may hold: joined by Join they are
// c again. With X.509 there is no secret.
func (c ConnectionString) Split() (rest string, secret Secret) {
	var only string
	switch {
	case !c.SharedAccessKey.IsZero():
		only = partSharedAccessKey + "=" + c.SharedAccessKey.Reveal()
	case c.SharedAccessSignature != "":
		only = partSharedAccessSignature + "=" + c.SharedAccessSignature.Reveal()
	}
	return c.text("", ""), Secret(only)
}

// Join parses what Split has parted. Its errors are *FormatError.
func Join(rest string, secret Secret) (ConnectionString, error) {
	return ParseConnectionString(rest + ";" + secret.Reveal())
}
