package stream

import (
	"bufio"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
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
	// headRoom is what a frameConn buffers of frames' headers and small payloads.
	headRoom = 512
)

// protocolError is a frame that no peer may send. code is what the close frame
// then says (RFC 6455 §7.4.1).
type protocolError struct {
	code int
	what string
}

func (e *protocolError) Error() string { return "websocket: " + e.what }

// closeError is a close frame of the peer.
type closeError struct {
	code int // wire.CloseNoStatus when the frame had none
	text string
}

func (e *closeError) Error() string {
	return fmt.Sprintf("websocket: closed with %d %q", e.code, e.text)
}

var errCloseSent = errors.New("websocket: close frame already sent")

// frameConn reads and writes frames. One reader and one writer of data at a time;
// control may be called by anybody.
type frameConn struct {
	net.Conn
	records *recordConn // below Conn; nil when there is none
	client  bool        // masks what it writes, and takes unmasked frames only

	// heard is told of each ping and pong, by the reader.
	heard func()

	in         *bufio.Reader
	fragmented bool   // the next data frame continues a message
	left       uint64 // payload of the current data frame still to come
	mask       [4]byte
	at         int // position in mask

	writing   chan struct{} // holds one token: the right to write a frame
	closeSent bool          // guarded by writing
}

func newFrameConn(c net.Conn, in *bufio.Reader, client bool) *frameConn {
	f := &frameConn{Conn: c, records: recordsOf(c), client: client, in: in, heard: func() {}, writing: make(chan struct{}, 1)}
	f.writing <- struct{}{}
	return f
}

// wait blocks until there is data to read, answering control frames meanwhile.
func (f *frameConn) wait() error {
	for f.left == 0 {
		if err := f.next(); err != nil {
			return err
		}
	}
	return nil
}

// read fills p with what has arrived, at least one byte, across frames and
// messages. Together with an error it may return bytes that came before it.
func (f *frameConn) read(p []byte) (n int, err error) {
	for {
		if f.left == 0 {
			err = f.next()
		} else {
			var m int
			m, err = f.payload(p[n:])
			n += m
		}
		if err != nil || n == len(p) || n > 0 && !f.pending() {
			return n, err
		}
	}
}

// pending reports whether more can be read without waiting for the peer.
func (f *frameConn) pending() bool { return f.in.Buffered() > 0 || f.records.arrived() }

// payload reads payload of the current data frame.
func (f *frameConn) payload(p []byte) (int, error) {
	if uint64(len(p)) > f.left {
		p = p[:f.left]
	}
	n, err := f.in.Read(p)
	f.left -= uint64(n)
	if !f.client {
		f.at = xor(p[:n], p[:n], f.mask, f.at)
	}
	return n, noEOF(err)
}

// next reads the next frame's header, and all of a control frame.
func (f *frameConn) next() error {
	head, err := f.in.Peek(2)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	final, op := head[0]&bitFinal != 0, head[0]&0xf
	masked, length := head[1]&bitMask != 0, uint64(head[1]&^bitMask)
	if err := f.check(head[0], masked, length); err != nil {
		return err
	}
	if length, err = f.header(length, masked); err != nil {
		return noEOF(err)
	}
	if op >= opClose {
		return f.takeControl(op, int(length))
	}
	f.left, f.fragmented = length, !final
	return nil
}

// check refuses what RFC 6455 §5 does not allow.
func (f *frameConn) check(first byte, masked bool, length uint64) error {
	op := first & 0xf
	what := ""
	switch {
	case first&bitsRSV != 0:
		what = "reserved bit set" // no extension was agreed on (§5.2)
	case masked == f.client:
		what = "frame with the wrong masking" // §5.1
	case op >= opClose && (length > maxControl || first&bitFinal == 0):
		what = "control frame too long or fragmented" // §5.5
	case op > opPong || op > opBinary && op < opClose:
		what = "unknown opcode"
	case op == opContinuation && !f.fragmented, (op == opText || op == opBinary) && f.fragmented:
		what = "fragment out of order" // §5.4
	default:
		return nil
	}
	return &protocolError{wire.CloseProtocol, what}
}

// header takes the header off the reader; short is its seven bits of length.
func (f *frameConn) header(short uint64, masked bool) (length uint64, err error) {
	size := 2
	switch short {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	lengthEnd := size
	if masked {
		size += 4
	}
	head, err := f.in.Peek(size)
	if err != nil {
		return 0, err
	}
	length = short
	switch short {
	case 126:
		length = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		if length = binary.BigEndian.Uint64(head[2:]); length>>63 != 0 {
			return 0, &protocolError{wire.CloseProtocol, "length with the highest bit set"} // §5.2
		}
	}
	copy(f.mask[:], head[lengthEnd:])
	f.at = 0
	_, err = f.in.Discard(size)
	return length, err
}

// takeControl reads a control frame's payload and does what it asks for.
func (f *frameConn) takeControl(op byte, length int) error {
	var buf [maxControl]byte
	p := buf[:length]
	if _, err := io.ReadFull(f.in, p); err != nil {
		return noEOF(err)
	}
	if !f.client {
		xor(p, p, f.mask, 0)
	}
	switch op {
	case opPing:
		f.heard()
		// That the answer cannot be written will show in reading or writing.
		_ = f.control(opPong, p, time.Now().Add(lastWords))
	case opPong:
		f.heard()
	case opClose:
		return parseClose(p)
	}
	return nil
}

func parseClose(p []byte) error {
	switch {
	case len(p) == 0:
		return &closeError{code: wire.CloseNoStatus}
	case len(p) == 1 || !utf8.Valid(p[2:]):
		return &protocolError{wire.CloseProtocol, "malformed close frame"} // §5.5.1
	}
	return &closeError{int(binary.BigEndian.Uint16(p)), string(p[2:])}
}

// scratch holds frames that are being written: a header and a chunk.
var scratch = sync.Pool{New: func() any { return new([maxHeader + wire.Chunk]byte) }}

// write sends p, of at most wire.Chunk bytes, as one binary message in one write.
func (f *frameConn) write(p []byte, deadline time.Time) error {
	if !f.lock(deadline) {
		return errWriteTimeout
	}
	defer f.unlock()
	if f.closeSent {
		return errCloseSent
	}
	buf := scratch.Get().(*[maxHeader + wire.Chunk]byte)
	defer scratch.Put(buf)
	_ = f.SetWriteDeadline(deadline) // fails on a closed connection only, as the write will
	f.records.gather()
	_, err := f.Conn.Write(f.frame(buf[:0], opBinary, p))
	return errors.Join(err, f.records.flush())
}

// control sends a control frame, in a TLS record of its own: the C SDK stalls on
// others (docs/protocol.md, Ping and pong). A close frame is the last one.
func (f *frameConn) control(op byte, p []byte, deadline time.Time) error {
	if !f.lock(deadline) {
		return errWriteTimeout
	}
	defer f.unlock()
	if f.closeSent {
		return errCloseSent
	}
	f.closeSent = op == opClose
	_ = f.SetWriteDeadline(deadline)
	_, err := f.Conn.Write(f.frame(make([]byte, 0, maxHeader+maxControl), op, p))
	return err
}

var errWriteTimeout = errors.New("websocket: the peer takes nothing")

// lock waits for the right to write a frame, until the deadline.
func (f *frameConn) lock(deadline time.Time) bool {
	select {
	case <-f.writing:
		return true
	default:
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-f.writing:
		return true
	case <-timer.C:
		return false
	}
}

func (f *frameConn) unlock() { f.writing <- struct{}{} }

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
