package resume

import (
	"github.com/farportio/farport/internal/wire"
)

// Space returns memory to read the application's next bytes into; nil means that it may
// not be read from now. Filled must follow, before any other Space.
func (e *End) Space() []byte {
	n := e.Room()
	if n == 0 {
		return nil
	}
	c, room := e.out.room()
	e.space = c
	return room[:min(len(room), n)]
}

// Room is how many bytes may be read from the application now.
func (e *End) Room() int {
	if e.phase != running || e.eof {
		return 0
	}
	most := uint64(wire.MaxWindowBytes)
	if e.c.Budget.short() {
		most = wire.EarlyData
	}
	return int(min(minus(e.peerLimit, e.out.end), minus(most, e.out.size()), wire.Chunk))
}

func minus(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

// Filled takes n bytes that were read into the last Space, 0 if there were none.
func (e *End) Filled(n int) {
	if e.space == nil {
		return
	}
	e.out.filled(e.space, n)
	e.space = nil
	e.count()
	if e.out.end >= wire.MaxOffset { // the end takes up an offset, too
		e.broken(wire.EndOverflow)
	}
}

// ReadEOF says that the application has ended its direction.
func (e *End) ReadEOF() {
	if e.phase == running {
		e.eof = true
	}
}

// Frame is something to write on the leg of Join: a control message or stream bytes, of
// which the memory is good until Sent.
type Frame struct {
	Join uint64
	Text string
	Data []byte
}

// Next returns what is to be written next, in this order; false means nothing for now.
// Whoever takes it writes it, or loses the leg; Sent must follow in both cases, before
// any other Next, also when the leg has changed meanwhile.
func (e *End) Next() (Frame, bool) {
	f := Frame{Join: e.leg}
	if e.leg == 0 || e.shutting {
		return f, false
	}
	switch {
	case e.phase == aborting:
		if f.Text = e.nextAbort(); f.Text == "" {
			return f, false
		}
	case e.hello != "":
		f.Text, e.hello = e.hello, ""
	case e.paired && e.phase == closing:
		f.Text = e.nextClosing()
	case e.phase != running:
	case e.paired && e.ack.due(e):
		f.Text = e.nextAck()
	case e.sendable() > 0:
		f.Data = e.nextData()
	case e.mayEnd():
		e.eofSent, e.eofEver = true, true
		e.early = e.early || !e.paired
		f.Text = e.text(wire.Control{Verb: wire.VerbEOF, Final: e.out.end})
	}
	if f.Text == "" && f.Data == nil {
		return f, false
	}
	e.path.wroteSomething(e)
	return f, true
}

// Pending reports whether Next would return something.
func (e *End) Pending() bool {
	switch {
	case e.leg == 0 || e.shutting:
		return false
	case e.phase == aborting:
		return !e.abortSent
	case e.hello != "":
		return true
	case e.phase == closing:
		return e.paired && (e.ack.due(e) || !e.doneSent)
	case e.phase != running:
		return false
	}
	return e.paired && e.ack.due(e) || e.sendable() > 0 || e.mayEnd()
}

// Sent says that what Next has returned was written, or the leg is lost.
func (e *End) Sent() {
	if e.frameOut != nil {
		e.frameOut.unpin()
		e.frameOut = nil
		e.out.trim()
	}
}

// sendable is how many bytes may be sent now. Ahead of the peer's hello these are the
// first ones, on the first join (section 3, Early bytes).
func (e *End) sendable() uint64 {
	if e.phase != running {
		return 0
	}
	most := e.peerLimit
	switch {
	case e.paired:
	case e.leg == 1:
		most = wire.EarlyData
	default:
		return 0
	}
	return minus(min(e.out.end, most), e.sent)
}

func (e *End) mayEnd() bool {
	return e.eof && !e.eofSent && !e.eofAcked && e.sent == e.out.end && (e.paired || e.leg == 1)
}

func (e *End) nextData() []byte {
	b, c := e.out.view(e.sent)
	b = b[:min(uint64(len(b)), e.sendable(), wire.Chunk)]
	e.frameOut = c
	e.sent += uint64(len(b))
	e.sentMost = max(e.sentMost, e.sent)
	e.early = e.early || !e.paired
	return b
}

func (e *End) nextAck() string {
	recv := e.recv()
	e.ack = acks{recv: recv, limit: e.limit}
	return e.text(wire.Control{Verb: wire.VerbAck, Recv: recv, Limit: e.limit})
}

// nextClosing tells the peer that all it sent was delivered, and then that this end is
// done. Once both are, the leg is closed.
func (e *End) nextClosing() string {
	switch {
	case e.ack.due(e):
		return e.nextAck()
	case !e.doneSent:
		e.doneSent = true
		if e.peerDone {
			e.bye()
		}
		return e.text(wire.Control{Verb: wire.VerbDone})
	}
	return ""
}

// nextAbort gives the last message of a stream that is broken off, and has the leg
// closed behind it.
func (e *End) nextAbort() string {
	if e.abortSent {
		return ""
	}
	e.abortSent, e.hello = true, ""
	e.close(wire.CloseBrokenOff, e.outcome)
	return e.text(wire.Control{Verb: wire.VerbAbort, Reason: e.outcome})
}

// close has the leg closed; the hub's answer is waited for.
func (e *End) close(code int, reason wire.EndReason) {
	e.shutting = true
	e.echoBy = e.c.Now().Add(echoTimeout)
	e.do(Action{Kind: ActClose, Join: e.leg, Code: code, Reason: reason})
}

func (e *End) text(c wire.Control) string {
	e.scratch = c.Append(e.scratch[:0])
	return string(e.scratch)
}

// acked takes what the peer says it has received, and how far it takes more.
func (e *End) acked(recv, limit uint64) bool {
	most := e.sentMost
	if e.eofEver {
		most++
	}
	if recv < e.peerRecv || recv > most || limit < e.peerLimit {
		return false
	}
	e.peerRecv, e.peerLimit = recv, limit
	if e.phase != running {
		return true
	}
	if recv > e.out.end {
		e.eofAcked, recv = true, e.out.end
	}
	if recv > e.out.start {
		e.out.copyTo(&e.outTail, e.out.start, recv)
		e.out.drop(recv)
		e.path.acked(e)
	}
	e.count()
	e.becomeClean()
	return true
}

// checkAt is the CRC-32C of what the peer must have received last before offset n.
func (e *End) checkAt(n uint64) uint32 {
	t := e.outTail
	e.out.copyTo(&t, e.out.start, n)
	return t.check(n)
}
