package wire

import (
	"net/url"
	"strconv"
	"strings"
)

// MQTT topics and filters. Source: docs/protocol.md, Device side over MQTT.
const (
	// FilterStreamRequests and FilterStreamResponses are what a device subscribes
	// to before it can be asked for a stream, both in QoS 0.
	FilterStreamRequests  = "$iothub/streams/POST/#"
	FilterStreamResponses = "$iothub/streams/res/#"

	// Filters that ordinary device clients subscribe to besides. Source:
	// docs/protocol.md, What the hub must put up with.
	FilterMethods     = "$iothub/methods/POST/#"
	FilterTwinAnswers = "$iothub/twin/res/#"
	FilterTwinChanges = "$iothub/twin/PATCH/properties/desired/#"
	// FilterOwnDevicebound is how Azure's embedded C SDK writes FilterDevicebound: the
	// "+" stands for whoever subscribes.
	FilterOwnDevicebound = "devices/+/messages/devicebound/#"

	topicStreamRequest  = "$iothub/streams/POST/"
	topicStreamResponse = "$iothub/streams/res/"
)

// FilterDevicebound is a device's filter for cloud-to-device messages.
func FilterDevicebound(device string) string { return "devices/" + device + "/messages/devicebound/#" }

// FilterModule is a module's filter for all that is sent to it.
func FilterModule(device, module string) string {
	return "devices/" + device + "/modules/" + module + "/#"
}

// FilterInputs is the part of it that the Node and Python SDKs subscribe to.
func FilterInputs(device, module string) string {
	return "devices/" + device + "/modules/" + module + "/inputs/#"
}

// FilterModulebound is the part of it that the C SDK subscribes to besides.
func FilterModulebound(device, module string) string {
	return "devices/" + device + "/modules/" + module + "/messages/devicebound/#"
}

// StreamRequest asks a device for a stream. Hub to device.
type StreamRequest struct {
	RID   string // names the request on this control connection; a counter from 1
	Name  string // stream name, "the service on the device"
	URL   string // where the device's leg goes; absolute wss URL
	Token string // bearer token of the device's leg
	Grant Grant  // the kind of stream; the device checks that it Fits
}

// Topic writes the request as the topic of an empty publish:
//
//	$iothub/streams/POST/{name}/?$rid={rid}&$url={escaped URL}&$auth={token}
//
// and, for an extended stream, &$farport={grant}.
//
// Name, RID and Token must need no escaping; nobody decodes them.
func (r StreamRequest) Topic() string {
	return topicStreamRequest + r.Name + "/?$rid=" + r.RID + "&$url=" + escape(r.URL) + "&$auth=" + r.Token + r.Grant.property()
}

// ParseStreamRequest reads a request as leniently as the real service's traces
// demand: everything before the last "/" ahead of the "?" may have any number of
// levels, properties may come in any order, unknown ones are ignored. A topic
// without $rid, $url or $auth, or with any property twice, is none.
func ParseStreamRequest(topic string) (StreamRequest, bool) {
	rest, ok := strings.CutPrefix(topic, topicStreamRequest)
	if !ok {
		return StreamRequest{}, false
	}
	path, query, ok := strings.Cut(rest, "?")
	if !ok {
		return StreamRequest{}, false
	}
	props, ok := properties(query)
	if !ok {
		return StreamRequest{}, false
	}
	name, _, _ := strings.Cut(path, "/")
	target, err := url.PathUnescape(props["$url"])
	if err != nil {
		return StreamRequest{}, false
	}
	r := StreamRequest{RID: props["$rid"], Name: name, URL: target, Token: props["$auth"], Grant: grantProperty(props)}
	if r.RID == "" || r.Name == "" || r.URL == "" || r.Token == "" {
		return StreamRequest{}, false
	}
	return r, true
}

// StreamResponse is a device's answer to a StreamRequest. Device to hub.
type StreamResponse struct {
	Status int // 2xx accepts, anything else rejects
	RID    string
}

// The statuses a device answers with.
const (
	StatusAccept = 200
	StatusReject = 400
)

// Accepted reports whether the device took the stream.
func (r StreamResponse) Accepted() bool { return r.Status >= 200 && r.Status < 300 }

// Topic writes the answer as the topic of an empty publish:
//
//	$iothub/streams/res/{status}/?$rid={rid}
func (r StreamResponse) Topic() string {
	return topicStreamResponse + strconv.Itoa(r.Status) + "/?$rid=" + r.RID
}

// ParseStreamResponse reads a device's answer; false means the topic is no
// answer at all.
func ParseStreamResponse(topic string) (StreamResponse, bool) {
	rest, ok := strings.CutPrefix(topic, topicStreamResponse)
	if !ok {
		return StreamResponse{}, false
	}
	path, query, ok := strings.Cut(rest, "?")
	if !ok {
		return StreamResponse{}, false
	}
	digits := strings.TrimSuffix(path, "/")
	status, err := strconv.Atoi(digits)
	if err != nil || len(digits) != 3 || status < 100 {
		return StreamResponse{}, false
	}
	props, ok := properties(query)
	if !ok || props["$rid"] == "" {
		return StreamResponse{}, false
	}
	return StreamResponse{Status: status, RID: props["$rid"]}, true
}

// escape escapes all that a query may not hold as it is, a space as %20.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// properties splits "k=v&k=v" without decoding; a key given twice is an error.
func properties(query string) (map[string]string, bool) {
	props := make(map[string]string)
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if _, twice := props[key]; twice {
			return nil, false
		}
		props[key] = value
	}
	return props, true
}

// UserName is what an MQTT user name says. Device to hub.
type UserName struct {
	Host     string // hub's host name, possibly with a port
	DeviceID string
	ModuleID string // "" for the device itself
	// Params are the decoded query: api-version, DeviceClientType, model-id.
	Params url.Values
}

// String writes the user name as a device sends it:
//
//	{hub}/{device}/?api-version=...&DeviceClientType=...
func (u UserName) String() string {
	s := u.Host + "/" + u.DeviceID + "/"
	if u.ModuleID != "" {
		s += u.ModuleID + "/"
	}
	if len(u.Params) > 0 {
		// Azure wants %20, not +, and the api-version first, as every SDK sends it.
		version := u.Params.Get("api-version")
		rest := url.Values{}
		for k, v := range u.Params {
			if k != "api-version" {
				rest[k] = v
			}
		}
		s += "?api-version=" + escape(version)
		if len(rest) > 0 {
			s += "&" + strings.ReplaceAll(rest.Encode(), "+", "%20")
		}
	}
	return s
}

// ParseUserName reads the forms met in the wild: {hub}/{device}, with a module,
// with /?query, and with /api-version=... without the question mark.
func ParseUserName(s string) (UserName, bool) {
	// "?" may stand in an ID, even in front, so the first "/?" need not be the one.
	path, query := s, ""
	if i := strings.LastIndex(s, "/?api-version="); i >= 0 {
		path, query = s[:i], s[i+2:]
	} else if i := strings.LastIndex(s, "/api-version="); i >= 0 {
		path, query = s[:i], s[i+1:]
	} else if i := strings.LastIndex(s, "/?"); i >= 0 {
		path, query = s[:i], s[i+2:]
	}
	parts := strings.Split(strings.TrimSuffix(path, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !ValidID(parts[1]) {
		return UserName{}, false
	}
	u := UserName{Host: parts[0], DeviceID: parts[1]}
	if len(parts) == 3 {
		if !ValidID(parts[2]) {
			return UserName{}, false
		}
		u.ModuleID = parts[2]
	}
	// A model-id holds an unescaped ";", which url.ParseQuery refuses.
	params, err := url.ParseQuery(strings.ReplaceAll(query, ";", "%3B"))
	if err != nil {
		return UserName{}, false
	}
	u.Params = params
	return u, true
}
