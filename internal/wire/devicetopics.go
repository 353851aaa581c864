package wire

import (
	"strconv"
	"strings"
)

// What ordinary device clients say and hear besides streams. Source: docs/protocol.md,
// What the hub must put up with; Twins; Direct methods.
const (
	topicMethodRequest  = "$iothub/methods/POST/"
	topicMethodResponse = "$iothub/methods/res/"
	topicTwinGet        = "$iothub/twin/GET/"
	topicTwinReport     = "$iothub/twin/PATCH/properties/reported/"
	topicTwinChange     = "$iothub/twin/PATCH/properties/desired/"
	topicTwinAnswer     = "$iothub/twin/res/"
)

// MethodTopic is where a direct method is asked for; its payload is the publish's. name
// must be a ValidMethodName. Hub to device.
//
//	$iothub/methods/POST/{name}/?$rid={rid}
func MethodTopic(name, rid string) string { return topicMethodRequest + name + "/?$rid=" + rid }

// MethodResponse is a device's answer to a direct method; the payload is the publish's.
// Device to hub.
type MethodResponse struct {
	Status int // the device's own; any whole number
	RID    string
}

// ParseMethodResponse reads $iothub/methods/res/{status}/?$rid={rid}; false means the
// topic is none.
func ParseMethodResponse(topic string) (MethodResponse, bool) {
	rest, ok := strings.CutPrefix(topic, topicMethodResponse)
	if !ok {
		return MethodResponse{}, false
	}
	path, query, ok := strings.Cut(rest, "?")
	if !ok {
		return MethodResponse{}, false
	}
	status, err := strconv.ParseInt(strings.TrimSuffix(path, "/"), 10, 32)
	props, ok := properties(query)
	if err != nil || !ok || props["$rid"] == "" {
		return MethodResponse{}, false
	}
	return MethodResponse{Status: int(status), RID: props["$rid"]}, true
}

// TwinRequest is a device asking for its twin, or reporting properties, which are the
// publish's payload. Device to hub.
type TwinRequest struct {
	Report bool   // false: wants the twin
	RID    string // the device's own, may be empty
}

// ParseTwinRequest reads $iothub/twin/GET/?$rid={rid} and
// $iothub/twin/PATCH/properties/reported/?$rid={rid}; false means the topic is neither.
func ParseTwinRequest(topic string) (TwinRequest, bool) {
	rest, report := strings.CutPrefix(topic, topicTwinReport)
	if !report {
		var get bool
		if rest, get = strings.CutPrefix(topic, topicTwinGet); !get {
			return TwinRequest{}, false
		}
	}
	query, ok := strings.CutPrefix(rest, "?")
	if !ok {
		return TwinRequest{}, false
	}
	props, ok := properties(query)
	if !ok || strings.ContainsAny(props["$rid"], "/+#") || len(props["$rid"]) > maxRID {
		return TwinRequest{}, false
	}
	return TwinRequest{Report: report, RID: props["$rid"]}, true
}

// TwinReportTopic is where a device reports properties, as JSON in the publish's payload.
// Device to hub.
func TwinReportTopic(rid string) string { return topicTwinReport + "?$rid=" + rid }

// maxRID bounds what is sent back of a device's own $rid.
const maxRID = 256

// TwinAnswerTopic is where a TwinRequest is answered. version is that of the reported
// properties after a report, 0 otherwise. Hub to device.
//
//	$iothub/twin/res/{status}/?$rid={rid}[&$version={version}]
func TwinAnswerTopic(status int, rid string, version int) string {
	topic := topicTwinAnswer + strconv.Itoa(status) + "/?$rid=" + rid
	if version > 0 {
		topic += "&$version=" + strconv.Itoa(version)
	}
	return topic
}

// TwinAnswer is the hub's answer to a TwinRequest. Hub to device.
type TwinAnswer struct {
	Status int
	RID    string
}

// ParseTwinAnswer reads what TwinAnswerTopic writes; false means the topic is none.
func ParseTwinAnswer(topic string) (TwinAnswer, bool) {
	rest, ok := strings.CutPrefix(topic, topicTwinAnswer)
	if !ok {
		return TwinAnswer{}, false
	}
	code, query, ok := strings.Cut(rest, "/?")
	status, err := strconv.ParseUint(code, 10, 16)
	props, valid := properties(query)
	if !ok || err != nil || !valid || props["$rid"] == "" {
		return TwinAnswer{}, false
	}
	return TwinAnswer{Status: int(status), RID: props["$rid"]}, true
}

// TwinChangeTopic is where a device hears that desired properties have changed; the
// payload is the change, with its "$version". Hub to device.
func TwinChangeTopic(version int) string {
	return topicTwinChange + "?$version=" + strconv.Itoa(version)
}

// IsEvent reports whether a device or module publishes telemetry on topic. name is its
// TargetName.
func IsEvent(name, topic string) bool {
	device, module := SplitTarget(name)
	prefix := "devices/" + device
	if module != "" {
		prefix += "/modules/" + module
	}
	return strings.HasPrefix(topic, prefix+"/messages/events")
}
