package credential

import (
	"net/url"
	"slices"
	"strings"
)

// apiVersionSegment begins the one segment that tools of 2016 put after an ID.
// Source: docs/protocol.md, SAS tokens.
const apiVersionSegment = "api-version="

// Resource returns what a token is for, unescaped: "host", "host/devices/d" or
// "host/devices/d/modules/m". host has no port; an IPv6 address gets brackets. A
// module without a device is ignored.
func Resource(host, device, module string) string {
	resource := bracket(host)
	if device != "" {
		resource += "/devices/" + device
		if module != "" {
			resource += "/modules/" + module
		}
	}
	return resource
}

// Covers reports whether the token's resource is the path asked for or a prefix
// of it in whole segments, on a host that isHost takes. isHost gets the host in
// lower case without port and brackets; segments are decoded, as in "devices",
// "pi-1". A host alone covers everything. A resource that ends in "/", has a
// segment that is empty, "." or "..", a %2F inside a segment, or a character
// outside visible ASCII covers nothing. Escapes are decoded once, so what is
// escaped twice only matches an ID that holds the escape.
//
// After a whole number of kind and ID pairs the resource may have one segment
// "api-version=..." more. Elsewhere it would be an ID: a token for a device of
// that name must not cover the list of devices.
func (t SAS) Covers(isHost func(host string) bool, segments ...string) bool {
	host, path, ok := splitResource(t.Resource)
	if !ok || !isHost(host) {
		return false
	}
	if n := len(segments); n > 0 && n%2 == 0 && len(path) == n+1 && strings.HasPrefix(path[n], apiVersionSegment) {
		path = path[:n]
	}
	return len(path) <= len(segments) && slices.Equal(path, segments[:len(path)])
}

// CoversOwner is Covers for a token that the identity's own key has signed: there an ID
// may also be escaped twice, as the C# SDKs do, who escape it before they escape the
// resource (docs/protocol.md, SAS tokens). That key opens nothing but its identity, so
// which of two spellings was meant does not matter; of a policy's token it does.
func (t SAS) CoversOwner(isHost func(host string) bool, segments ...string) bool {
	if t.Covers(isHost, segments...) {
		return true
	}
	once, err := url.PathUnescape(t.Resource)
	return err == nil && SAS{Resource: once}.Covers(isHost, segments...)
}

// splitResource decodes a resource as written into its host, without port and in
// lower case, and the segments of its path.
func splitResource(written string) (host string, path []string, ok bool) {
	decoded, err := url.PathUnescape(written)
	if err != nil || !isGraphic(decoded) || hidesSlash(decoded) {
		return "", nil, false
	}
	if strings.Contains(written, "/") && hidesSlash(written) {
		return "", nil, false
	}
	segments := strings.Split(decoded, "/")
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return "", nil, false
		}
	}
	host, _, problem := parseHost(strings.ToLower(segments[0]))
	return host, segments[1:], problem == ""
}

// hidesSlash reports whether s holds an escaped slash.
func hidesSlash(s string) bool { return strings.Contains(s, "%2F") || strings.Contains(s, "%2f") }
