package credential

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// defaultPort is where a hub listens for HTTPS when HostName carries no port.
const defaultPort = 443

// maxConnectionString bounds a connection string in bytes: room for a SAS token
// and for parts of others that we ignore.
const maxConnectionString = 16 << 10

// fingerprintAlgorithm begins the value of CaFingerprint.
const fingerprintAlgorithm = "sha256:"

// The parts of a connection string, as Azure spells them. Source:
// docs/protocol.md, SAS tokens and connection strings; CaFingerprint is ours.
const (
	partHostName              = "HostName"
	partGatewayHostName       = "GatewayHostName"
	partDeviceID              = "DeviceId"
	partModuleID              = "ModuleId"
	partSharedAccessKeyName   = "SharedAccessKeyName"
	partSharedAccessKey       = "SharedAccessKey"
	partSharedAccessSignature = "SharedAccessSignature"
	partX509                  = "x509"
	partCAFingerprint         = "CaFingerprint"
)

// ConnectionString says where a hub is and how to sign in to it: as a device or
// module when it has a DeviceID, as a service otherwise. Exactly one of
// SharedAccessKey, SharedAccessSignature and X509 is set. It is comparable, and
// shows its secrets only through Reveal; see Secret for the one gap.
type ConnectionString struct {
	HostName        string // the hub's name as written, IPv6 addresses without brackets; tokens are signed for it
	Port            int    // the port of HTTPS; 443 unless HostName carried another
	GatewayHostName string // where to connect instead, on the same Port; "" when there is no gateway

	DeviceID string // "" for a service
	ModuleID string // "" unless a module of DeviceID is meant

	SharedAccessKeyName   string // the shared access policy the key belongs to; "" for an identity's own key
	SharedAccessKey       Key
	SharedAccessSignature Secret // a ready SAS token
	X509                  bool   // certificate and key are given apart

	// CAFingerprint is the SHA-256 of the DER of the one CA to trust, 64
	// lower-case hex digits; "" leaves that to the system.
	CAFingerprint string
}

// FormatError says what is wrong with a connection string. It never holds a
// value.
type FormatError struct {
	Part    string // the part's name, or its place when the name is not a known one
	Problem string // such as "is not base64"
}

// Error returns one line such as "connection string: SharedAccessKey is not base64".
func (e *FormatError) Error() string {
	return "connection string: " + strings.TrimPrefix(e.Part+" "+e.Problem, " ")
}

// ParseConnectionString reads text of at most 16 KiB: Name=Value parts joined by
// ";", names in any letter case, white space around parts and the whole ignored.
// Unknown parts are ignored; one given twice is an error, as is anything
// malformed or missing. All errors are *FormatError. A key of any length is
// taken: whether it is the right one is for the hub to say.
func ParseConnectionString(text string) (ConnectionString, error) {
	if len(text) > maxConnectionString {
		return ConnectionString{}, &FormatError{Problem: fmt.Sprintf("is longer than %d bytes", maxConnectionString)}
	}
	c := ConnectionString{Port: defaultPort}
	seen := map[string]bool{}
	for i, part := range strings.Split(strings.TrimSpace(text), ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		name, known := canonical(strings.TrimSpace(name))
		shown := name
		if !known { // it may be half of a secret cut in two
			shown = "part " + strconv.Itoa(i+1)
		}
		problem := ""
		switch {
		case !ok:
			problem = `has no "="`
		case seen[name]:
			problem = "is given twice"
		case known:
			problem = c.set(name, strings.TrimSpace(value))
		}
		if problem != "" {
			return ConnectionString{}, &FormatError{shown, problem}
		}
		seen[name] = true
	}
	if err := c.check(); err != nil {
		return ConnectionString{}, err
	}
	return c, nil
}

// canonical returns a part's name as Azure spells it, or in lower case when it
// is not one that we know.
func canonical(name string) (_ string, known bool) {
	for _, k := range []string{
		partHostName, partGatewayHostName, partDeviceID, partModuleID, partSharedAccessKeyName,
		partSharedAccessKey, partSharedAccessSignature, partX509, partCAFingerprint,
	} {
		if strings.EqualFold(name, k) {
			return k, true
		}
	}
	return strings.ToLower(name), false
}

// set takes over the value of a known part; it returns what is wrong with it.
func (c *ConnectionString) set(name, value string) (problem string) {
	if value == "" {
		return "is empty"
	}
	switch name {
	case partHostName:
		c.HostName, c.Port, problem = parseHost(value)
	case partGatewayHostName:
		var port int
		if c.GatewayHostName, port, problem = parseHost(value); problem == "" && port != defaultPort {
			problem = "has a port: the one of HostName counts"
		}
	case partDeviceID:
		c.DeviceID, problem = value, problemOfID(value)
	case partModuleID:
		c.ModuleID, problem = value, problemOfID(value)
	case partSharedAccessKeyName:
		c.SharedAccessKeyName, problem = value, problemOfID(value)
	case partSharedAccessKey:
		raw, err := decodeKey(value)
		if err != nil {
			return "is not base64"
		}
		c.SharedAccessKey = keyOf(raw)
	case partSharedAccessSignature:
		if _, err := ParseSAS(value); err != nil {
			return "is not valid: " + err.Error()
		}
		c.SharedAccessSignature = Secret(value)
	case partX509:
		if c.X509 = strings.EqualFold(value, "true"); !c.X509 && !strings.EqualFold(value, "false") {
			return "is neither true nor false"
		}
	case partCAFingerprint:
		c.CAFingerprint, problem = parseFingerprint(value)
	}
	return problem
}

// check says what is missing, or one too many.
func (c ConnectionString) check() error {
	credentials := 0
	for _, given := range []bool{!c.SharedAccessKey.IsZero(), c.SharedAccessSignature != "", c.X509} {
		if given {
			credentials++
		}
	}
	switch {
	case c.HostName == "":
		return &FormatError{partHostName, "is missing"}
	case c.DeviceID == "" && (c.ModuleID != "" || c.X509):
		return &FormatError{partDeviceID, "is missing"}
	case credentials == 0:
		return &FormatError{partSharedAccessKey, "is missing"}
	case credentials > 1:
		return &FormatError{Problem: "has more than one of " + partSharedAccessKey + ", " + partSharedAccessSignature + " and " + partX509}
	case c.DeviceID == "" && c.SharedAccessKeyName == "" && c.SharedAccessSignature == "":
		return &FormatError{Problem: "has neither " + partDeviceID + " nor " + partSharedAccessKeyName}
	}
	return nil
}

// problemOfID refuses what would break out of a path, a topic or a log line. Which
// of the rest are good IDs is for the hub to say.
func problemOfID(id string) string {
	if !isGraphic(id) || strings.Contains(id, "/") {
		return "has a character that cannot stand in a name"
	}
	return ""
}

func parseFingerprint(text string) (fingerprint, problem string) {
	digits, ok := strings.CutPrefix(text, fingerprintAlgorithm)
	if sum, err := hex.DecodeString(digits); !ok || err != nil || len(sum) != sha256.Size {
		return "", "is not sha256: and 64 hex digits"
	}
	return strings.ToLower(digits), ""
}
