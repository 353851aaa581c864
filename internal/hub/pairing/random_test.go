package pairing

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// chaos drives a Stream with anything that can happen, and watches the rules.
type chaos struct {
	*Stream
	t       *testing.T
	r       *rand.Rand
	now     time.Time
	counter map[wire.Side]uint64
	side    map[LegID]wire.Side // legs that are not gone
	paired  map[LegID]bool
	asked   map[LegID]int // code of the close frame asked for
	heard   map[LegID]bool
	disk    bool // Persist is under way
	ended   bool
	aborter LegID
	mayEcho bool
}

func TestRandom(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := &chaos{
			t: t, r: r, now: time.Unix(1000, 0), counter: map[wire.Side]uint64{}, side: map[LegID]wire.Side{},
			paired: map[LegID]bool{}, asked: map[LegID]int{}, heard: map[LegID]bool{},
		}
		config := Config{Window: window}
		if r.IntN(10) == 0 {
			config.Window = 0
		}
		c.Stream = New(config, c.now)
		for range 60 {
			c.step()
			c.look()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

func (c *chaos) any() LegID {
	for id := range LegID(200) {
		if _, there := c.side[id]; there && c.r.IntN(2) == 0 {
			return id
		}
	}
	return 0
}

func (c *chaos) step() {
	c.now = c.now.Add(time.Duration(c.r.IntN(2000)) * time.Millisecond)
	leg := c.any()
	switch c.r.IntN(9) {
	case 0, 1, 2:
		c.tryJoin([]wire.Side{device, service}[c.r.IntN(2)])
	case 3:
		if leg != 0 {
			c.LegGone(leg, c.now)
			delete(c.side, leg)
		}
	case 4, 5:
		if leg != 0 && !c.heard[leg] {
			c.close(leg)
		}
	case 6:
		if leg != 0 && c.r.IntN(20) == 0 {
			c.Hold(leg, Data, make([]byte, c.r.IntN(wire.EarlyData)))
		}
	case 7:
		if c.disk {
			c.disk = false
			ok := c.r.IntN(2) == 0
			c.mayEcho = c.mayEcho || ok
			c.Persisted(ok, c.now)
		}
		c.Tick(c.now)
	case 8:
		switch c.r.IntN(40) {
		case 0:
			c.Control("other")
		case 1:
			c.End(wire.EndRevoked)
		case 2:
			c.Tick(c.now.Add(2 * time.Minute))
		}
	}
}

func (c *chaos) tryJoin(side wire.Side) {
	c.counter[side] += uint64(c.r.IntN(3))
	id, refusal := c.Join(Join{Side: side, Counter: c.counter[side], Instance: string(side)}, c.now)
	if refusal == nil {
		c.side[id] = side
		if c.ended {
			c.t.Error("a join after the end")
		}
	}
}

func (c *chaos) close(leg LegID) {
	code := []int{1000, 1001, 4004, c.asked[leg], c.asked[leg], c.asked[leg], c.asked[leg]}[c.r.IntN(7)]
	if code == 0 || c.asked[leg] == 0 && c.r.IntN(4) > 0 {
		return
	}
	c.heard[leg] = true
	if !c.ended && code == wire.CloseBrokenOff {
		c.aborter = leg
	}
	if c.aborter != 0 && c.side[leg] != c.side[c.aborter] && c.asked[leg] == wire.CloseEnded && code != 1001 {
		c.mayEcho = true
	}
	if c.Config().Window == 0 {
		c.mayEcho = true
	}
	c.Closed(leg, code, "reset", c.now)
}

// Config is what the Stream was made with.
func (s *Stream) Config() Config { return s.c }

// look holds what is asked for, and the state, against the rules.
func (c *chaos) look() {
	for _, a := range c.Act() {
		switch a.Kind {
		case Pair:
			if c.paired[a.Leg] || c.paired[a.To] || c.ended || c.side[a.Leg] == c.side[a.To] {
				c.t.Errorf("pairs %d and %d", a.Leg, a.To)
			}
			c.paired[a.Leg], c.paired[a.To] = true, true
		case Close:
			if c.asked[a.Leg] != 0 {
				c.t.Errorf("closes %d twice", a.Leg)
			}
			if c.asked[a.Leg] = a.Code; a.Code == wire.CloseBrokenOff && !c.mayEcho {
				c.t.Error("acknowledges an abort that nobody knows of")
			}
		case Persist:
			if c.disk {
				c.t.Error("writes twice")
			}
			c.disk = true
		case Ended:
			if c.ended {
				c.t.Error("ends twice")
			}
			c.ended = true
		}
	}
	if c.Legs() != len(c.side) {
		c.t.Errorf("has %d legs, not %d", c.Legs(), len(c.side))
	}
	if c.device.leg != nil && c.service.leg != nil && !c.Paired() {
		c.t.Error("keeps two legs apart")
	}
	if c.ended && (c.device.leg != nil || c.service.leg != nil) {
		c.t.Error("keeps a leg after the end")
	}
	for id, l := range c.legs {
		if l.data > wire.EarlyData && l.held != nil {
			c.t.Errorf("holds %d bytes for %d", l.data, id)
		}
		if c.ended && l.code == 0 && c.aborter != id {
			c.t.Errorf("leg %d is not closed after the end", id)
		}
	}
}
