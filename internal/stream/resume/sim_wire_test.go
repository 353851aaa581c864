package resume

import (
	"time"
)

// kind says what an item on a leg is.
type kind int

const (
	isData kind = iota
	isText
	isPing
	isPong
	isClose
	isLost // the connection has broken
	isJoin // a request
	isOpen // 101
	isRefusal
)

// item is something on its way over a leg. Stream bytes are named by where they come
// from, which the sender has checked.
type item struct {
	kind    kind
	from    int    // data: the side whose bytes these are
	at      uint64 // their offset
	n       int
	text    string // text, or the reason of a close
	code    int
	refusal Refusal
	renewed bool
}

// pipeSize is what the network takes without anybody reading it.
const pipeSize = 96 << 10

// pipe is one direction of a connection.
type pipe struct {
	s       *sim
	items   []item
	arrived int // of them
	size    int // bytes
	last    time.Duration
	rate    int
	black   bool // nothing arrives any more, and nobody is told
	shut    bool // broken
	take    func(*item) bool
	emptied func()
	pumping bool
}

// put sends an item.
func (p *pipe) put(i item) { p.putIn(i, p.s.upTo(p.s.plan.latency)+time.Microsecond) }

func (p *pipe) putIn(i item, delay time.Duration) {
	if p.shut {
		return
	}
	const record = 16 << 10
	for p.rate > 0 && i.kind == isData && i.n > record {
		part := i
		part.n = record
		p.add(part, delay)
		i.at, i.n = i.at+record, i.n-record
	}
	p.add(i, delay)
}

func (p *pipe) add(i item, delay time.Duration) {
	p.items = append(p.items, i)
	p.size += i.n + 16
	at := max(p.s.now+delay, p.last)
	if p.rate > 0 {
		at = max(at, p.last+time.Duration(i.n+16)*time.Second/time.Duration(p.rate))
		at = max(at, p.s.now+time.Duration(i.n+16)*time.Second/time.Duration(p.rate))
	}
	p.last = at
	p.s.after(at-p.s.now, func() {
		p.arrived++
		p.pump()
	})
}

// pump hands over what has arrived, as far as it is taken.
func (p *pipe) pump() {
	if p.pumping {
		return
	}
	p.pumping = true
	before := p.size
	for p.arrived > 0 && len(p.items) > 0 && !p.black {
		n := p.items[0].n
		done := p.take(&p.items[0])
		if len(p.items) == 0 {
			break
		}
		p.size -= n - p.items[0].n
		if !done {
			break
		}
		p.pop()
	}
	p.pumping = false
	if p.size < before && p.emptied != nil {
		p.emptied()
	}
}

func (p *pipe) pop() {
	p.size -= p.items[0].n + 16
	p.items = p.items[1:]
	p.arrived--
}

// cut keeps a part of what is on its way, of a data message a part of its bytes, and
// then breaks. told: whoever reads is told some time.
func (p *pipe) cut(told bool) {
	if p.shut {
		return
	}
	p.shut = true
	keep := p.s.rand.IntN(len(p.items) + 1)
	if keep < len(p.items) && p.items[keep].kind == isData && p.items[keep].n > 1 {
		p.items[keep].n = 1 + p.s.rand.IntN(p.items[keep].n-1)
		keep++
	}
	p.items = p.items[:keep]
	p.size = 0
	for _, i := range p.items {
		p.size += i.n + 16
	}
	if told {
		p.shut = false
		p.putIn(item{kind: isLost}, p.s.upTo(300*time.Millisecond))
		p.shut = true
	}
	if p.emptied != nil {
		p.emptied()
	}
}

// conn is a connection of a side to the hub, from the join on.
type conn struct {
	s        *sim
	side     *side // nil: nobody is at the end of it
	from     int
	join     uint64
	up, down pipe
	hungUp   bool // by the end
	said     bool // the end has written a close frame
	closing  *item
	leg      *leg // what the hub has made of it
	real     *coreLeg
	hubGone  bool // the hub has hung up
}

func newConn(s *sim, from int, join uint64) *conn {
	c := &conn{s: s, from: from, join: join}
	c.up = pipe{s: s}
	c.down = pipe{s: s}
	if s.plan.rate > 0 && s.plan.slow == from {
		c.down.rate = s.plan.rate
	}
	c.up.take = func(i *item) bool { return s.hub.take(c, i) }
	c.down.take = func(i *item) bool { return true }
	c.down.emptied = func() { s.hub.room(c) }
	return c
}

// cut breaks the connection for both.
func (c *conn) cut() {
	silent := c.s.rand.IntN(10)
	c.up.cut(silent != 0)
	c.down.cut(silent != 1)
	if c.side != nil {
		c.side.writerSoon()
	}
}

// hangUp is the end of the connection as far as the end is concerned.
func (c *conn) hangUp() {
	if c.hungUp {
		return
	}
	c.hungUp = true
	c.up.cut(!c.up.black)
	c.down.items, c.down.arrived, c.down.size, c.down.shut = nil, 0, 0, true
	c.down.take = func(*item) bool { return true }
	if c.side != nil {
		c.side.writerSoon()
	}
}

// hubHangUp is the same for the hub.
func (c *conn) hubHangUp() {
	if c.hubGone {
		return
	}
	c.hubGone = true
	c.down.cut(!c.down.black)
	c.up.shut, c.up.items, c.up.arrived, c.up.size = true, nil, 0, 0
	if c.side != nil {
		c.side.writerSoon()
	}
}
