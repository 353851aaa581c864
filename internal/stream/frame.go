package stream

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/farportio/farport/internal/wire"
)

// Frames of RFC 6455 §5, of which a leg needs few: data that need not be kept in
// messages, and control frames. gorilla/websocket does the handshakes; its frames
// cost a leg a third more CPU, and it cannot say what has arrived without waiting
// for more, which the relay needs to know to fill a chunk.

// Opcodes (RFC 6455 §5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
)

const (
	bitFinal  = 0x80
	bitsRSV   = 0x70
	bitMask   = 0x80
	maxHeader = 2 + 8 + 4 // opcode and length, extended length, mask
	// maxControl is the most payload of a control frame (RFC 6455 §5.5).
	maxControl = 125
	// closeTLS is reserved for failed TLS handshakes (RFC 6455 §7.4.1).
	closeTLS = 1015
	// headRoom is what a frameConn buffers of frames' headers and small payloads.
	headRoom = 512
)

// ProtocolError is a frame that no peer may send.
type ProtocolError struct {
	Code int // of the close frame that answers it
	what string
}

func (e *ProtocolError) Error() string { return "websocket: " + e.what }

func broken(what string) error { return &ProtocolError{wire.CloseProtocol, what} }

// emptyRun counts the data frames without payload that come one after the other.
// Azure's C# proxies send nothing else, in a tight loop, once their local side has
// ended; as many as emptyEnd within emptyTime are their way to close with 1000
// (docs/protocol.md, Ending). Whoever sends one now and then is left alone.
type emptyRun struct {
	n     int
	since time.Time // of the run's first
}

const (
	emptyEnd  = 1000
	emptyTime = 10 * time.Second
)

// count takes a data frame of that many bytes.
func (e *emptyRun) count(length uint64) error {
	if length > 0 {
		e.n = 0
		return nil
	}
	if e.n++; e.n == 1 {
		e.since = time.Now()
	}
	if e.n < emptyEnd {
		return nil
	}
	e.n = 0
	if time.Since(e.since) > emptyTime {
		return nil
	}
	return &CloseFrame{Code: wire.CloseNormal}
}

// CloseFrame is a close frame of the peer, as the error of reading.
type CloseFrame struct {
	Code int // wire.CloseNoStatus when the frame had none
	Text string
}

func (e *CloseFrame) Error() string {
	return fmt.Sprintf("websocket: closed with %d %q", e.Code, e.Text)
}

// headerSize is the length of a header; short is its seven bits of payload length.
func headerSize(short byte, masked bool) int {
	size := 2
	switch short {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if masked {
		size += 4
	}
	return size
}

func payloadLength(head []byte, short byte) (uint64, error) {
	switch short {
	case 126:
		return uint64(binary.BigEndian.Uint16(head[2:])), nil
	case 127:
		length := binary.BigEndian.Uint64(head[2:])
		if length>>63 != 0 {
			return 0, broken("length with the highest bit set") // §5.2
		}
		return length, nil
	}
	return uint64(short), nil
}

// check refuses what RFC 6455 §5 does not allow.
func (f *frameConn) check(first byte, masked bool, short byte) error {
	op := first & 0xf
	var what string
	switch {
	case first&bitsRSV != 0:
		what = "reserved bit set" // no extension was agreed on (§5.2)
	case masked == f.client:
		what = "frame with the wrong masking" // §5.1
	case op >= opClose && (short > maxControl || first&bitFinal == 0):
		what = "control frame too long or fragmented" // §5.5
	case op > opPong || op > opBinary && op < opClose:
		what = "unknown opcode"
	case op == opContinuation && !f.fragmented, (op == opText || op == opBinary) && f.fragmented:
		what = "fragment out of order" // §5.4
	default:
		return nil
	}
	return broken(what)
}

func parseClose(p []byte) error {
	if len(p) == 0 {
		return &CloseFrame{Code: wire.CloseNoStatus}
	}
	if len(p) == 1 || !utf8.Valid(p[2:]) {
		return broken("malformed close frame") // §5.5.1
	}
	code := int(binary.BigEndian.Uint16(p))
	switch { // §7.4: what may stand in a frame
	case code < 1000, code >= 5000, code == wire.CloseNoStatus, code == wire.CloseAbnormal, code == closeTLS:
		return broken("close code that no frame may carry")
	}
	return &CloseFrame{code, string(p[2:])}
}

// frame appends a frame of one fragment to buf, which has room for it.
func (f *frameConn) frame(buf []byte, op byte, p []byte) []byte {
	buf = append(buf, bitFinal|op)
	var mask byte
	if f.client {
		mask = bitMask
	}
	switch n := len(p); {
	case n <= maxControl:
		buf = append(buf, mask|byte(n))
	case n <= 0xffff:
		buf = binary.BigEndian.AppendUint16(append(buf, mask|126), uint16(n))
	default:
		buf = binary.BigEndian.AppendUint64(append(buf, mask|127), uint64(n))
	}
	if !f.client {
		return append(buf, p...)
	}
	var key [4]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	buf = append(buf, key[:]...)
	at := len(buf)
	buf = buf[:at+len(p)]
	xor(buf[at:], p, key, 0)
	return buf
}

// xor masks or unmasks src into dst, which may be the same, beginning at position
// at of the key, and returns the position after it (RFC 6455 §5.3).
func xor(dst, src []byte, key [4]byte, at int) int {
	var pattern [512]byte
	for i := range min(len(src), len(pattern)) {
		pattern[i] = key[(at+i)&3]
	}
	for done := 0; done < len(src); { // a full pattern is a multiple of the key
		done += subtle.XORBytes(dst[done:], src[done:], pattern[:])
	}
	return (at + len(src)) & 3
}

// noEOF is for where the peer may not stop.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
