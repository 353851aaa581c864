package resume

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// LegSpace returns memory to read the next stream bytes of the leg into. Data must
// follow, before any other LegSpace: one leg is read at a time.
func (e *End) LegSpace() []byte {
	c, room := e.in.room()
	e.legSpace = c
	return room
}

// Data takes n bytes that the leg of that join has brought into the last LegSpace; 0 if
// there were none.
func (e *End) Data(join uint64, n int) {
	c := e.legSpace
	e.legSpace = nil
	current := join == e.leg && !e.shutting && e.phase == running
	if n == 0 || !current || e.finalSet || !e.paired || uint64(n) > e.limit-e.in.end {
		e.in.filled(c, 0)
		if n > 0 && current {
			e.Violation(join)
		}
		return
	}
	at := e.in.end
	e.in.filled(c, n)
	e.in.copyTo(&e.inTail, at, e.in.end)
	e.Heard(join)
	e.ack.grow(e)
}

// App returns bytes for the application, in order, nil if there are none. Their memory
// is good until Delivered, which must follow before any other App.
func (e *End) App() []byte {
	if e.phase != running || e.in.size() == 0 {
		return nil
	}
	b, c := e.in.view(e.in.start)
	e.appOut = c
	return b
}

// Delivered says that the application has taken n bytes of the last App.
func (e *End) Delivered(n int) {
	if e.appOut != nil {
		e.appOut.unpin()
		e.appOut = nil
	}
	if e.phase != running || n == 0 {
		return
	}
	e.in.drop(e.in.start + uint64(n))
	if e.in.size() == 0 && e.in.start-e.paceFrom >= e.credit {
		e.growCredit()
	}
	e.promise()
	e.ack.grow(e)
}

// fastCredit is how soon a credit's worth of bytes has to be delivered for the credit to
// grow. Round trips longer than that would keep it small.
const fastCredit = 3 * time.Second

// growCredit doubles the credit of an application that has kept up with a fast peer.
func (e *End) growCredit() {
	now := e.c.Now()
	if now.Sub(e.paceSince) <= fastCredit && !e.c.Budget.short() {
		e.credit = min(2*e.credit, wire.MaxWindowBytes)
	}
	e.paceFrom, e.paceSince = e.in.start, now
}

// promise makes room for the credit beyond what was delivered; what was promised stays.
func (e *End) promise() {
	e.limit = min(max(e.limit, e.in.start+e.credit), wire.MaxOffset)
	e.count()
}

// AppEOF reports whether the peer's direction has ended and everything before was
// delivered, so that the application is to be told; ShutdownDone must follow.
func (e *End) AppEOF() bool {
	return e.phase == running && e.finalSet && !e.shown && e.in.start == e.final
}

// ShutdownDone says that the application was told of the end.
func (e *End) ShutdownDone() {
	if !e.AppEOF() {
		return
	}
	e.shown = true
	e.ack.now = true
	e.becomeClean()
}

// recv is what acknowledges: bytes received, and one more once the end was handed on
// (section 3, recv).
func (e *End) recv() uint64 {
	if e.shown {
		return e.final + 1
	}
	return e.in.end
}

// acks decides when to acknowledge (section 3, A).
type acks struct {
	recv, limit uint64    // as the peer was told last
	since       time.Time // when there was something new to tell; zero: nothing
	now         bool      // at once
}

// ackDelay is how long bytes may go unacknowledged.
const ackDelay = 100 * time.Millisecond

// grow notes that there may be something new to tell.
func (a *acks) grow(e *End) {
	if a.since.IsZero() && a.grown(e) {
		a.since = e.c.Now()
	}
}

func (a *acks) grown(e *End) bool { return e.recv() > a.recv || e.limit > a.limit }

// due reports whether half a credit has come or was promised, or some time has passed: each
// acknowledgement wakes three processes, and a sender that had to wait has more than a few
// chunks to send.
func (a *acks) due(e *End) bool {
	if !a.grown(e) {
		return false
	}
	news := max(e.recv()-a.recv, e.limit-a.limit)
	return a.now || news >= e.credit/2 || !a.since.IsZero() && e.c.Now().Sub(a.since) >= ackDelay
}
