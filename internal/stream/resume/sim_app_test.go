package resume

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// begin has the application look at the stream from time to time.
func (w *side) begin() {
	p := w.plan
	for _, at := range []time.Duration{w.s.plan.life, w.s.plan.life + p.stopped} {
		w.s.after(at, w.drain)
	}
}

// app lets the application write, read, end and be told of the end, one of each at a
// time, as far as it wants to.
func (w *side) app() {
	if w.s.now < w.s.plan.life || w.e.phase != running {
		return
	}
	w.appWrite()
	w.appEnd()
	w.appRead()
	if w.e.AppEOF() && !w.shutting {
		w.shutting = true
		w.s.after(w.s.upTo(5*time.Millisecond), w.shutdown)
	}
}

func (w *side) appWrite() {
	if w.filling || w.wrote == w.plan.total || w.ended || w.s.rule == noCredit && w.e.out.size() > noCreditRoom {
		return
	}
	space := w.e.Space()
	if space == nil {
		return
	}
	w.filling = true
	w.s.after(w.s.upTo(w.plan.pace), func() {
		w.filling = false
		if w.dead {
			return
		}
		n := min(uint64(len(space)), w.plan.total-w.wrote, uint64(1+w.s.rand.IntN(w.plan.most)))
		copy(space, pattern(w.side, w.wrote, int(n)))
		if w.e.phase == running {
			w.wrote += n
		}
		w.e.Filled(int(n))
		w.drain()
	})
}

func (w *side) appEnd() {
	if w.ended || w.wrote < w.plan.total || w.filling || w.plan.answer && !w.shown {
		return
	}
	if w.endAt < 0 {
		w.endAt = w.s.now + w.s.upTo(w.plan.eofDelay)
		w.s.after(w.endAt-w.s.now, w.drain)
		return
	}
	if w.s.now >= w.endAt {
		w.s.logf("%d: the application ends at %d", w.side, w.wrote)
		w.ended = true
		w.e.ReadEOF()
		w.write()
	}
}

func (w *side) appRead() {
	if w.taking || w.s.now < w.s.plan.life+w.plan.stopped || w.plan.writeFirst && w.wrote < w.plan.total {
		return
	}
	b := w.e.App()
	if b == nil {
		return
	}
	w.taking = true
	at := w.got
	w.s.after(w.s.upTo(w.plan.readPace), func() {
		w.taking = false
		if w.dead {
			return
		}
		n := min(len(b), 1+w.s.rand.IntN(w.plan.readMost))
		w.check(b[:n], 1-w.side, at)
		if w.e.phase != running {
			w.e.Delivered(0)
			w.drain()
			return
		}
		w.got += uint64(n)
		w.e.Delivered(n)
		if w.got > w.peer().wrote {
			w.s.failf("side %d: got %d of %d bytes", w.side, w.got, w.peer().wrote)
		}
		w.drain()
	})
}

func (w *side) shutdown() {
	w.shutting = false
	if w.dead || w.shown || !w.e.AppEOF() {
		return
	}
	w.s.logf("%d: the application is told of the end at %d", w.side, w.got)
	w.shown = true
	if p := w.peer(); w.got != p.wrote || !p.ended || w.reset {
		w.s.failf("side %d: end shown after %d of %d bytes, ended %v, reset %v", w.side, w.got, p.wrote, p.ended, w.reset)
	}
	w.e.ShutdownDone()
	w.drain()
}

// abort is the application breaking the stream off.
func (w *side) abort() {
	if w.e.phase != running {
		return
	}
	w.aborted = true
	w.e.Abort([]wire.EndReason{wire.EndReset, wire.EndShutdown}[w.s.rand.IntN(2)])
	w.drain()
}

// kill is the end of the process, of which the sockets may tell.
func (w *side) kill() {
	w.s.logf("%d: killed", w.side)
	quiet := w.s.chance(30)
	for _, c := range w.open() {
		c.up.black = c.up.black || quiet
		c.hangUp()
	}
	w.dead = true
	if w.writing {
		w.e.Sent()
	}
	if w.reading != nil {
		w.e.Data(w.reading.join, 0)
	}
	w.e.Delivered(0)
	w.e.Filled(0)
	w.e.over(wire.EndReset) // its memory is gone
	if w.side == device {
		w.s.after(w.s.upTo(20*time.Second), func() { w.s.hub.control(2) })
	}
}

// fallAsleep stops the machine for some time.
func (w *side) fallAsleep(d time.Duration) {
	w.asleep = true
	w.s.after(d, w.wake)
}

// wake goes on, in whatever order.
func (w *side) wake() {
	if !w.asleep || w.dead {
		return
	}
	w.s.logf("%d: awake", w.side)
	w.asleep, w.awake = false, w.s.now
	if w.late && w.s.chance(50) {
		w.e.Tick()
	}
	if w.s.chance(80) {
		w.e.NetworkChanged()
	}
	w.late, w.tickAt = false, time.Time{}
	w.drain()
	for _, c := range w.open() {
		w.s.after(0, c.down.pump)
	}
}
