package wire

// Where a device reports the public keys of its SSH server: in its twin's reported
// properties, {"farport": {"hostKeys": ["ssh-ed25519 AAAA...", ...]}}. Each is a line of
// known_hosts without the host. Source: docs/ssh.md, Host keys.
const (
	propertyFarport  = "farport"
	propertyHostKeys = "hostKeys"
)

// HostKeysPatch is the change of reported properties that names these keys and no others;
// nil takes the property away.
func HostKeysPatch(keys []string) map[string]any {
	var value any
	if keys != nil {
		value = keys
	}
	return map[string]any{propertyFarport: map[string]any{propertyHostKeys: value}}
}

// ReportedHostKeys are the keys that a twin's reported properties have, nil for none. They
// are the device's words. What is not a string is left out.
func ReportedHostKeys(reported map[string]any) []string {
	farport, _ := reported[propertyFarport].(map[string]any)
	list, _ := farport[propertyHostKeys].([]any)
	var keys []string
	for _, v := range list {
		if key, ok := v.(string); ok {
			keys = append(keys, key)
		}
	}
	return keys
}
