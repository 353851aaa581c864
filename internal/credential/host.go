package credential

import (
	"net/netip"
	"strconv"
	"strings"
)

// parseHost splits "host", "host:port", "[IPv6]" or "[IPv6]:port". The host comes
// without brackets, the port is 443 when none is given.
func parseHost(text string) (host string, port int, problem string) {
	host, digits, hasPort := text, "", false
	if end := strings.LastIndex(text, ":"); end > strings.LastIndex(text, "]") {
		host, digits, hasPort = text[:end], text[end+1:], true
	}
	if !validHost(host) || strings.Contains(digits, "/") { // a URL is no bad port
		return "", 0, "is not a host name; IPv6 addresses stand in []"
	}
	port = defaultPort
	if hasPort {
		var ok bool
		if port, ok = parsePort(digits); !ok {
			return "", 0, "has a port that is not 1 to 65535"
		}
	}
	return strings.Trim(host, "[]"), port, ""
}

// validHost reports whether s is an IPv6 address in brackets, or else has only
// characters that names and IPv4 addresses have.
func validHost(s string) bool {
	if inner, bracketed := strings.CutPrefix(s, "["); bracketed {
		inner, closed := strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return closed && err == nil && addr.Is6() && addr.Zone() == ""
	}
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._", r))
	})
}

// parsePort reads a TCP port, 1 to 65535 in decimal digits.
func parsePort(text string) (int, bool) {
	port, err := strconv.ParseUint(text, 10, 16) // takes no sign
	return int(port), err == nil && port > 0
}

// bracket puts an IPv6 address in brackets, as names of hosts stand in URLs.
func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
