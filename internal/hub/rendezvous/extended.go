package rendezvous

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farportio/farport/internal/hub/pairing"
	"github.com/farportio/farport/internal/wire"
)

// extended is an extended stream: what package pairing decides about its legs, done.
// mu may be held when Rendezvous.mu is taken, not the other way round.
type extended struct {
	r        *Rendezvous
	device   string
	window   time.Duration
	up, down atomic.Int64 // stream bytes, service to device and device to service
	cancel   context.CancelCauseFunc

	mu sync.Mutex
	Stream
	core    *pairing.Stream
	members map[pairing.LegID]*member
	remotes map[wire.Side]string // where each side's newest leg came from
	timer   *time.Timer
	opened  bool      // the sides have met
	waiting time.Time // since when they are apart; zero while they are not
	endedAt time.Time
	dropped bool // given up unsettled
	retired bool // reported, and not there any more
	stopped bool // the hub stops
}

func newExtended(r *Rendezvous, s Stream, window time.Duration, joinBy time.Time, cancel context.CancelCauseFunc) *extended {
	now := time.Now()
	x := &extended{
		r: r, device: s.Device, window: window, cancel: cancel, Stream: s,
		core:    pairing.New(pairing.Config{Window: window, JoinBy: joinBy}, now),
		members: make(map[pairing.LegID]*member, 2),
		remotes: make(map[wire.Side]string, 2),
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.timer = time.AfterFunc(time.Hour, x.tick)
	x.arm()
	return x
}

func (x *extended) stream() Stream {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.Stream
}

func (x *extended) admit(deviceCredential string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.remotes[wire.SideDevice] == "" {
		x.DeviceCredential = deviceCredential
	}
}

// enter asks the core for a leg.
func (x *extended) enter(e Entry) (*Seat, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stopped {
		return nil, later()
	}
	if e.Side == wire.SideService && x.Policy == "" && !x.retired {
		if !x.r.countPolicy(e.Policy) {
			return nil, later()
		}
		x.Policy, x.PolicyCredential = e.Policy, e.PolicyCredential
	}
	id, refusal := x.core.Join(pairing.Join{Side: e.Side, Counter: e.Join, Instance: e.Instance, Peer: e.Peer}, time.Now())
	if refusal != nil {
		x.act()
		return nil, &Refusal{*refusal}
	}
	m := newMember(x, id, e.Side)
	x.members[id] = m
	x.remotes[e.Side] = e.Remote
	if e.Side == wire.SideDevice {
		x.DeviceCredential = e.Credential
	}
	x.act()
	return &Seat{m}, nil
}

// do lets something happen to the stream, and does what the core wants done about it.
func (x *extended) do(event func(c *pairing.Stream, now time.Time)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	event(x.core, time.Now())
	x.act()
}

func (x *extended) end(reason wire.EndReason) {
	x.do(func(c *pairing.Stream, _ time.Time) { c.End(wire.ParseReason(string(reason))) })
}

// act does what the core asks for. Nothing here waits for a leg or the disk.
func (x *extended) act() {
	for _, a := range x.core.Act() {
		switch m := x.members[a.Leg]; a.Kind {
		case pairing.Pair:
			x.pair(m, x.members[a.To])
		case pairing.Data, pairing.Text:
			m.pending = append(m.pending, a)
		case pairing.Close:
			m.shut(a.Code, string(a.Reason))
		case pairing.Persist:
			x.r.wg.Go(func() { x.persist(a.Reason) })
		case pairing.Ended:
			x.endedAt = time.Now()
			x.cancel(&EndedError{a.Reason})
		}
	}
	x.noteWaiting()
	x.arm()
	if _, settled := x.core.Over(); (settled || x.dropped) && len(x.members) == 0 && !x.retired && !x.stopped {
		x.retire()
	}
}

func (x *extended) pair(a, b *member) {
	a.partner, b.partner = b, a
	switch {
	case !x.opened:
		x.opened = true
		if x.r.o.Opened != nil {
			x.r.o.Opened(x.Stream)
		}
	case !x.waiting.IsZero():
		x.r.o.Logger.Info("stream resumed", "stream", x.ID, "device", x.Device, "name", x.Name, "waited", time.Since(x.waiting))
	}
	x.waiting = time.Time{}
}

func (x *extended) noteWaiting() {
	if reason, _ := x.core.Over(); x.opened && x.waiting.IsZero() && reason == "" && !x.stopped && !x.core.Paired() {
		x.waiting = time.Now()
		x.r.o.Logger.Info("stream waiting", "stream", x.ID, "device", x.Device, "name", x.Name)
	}
}

// arm sets the timer to what the core waits for.
func (x *extended) arm() {
	next := x.core.Next()
	if reason, settled := x.core.Over(); reason != "" && !settled && !x.dropped {
		if last := x.giveUpAt(); next.IsZero() || last.Before(next) {
			next = last
		}
	}
	if next.IsZero() || x.stopped || x.retired {
		x.timer.Stop()
	} else {
		x.timer.Reset(time.Until(next))
	}
}

// giveUpAt is until when an abort that could not be written down is held on to. Its end
// repeats itself if it is still there.
func (x *extended) giveUpAt() time.Time { return x.endedAt.Add(x.window + pairing.Afterlife) }

func (x *extended) tick() {
	defer x.survive()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stopped || x.retired {
		return
	}
	x.core.Tick(time.Now())
	if reason, settled := x.core.Over(); reason != "" && !settled && !x.dropped && !time.Now().Before(x.giveUpAt()) {
		x.giveUp()
	}
	x.act()
}

// persist writes down how the stream has ended, for until its last token has expired.
// Streams come one after the other, as each write waits for the disk; when the hub stops,
// those in line are left to their ends, which say it again.
func (x *extended) persist(reason wire.EndReason) {
	x.r.disk <- struct{}{}
	err := ErrStopping
	if !x.r.isClosing() {
		err = x.writeDown(reason)
	}
	<-x.r.disk
	x.do(func(c *pairing.Stream, now time.Time) { c.Persisted(err == nil, now) })
}

func (x *extended) writeDown(reason wire.EndReason) error {
	if x.r.o.Persist == nil {
		return nil
	}
	err := x.r.o.Persist(x.ID, reason, time.Now().Add(wire.ResumeTokenLife))
	if err != nil {
		x.r.o.Logger.Error("write down that a stream has ended", "stream", x.ID, "err", err)
	}
	return err
}

// retire reports the stream and leaves its reason behind.
func (x *extended) retire() {
	x.retired = true
	x.timer.Stop()
	reason, settled := x.core.Over()
	x.r.forget(x.Stream, reason, settled, x.window)
	s := x.summary(reason)
	if x.r.o.Ended != nil {
		x.r.o.Ended(s)
	}
}

func (x *extended) summary(reason wire.EndReason) Summary {
	return Summary{
		Stream: x.Stream, Reason: reason, Joined: x.opened,
		DeviceRemote: x.remotes[wire.SideDevice], ServiceRemote: x.remotes[wire.SideService],
		Up: x.up.Load(), Down: x.down.Load(), Duration: time.Since(x.Created),
	}
}

// stop closes the legs as the hub stops. The stream goes on when the hub is back; of one
// that has ended, an end that waits for the echo says it again then.
func (x *extended) stop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if reason, _ := x.core.Over(); x.retired {
		return
	} else if reason != "" {
		x.giveUp()
		x.act()
		return
	}
	if x.window == 0 {
		x.core.End(wire.EndLost)
		x.act()
		return
	}
	x.stopped = true
	x.cancel(&EndedError{wire.EndStopping})
	x.core.Restart(time.Now())
	x.act()
	s := x.summary("")
	x.r.forget(x.Stream, "", false, x.window)
	x.r.o.Logger.Info("stream suspended: the hub stops, and its ends may resume it", "stream", s.ID, "device", s.Device,
		"name", s.Name, "policy", s.Policy, "up", s.Up, "down", s.Down, "dur", s.Duration)
}

// giveUp drops what waits for the stream to be settled.
func (x *extended) giveUp() {
	x.dropped = true
	for _, m := range x.members {
		m.dropNow()
	}
}

// survive makes a panic the end of this one stream.
func (x *extended) survive() {
	if p := recover(); p != nil {
		x.r.o.Logger.Error("relay panicked", "stream", x.ID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		x.end(wire.EndReset)
	}
}
