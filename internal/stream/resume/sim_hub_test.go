package resume

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// hub is a model of one hub, written from sections 2, 5 and 6 of farport-v1.md, that
// knows one stream.
type hub struct {
	s        *sim
	draining bool
	life     int // of its process

	// In memory.
	highest [2]uint64
	legs    [2]*leg
	all     []*leg // that are open
	ended   wire.EndReason
	aborter int // side whose 4004 or join must not be answered yet; -1: none
	known   bool
	idle    int // counts changes of the legs

	// On disk.
	disk wire.EndReason
}

// leg is a connection that was admitted.
type leg struct {
	c        *conn
	side     int
	partner  *leg
	paired   bool // ever
	held     []item
	heldData int
	heldText int
	heard    time.Duration
	stuck    bool // what it brings cannot be passed on
	closing  bool
	code     int
	gone     bool
	settle   bool // its close frame is to be answered once the other side knows
}

func newHub(s *sim) *hub {
	h := &hub{s: s}
	h.forget()
	return h
}

func (h *hub) forget() {
	h.highest, h.legs, h.all = [2]uint64{}, [2]*leg{}, nil
	h.ended, h.aborter, h.known = h.disk, -1, false
}

// take takes what has come from an end; false: not now.
func (h *hub) take(c *conn, i *item) bool {
	if i.kind == isJoin {
		h.s.underWay--
		h.join(c)
		return true
	}
	l := c.leg
	if l == nil || l.gone || c.hubGone {
		return true
	}
	if !l.paired && h.s.rule == pauseUnpaired && !l.closing && i.kind == isPing {
		return false
	}
	if (i.kind == isData || i.kind == isText) && !h.pass(l, i) {
		l.stuck = true
		return false
	}
	l.stuck = false
	l.heard = h.s.now
	switch i.kind {
	case isPing:
		if !l.closing {
			c.down.put(item{kind: isPong})
		}
	case isClose:
		h.closed(l, i)
	case isLost:
		h.lost(l)
	}
	return true
}

// room says that more can be written to a connection.
func (h *hub) room(c *conn) {
	if l := c.leg; l != nil && l.partner != nil && l.partner.stuck && h.s.hubUp {
		from := l.partner
		h.s.after(0, func() {
			if from.stuck {
				if h.s.rule != timeoutWhileStuck {
					from.heard = h.s.now
				}
				from.stuck = false
				from.c.up.pump()
			}
		})
	}
}

// pass relays an item, or holds it.
func (h *hub) pass(l *leg, i *item) bool {
	switch {
	case l.closing:
		return true
	case l.partner != nil:
		to := &l.partner.c.down
		if to.size > pipeSize+wire.Chunk {
			return false
		}
		to.put(*i)
		return true
	case l.paired: // its partner has gone
		return true
	}
	if i.kind == isData {
		l.heldData += i.n
	} else {
		l.heldText += len(i.text)
	}
	if l.heldData > wire.EarlyData || l.heldText > wire.HeldText {
		h.close(l, wire.ClosePolicy, "")
		return true
	}
	l.held = append(l.held, *i)
	return true
}

func (h *hub) refuse(c *conn, r Refusal) {
	c.down.put(item{kind: isRefusal, refusal: r})
	h.s.after(time.Second, c.hubHangUp)
}

// join answers a request (section 2).
func (h *hub) join(c *conn) {
	s := c.from
	if !h.s.hubUp {
		c.hubHangUp()
		return
	}
	h.s.logf("hub: join %d of %d", c.join, s)
	switch {
	case h.s.rule == refused404 && h.s.chance(20), h.s.rule == nothing && !h.s.calm && h.s.chance(2):
		h.refuse(c, Refusal{Status: 404})
		return
	case h.s.revoked:
		h.refuse(c, Refusal{Status: 410, End: wire.EndRevoked})
		return
	}
	if !h.known {
		h.known = true
		h.instance()
	}
	switch {
	case h.ended != "" && h.aborter == s && h.s.rule != gone410:
		h.refuse(c, Refusal{Status: 503})
		return
	case h.ended != "":
		h.refuse(c, Refusal{Status: 410, End: h.ended})
		return
	case c.join <= h.highest[s] && h.s.rule != laterJoinWins:
		h.refuse(c, Refusal{Status: 409, Highest: h.highest[s]})
		return
	case h.draining, !h.s.calm && h.s.chance(2):
		r := Refusal{Status: 503}
		if h.s.chance(50) {
			r.RetryAfter = h.s.upTo(2 * time.Second)
		}
		h.refuse(c, r)
		return
	}
	again := h.highest[s] > 0
	h.highest[s] = c.join
	l := &leg{c: c, side: s, heard: h.s.now}
	c.leg = l
	h.all = append(h.all, l)
	c.down.put(item{kind: isOpen, renewed: h.s.plan.renews})
	old := h.legs[s]
	h.legs[s] = l
	if old != nil {
		h.close(old, wire.CloseReplaced, "")
		h.depart(old)
	}
	other := h.legs[1-s]
	if h.s.rule == evictWaiting && other != nil && !other.paired && again {
		h.close(other, wire.ClosePeerAway, "")
		h.legs[1-s] = nil
	}
	h.pair()
	h.legsChanged()
	h.watch(l)
}

// pair joins the legs of both sides, if neither ever was.
func (h *hub) pair() {
	a, b := h.legs[0], h.legs[1]
	if a == nil || b == nil || a.closing || b.closing {
		return
	}
	if (a.paired || b.paired) && (h.s.rule != keepSurvivor || a.partner != nil || b.partner != nil) {
		return
	}
	if h.s.closed || h.s.revoked {
		h.s.failf("the hub pairs legs of a stream that was ended")
	}
	a.partner, b.partner, a.paired, b.paired = b, a, true, true
	for _, l := range []*leg{a, b} {
		for _, i := range l.held {
			l.partner.c.down.put(i)
		}
		l.held = nil
	}
	h.s.after(0, a.c.up.pump)
	h.s.after(0, b.c.up.pump)
}

// depart takes a leg out of its side and pairing: its partner has to join again.
func (h *hub) depart(l *leg) {
	p := l.partner
	l.partner = nil
	if h.legs[l.side] == l {
		h.legs[l.side] = nil
	}
	if p == nil {
		return
	}
	p.partner = nil
	if h.s.rule == keepSurvivor {
		return
	}
	if h.legs[p.side] == p {
		h.legs[p.side] = nil
	}
	h.close(p, wire.ClosePeerAway, "")
}

// close closes a leg behind what was passed on to it.
func (h *hub) close(l *leg, code int, reason string) {
	if l.closing || l.gone {
		return
	}
	l.closing, l.code = true, code
	if l.c.down.size > pipeSize && h.s.chance(50) { // not flushed within a second
		h.s.after(time.Second, func() { h.gone(l) })
		return
	}
	l.c.down.put(item{kind: isClose, code: code, text: reason})
	h.s.after(5*time.Second, func() { h.gone(l) })
	h.s.after(0, l.c.up.pump)
}

// gone is a leg whose connection is over.
func (h *hub) gone(l *leg) {
	if l.gone {
		return
	}
	l.gone = true
	for i, o := range h.all {
		if o == l {
			h.all = append(h.all[:i], h.all[i+1:]...)
			break
		}
	}
	l.c.hubHangUp()
}

// lost is a leg that has broken, or is silent.
func (h *hub) lost(l *leg) {
	h.gone(l)
	if !l.closing && h.s.plan.window == 0 && l.paired {
		h.depart(l)
		h.end(wire.EndLost, -1)
		return
	}
	was := h.legs[l.side] == l
	h.depart(l)
	h.legsChanged()
	if was && (h.s.rule != instanceOnBreak || l.side == device) {
		h.instance()
	}
}

// closed is a close frame of an end.
func (h *hub) closed(l *leg, i *item) {
	h.s.logf("hub: leg %d of %d has closed with %d %s", l.c.join, l.side, i.code, i.text)
	answer := func() {
		if !l.closing {
			l.closing = true
			l.c.down.put(item{kind: isClose, code: i.code, text: i.text})
		}
		h.s.after(time.Second, func() { h.gone(l) })
	}
	switch {
	case l.closing && i.code == l.code: // the answer
		if l.code == wire.CloseEnded && h.aborter == 1-l.side {
			h.settled()
		}
		h.gone(l)
		return
	case i.code == wire.CloseNormal:
		h.end(wire.EndFinished, -1)
		answer()
	case i.code == wire.CloseBrokenOff:
		reason := wire.ParseReason(i.text)
		if h.ended == "" {
			h.end(reason, l.side)
		}
		if h.aborter == l.side && h.s.rule != echoAtOnce {
			l.settle = true
		} else {
			answer()
		}
	default:
		h.lost(l)
	}
}

// end is the end of the stream; by is the side that has broken it off.
func (h *hub) end(reason wire.EndReason, by int) {
	if h.ended != "" {
		return
	}
	h.s.logf("hub: the stream has ended, %s, by %d", reason, by)
	h.ended = reason
	if by >= 0 && reason != wire.EndLost {
		h.aborter = by
		life := h.life
		h.s.after(5*time.Second, func() {
			if h.life == life && h.aborter == by {
				h.disk = reason
				h.settled()
			}
		})
	}
	for _, l := range append([]*leg(nil), h.all...) {
		if l.side != by || h.legs[l.side] != l {
			h.close(l, wire.CloseEnded, string(reason))
		}
	}
	h.legs = [2]*leg{}
}

// settled says that the other side or the disk knows that the stream was broken off.
func (h *hub) settled() {
	by := h.aborter
	h.aborter = -1
	for _, l := range h.all {
		if l.side == by && l.settle && !l.closing {
			l.closing = true
			l.c.down.put(item{kind: isClose, code: wire.CloseBrokenOff, text: string(h.ended)})
			h.s.after(time.Second, func() { h.gone(l) })
		}
	}
}

// instance ends the stream of a device's process that is no more (section 6).
func (h *hub) instance() {
	if h.known && h.s.instance == 2 && h.legs[device] == nil && h.s.hubUp {
		h.end(wire.EndInstance, -1)
	}
}

// control is a control connection of the device, from another instance.
func (h *hub) control(instance int) {
	h.s.instance = instance
	if h.s.rule != instanceOnBreak {
		h.instance()
	}
}

// legsChanged gives the stream up some time after its last leg.
func (h *hub) legsChanged() {
	if h.s.rule != instanceOnBreak {
		h.instance()
	}
	h.idle++
	idle, life := h.idle, h.life
	if h.legs[0] == nil && h.legs[1] == nil {
		h.s.after(h.s.plan.window+time.Minute, func() {
			if h.idle == idle && h.life == life {
				h.end(wire.EndLost, -1)
			}
		})
	}
}

// watch gives up a leg that is silent while it is read.
func (h *hub) watch(l *leg) {
	if l.gone {
		return
	}
	now := h.s.now
	if l.stuck && h.s.rule != timeoutWhileStuck {
		l.heard = now
	}
	if now-l.heard >= wire.HubSilence {
		h.s.logf("hub: leg %d of %d is silent", l.c.join, l.side)
		h.s.silent(l.c, l.closing)
		h.lost(l)
		return
	}
	h.s.after(l.heard+wire.HubSilence-now+time.Millisecond, func() { h.watch(l) })
}

// kill is kill -9, and a start some time later.
func (h *hub) kill() {
	if !h.s.hubUp {
		return
	}
	h.s.logf("hub: killed")
	h.s.hubUp = false
	h.life++
	for _, l := range append([]*leg(nil), h.all...) {
		h.gone(l)
	}
	h.forget()
	life := h.life
	h.s.after(h.s.upTo(5*time.Second), func() {
		if h.life == life {
			h.recover()
		}
	})
}

// stop is SIGTERM, and a start some time later.
func (h *hub) stop() {
	if !h.s.hubUp || h.draining {
		return
	}
	h.s.logf("hub: stopping")
	h.draining = true
	for _, l := range append([]*leg(nil), h.all...) {
		h.close(l, wire.CloseRestart, "")
	}
	h.legs = [2]*leg{}
	life := h.life
	h.s.after(time.Second, func() {
		if h.life == life {
			h.kill()
		}
	})
}

func (h *hub) recover() {
	if h.draining && h.s.hubUp {
		h.kill()
	}
	h.s.hubUp, h.draining = true, false
}

func (h *hub) operatorClose() {
	if !h.s.hubUp || h.ended != "" {
		return
	}
	h.s.closed = true
	if h.s.rule != closedInMemory {
		h.disk = wire.EndClosed
	}
	h.end(wire.EndClosed, -1)
}

func (h *hub) revoke() {
	h.s.revoked = true
	if h.s.hubUp {
		h.end(wire.EndRevoked, -1)
	}
}
