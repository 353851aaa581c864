// Package resume is one end of an extended stream (farport.v1, docs/farport-v1.md) as a
// pure state machine: it does no I/O, has no goroutine and no clock of its own. Whoever
// drives it tells what has happened and does what it asks for:
//
//	application ──Space, Filled, ReadEOF──▶ End ──Next, Sent──▶ leg ──▶ hub
//	application ◀──App, Delivered, ShutdownDone── End ◀──LegSpace, Data, Message── leg ◀── hub
//	                                         │
//	             Act: dial, ping, close a leg, reset the application
//	             Opened, Failed, Refused, LegClosed, Heard, NetworkChanged, Tick: what came of it
//
// Bytes are never copied: they are read into the End's memory and written from it.
// Package stream drives an End over real sockets; a simulator drives two of them and a
// hub through everything that can go wrong.
package resume

import (
	"math/rand/v2"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Config is what an End needs to know. Now is required.
type Config struct {
	// Window is how long the stream may be without its peer, as it was agreed on. 0 is
	// framing without resume: losing the leg is losing the stream.
	Window time.Duration
	// Linger bounds how long an end that is done goes on for the other end's sake. Zero
	// means the Window, 60 s at most, and 60 s without a Window (section 4).
	Linger time.Duration
	Budget *Budget          // shared by the streams of a process; nil means one of its own
	Now    func() time.Time // with a monotonic clock
	Rand   *rand.Rand       // spreads dialling; nil means a new one
}

// lingerMost bounds Config.Linger's default. farport-v1.md section 4.
const lingerMost = time.Minute

// phase is how far a stream has come, whatever its leg does.
type phase int

const (
	running  phase = iota
	closing        // done, and clean; the other end may not know yet
	aborting       // broken off; the other end may not know yet
	ended
)

// State says where an End is in farport-v1.md section 4.
type State int

// The states of an End.
const (
	Joining  State = iota // no leg
	Alone                 // a leg, and nothing heard of the peer over it
	Open                  // both ends have said hello
	Closing               // clean here
	Aborting              // broken off here
	Ended
)

// End is one end of an extended stream. It is not safe for concurrent use.
type End struct {
	c       Config
	phase   phase
	outcome wire.EndReason // "" while running
	created time.Time
	actions []Action
	acted   int // of them

	// The way to the hub.
	join     uint64 // of the newest attempt
	attempt  uint64 // under way; 0 for none
	leg      uint64 // join of the open leg; 0 for none
	paired   bool   // the peer's hello has come over it
	shutting bool   // its close frame was asked for, nothing more is written
	retry    backoff
	refresh  time.Time // when to join anew, as the token grows old; zero: never
	renewBy  time.Time // when to do so in any case
	peerJoin uint64    // of the peer's latest hello
	away     time.Time // since when there was no pairing; zero while there is one
	everMet  bool      // there was a pairing
	giveUp   time.Time // end of closing or aborting
	echoBy   time.Time // the answer to our close frame is waited for until then
	path     path

	// Written once per leg, first of all; "" when it has been.
	hello string
	// What else was written on this leg.
	eofSent, doneSent, abortSent bool
	early                        bool // bytes or the end were sent ahead of the peer's hello
	peerDone                     bool // the peer has said that it is done

	// From the application to the peer.
	out        buffer // unacknowledged
	outTail    tail   // of what was acknowledged
	sent       uint64 // on this leg
	sentMost   uint64 // on any leg
	eof        bool   // the application has ended
	eofEver    bool   // and the peer was told on some leg
	eofAcked   bool
	peerRecv   uint64 // as the peer said last
	peerLimit  uint64
	outCounted int64 // of the budget

	// From the peer to the application.
	in        buffer // undelivered
	inTail    tail
	final     uint64
	finalSet  bool
	shown     bool   // the end was handed to the application
	credit    uint64 // bytes promised beyond what was delivered
	paceFrom  uint64 // offset from which the application's pace is measured
	paceSince time.Time
	limit     uint64 // promised
	inCounted int64  // of the budget
	ack       acks

	// Chunks that are being read into or written from.
	space, legSpace, appOut, frameOut *chunk

	scratch []byte // for texts
}

// New returns the end of a stream that has just been agreed on, which asks to be
// dialled at once.
func New(c Config) *End {
	if c.Linger == 0 {
		c.Linger = min(c.Window, lingerMost)
		if c.Window == 0 {
			c.Linger = lingerMost // which the leg's loss ends
		}
	}
	if c.Budget == nil {
		c.Budget = NewBudget(DefaultBudget)
	}
	if c.Rand == nil {
		c.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	e := &End{c: c, created: c.Now(), peerLimit: wire.EarlyData, credit: wire.FirstCredit}
	e.away, e.paceSince = e.created, e.created
	e.path.patience, e.path.idlePatience = busyPatience, busyPatience
	if c.Budget.short() {
		e.credit = wire.EarlyData
	}
	e.promise()
	e.ack = acks{limit: e.limit}
	e.dialNow()
	return e
}

// State says where the stream stands.
func (e *End) State() State {
	switch {
	case e.phase == ended:
		return Ended
	case e.phase == aborting:
		return Aborting
	case e.phase == closing:
		return Closing
	case e.leg == 0:
		return Joining
	case !e.paired:
		return Alone
	}
	return Open
}

// Outcome is how the stream has ended for the application: EndFinished when both
// directions are delivered in full, else the reason of the reset, "" while it runs.
func (e *End) Outcome() wire.EndReason { return e.outcome }

// Done reports whether nothing is left to do for the stream, the other end included.
// Actions that were asked for are still to be done.
func (e *End) Done() bool { return e.phase == ended }

// Away is since when a running stream has had no connection with its peer; zero while it
// has one.
func (e *End) Away() time.Time {
	if e.phase != running {
		return time.Time{}
	}
	return e.away
}

// ActionKind is what an Action asks for.
type ActionKind int

// The kinds of actions.
const (
	// ActDial: open a leg with this Join; then Opened, Failed or Refused. An attempt
	// that has no TCP connection after DialTCPTimeout or no answer after DialTimeout has
	// failed. A newer one takes its place.
	ActDial ActionKind = iota + 1
	// ActPing: ping the leg of this Join; the answer is Heard.
	ActPing
	// ActClose: close the leg of this Join with Code and Reason, after what Next has
	// given, and tell LegClosed what came back. It may be asked for a leg that is no
	// longer the End's, of which nothing need be told.
	ActClose
	// ActDrop: hang up the leg, or give up the attempt, of this Join, without a word.
	ActDrop
	// ActReset: break the application's connection off, so that it sees a reset for
	// Reason.
	ActReset
)

// Bounds of an attempt. farport-v1.md section 2, Dialling.
const (
	DialTCPTimeout = 3 * time.Second
	DialTimeout    = 10 * time.Second
)

// Action is something that has to be done, in the order of Act.
type Action struct {
	Kind   ActionKind
	Join   uint64
	Code   int
	Reason wire.EndReason
}

// Act returns the next action; false means that there is none. It is to be called after
// every other call.
func (e *End) Act() (Action, bool) {
	if e.acted == len(e.actions) {
		e.actions, e.acted = e.actions[:0], 0
		return Action{}, false
	}
	e.acted++
	return e.actions[e.acted-1], true
}

func (e *End) do(a Action) { e.actions = append(e.actions, a) }

// Abort breaks the stream off on purpose; the application is reset by whoever calls.
func (e *End) Abort(reason wire.EndReason) {
	if e.phase == running {
		e.abort(reason)
	}
}

// abort breaks the stream off and lets the other end know.
func (e *End) abort(reason wire.EndReason) {
	e.finish(aborting, reason)
	e.giveUp = e.c.Now().Add(max(e.c.Window, time.Minute))
	if e.leg == 0 && e.c.Window == 0 {
		e.end()
	}
}

// broken resets the application and lets the other end know why.
func (e *End) broken(reason wire.EndReason) {
	if e.phase == running {
		e.abort(reason)
		e.do(Action{Kind: ActReset, Reason: reason})
	}
}

// over ends the stream, as the other end, the hub or the clock has ended it. The
// application is reset unless it was told how the stream ended before.
func (e *End) over(reason wire.EndReason) {
	if e.phase == running {
		e.finish(aborting, reason)
		if reason != wire.EndFinished {
			e.do(Action{Kind: ActReset, Reason: reason})
		}
	}
	e.end()
}

// finish is the end of the stream as far as the application is concerned.
func (e *End) finish(p phase, reason wire.EndReason) {
	e.phase, e.outcome = p, reason
	e.out.empty()
	e.in.empty()
	e.count()
}

// clean notes that both directions are done.
func (e *End) clean() bool { return e.eofAcked && e.shown }

// becomeClean goes to closing as soon as it may.
func (e *End) becomeClean() {
	if e.phase == running && e.clean() {
		e.finish(closing, wire.EndFinished)
		e.giveUp = e.c.Now().Add(e.c.Linger)
	}
}

// end lets go of everything.
func (e *End) end() {
	if e.attempt != 0 {
		e.do(Action{Kind: ActDrop, Join: e.attempt})
	}
	if e.leg != 0 && !e.shutting {
		e.do(Action{Kind: ActDrop, Join: e.leg})
	}
	e.phase, e.attempt, e.leg, e.hello = ended, 0, 0, ""
	e.away = time.Time{}
}

// count keeps the budget.
func (e *End) count() {
	out, in := int64(0), int64(0)
	if e.phase == running {
		out, in = int64(e.out.size()), int64(e.limit-e.in.start)
	}
	e.c.Budget.used.Add(out - e.outCounted + in - e.inCounted)
	e.outCounted, e.inCounted = out, in
}
