package resume

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// countingPool is a pool that knows what is out, and makes what comes back unusable.
type countingPool struct {
	free []*chunk
	out  map[*chunk]bool
	bad  bool
}

func newCountingPool() *countingPool { return &countingPool{out: map[*chunk]bool{}} }

func (p *countingPool) Get() any {
	c := &chunk{b: new([wire.Chunk]byte)}
	if n := len(p.free); n > 0 {
		c, p.free = p.free[n-1], p.free[:n-1]
	}
	p.out[c] = true
	return c
}

func (p *countingPool) Put(x any) {
	c := x.(*chunk)
	if !p.out[c] || c.pins != 0 || c.inside {
		p.bad = true
	}
	delete(p.out, c)
	for i := 0; i < len(c.b); i += 1021 {
		c.b[i] ^= 0x55
	}
	p.free = append(p.free, c)
}

// invariants is what holds at every step (section 12, 1, 3 and 5).
func (s *sim) invariants() {
	for _, w := range s.sides {
		e := w.e
		if w.dead {
			continue
		}
		switch {
		case s.rule == noCredit:
		case e.phase == running && e.limit-e.in.start > wire.MaxWindowBytes:
			s.failf("side %d has promised %d bytes", w.side, e.limit-e.in.start)
		case e.in.end > e.limit:
			s.failf("side %d has taken more than it has promised", w.side)
		case e.out.size() > wire.MaxWindowBytes:
			s.failf("side %d holds %d unacknowledged bytes", w.side, e.out.size())
		case e.out.end > max(e.peerLimit, wire.EarlyData):
			s.failf("side %d has read %d bytes with credit for %d", w.side, e.out.end, e.peerLimit)
		case e.phase == running && (e.out.end != w.wrote || e.in.start != w.got):
			s.failf("side %d is at %d and %d, its application at %d and %d", w.side, e.out.end, e.in.start, w.wrote, w.got)
		case e.in.end > w.peer().e.sentMost:
			s.failf("side %d has received %d bytes of %d", w.side, e.in.end, w.peer().e.sentMost)
		case e.phase != ended && e.leg == 0 && e.attempt == 0 && e.retry.at.IsZero():
			s.failf("side %d has no leg, and no attempt planned", w.side)
		case e.phase == ended && !e.Deadline().IsZero():
			s.failf("side %d has ended, with a deadline", w.side)
		case e.phase != running && (len(e.in.pieces) > 0 && w.reading == nil || len(e.out.pieces) > 0):
			s.failf("side %d holds a buffer in phase %d", w.side, e.phase)
		case w.e.outcome == wire.EndProtocol:
			s.failf("side %d: protocol error", w.side)
		case w.peer().e.peerJoin > 0 && w.peer().e.peerLimit > e.limit:
			s.failf("side %d has promised %d, the other one knows of %d", w.side, e.limit, w.peer().e.peerLimit)
		}
		w.inTime()
	}
	if s.pool.bad {
		s.failf("a chunk was given back twice, or in use")
	}
	if n := len(s.pool.out); n > 4*(wire.MaxWindowBytes/wire.Chunk+4) {
		s.failf("%d chunks are out", n)
	}
}

// inTime is what holds of times: an end waits for the window, and no longer; a slow link
// delivers.
func (w *side) inTime() {
	s, e := w.s, w.e
	if e.paired {
		w.pairedAt, w.met = s.now, true
		if age := s.now - w.tokenAt; s.plan.renews && e.phase == running && age > wire.ResumeTokenLife/12*11+10*time.Minute {
			s.failf("side %d has a token of %v ago", w.side, age)
		}
	}
	if s.counted() && s.calm && e.phase == running && !e.paired && s.now-max(s.calmAt, w.pairedAt) > 80*time.Second {
		s.failf("side %d is not connected %v after the faults", w.side, s.now-s.calmAt)
	}
	if e.phase == closing && w.cleanAt == 0 {
		w.cleanAt = s.now
	}
	if !w.judged && e.outcome != "" {
		w.judged = true
		wait, most := s.now-w.pairedAt, s.plan.window
		if !w.met {
			most = firstPairing
		}
		const apart = 25 * time.Second // the other end may have noticed so much earlier
		if e.outcome == wire.EndLost && s.plan.window > 0 && wait < most-apart {
			s.failf("side %d is lost after %v", w.side, wait)
		}
	}
	if e.phase == running && !e.paired && s.plan.window > 0 && s.now-w.pairedAt > max(s.plan.window, firstPairing)+10*time.Second {
		s.failf("side %d waits for its peer for %v", w.side, s.now-w.pairedAt)
	}
	if s.honest() && s.plan.rate > 0 && s.plan.slow == w.side && e.phase == running && w.got < w.peer().plan.total {
		p := w.peer().plan
		bound := 2*time.Minute + s.plan.faults + 6*time.Duration(p.total)*time.Second/time.Duration(s.plan.rate)
		bound += w.plan.stopped + time.Duration(1+p.total/uint64(p.most))*2*p.pace + time.Duration(1+p.total/uint64(w.plan.readMost))*w.plan.readPace
		if s.now > bound {
			s.failf("side %d has got %d of %d bytes after %v over a slow link", w.side, w.got, p.total, s.now)
		}
	}
}

// alive reports that a leg leads to the hub, and that nothing behind the hub holds it up.
func (c *conn) alive() bool {
	if c.up.black || c.down.black || c.up.shut || c.down.shut || c.hubGone || c.s.plan.rate > 0 {
		return false
	}
	if c.s.real {
		return c.real.alive()
	}
	if c.leg == nil {
		return false
	}
	p := c.leg.partner
	return !c.leg.closing && (p == nil || !p.c.down.black && !p.c.down.shut)
}

// silent is a leg that the hub gives up because it hears nothing from it.
func (s *sim) silent(c *conn, closing bool) {
	if c.side != nil && !c.side.asleep && s.now-c.side.awake > time.Minute && !c.side.dead && !c.hungUp && !c.up.black && !c.up.shut && !closing {
		s.failf("the hub gives up a leg of side %d whose end is alive", c.from)
	}
}

// counted reports that dials are counted: nothing slow or hidden is in the way.
func (s *sim) counted() bool { return s.plan.rate == 0 && s.plan.window > 0 && s.honest() }

// outcomes is what holds in the end (section 12, 2, 4 and 5).
func (s *sim) outcomes() {
	if last := max(s.sides[0].cleanAt, s.sides[1].cleanAt); s.plan.count == 0 && s.counted() && s.now-max(last, s.calmAt) > 3*time.Second {
		s.failf("the ends linger for %v, though nothing went wrong", s.now-last)
	}
	killed := s.sides[0].dead || s.sides[1].dead
	for _, w := range s.sides {
		if w.dead {
			continue
		}
		for _, c := range w.open() {
			if !c.said && c.closing == nil {
				s.failf("side %d leaves the connection of join %d open", w.side, c.join)
			}
		}
		p := w.peer()
		outcome := w.e.Outcome()
		s.logf("%d: outcome %s", w.side, name(outcome))
		switch outcome {
		case "":
			s.failf("side %d has ended without an outcome", w.side)
		case wire.EndFinished:
			if w.got != p.wrote || p.got != w.wrote || !w.shown || !p.shown || !w.ended || !p.ended {
				s.failf("side %d is clean: got %d of %d, shown %v; the other one %d of %d, shown %v", w.side, w.got, p.wrote, w.shown, p.got, w.wrote, p.shown)
			}
			if w.reset || w.aborted {
				s.failf("side %d is clean, but was reset", w.side)
			}
		default:
			if !w.reset && !w.aborted {
				s.failf("side %d: outcome %s, without a reset", w.side, outcome)
			}
			if s.honest() && s.plan.window > 0 {
				s.failf("side %d: outcome %s, though nobody wanted it", w.side, outcome)
			}
			if outcome == wire.EndLost && s.plan.window > time.Minute && !killed {
				s.failf("side %d has waited for the window", w.side)
			}
			if outcome == wire.EndLost && s.plan.window > time.Minute && w.side == service && s.instance == 2 {
				s.failf("side %d has waited for the window, though the device has another instance", w.side)
			}
		}
		if p.aborted && !killed && w.e.outcome != wire.EndFinished && w.e.outcome != p.e.outcome && !w.aborted && !s.closed && !s.revoked && s.plan.window > 0 {
			s.failf("side %d: outcome %s, the other one %s", w.side, outcome, p.e.outcome)
		}
	}
	if s.closed || s.revoked {
		return // checked by whoever comes later
	}
	if n := len(s.pool.out); n != 0 {
		s.failf("%d chunks remain", n)
	}
	if n := s.budget.Used(); n != 0 {
		s.failf("%d bytes of the budget remain", n)
	}
}
