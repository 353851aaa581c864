package resume

import (
	"bytes"
	"math/rand/v2"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// side is an End with what runs it and its application.
type side struct {
	s       *sim
	side    int
	e       *End
	plan    *appPlan
	dead    bool          // its process was killed
	offline bool          // it has no network
	asleep  bool          // nothing runs
	awake   time.Duration // since when
	conns   map[uint64]*conn
	dials   int // since the faults are over
	allowed int

	pairedAt    time.Duration // when it was so last
	tokenAt     time.Duration // when its token was made
	met, judged bool
	cleanAt     time.Duration // when it was clean first

	// The writer of the leg.
	frame   Frame
	frameAt uint64 // offset of its bytes
	writing bool
	written bool // the time for it is over; room is waited for
	poked   bool

	// The reader of the leg.
	reading *conn // whose bytes come into space
	space   []byte
	leaving bool

	// The application.
	wrote, got      uint64
	filling, taking bool
	ended           bool // it has ended its direction
	endAt           time.Duration
	shown           bool // it was told of the peer's end
	shutting        bool
	aborted         bool // by itself
	reset           bool // it was told of a reset
	reason          wire.EndReason

	tickAt   time.Time
	tickSeq  int
	late     bool // a Tick was slept through
	standing int  // Ticks after which the deadline was over

	saved map[uint64]string // rule 3: hellos of when the dial began
	held  string
}

func newSide(s *sim, i int) *side {
	w := &side{s: s, side: i, plan: &s.plan.apps[i], conns: map[uint64]*conn{}, saved: map[uint64]string{}}
	w.e = New(Config{Window: s.plan.window, Budget: s.budget, Now: s.clock, Rand: rand.New(rand.NewPCG(s.seed, uint64(i)+7))})
	w.endAt, w.awake = -1, -time.Hour
	w.begin()
	return w
}

func (w *side) peer() *side { return w.s.sides[1-w.side] }

// over reports that nothing is left to do.
func (w *side) over() bool {
	return w.dead || w.e.Done() && !w.writing && !w.filling && !w.taking && w.reading == nil
}

func (w *side) open() (all []*conn) {
	for join := uint64(1); join <= w.e.join; join++ {
		if c := w.conns[join]; c != nil && !c.hungUp {
			all = append(all, c)
		}
	}
	return all
}

// drain does what the End asks for, after each call.
func (w *side) drain() {
	if w.dead {
		return
	}
	for a, ok := w.e.Act(); ok; a, ok = w.e.Act() {
		w.act(a)
	}
	w.mutateEnd()
	w.write()
	w.read()
	w.app()
	for a, ok := w.e.Act(); ok; a, ok = w.e.Act() {
		w.act(a)
	}
	w.arm()
}

func (w *side) act(a Action) {
	w.s.logf("%d: action %+v", w.side, a)
	c := w.conns[a.Join]
	switch a.Kind {
	case ActDial:
		w.dial(a.Join)
	case ActPing:
		if c != nil && !c.hungUp && !c.said {
			c.up.put(item{kind: isPing})
		}
	case ActClose:
		if c == nil || c.hungUp {
			return
		}
		i := &item{kind: isClose, code: a.Code, text: string(a.Reason)}
		if w.writing && w.frame.Join == a.Join {
			c.closing = i
		} else {
			c.close(*i)
		}
		w.s.after(12*time.Second, c.hangUp)
	case ActDrop:
		if c != nil {
			c.hangUp()
			delete(w.conns, a.Join)
		}
	case ActReset:
		w.reset, w.reason = true, a.Reason
	}
}

func (c *conn) close(i item) {
	c.said = true
	c.up.put(i)
}

// dial makes an attempt.
func (w *side) dial(join uint64) {
	s := w.s
	w.dials++
	if w.dials > w.allowed && s.calm && s.counted() {
		s.failf("side %d dials for the %d. time after the faults, %d joins were under way", w.side, w.dials, w.allowed-3)
	}
	if old := w.conns[join-1]; old != nil && old.leg == nil { // a newer one takes its place
		old.hangUp()
	}
	if w.s.rule == helloAtDial {
		w.saved[join] = w.helloNow(join)
	}
	if w.offline || !s.hubUp {
		if s.chance(50) {
			s.after(s.upTo(10*time.Millisecond), func() { w.failed(join, nil) })
		} else {
			s.after(DialTCPTimeout, func() { w.failed(join, nil) })
		}
		return
	}
	c := newConn(s, w.side, join)
	c.side = w
	c.down.take = func(i *item) bool { return w.take(c, i) }
	c.up.emptied = w.writerSoon
	w.conns[join] = c
	delay := s.upTo(s.plan.latency)
	if !s.calm && s.chance(s.plan.delayed) {
		delay = s.upTo(30 * time.Second)
	}
	if !s.calm && s.chance(s.plan.doubled) {
		// A proxy on the way repeats the request; the answer to the first is lost.
		first := newConn(s, w.side, join)
		s.underWay++
		first.up.putIn(item{kind: isJoin}, delay)
		s.after(delay+s.upTo(20*time.Second), func() { first.hangUp() })
		delay += s.upTo(s.plan.latency)
	}
	s.underWay++
	c.up.putIn(item{kind: isJoin}, delay)
	s.after(DialTimeout, func() { w.failed(join, c) })
}

// failed gives an attempt up, if it is still one.
func (w *side) failed(join uint64, c *conn) {
	if w.dead || w.e.attempt != join {
		return
	}
	if c != nil {
		c.hangUp()
		delete(w.conns, join)
	}
	w.s.logf("%d: attempt %d failed", w.side, join)
	w.e.Failed(join)
	w.drain()
}

// write takes the next frame, if the last one is written.
func (w *side) write() {
	if w.writing || w.holdHello() || !w.pending() {
		return
	}
	before := w.e.sent
	f, ok := w.next()
	if !ok {
		w.s.failf("side %d: Pending, but nothing is next", w.side)
		return
	}
	w.s.logf("%d: leg %d writes %q, %d bytes at %d", w.side, f.Join, f.Text, len(f.Data), before)
	w.frame, w.frameAt, w.writing, w.written = w.mutateFrame(f), before, true, false
	w.check(f.Data, w.side, before)
	w.s.after(w.s.upTo(2*time.Millisecond), func() {
		w.written = true
		w.finishWrite()
	})
}

// writerSoon has the writer look whether it may go on.
func (w *side) writerSoon() {
	if w.poked || w.dead {
		return
	}
	w.poked = true
	w.s.after(w.s.upTo(time.Millisecond), func() {
		w.poked = false
		w.finishWrite()
	})
}

func (w *side) finishWrite() {
	if w.dead || !w.writing || !w.written {
		return
	}
	c := w.conns[w.frame.Join]
	broken := c == nil || c.hungUp || c.up.shut
	if !broken && c.up.size > pipeSize {
		return
	}
	w.check(w.frame.Data, w.side, w.frameAt)
	if !broken {
		if w.frame.Text != "" {
			c.up.put(item{kind: isText, text: w.frame.Text})
		} else {
			c.up.put(item{kind: isData, from: w.side, at: w.frameAt, n: len(w.frame.Data)})
		}
		if c.closing != nil {
			c.close(*c.closing)
		}
	}
	w.writing, w.frame = false, Frame{}
	w.e.Sent()
	w.drain()
}

// check compares bytes with the application's.
func (w *side) check(b []byte, from int, at uint64) {
	if !bytes.Equal(b, pattern(from, at, len(b))) {
		w.s.failf("side %d: other bytes than side %d wrote at %d, %d of them", w.side, from, at, len(b))
	}
}

// read gives the reader memory, or takes it from the one of an old leg.
func (w *side) read() {
	c := w.conns[w.e.leg]
	if w.reading != nil && w.reading != c && !w.leaving {
		w.leaving = true
		w.s.after(w.s.upTo(3*time.Millisecond), func() {
			old := w.reading
			w.reading, w.space, w.leaving = nil, nil, false
			if w.dead {
				return
			}
			w.e.Data(old.join, w.s.rand.IntN(2)) // a byte may have come
			w.drain()
		})
	}
	if w.reading == nil && c != nil && !c.hungUp && w.e.leg != 0 {
		w.reading, w.space = c, w.e.LegSpace()
		w.s.after(0, c.down.pump)
	}
}

// take takes what the hub has sent on a leg; false: not now.
func (w *side) take(c *conn, i *item) bool {
	if w.dead || c.hungUp {
		return true
	}
	if w.asleep {
		return false
	}
	switch i.kind {
	case isOpen:
		w.opened(c, i.renewed)
		return true
	case isRefusal:
		w.refused(c, i.refusal)
		return true
	case isLost:
		if w.e.attempt == c.join {
			w.failed(c.join, c)
			return true
		}
		w.stopReading(c, 0)
		c.hangUp()
		w.e.LegClosed(c.join, 0, "")
		w.drain()
		return true
	case isPong:
		w.e.Heard(c.join)
		w.drain()
		return true
	case isClose:
		w.closed(c, i)
		return true
	}
	if w.e.leg != c.join { // bye: nobody reads any more but for the close frame
		return true
	}
	if w.reading != c || w.s.rule == noCredit && w.full() {
		return false
	}
	if i.kind == isText {
		w.stopReading(c, 0)
		w.message(c, i.text)
		return true
	}
	n := min(i.n, len(w.space))
	copy(w.space, pattern(i.from, i.at, n))
	if i.from == w.side {
		w.s.failf("side %d gets its own bytes", w.side)
	}
	w.s.logf("%d: leg %d brings %d bytes at %d", w.side, c.join, n, i.at)
	w.stopReading(c, n)
	i.at, i.n = i.at+uint64(n), i.n-n
	w.drain()
	return i.n == 0
}

func (w *side) stopReading(c *conn, n int) {
	if w.reading == c && !w.leaving {
		w.reading, w.space = nil, nil
		w.e.Data(c.join, n)
	}
}

func (w *side) message(c *conn, text string) {
	w.s.logf("%d: leg %d brings %q", w.side, c.join, text)
	was, acted := w.e.phase, len(w.e.actions)
	w.e.Message(c.join, []byte(text))
	if was == closing && w.e.phase == ended && len(w.e.actions) > acted && w.e.actions[acted].Kind == ActDrop {
		w.s.failf("side %d: protocol error while closing, by %q", w.side, text)
	}
	w.mutateMessage()
	w.drain()
}

func (w *side) opened(c *conn, renewed bool) {
	w.s.logf("%d: leg %d is open", w.side, c.join)
	newest := w.e.attempt == c.join
	w.e.Opened(c.join, renewed)
	if newest {
		if renewed {
			w.tokenAt = w.s.now
		}
		w.mutateOpened(c.join)
	}
	w.drain()
}

func (w *side) refused(c *conn, r Refusal) {
	w.s.logf("%d: join %d is refused: %+v", w.side, c.join, r)
	newest := w.e.attempt == c.join
	if newest && r.Status == 409 && r.Highest > c.join && r.End == "" {
		w.s.failf("side %d: 409 with %d above its own %d", w.side, r.Highest, c.join)
	}
	c.hangUp()
	delete(w.conns, c.join)
	w.e.Refused(c.join, w.mutateRefusal(c.join, r))
	w.drain()
}

func (w *side) closed(c *conn, i *item) {
	w.s.logf("%d: leg %d is closed, %d %s", w.side, c.join, i.code, i.text)
	if i.code == wire.CloseReplaced && c.join == w.e.join {
		w.s.failf("side %d: 4001 on the newest leg", w.side)
	}
	if i.code == wire.ClosePolicy {
		w.s.failf("side %d: more held than the hub takes", w.side)
	}
	w.stopReading(c, 0)
	if !c.said {
		c.close(item{kind: isClose, code: i.code, text: i.text})
		c.up.putIn(item{kind: isLost}, 0)
		c.up.shut = true
	}
	c.hungUp = true
	w.writerSoon()
	w.mutateClosed(c.join, i)
	w.e.LegClosed(c.join, i.code, i.text)
	w.drain()
}

// arm has Tick called in time.
func (w *side) arm() {
	at := w.e.Deadline()
	if at.IsZero() {
		w.tickAt = at
		return
	}
	if at.Equal(w.tickAt) {
		return
	}
	w.tickAt = at
	w.tickSeq++
	seq := w.tickSeq
	w.s.after(max(at.Sub(w.s.clock()), 0)+w.s.upTo(2*time.Millisecond), func() {
		if seq != w.tickSeq || w.dead || w.tickAt.IsZero() {
			return
		}
		if w.asleep {
			w.late = true
			return
		}
		w.tickAt = time.Time{}
		c := w.conns[w.e.leg]
		dead := w.e.leg != 0 && !w.e.shutting && c != nil && c.alive() && !w.e.path.deadAt().IsZero() && !w.s.clock().Before(w.e.path.deadAt())
		if dead && !w.e.path.changed && !w.peer().asleep && w.s.now-w.awake > time.Minute && w.s.now-w.peer().awake > time.Minute {
			w.s.failf("side %d takes leg %d for dead, which is not", w.side, w.e.leg)
		}
		w.e.Tick()
		if d := w.e.Deadline(); !d.IsZero() && !d.After(w.s.clock()) {
			if w.standing++; w.standing > 5 {
				w.s.failf("side %d: the deadline stands still, %v ago", w.side, w.s.clock().Sub(d))
			}
		} else {
			w.standing = 0
		}
		w.drain()
	})
}
