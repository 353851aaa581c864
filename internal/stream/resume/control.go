package resume

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Message takes a control message from the leg of that join.
func (e *End) Message(join uint64, text []byte) {
	if join != e.leg || join == 0 || e.shutting {
		return
	}
	e.Heard(join)
	c, err := wire.ParseControl(text)
	if err != nil || !e.take(c) {
		e.Violation(join)
	}
}

// Violation says that the leg of that join has brought what no leg may bring.
func (e *End) Violation(join uint64) {
	if join != e.leg || e.shutting {
		return
	}
	if e.phase == closing {
		e.end()
	}
	e.broken(wire.EndProtocol)
}

// take does what a control message says; false means that it breaks a rule.
func (e *End) take(c wire.Control) bool {
	switch {
	case c.Verb == wire.VerbUnknown, e.phase == aborting:
		return true
	case c.Verb == wire.VerbAbort:
		if c.Reason == wire.EndFinished {
			c.Reason = wire.EndReset // nobody breaks off what is finished
		}
		e.do(Action{Kind: ActClose, Join: e.leg, Code: wire.CloseBrokenOff, Reason: c.Reason})
		e.leg = 0
		e.over(c.Reason)
		return true
	case c.Verb == wire.VerbHello:
		return !e.paired && e.takeHello(c)
	case !e.paired:
		return false
	}
	switch c.Verb {
	case wire.VerbAck:
		return e.acked(c.Recv, c.Limit)
	case wire.VerbEOF:
		return e.takeEOF(c.Final)
	default: // wire.VerbDone
		return e.takeDone()
	}
}

// takeHello goes on where the peer says that it is (section 3, H).
func (e *End) takeHello(c wire.Control) bool {
	if c.Join <= e.peerJoin { // from a leg that the peer has left
		leg := e.leg
		e.do(Action{Kind: ActDrop, Join: leg})
		e.LegClosed(leg, 0, "")
		return true
	}
	received := min(c.Recv, e.out.end)
	first := e.peerJoin == 0
	switch {
	case first && c.Limit < wire.EarlyData, e.early && c.Recv != 0:
		return false
	case c.Recv < e.peerRecv || c.Recv > e.sentMost && !(e.eofEver && c.Recv == e.out.end+1):
		return false
	case c.Check != e.checkAt(received):
		return false
	}
	if !e.early {
		e.sent = received
	}
	e.peerJoin, e.paired, e.everMet = c.Join, true, true
	e.away = time.Time{}
	e.retry = backoff{}
	return e.acked(c.Recv, c.Limit)
}

// takeEOF notes where the peer's direction ends.
func (e *End) takeEOF(final uint64) bool {
	if final != e.in.end || e.finalSet && final != e.final {
		return false
	}
	e.final, e.finalSet = final, true
	return true
}

// takeDone ends a stream that both ends are done with (section 3, F).
func (e *End) takeDone() bool {
	if e.phase != closing {
		return false
	}
	e.peerDone = true
	if e.doneSent {
		e.bye()
	}
	return true
}
