package wire

import (
	"net/url"
	"strconv"
	"time"
)

// Headers of stream initiation. Source: docs/protocol.md, Starting a stream.
const (
	// HeaderConnectTimeout is how long the hub may wait for an offline device.
	// Service to hub. Shape: seconds, decimal, a fraction allowed; absent means 0,
	// which the C# SDK leaves out.
	HeaderConnectTimeout = "iothub-streaming-connect-timeout-in-seconds"
	// HeaderResponseTimeout is how long the hub may wait for accept or reject.
	// Service to hub. Same shape; absent means DefaultResponseTimeout.
	HeaderResponseTimeout = "iothub-streaming-response-timeout-in-seconds"
	// HeaderIsAccepted says whether the device took the stream. Hub to service.
	// Shape: exactly "True" or "False"; the Node SDK reads "true" as rejected.
	HeaderIsAccepted = "iothub-streaming-is-accepted"
	// HeaderStreamURL tells the service where to connect its leg. Hub to service,
	// only beside True. Shape: absolute wss URL with a written port.
	HeaderStreamURL = "iothub-streaming-url"
	// HeaderStreamToken is the bearer token of the service's leg. Hub to service,
	// only beside True. Shape: A-Za-z0-9-._~ , at most MaxToken bytes.
	HeaderStreamToken = "iothub-streaming-auth-token"
	// HeaderContinuation comes with a full page of a list, and goes with the request
	// for the next one. Opaque to clients. Azure has it for queries only.
	HeaderContinuation = "x-ms-continuation"
	// HeaderMaxItems is how many items a query's page may have. Service to hub.
	HeaderMaxItems = "x-ms-max-item-count"
	// HeaderItemType says what a query's items are. Hub to service: ItemTwin.
	HeaderItemType = "x-ms-item-type"
	ItemTwin       = "Twin"
	// HeaderErrorCode names the error of a response (ErrorCode.Name).
	HeaderErrorCode = "iothub-errorcode"
)

// Accepted and Rejected are the values of HeaderIsAccepted.
const (
	Accepted = "True"
	Rejected = "False"
)

// Paths of the hub's HTTPS listener.
const (
	// PathMQTT carries MQTT in a WebSocket (docs/protocol.md, Connecting).
	PathMQTT = "/$iothub/websocket"
	// QueryNoClientCert asks Azure not to request a client certificate.
	QueryNoClientCert = "iothub-no-client-cert=true"
	// SubprotocolMQTT is compared without case and echoed as it was offered.
	SubprotocolMQTT = "mqtt"
	// PathBridges is the streaming endpoint; a stream's ID follows.
	PathBridges = "/bridges/"
	// PathDeviceStreams answers with StreamingEndpoints. farport's own: Azure has
	// the same JSON in its management API only.
	PathDeviceStreams = "/devicestreams"
	// PathCAs lists the CAs that vouch for devices, and takes new ones. farport's own:
	// Azure has that in its management API only.
	PathCAs = "/certificates"
	// PathStatistics counts the devices that are connected.
	PathStatistics = "/statistics/service"
	// PathHealth and PathCA are public.
	PathHealth = "/healthz"
	PathCA     = "/ca.pem"
)

// StreamingEndpoints is what `az iot hub devicestream show` prints. The URLs are
// https, not wss (docs/protocol.md, Endpoint discovery).
type StreamingEndpoints struct {
	StreamingEndpoints []string `json:"streamingEndpoints"`
}

// IdentityPath is the registry path of a device, or of a module when name is
// DEVICE/MODULE.
func IdentityPath(name string) string { return targetPath("/devices/", name) }

// ModulesPath is the registry path of a device's modules.
func ModulesPath(device string) string { return IdentityPath(device) + "/modules" }

// TwinPath is the path of a device's or module's twin.
func TwinPath(name string) string { return targetPath("/twins/", name) }

// StreamPath is the path a service POSTs to for a new stream.
func StreamPath(name, stream string) string {
	return TwinPath(name) + "/streams/" + url.PathEscape(stream)
}

// MethodPath is the path a service POSTs a direct method to.
func MethodPath(name string) string { return TwinPath(name) + "/methods" }

// CAPath is the path of one registered CA.
func CAPath(fingerprint string) string { return PathCAs + "/" + url.PathEscape(fingerprint) }

func targetPath(prefix, name string) string {
	device, module := SplitTarget(name)
	path := prefix + url.PathEscape(device)
	if module != "" {
		path += "/modules/" + url.PathEscape(module)
	}
	return path
}

// FormatSeconds writes d as a time-out header has it: whole seconds, rounded up, and
// nothing below 0.
func FormatSeconds(d time.Duration) string {
	seconds := int64(max(d, 0) / time.Second)
	if d > 0 && d%time.Second > 0 {
		seconds++
	}
	return strconv.FormatInt(seconds, 10)
}

// ParseSeconds reads a time-out header. A fraction is allowed, since the C# SDK
// formats a TimeSpan; anything that is not a plain number from 0 to
// MaxStreamTimeout is refused.
func ParseSeconds(s string) (time.Duration, bool) {
	for _, c := range s {
		if (c < '0' || c > '9') && c != '.' {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f > MaxStreamTimeout.Seconds() {
		return 0, false
	}
	return time.Duration(f * float64(time.Second)), true
}
