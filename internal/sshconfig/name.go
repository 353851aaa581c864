// Package sshconfig makes farport's devices hosts of ssh: host names that every ssh and
// shell takes as they are, and the Host block of ssh's configuration.
package sshconfig

import (
	"fmt"
	"strconv"
	"strings"
)

// Suffix ends the host names that are farport's.
const Suffix = ".farport"

// escape begins a byte in two hexadecimal digits. No ID has it (docs/protocol.md,
// Identity registry).
const escape = '~'

// Name is the host name that ssh gets for a device or module: its ID and ".farport", with
// "~" and two hexadecimal digits for what ssh, scp or a shell might take for something
// else. Case is kept: ssh's %n does.
func Name(id string) string { return escaped(id, false) + Suffix }

// KeyAlias is Name with upper-case letters escaped too, for known_hosts, where ssh
// ignores case.
func KeyAlias(id string) string { return escaped(id, true) + Suffix }

func escaped(id string, upper bool) string {
	var b strings.Builder
	for i := range len(id) {
		c := id[i]
		isUpper := c >= 'A' && c <= 'Z'
		switch {
		case isUpper && !upper, c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_',
			i > 0 && strings.IndexByte("-.+", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%c%02x", escape, c)
		}
	}
	return b.String()
}

// ID is the device or module that a host name stands for; false if it is not one of
// farport's. What is not escaped though it could be is taken as it is.
func ID(name string) (string, bool) {
	name, ok := strings.CutSuffix(name, Suffix)
	if !ok || name == "" {
		return "", false
	}
	var b strings.Builder
	for {
		before, after, more := strings.Cut(name, string(escape))
		b.WriteString(before)
		if !more {
			return b.String(), true
		}
		if len(after) < 2 {
			return "", false
		}
		c, err := strconv.ParseUint(after[:2], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		name = after[2:]
	}
}
