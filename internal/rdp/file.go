package rdp

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// ValidUser reports whether a user name can stand in a .rdp file and on a command
// line: it is not empty and holds no control characters.
func ValidUser(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// File is a .rdp file for a connection. Its form is that of "Supported RDP
// properties", Microsoft: NAME:TYPE:VALUE, lines end with CR LF; text beyond ASCII is
// UTF-16 with a byte order mark, as mstsc writes it. The client asks for the password,
// and warns of a certificate that it cannot verify.
func File(c Connection) []byte {
	lines := []string{"full address:s:" + c.Address}
	if c.User != "" {
		lines = append(lines, "username:s:"+c.User)
	}
	lines = append(lines,
		"prompt for credentials:i:1",
		"authentication level:i:2", // 2: warn, and let the user decide
		"enablecredsspsupport:i:1",
		"negotiate security layer:i:1",
		"screen mode id:i:1", // 1: in a window
		"dynamic resolution:i:1",
		"redirectclipboard:i:1",
		"autoreconnection enabled:i:1",
	)
	text := strings.Join(lines, "\r\n") + "\r\n"
	if !strings.ContainsFunc(text, func(r rune) bool { return r > 0x7f }) {
		return []byte(text)
	}
	wide := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(text)) {
		wide = binary.LittleEndian.AppendUint16(wide, unit)
	}
	return wide
}
