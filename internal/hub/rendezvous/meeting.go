package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// meeting is one stream: two places, the legs that took them, and what goes
// between. Each leg has one goroutine, which copies what the leg says to the gate
// of the other side.
type meeting struct {
	r *Rendezvous
	// gates lead to the leg of their side; bytes wait there until it has joined.
	device, service gate
	up, down        atomic.Int64   // service to device, device to service
	copying         sync.WaitGroup // the legs' goroutines, as far as they carry bytes
	over            chan struct{}
	cancel          context.CancelCauseFunc
	expiry          *time.Timer

	mu     sync.Mutex
	Stream // only DeviceCredential changes
	guests map[wire.Side]Guest
	legs   map[wire.Side]stream.Half
	first  wire.Side // which side ended first, cleanly
	half   bool      // one side has finished
	ended  bool
	reason wire.EndReason
}

func newMeeting(r *Rendezvous, s Stream, cancel context.CancelCauseFunc) *meeting {
	m := &meeting{
		r:      r,
		Stream: s,
		cancel: cancel,
		over:   make(chan struct{}),
		guests: make(map[wire.Side]Guest, 2),
		legs:   make(map[wire.Side]stream.Half, 2),
	}
	m.device.init(wire.SideDevice, m.over)
	m.service.init(wire.SideService, m.over)
	m.mu.Lock() // end may come before AfterFunc has returned
	defer m.mu.Unlock()
	m.expiry = time.AfterFunc(r.o.HandshakeTimeout, func() { m.end(wire.EndExpired) })
	return m
}

func (m *meeting) stream() Stream {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Stream
}

func (m *meeting) admit(deviceCredential string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, came := m.guests[wire.SideDevice]; !came {
		m.DeviceCredential = deviceCredential
	}
}

func (m *meeting) claim(side wire.Side, g Guest) (*Place, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil, ErrUnknown
	}
	if by, taken := m.guests[side]; taken {
		return nil, &TakenError{by}
	}
	m.guests[side] = g
	if side == wire.SideDevice {
		m.DeviceCredential = g.Credential
	}
	return &Place{m, side}, nil
}

func (m *meeting) join(side wire.Side, leg stream.Half) {
	m.mu.Lock()
	ended, reason := m.ended, m.reason
	if !ended {
		m.legs[side] = leg
		met := len(m.legs) == 2 && m.expiry.Stop()
		m.copying.Add(1)
		m.r.wg.Go(func() { // not after end, which Close waits for
			if met && m.r.o.Opened != nil {
				m.r.o.Opened(m.stream())
			}
			m.relay(side, leg)
		})
	}
	m.mu.Unlock()
	if ended {
		leg.Abort(reason)
		_ = leg.Close() // was aborted
	}
}

// relay carries what one leg says until the stream is over, and closes the leg.
func (m *meeting) relay(side wire.Side, leg stream.Half) {
	defer m.survive() // closing
	defer leg.Close()
	defer func() { <-m.over }() // the leg has been told why
	defer m.copying.Done()
	defer m.survive() // relaying
	own, other, count := &m.device, &m.service, &m.down
	if side == wire.SideService {
		own, other, count = &m.service, &m.device, &m.up
	}
	err := own.open(leg)
	if err == nil {
		err = stream.Copy(other, leg, count)
	}
	if err == nil {
		m.firstOut(side)
		err = other.CloseWrite()
	}
	if err == nil {
		m.finish()
	} else if _, ok := errors.AsType[*legError](err); ok { // of writing
		m.endWith(ending(err), err)
	} else {
		m.endWith(ending(err), &legError{side, err})
	}
}

// ending is the word for a stream that a leg has broken. An end speaks for itself
// only: what the hub does has words that the hub alone may use.
func ending(err error) wire.EndReason {
	switch reason := stream.Reason(err); reason {
	case wire.EndNetwork, wire.EndProtocol:
		return reason
	}
	return wire.EndAborted
}

// survive makes a panic the end of this one stream.
func (m *meeting) survive() {
	if p := recover(); p != nil {
		m.r.o.Logger.Error("relay panicked", "stream", m.ID, "panic", p, "stack", string(debug.Stack()))
		m.endWith(wire.EndNetwork, fmt.Errorf("relay: %v", p))
	}
}

// firstOut notes that side has said all, before the other hears of it.
func (m *meeting) firstOut(side wire.Side) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first == "" {
		m.first = side
	}
}

// finish notes that a side has ended in good order; the second one ends the stream.
func (m *meeting) finish() {
	m.mu.Lock()
	first, second := m.first, m.half
	m.half = true
	m.mu.Unlock()
	if second {
		m.end(wire.Closed(first))
	}
}

// extend gives the stream away, to become an extended one. cancel is nil if it has ended
// or somebody has come for the plain one.
func (m *meeting) extend() (s Stream, cancel context.CancelCauseFunc, reason wire.EndReason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended || len(m.guests) > 0 {
		return m.Stream, nil, m.reason
	}
	m.ended, m.reason = true, wire.EndReset // whoever comes for the plain one is too late
	m.expiry.Stop()
	return m.Stream, m.cancel, ""
}

// end ends the stream once; the first reason is kept.
func (m *meeting) end(reason wire.EndReason) { m.endWith(reason, nil) }

func (m *meeting) endWith(reason wire.EndReason, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	m.ended, m.reason = true, reason
	m.expiry.Stop()
	m.cancel(&EndedError{reason})
	summary := Summary{
		Stream: m.Stream, Reason: reason, Err: err, Joined: len(m.legs) == 2,
		DeviceRemote: m.guests[wire.SideDevice].Remote, ServiceRemote: m.guests[wire.SideService].Remote,
	}
	legs := slices.Collect(maps.Values(m.legs))
	// Telling a leg may take a moment, which whoever ends many streams has not. Who
	// finds the stream ended may count on this goroutine to be there.
	m.r.wg.Go(func() { m.dissolve(summary, legs) })
}

// dissolve tells the legs of an end that is not a clean one, lets them close, and
// reports the stream.
func (m *meeting) dissolve(s Summary, legs []stream.Half) {
	if !s.Reason.Clean() {
		var wg sync.WaitGroup
		for _, leg := range legs {
			wg.Go(func() {
				defer m.survive()
				leg.Abort(s.Reason)
			})
		}
		wg.Wait()
	}
	close(m.over)
	m.r.remove(m, s.DeviceRemote+s.ServiceRemote != "", s.Reason)
	m.copying.Wait() // all that was handed on is counted
	if m.r.o.Ended != nil {
		s.Up, s.Down, s.Duration = m.up.Load(), m.down.Load(), time.Since(s.Created)
		m.r.o.Ended(s)
	}
}
