package wire

import "time"

// Device is a device or module identity as the registry's JSON has it. Source:
// docs/protocol.md, Identity registry. Keys are base64 text. A module has no status of
// its own on the wire; inside the hub it has its device's.
type Device struct {
	DeviceID                   string          `json:"deviceId"`
	ModuleID                   string          `json:"moduleId,omitempty"`  // "" for a device
	ManagedBy                  string          `json:"managedBy,omitempty"` // who made a module; kept as sent
	GenerationID               string          `json:"generationId"`        // tells two lives of one ID apart
	ETag                       string          `json:"etag"`                // without quotes; the header has them
	ConnectionState            ConnectionState `json:"connectionState"`
	Status                     DeviceStatus    `json:"status,omitempty"`
	StatusReason               *string         `json:"statusReason"`
	ConnectionStateUpdatedTime Time            `json:"connectionStateUpdatedTime"`
	StatusUpdatedTime          Time            `json:"statusUpdatedTime"`
	LastActivityTime           Time            `json:"lastActivityTime"`
	CloudToDeviceMessageCount  int             `json:"cloudToDeviceMessageCount"`
	Authentication             *Authentication `json:"authentication,omitempty"`
	Capabilities               Capabilities    `json:"capabilities"`
}

// Name is the identity's TargetName.
func (d Device) Name() string { return TargetName(d.DeviceID, d.ModuleID) }

// DeviceStatus says whether a device may connect and be called.
type DeviceStatus string

// ConnectionState says whether a device has a control connection.
type ConnectionState string

// The values of DeviceStatus and ConnectionState.
const (
	StatusEnabled  DeviceStatus = "enabled"
	StatusDisabled DeviceStatus = "disabled"

	Connected    ConnectionState = "Connected"
	Disconnected ConnectionState = "Disconnected"
)

// The authentication types: symmetric keys, a certificate known by its thumbprint, or
// one that a registered CA has signed. Source: docs/protocol.md, Identity registry.
const (
	AuthSAS        = "sas"
	AuthSelfSigned = "selfSigned"
	AuthCA         = "certificateAuthority"
)

// Authentication is how an identity proves itself.
type Authentication struct {
	SymmetricKey   SymmetricKey   `json:"symmetricKey"`
	X509Thumbprint X509Thumbprint `json:"x509Thumbprint"`
	Type           string         `json:"type"`
}

// SymmetricKey holds an identity's two keys, base64 text.
type SymmetricKey struct {
	PrimaryKey   string `json:"primaryKey"`
	SecondaryKey string `json:"secondaryKey"`
}

// X509Thumbprint holds an identity's certificate thumbprints, null when unset: SHA-1
// (40 hex) or SHA-256 (64 hex) of the leaf's DER, in either case of letters.
type X509Thumbprint struct {
	PrimaryThumbprint   *string `json:"primaryThumbprint"`
	SecondaryThumbprint *string `json:"secondaryThumbprint"`
}

// Capabilities are Azure's; farport has no Edge devices.
type Capabilities struct {
	IoTEdge bool `json:"iotEdge"`
}

// Twin is what the hub knows of a device or module beside its identity. Source:
// docs/protocol.md, Twins.
type Twin struct {
	DeviceID                  string          `json:"deviceId"`
	ModuleID                  string          `json:"moduleId,omitempty"`
	ETag                      string          `json:"etag"`
	DeviceETag                string          `json:"deviceEtag"`
	Status                    DeviceStatus    `json:"status"`
	StatusReason              *string         `json:"statusReason,omitempty"`
	StatusUpdateTime          Time            `json:"statusUpdateTime"`
	ConnectionState           ConnectionState `json:"connectionState"`
	LastActivityTime          Time            `json:"lastActivityTime"`
	CloudToDeviceMessageCount int             `json:"cloudToDeviceMessageCount"`
	AuthenticationType        string          `json:"authenticationType"`
	X509Thumbprint            X509Thumbprint  `json:"x509Thumbprint"`
	Version                   int             `json:"version"`
	Tags                      map[string]any  `json:"tags"`
	Properties                TwinProperties  `json:"properties"`
	Capabilities              Capabilities    `json:"capabilities"`
}

// TwinProperties are a twin's two documents. Each has "$version", a number from 1 that
// counts its changes, and "$metadata" with "$lastUpdated".
type TwinProperties struct {
	Desired  map[string]any `json:"desired"`
	Reported map[string]any `json:"reported"`
}

// CA is a certificate authority that vouches for devices. farport's own.
type CA struct {
	Fingerprint string `json:"fingerprint"` // SHA-256 of the DER, 64 lower-case hex
	Subject     string `json:"subject"`     // as crypto/x509/pkix writes it; not to be trusted on a terminal
	NotAfter    Time   `json:"notAfter"`
	Created     Time   `json:"created"`     // zero as long as it is not registered
	Certificate string `json:"certificate"` // PEM
	// VerificationCode answers a CAProposal without proof: nothing has been stored,
	// and the code is what the proof's subject CN has to be.
	VerificationCode string `json:"verificationCode,omitempty"`
}

// CAProposal asks the hub to register a CA.
type CAProposal struct {
	Certificate string `json:"certificate"` // PEM, one certificate
	// Proof is a certificate, PEM, that the CA has signed for the verification code:
	// it shows that the CA's key is in the caller's hands. "" asks for a code.
	Proof string `json:"proof,omitempty"`
}

// Time is a UTC time as Azure writes it; its zero is "0001-01-01T00:00:00".
type Time struct{ time.Time }

// MarshalJSON writes the time in UTC with milliseconds and a Z, or Azure's zero.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte(`"0001-01-01T00:00:00"`), nil
	}
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// UnmarshalJSON reads a time with or without zone and fraction; none means UTC.
func (t *Time) UnmarshalJSON(data []byte) error {
	var err error
	for _, layout := range []string{`"2006-01-02T15:04:05.999999999Z07:00"`, `"2006-01-02T15:04:05.999999999"`} {
		if t.Time, err = time.Parse(layout, string(data)); err == nil {
			return nil
		}
	}
	if string(data) == "null" {
		t.Time = time.Time{}
		return nil
	}
	return err
}
