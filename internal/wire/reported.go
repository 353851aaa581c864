package wire

import "slices"

// What a device-proxy reports of its device: in the twin's reported properties,
// {"farport": {"hostKeys": ["ssh-ed25519 AAAA...", ...], "services": ["rdp", "ssh"]}}. Host
// keys are those of its SSH server, each a line of known_hosts without the host. Source:
// docs/ssh.md, Host keys; docs/protocol.md, Twins.
const (
	propertyFarport  = "farport"
	propertyHostKeys = "hostKeys"
	propertyServices = "services"
)

// HostKeysPatch is the change of reported properties that names these keys and no others;
// nil takes the property away.
func HostKeysPatch(keys []string) map[string]any { return listPatch(propertyHostKeys, keys) }

// ServicesPatch is the same for the names of services.
func ServicesPatch(names []string) map[string]any { return listPatch(propertyServices, names) }

func listPatch(property string, list []string) map[string]any {
	var value any
	if list != nil {
		value = list
	}
	return map[string]any{propertyFarport: map[string]any{property: value}}
}

// ReportedHostKeys are the keys that a twin's reported properties have, nil for none. They
// are the device's words. What is not a string is left out.
func ReportedHostKeys(reported map[string]any) []string {
	return reportedList(reported, propertyHostKeys)
}

// ReportedServices are the names of services in them, nil for none. They are the device's
// words; what cannot be a stream's name is left out.
func ReportedServices(reported map[string]any) []string {
	return slices.DeleteFunc(reportedList(reported, propertyServices), func(name string) bool { return !ValidStreamName(name) })
}

func reportedList(reported map[string]any, property string) []string {
	farport, _ := reported[propertyFarport].(map[string]any)
	list, _ := farport[property].([]any)
	var words []string
	for _, v := range list {
		if word, ok := v.(string); ok {
			words = append(words, word)
		}
	}
	return words
}
