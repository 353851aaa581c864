package resume

import (
	"bytes"
	"time"

	"github.com/farportio/farport/internal/hub/pairing"
	"github.com/farportio/farport/internal/wire"
)

// coreHub is a hub whose every decision is that of package pairing.
type coreHub struct {
	s        *sim
	draining bool
	life     int // of its process
	stream   *pairing.Stream
	legs     map[pairing.LegID]*coreLeg
	ended    bool // was said

	disk wire.EndReason
}

// coreLeg is a leg that was admitted.
type coreLeg struct {
	h       *coreHub
	c       *conn
	id      pairing.LegID
	partner *coreLeg
	held    []item // as the core holds them
	heard   time.Duration
	stuck   bool
	code    int  // of our close frame
	came    bool // the end's close frame
	gone    bool
}

var coreSides = [2]wire.Side{service: wire.SideService, device: wire.SideDevice}

func newCoreHub(s *sim) *coreHub { return &coreHub{s: s} }

func (l *coreLeg) alive() bool {
	if l == nil || l.gone || l.code != 0 || l.came {
		return false
	}
	return l.partner == nil || !l.partner.c.down.black && !l.partner.c.down.shut
}

func (h *coreHub) take(c *conn, i *item) bool {
	if i.kind == isJoin {
		h.s.underWay--
		h.join(c)
		return true
	}
	l := c.real
	if l == nil || l.gone || c.hubGone {
		return true
	}
	if (i.kind == isData || i.kind == isText) && !h.pass(l, i) {
		l.stuck = true
		return false
	}
	l.stuck, l.heard = false, h.s.now
	switch i.kind {
	case isPing:
		if l.code == 0 {
			c.down.put(item{kind: isPong})
		}
	case isClose:
		h.s.logf("hub: leg %d of %d has closed with %d %s", c.join, c.from, i.code, i.text)
		l.came = true
		h.stream.Closed(l.id, i.code, i.text, h.s.clock())
		h.act()
		if l.code != 0 {
			h.gone(l)
		} else {
			h.s.after(10*time.Second, func() { h.gone(l) })
		}
	case isLost:
		h.gone(l)
	}
	return true
}

func (h *coreHub) room(c *conn) {
	if l := c.real; l != nil && l.partner != nil && l.partner.stuck && h.s.hubUp {
		from := l.partner
		h.s.after(0, func() {
			if from.stuck {
				from.stuck, from.heard = false, h.s.now
				from.c.up.pump()
			}
		})
	}
}

// pass relays an item, or has it held.
func (h *coreHub) pass(l *coreLeg, i *item) bool {
	if l.code != 0 || l.came {
		return true
	}
	if l.partner != nil {
		if l.partner.c.down.size > pipeSize+wire.Chunk {
			return false
		}
		if l.partner.code == 0 {
			l.partner.c.down.put(*i)
		}
		return true
	}
	kind, b := pairing.Text, []byte(i.text)
	if i.kind == isData {
		kind, b = pairing.Data, pattern(i.from, i.at, i.n)
	}
	if h.stream.Hold(l.id, kind, b) {
		l.held = append(l.held, *i)
	}
	h.act()
	return true
}

func (h *coreHub) refuse(c *conn, r Refusal) {
	c.down.put(item{kind: isRefusal, refusal: r})
	h.s.after(time.Second, c.hubHangUp)
}

// join answers a request as the hub's endpoint does.
func (h *coreHub) join(c *conn) {
	s := h.s
	if !s.hubUp {
		c.hubHangUp()
		return
	}
	s.logf("hub: join %d of %d", c.join, c.from)
	switch {
	case !s.calm && s.chance(2):
		h.refuse(c, Refusal{Status: 404})
		return
	case s.revoked:
		h.refuse(c, Refusal{Status: 410, End: wire.EndRevoked})
		return
	case h.draining, !s.calm && s.chance(3):
		h.refuse(c, Refusal{Status: 503, RetryAfter: s.upTo(2 * time.Second)})
		return
	case h.stream == nil && h.disk != "":
		h.refuse(c, Refusal{Status: 410, End: h.disk})
		return
	}
	if h.stream == nil {
		config := pairing.Config{Window: s.plan.window}
		if h.life == 0 {
			config.JoinBy = s.start.Add(pairing.FirstJoin)
		}
		h.stream, h.legs, h.ended = pairing.New(config, s.clock()), map[pairing.LegID]*coreLeg{}, false
		h.control(s.instance)
		h.timer()
	}
	j := pairing.Join{Side: coreSides[c.from], Counter: c.join, Instance: "1"}
	if c.from == service {
		j.Instance, j.Peer = "service", "1"
	}
	id, refusal := h.stream.Join(j, s.clock())
	if refusal != nil {
		switch {
		case refusal.Ended == wire.EndRefused:
			h.refuse(c, Refusal{Status: 401, End: refusal.Ended})
		case refusal.Ended != "":
			h.refuse(c, Refusal{Status: 410, End: refusal.Ended})
		case refusal.Highest != 0:
			h.refuse(c, Refusal{Status: 409, Highest: refusal.Highest})
		default:
			h.refuse(c, Refusal{Status: 503, RetryAfter: refusal.RetryAfter})
		}
		h.act()
		return
	}
	l := &coreLeg{h: h, c: c, id: id, heard: s.now}
	c.real, h.legs[id] = l, l
	c.down.put(item{kind: isOpen, renewed: s.plan.renews})
	h.act()
	h.watch(l)
}

// act does what the core asks for.
func (h *coreHub) act() {
	if h.stream == nil {
		return
	}
	for _, a := range h.stream.Act() {
		h.s.logf("hub: action %d leg %d to %d, %d %s", a.Kind, a.Leg, a.To, a.Code, a.Reason)
		l := h.legs[a.Leg]
		switch a.Kind {
		case pairing.Pair:
			h.pair(l, h.legs[a.To])
		case pairing.Data, pairing.Text:
			h.forward(l, a)
		case pairing.Close:
			h.close(l, a)
		case pairing.Persist:
			h.persist(a.Reason)
		case pairing.Ended:
			if h.ended {
				h.s.failf("the hub says twice that the stream has ended")
			}
			h.ended = true
		}
	}
	h.timer()
}

func (h *coreHub) pair(a, b *coreLeg) {
	if h.ended || h.s.closed || h.s.revoked || a.partner != nil || b.partner != nil {
		h.s.failf("the hub pairs legs of a stream that was ended, or that were paired")
	}
	a.partner, b.partner = b, a
	h.s.after(0, a.c.up.pump)
	h.s.after(0, b.c.up.pump)
}

// forward writes what was held to the partner of whoever brought it. The hub puts bytes
// together.
func (h *coreHub) forward(l *coreLeg, a pairing.Action) {
	from := l.partner
	for rest := a.Bytes; ; {
		i := from.held[0]
		from.held = from.held[1:]
		want := []byte(i.text)
		if i.kind == isData {
			want = pattern(i.from, i.at, i.n)
		}
		after, same := bytes.CutPrefix(rest, want)
		if !same || (i.kind == isData) != (a.Kind == pairing.Data) {
			h.s.failf("the hub forwards other bytes than it held")
		}
		l.c.down.put(i)
		if rest = after; len(rest) == 0 {
			return
		}
	}
}

func (h *coreHub) close(l *coreLeg, a pairing.Action) {
	if l == nil || l.gone {
		return
	}
	if l.code != 0 {
		h.s.failf("the hub closes a leg twice")
	}
	l.code = a.Code
	if l.c.down.size > pipeSize && h.s.chance(50) { // not flushed within a second
		h.s.after(time.Second, func() { h.gone(l) })
		return
	}
	l.c.down.put(item{kind: isClose, code: a.Code, text: string(a.Reason)})
	wait := 5 * time.Second
	if l.came {
		wait = time.Second
	}
	h.s.after(wait, func() { h.gone(l) })
	h.s.after(0, l.c.up.pump)
}

// persist writes to disk, which takes its time and may fail.
func (h *coreHub) persist(reason wire.EndReason) {
	life := h.life
	h.s.after(h.s.upTo(30*time.Millisecond), func() {
		if h.life != life {
			return
		}
		ok := h.s.calm || h.s.chance(80)
		if ok {
			h.disk = reason
		}
		h.s.after(h.s.upTo(time.Millisecond), func() {
			if h.life == life && h.stream != nil {
				h.stream.Persisted(ok, h.s.clock())
				h.act()
			}
		})
	})
}

func (h *coreHub) gone(l *coreLeg) {
	if l.gone {
		return
	}
	l.gone = true
	l.c.hubHangUp()
	if h.legs[l.id] == l {
		h.stream.LegGone(l.id, h.s.clock())
		h.act()
		delete(h.legs, l.id)
	}
}

// timer has Tick called in time.
func (h *coreHub) timer() {
	at, life := h.stream.Next(), h.life
	if at.IsZero() {
		return
	}
	h.s.after(at.Sub(h.s.clock())+time.Millisecond, func() {
		if h.life == life && h.stream.Next().Equal(at) {
			h.stream.Tick(h.s.clock())
			if h.stream.Next().Equal(at) {
				h.s.failf("the hub's deadline stands still")
			}
			h.act()
		}
	})
}

// watch gives up a leg that is silent while it is read.
func (h *coreHub) watch(l *coreLeg) {
	if l.gone {
		return
	}
	if l.stuck {
		l.heard = h.s.now
	}
	if h.s.now-l.heard >= wire.HubSilence {
		h.s.silent(l.c, l.code != 0 || l.came)
		h.gone(l)
		return
	}
	h.s.after(l.heard+wire.HubSilence-h.s.now+time.Millisecond, func() { h.watch(l) })
}

func (h *coreHub) kill() {
	if !h.s.hubUp {
		return
	}
	h.s.logf("hub: killed")
	h.s.hubUp = false
	h.life++
	for id := pairing.LegID(1); h.stream != nil && len(h.legs) > 0; id++ {
		if l := h.legs[id]; l != nil {
			delete(h.legs, id)
			h.gone(l)
		}
	}
	h.stream = nil
	life := h.life
	h.s.after(h.s.upTo(5*time.Second), func() {
		if h.life == life {
			h.recover()
		}
	})
}

func (h *coreHub) stop() {
	if !h.s.hubUp || h.draining {
		return
	}
	h.draining = true
	if h.stream != nil {
		h.stream.Restart(h.s.clock())
		h.act()
	}
	life := h.life
	h.s.after(time.Second, func() {
		if h.life == life {
			h.kill()
		}
	})
}

func (h *coreHub) recover() {
	if h.draining && h.s.hubUp {
		h.kill()
	}
	h.s.hubUp, h.draining = true, false
}

func (h *coreHub) operatorClose() {
	if !h.s.hubUp || h.ended || h.stream == nil {
		return
	}
	h.s.closed = true
	h.disk = wire.EndClosed
	h.stream.End(wire.EndClosed)
	h.act()
}

func (h *coreHub) revoke() {
	h.s.revoked = true
	if h.s.hubUp && h.stream != nil {
		h.stream.End(wire.EndRevoked)
		h.act()
	}
}

func (h *coreHub) control(instance int) {
	h.s.instance = instance
	if h.stream != nil {
		h.stream.Control([]string{1: "1", 2: "2"}[instance])
		h.act()
	}
}
