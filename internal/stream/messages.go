package stream

import (
	"github.com/farportio/farport/internal/wire"
)

// messages are the rules of an extended leg for messages (farport-v1.md section 3):
// a text is one short control message, and no message is longer than wire.Chunk.
type messages struct {
	size  uint64 // bytes of the current binary message
	drops bool   // the last text may still be in use, and nobody wants the next ones

	buf  [wire.MaxControl]byte
	text []byte // the control message that has come and was not read, good until the next; nil if none
}

// waiting reports whether a control message has come. A plain leg has none.
func (m *messages) waiting() bool { return m != nil && m.text != nil }

// check refuses a data frame of that many bytes that no extended leg carries.
func (m *messages) check(op byte, final bool, length uint64) error {
	switch op {
	case opText:
		if !final || length > wire.MaxControl {
			return broken("control message too long or fragmented")
		}
		return nil
	case opBinary:
		m.size = 0
	}
	if m.size += min(length, wire.Chunk+1); m.size > wire.Chunk {
		return &ProtocolError{wire.CloseTooBig, "message too large"}
	}
	return nil
}

// keep takes a control message.
func (m *messages) keep(text []byte) {
	m.text = m.buf[:0]
	if !m.drops {
		m.text = m.buf[:copy(m.buf[:], text)]
	}
}
