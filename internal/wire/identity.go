package wire

import "time"

// Device is a device identity as the registry's JSON has it. Source:
// docs/protocol.md, Identity registry. Keys are base64 text.
type Device struct {
	DeviceID                   string          `json:"deviceId"`
	GenerationID               string          `json:"generationId"` // tells two lives of one ID apart
	ETag                       string          `json:"etag"`         // without quotes; the header has them
	ConnectionState            ConnectionState `json:"connectionState"`
	Status                     DeviceStatus    `json:"status"`
	StatusReason               *string         `json:"statusReason"`
	ConnectionStateUpdatedTime Time            `json:"connectionStateUpdatedTime"`
	StatusUpdatedTime          Time            `json:"statusUpdatedTime"`
	LastActivityTime           Time            `json:"lastActivityTime"`
	CloudToDeviceMessageCount  int             `json:"cloudToDeviceMessageCount"`
	Authentication             *Authentication `json:"authentication,omitempty"`
	Capabilities               Capabilities    `json:"capabilities"`
}

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

// AuthSAS is the authentication type of an identity with symmetric keys.
const AuthSAS = "sas"

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

// X509Thumbprint holds an identity's certificate thumbprints, null when unset.
type X509Thumbprint struct {
	PrimaryThumbprint   *string `json:"primaryThumbprint"`
	SecondaryThumbprint *string `json:"secondaryThumbprint"`
}

// Capabilities are Azure's; farport has no Edge devices.
type Capabilities struct {
	IoTEdge bool `json:"iotEdge"`
}

// Twin is the part of a device twin that a service-proxy looks at before it
// listens. Source: docs/protocol.md, Identity registry.
type Twin struct {
	DeviceID         string          `json:"deviceId"`
	ETag             string          `json:"etag"`
	DeviceETag       string          `json:"deviceEtag"`
	Status           DeviceStatus    `json:"status"`
	StatusUpdateTime Time            `json:"statusUpdateTime"`
	ConnectionState  ConnectionState `json:"connectionState"`
	LastActivityTime Time            `json:"lastActivityTime"`
	Version          int             `json:"version"`
	Tags             struct{}        `json:"tags"`
	Properties       TwinProperties  `json:"properties"`
	Capabilities     Capabilities    `json:"capabilities"`
}

// TwinProperties are a twin's two documents.
type TwinProperties struct {
	Desired  map[string]any `json:"desired"`
	Reported map[string]any `json:"reported"`
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
