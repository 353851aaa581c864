package resume

import (
	"math"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// rule is one of section 11 of farport-v1.md, which can be switched off.
type rule int

const (
	nothing rule = iota
	keepSurvivor
	laterJoinWins
	fatal409
	impostor4001
	helloAtDial
	helloAfterReading
	earlyAlways
	eofOnReceipt
	noCredit
	forgetAtEOF
	abortAndForget
	echoAtOnce
	gone410
	evictWaiting
	instanceOnBreak
	closedInMemory
	pauseUnpaired
	fixedVerdict
	timeoutWhileStuck
	refused404
)

// noCreditRoom is what an end without credit holds at most.
const noCreditRoom = 128 << 10

func (w *side) full() bool { return w.e.in.size() > noCreditRoom }

// mutateEnd does what an End without a rule would do after an event.
func (w *side) mutateEnd() {
	e := w.e
	switch w.s.rule {
	case noCredit:
		if e.phase == running {
			e.limit, e.peerLimit = math.MaxInt32, math.MaxInt32
		}
		if c := w.conns[e.leg]; c != nil && !c.hungUp {
			w.s.after(0, c.down.pump)
		}
	case forgetAtEOF:
		if e.phase == closing && !e.ack.due(e) {
			e.end()
		}
	case abortAndForget:
		if e.phase == aborting && e.abortSent && !w.writing {
			e.shutting = true
			e.end()
		}
	case fixedVerdict:
		e.path.patience = busyPatience
	}
}

func (w *side) helloNow(join uint64) string {
	e := w.e
	return e.text(wire.Control{Verb: wire.VerbHello, Join: join, Recv: e.recv(), Limit: e.limit, Check: e.inTail.check(e.in.end)})
}

// mutateOpened changes the hello of a new leg.
func (w *side) mutateOpened(join uint64) {
	switch {
	case w.e.hello == "":
	case w.s.rule == helloAtDial:
		w.e.hello = w.saved[join]
	case w.s.rule == helloAfterReading:
		w.held, w.e.hello = w.e.hello, ""
		w.s.after(w.s.upTo(200*time.Millisecond), func() {
			if w.e.leg == join && !w.dead && w.held != "" {
				w.e.hello, w.held = w.helloNow(join), ""
				w.drain()
			}
		})
	}
}

// holdHello reports that the hello is still held.
func (w *side) holdHello() bool {
	return w.s.rule == helloAfterReading && w.held != "" && w.e.leg != 0 && w.e.phase != aborting
}

// early reports that bytes may go ahead of a hello that is not the first.
func (w *side) early() bool {
	e := w.e
	return w.s.rule == earlyAlways && e.leg > 1 && !e.paired && e.hello == "" && e.phase == running && !e.shutting
}

func (w *side) pending() bool {
	if w.early() && !w.e.early {
		w.e.sent = w.e.out.start
	}
	return w.e.Pending() || w.early() && (w.e.sent < min(w.e.out.end, w.e.out.start+wire.EarlyData))
}

// next takes the next frame, as if the leg were the first if that is so for its bytes.
func (w *side) next() (Frame, bool) {
	if !w.early() || w.e.Pending() {
		return w.e.Next()
	}
	b, c := w.e.out.view(w.e.sent)
	b = b[:min(uint64(len(b)), w.e.out.start+wire.EarlyData-w.e.sent)]
	w.e.frameOut, w.e.early, w.e.sent = c, true, w.e.sent+uint64(len(b))
	w.e.sentMost = max(w.e.sentMost, w.e.sent)
	return Frame{Join: w.e.leg, Data: b}, true
}

// mutateFrame changes what is written.
func (w *side) mutateFrame(f Frame) Frame {
	if w.s.rule != eofOnReceipt || f.Text == "" || !w.e.finalSet {
		return f
	}
	c, _ := wire.ParseControl([]byte(f.Text))
	if c.Verb == wire.VerbAck || c.Verb == wire.VerbHello {
		c.Recv = w.e.final + 1
		f.Text = w.e.text(c)
	}
	return f
}

// mutateMessage follows a message.
func (w *side) mutateMessage() {
	if w.s.rule == eofOnReceipt && w.e.finalSet {
		w.e.ack.now = true
	}
}

func (w *side) mutateRefusal(join uint64, r Refusal) Refusal {
	switch {
	case w.s.rule == fatal409 && r.Status == 409:
		r.Highest = join + 1
	case w.s.rule == refused404 && r.Status == 404:
		r.End = wire.EndReset
	}
	return r
}

func (w *side) mutateClosed(join uint64, i *item) {
	if w.s.rule == impostor4001 && i.code == wire.CloseReplaced && join == w.e.leg {
		w.e.over(wire.EndLost)
	}
}

// mutants names the rules, as section 11 numbers them.
var mutants = []struct {
	name string
	rule rule
}{
	{"1 hub keeps the surviving leg", keepSurvivor},
	{"2 later join wins", laterJoinWins},
	{"2 409 is fatal", fatal409},
	{"2 4001 means an impostor", impostor4001},
	{"3 hello computed when the dial starts", helloAtDial},
	{"3 hello after reading", helloAfterReading},
	{"3 early bytes on every join", earlyAlways},
	{"4 EOF acknowledged on receipt", eofOnReceipt},
	{"5 no credit, stop reading when full", noCredit},
	{"6 forget when both EOFs are acknowledged", forgetAtEOF},
	{"7 abort and forget", abortAndForget},
	{"7 echo before the other end was told", echoAtOnce},
	{"7 410 from memory before the other end was told", gone410},
	{"8 a join closes the other side's waiting leg", evictWaiting},
	{"9 instance checked when a device leg breaks", instanceOnBreak},
	{"10 closed streams in memory only", closedInMemory},
	{"11 hub stops reading an unpaired leg", pauseUnpaired},
	{"11 fixed verdict", fixedVerdict},
	{"11 time-out while the hub was blocked", timeoutWhileStuck},
	{"11 every 404 as final", refused404},
}
