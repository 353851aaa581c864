package resume

import (
	"bytes"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// couple is two Ends whose legs are paired at once, by a hub without delays.
type couple struct {
	t    *testing.T
	now  time.Time
	ends [2]*End
	legs [2]uint64 // 0: none
	met  bool      // the legs are paired
	told [2]bool   // of a reset
	data [2][]byte // the application's, to send
	eof  [2]bool   // and then the end
	got  [2][]byte // by the application
	end  [2]bool   // and the end
}

func newCouple(t *testing.T, c Config) *couple {
	p := &couple{t: t, now: time.Unix(1e9, 0)}
	for i := range p.ends {
		c := c
		c.Now = func() time.Time { return p.now }
		p.ends[i] = New(c)
	}
	return p
}

// act does what the ends ask for.
func (p *couple) act() {
	for i, e := range p.ends {
		for a, ok := e.Act(); ok; a, ok = e.Act() {
			switch a.Kind {
			case ActDial:
				p.legs[i] = a.Join
				e.Opened(a.Join, false)
				p.met = p.legs[0] != 0 && p.legs[1] != 0
			case ActPing:
				e.Heard(a.Join)
			case ActDrop, ActClose:
				if a.Join == p.legs[i] {
					p.closed(i, a)
				}
			case ActReset:
				p.told[i] = true
			}
		}
	}
}

// closed is a leg that its end has closed: as the hub does, the other one is told.
func (p *couple) closed(i int, a Action) {
	p.legs[i] = 0
	j := 1 - i
	if leg := p.legs[j]; leg != 0 && p.met {
		p.legs[j] = 0
		switch a.Code {
		case wire.CloseNormal:
			p.ends[j].LegClosed(leg, wire.CloseEnded, string(wire.EndFinished))
		case wire.CloseBrokenOff:
			p.ends[j].LegClosed(leg, wire.CloseEnded, string(a.Reason))
		default:
			p.ends[j].LegClosed(leg, wire.ClosePeerAway, "")
		}
	}
	p.met = false
	if a.Kind == ActClose {
		p.ends[i].LegClosed(a.Join, a.Code, string(a.Reason))
	}
}

// cut takes both legs away.
func (p *couple) cut() {
	legs := p.legs
	p.legs, p.met = [2]uint64{}, false
	for i, e := range p.ends {
		if legs[i] != 0 {
			e.LegClosed(legs[i], 0, "")
		}
	}
	p.act()
}

// step moves what can be moved once, and reports whether that was anything.
func (p *couple) step() (moved bool) {
	p.act()
	for i, e := range p.ends {
		if e.Room() > 0 && len(p.data[i]) > 0 {
			n := copy(e.Space(), p.data[i])
			e.Filled(n)
			p.data[i] = p.data[i][n:]
			moved = true
		}
		if len(p.data[i]) == 0 && p.eof[i] {
			e.ReadEOF()
		}
		if p.met && e.Pending() {
			moved = true
			p.carry(i)
		}
		p.act()
		if b := e.App(); b != nil {
			p.got[i] = append(p.got[i], b...)
			e.Delivered(len(b))
			moved = true
		}
		if e.AppEOF() {
			p.end[i] = true
			e.ShutdownDone()
			moved = true
		}
		p.act()
	}
	return moved
}

// carry takes a message from an end to the other one.
func (p *couple) carry(i int) {
	e, to := p.ends[i], p.ends[1-i]
	f, ok := e.Next()
	if !ok {
		p.t.Fatal("Pending, but nothing is next")
	}
	if f.Text != "" {
		to.Message(p.legs[1-i], []byte(f.Text))
	}
	for b := f.Data; len(b) > 0; {
		n := copy(to.LegSpace(), b)
		to.Data(p.legs[1-i], n)
		b = b[n:]
	}
	e.Sent()
}

// run moves all that can be moved, and lets time pass for what waits for it.
func (p *couple) run(long time.Duration) {
	for until := p.now.Add(long); p.now.Before(until); p.now = p.now.Add(50 * time.Millisecond) {
		for p.step() {
		}
		for _, e := range p.ends {
			e.Tick()
		}
		p.act()
		if p.ends[0].Done() && p.ends[1].Done() {
			return
		}
	}
}

func TestBothDirections(t *testing.T) {
	for _, window := range []time.Duration{0, time.Minute} {
		budget := NewBudget(DefaultBudget)
		p := newCouple(t, Config{Window: window, Budget: budget})
		sent := [2][]byte{pattern(0, 0, 3<<20), pattern(1, 0, 70_000)}
		p.data, p.eof = sent, [2]bool{true, false}
		p.run(time.Second)
		if !p.end[1] || p.end[0] || !bytes.Equal(p.got[1], sent[0]) || !bytes.Equal(p.got[0], sent[1]) {
			t.Fatalf("window %v: %d and %d bytes arrived, ends %v", window, len(p.got[1]), len(p.got[0]), p.end)
		}
		if window > 0 {
			p.cut()
		}
		more := pattern(1, 70_000, 500_000)
		p.data[1], p.eof[1] = more, true
		p.run(time.Minute)
		if !bytes.Equal(p.got[0], append(sent[1], more...)) || !p.end[0] {
			t.Fatalf("window %v: after the half-close %d bytes arrived, ends %v", window, len(p.got[0]), p.end)
		}
		for i, e := range p.ends {
			if e.State() != Ended || e.Outcome() != wire.EndFinished || p.told[i] {
				t.Errorf("window %v: end %d: state %v, outcome %q, reset %v", window, i, e.State(), e.Outcome(), p.told[i])
			}
		}
		if n := budget.Used(); n != 0 {
			t.Errorf("window %v: %d bytes of the budget remain", window, n)
		}
	}
}

func TestCuts(t *testing.T) {
	p := newCouple(t, Config{Window: time.Minute})
	sent := [2][]byte{pattern(0, 0, 3<<20), pattern(1, 0, 2<<20)}
	p.data, p.eof = sent, [2]bool{true, true}
	for i := 0; !p.ends[0].Done(); i++ {
		if i > 10_000 {
			t.Fatalf("no end: %d and %d bytes arrived", len(p.got[0]), len(p.got[1]))
		}
		p.step()
		if i%17 == 0 {
			p.cut()
			p.run(time.Millisecond)
		}
	}
	p.run(time.Minute)
	for i, e := range p.ends {
		if e.Outcome() != wire.EndFinished || !bytes.Equal(p.got[i], sent[1-i]) || !p.end[i] {
			t.Errorf("end %d: outcome %q, %d bytes", i, e.Outcome(), len(p.got[i]))
		}
	}
}

func TestAbort(t *testing.T) {
	p := newCouple(t, Config{Window: time.Minute})
	p.data = [2][]byte{pattern(0, 0, 1000), nil}
	p.run(time.Second)
	p.ends[0].Abort(wire.EndShutdown)
	p.run(time.Second)
	for i, e := range p.ends {
		if e.State() != Ended || e.Outcome() != wire.EndShutdown || p.told[i] != (i == 1) {
			t.Errorf("end %d: state %v, outcome %q, reset %v", i, e.State(), e.Outcome(), p.told[i])
		}
	}
}
