package resume

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Times of a path. farport-v1.md section 3, Dead paths.
const (
	pingIdle     = 5 * time.Second // without a byte one way
	pingBusy     = 2 * time.Second // while an acknowledgement is owed
	busyPatience = 5 * time.Second // until a silent path is dead
	mostPatience = time.Minute
	hurryAfter   = 2 * time.Second // the same, when the network has changed
	slowLink     = 2 * time.Second // a join within that of a verdict shows that it was wrong
	quietLink    = time.Minute
)

// path judges whether the leg still leads anywhere.
type path struct {
	heard        time.Time     // anything from the leg
	wrote        time.Time     // anything to it
	pinged       time.Time     // zero: no ping is out
	owed         time.Time     // since when an acknowledgement is owed; zero: none is
	changed      bool          // the network has, and nothing was heard since
	patience     time.Duration // with a path on which an acknowledgement is owed
	idlePatience time.Duration // with one on which a ping alone is unanswered
	verdict      time.Time     // when it was taken for dead last; zero: never
	doubt        bool          // whether that was right has not turned out
	idle         bool          // no acknowledgement was owed then
}

func (p *path) opened(e *End) {
	now := e.c.Now()
	switch again := p.doubt && now.Sub(p.verdict) <= slowLink; {
	case again && p.idle:
		p.idlePatience = min(2*p.idlePatience, mostPatience)
	case again:
		p.patience = min(2*p.patience, mostPatience)
	}
	*p = path{heard: now, wrote: now, patience: p.patience, idlePatience: p.idlePatience, verdict: p.verdict}
}

func (p *path) wroteSomething(e *End) {
	p.wrote = e.c.Now()
	if p.owed.IsZero() && e.sent > e.out.start {
		p.owed = p.wrote
	}
}

// acked notes that the peer has received more.
func (p *path) acked(e *End) {
	p.owed = time.Time{}
	if e.sent > e.out.start {
		p.owed = e.c.Now()
	}
}

// Heard says that something has come from the leg of that join, be it a pong. Data and
// Message say so themselves.
func (e *End) Heard(join uint64) {
	if p := &e.path; join == e.leg {
		p.heard, p.pinged, p.changed = e.c.Now(), time.Time{}, false
		if p.heard.Sub(p.verdict) >= quietLink {
			p.patience, p.idlePatience = busyPatience, busyPatience
		}
	}
}

// hurry wants to know at once.
func (p *path) hurry(e *End) {
	since := p.pinged
	p.ping(e)
	if p.changed && !since.IsZero() {
		p.pinged = since // the first change's time runs on
	}
	p.changed = true
}

func (p *path) ping(e *End) {
	p.pinged = e.c.Now()
	p.wrote = p.pinged
	e.do(Action{Kind: ActPing, Join: e.leg})
}

// waits is since when an answer that is owed has been waited for in silence.
func (p *path) waits() time.Time {
	if p.owed.IsZero() || p.owed.After(p.heard) {
		return p.owed
	}
	return p.heard
}

// deadAt is when the path is dead if nothing is heard; zero while nothing need be.
func (p *path) deadAt() time.Time {
	var at time.Time
	w := p.waits()
	if !p.pinged.IsZero() {
		patience := p.idlePatience
		if !w.IsZero() {
			patience = p.patience
		}
		if p.changed {
			patience = hurryAfter
		}
		at = p.pinged.Add(patience)
	}
	if !w.IsZero() {
		at = earlier(at, w.Add(p.patience))
	}
	return at
}

// pingAt is when to ping next; zero while a ping is out.
func (p *path) pingAt() time.Time {
	if !p.pinged.IsZero() {
		return time.Time{}
	}
	at := earlier(p.heard, p.wrote).Add(pingIdle)
	if w := p.waits(); !w.IsZero() {
		at = earlier(at, w.Add(pingBusy))
	}
	return at
}

// earlier is the first of two moments, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Deadline is when Tick has something to do, if nothing happens before; zero: never.
func (e *End) Deadline() time.Time {
	if e.phase == ended {
		return time.Time{}
	}
	if e.shutting && e.phase == closing {
		return e.echoBy
	}
	at := earlier(e.retry.at, e.giveUpAt())
	if e.leg != 0 {
		if e.shutting {
			return earlier(at, e.echoBy)
		}
		at = earlier(at, earlier(e.path.deadAt(), e.path.pingAt()))
		at = earlier(at, e.refreshAt())
		if e.paired && !e.ack.since.IsZero() && e.ack.grown(e) && !e.ack.due(e) {
			at = earlier(at, e.ack.since.Add(ackDelay))
		}
	}
	return at
}

// giveUpAt is when waiting for the other end is over.
func (e *End) giveUpAt() time.Time {
	switch {
	case e.phase != running:
		return e.giveUp
	case e.paired:
		return time.Time{}
	case !e.everMet:
		return e.created.Add(firstPairing)
	}
	return e.away.Add(e.c.Window)
}

func (e *End) refreshAt() time.Time {
	if !e.paired || e.attempt != 0 {
		return time.Time{}
	}
	return e.refresh
}

// Tick does what is due.
func (e *End) Tick() {
	now := e.c.Now()
	due := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
	if e.phase == ended {
		return
	}
	if due(e.giveUpAt()) && !(e.shutting && e.phase == closing) {
		e.stopWaiting()
	}
	if e.leg != 0 {
		e.tickLeg(due)
	}
	if e.phase != ended && e.leg == 0 && e.attempt == 0 && due(e.retry.at) {
		e.dialNow()
	}
}

func (e *End) tickLeg(due func(time.Time) bool) {
	switch {
	case e.shutting:
		if due(e.echoBy) {
			e.lose()
		}
	case due(e.path.deadAt()):
		if !e.path.changed {
			e.path.verdict, e.path.doubt, e.path.idle = e.c.Now(), true, e.path.waits().IsZero()
		}
		e.lose()
	case due(e.path.pingAt()):
		e.path.ping(e)
	}
	if e.leg != 0 && due(e.refreshAt()) {
		if (e.out.size() > 0 || e.in.size() > 0) && !due(e.renewBy) {
			e.refresh = earlier(e.c.Now().Add(refreshAgain), e.renewBy)
			return
		}
		e.dialNow()
	}
}

// lose gives the leg up.
func (e *End) lose() {
	leg := e.leg
	e.do(Action{Kind: ActDrop, Join: leg})
	e.LegClosed(leg, 0, "")
}

// stopWaiting is for when the resume window or the time to linger is over.
func (e *End) stopWaiting() {
	switch e.phase {
	case running: // lost
		e.broken(wire.EndLost)
		if e.leg == 0 {
			e.end()
		}
	case closing:
		if e.leg == 0 {
			e.end()
			return
		}
		e.hello = ""
		e.close(wire.CloseNormal, "")
		e.echoBy = e.c.Now().Add(byeTimeout)
	case aborting:
		e.end()
	}
}

// LingerAtMost bounds how long the stream goes on for the other end's sake from now on:
// its process is told to stop.
func (e *End) LingerAtMost(d time.Duration) {
	e.c.Linger = min(e.c.Linger, d)
	if e.phase == closing || e.phase == aborting {
		e.giveUp = earlier(e.giveUp, e.c.Now().Add(d))
	}
}
