// Package rdp knows the RDP clients of each system: which one to take, how its
// command line is made, what installs it, and how a .rdp file is written. It starts
// nothing and reads nothing; what it has to know of the machine it is told.
package rdp

import (
	"crypto/sha256"
	"encoding/binary"
	"net"
	"strconv"
	"strings"
)

// The host of every forward, and the ports that devices have on it: below those that
// Linux (from 32768), Windows and macOS (from 49152) give to clients by themselves.
const (
	host      = "127.0.0.1"
	firstPort = 20000
	ports     = 10000
)

// Port is the local port of a device's service, the same one each time, so that a
// client that remembers certificates by address remembers the right one. Two devices
// can have the same port; it may be taken.
func Port(device, service string) int {
	sum := sha256.Sum256([]byte(device + "\x00" + service)) // no ID holds a NUL
	return firstPort + int(binary.BigEndian.Uint32(sum[:])%ports)
}

// Address is where a forward on that port listens.
func Address(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// Connection is what a client is to connect to.
type Connection struct {
	Device  string   // DEVICE or DEVICE/MODULE; names the certificate
	Address string   // host and port of the forward
	User    string   // "": the client asks
	File    string   // path of a .rdp file with the above, for the client that NeedsFile
	Args    []string // the user's own, for the client
}

// certificateName is the name that the device's certificate should have: the machine
// is most often called as the device is. Of IDs that no host can have it keeps what a
// host name may hold, and nothing that a client's option would end at.
func certificateName(device string) string {
	device, _, _ = strings.Cut(device, "/")
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' {
			return r
		}
		return '_'
	}, device)
}
