package rendezvous

import (
	"errors"
	"fmt"
	"runtime/debug"
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
	up, down        atomic.Int64 // service to device, device to service
	over            chan struct{}
	expiry          *time.Timer

	mu      sync.Mutex
	Stream  // only DeviceCredential changes
	claimed map[wire.Side]bool
	legs    map[wire.Side]stream.Half
	first   wire.Side // which side ended first, cleanly
	ended   bool
	reason  wire.EndReason
}

func newMeeting(r *Rendezvous, s Stream) *meeting {
	m := &meeting{
		r:       r,
		Stream:  s,
		over:    make(chan struct{}),
		claimed: make(map[wire.Side]bool, 2),
		legs:    make(map[wire.Side]stream.Half, 2),
	}
	m.device.init(wire.SideDevice, m.over)
	m.service.init(wire.SideService, m.over)
	m.mu.Lock() // end may come before AfterFunc has returned
	defer m.mu.Unlock()
	m.expiry = time.AfterFunc(r.o.HandshakeTimeout, func() { m.end(wire.EndExpired, nil) })
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
	m.DeviceCredential = deviceCredential
}

func (m *meeting) claim(side wire.Side) (*Place, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil, ErrUnknown
	}
	if m.claimed[side] {
		return nil, ErrTaken
	}
	m.claimed[side] = true
	return &Place{m, side}, nil
}

func (m *meeting) join(side wire.Side, leg stream.Half) {
	m.mu.Lock()
	ended, reason := m.ended, m.reason
	if !ended {
		m.legs[side] = leg
		met := len(m.legs) == 2 && m.expiry.Stop()
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
		err = other.CloseWrite()
	}
	if err == nil {
		m.finish(side)
	} else if _, ok := errors.AsType[*legError](err); ok { // of writing
		m.end(ending(err), err)
	} else {
		m.end(ending(err), &legError{side, err})
	}
	<-m.over
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
		m.end(wire.EndNetwork, fmt.Errorf("relay: %v", p))
	}
}

// finish notes that side has ended in good order; the second one ends the stream.
func (m *meeting) finish(side wire.Side) {
	m.mu.Lock()
	first := m.first
	if first == "" {
		m.first = side
	}
	m.mu.Unlock()
	if first != "" {
		m.end(wire.Closed(first), nil)
	}
}

// end ends the stream once; the first reason is kept. Unless it is a clean one,
// both legs are told of it.
func (m *meeting) end(reason wire.EndReason, err error) {
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return
	}
	m.ended, m.reason = true, reason
	legs := []stream.Half{m.legs[wire.SideDevice], m.legs[wire.SideService]}
	s := m.Stream
	m.mu.Unlock()

	m.expiry.Stop()
	joined := legs[0] != nil && legs[1] != nil
	// Telling a leg may take a moment, which whoever ends many streams has not.
	m.r.wg.Go(func() {
		var wg sync.WaitGroup
		for _, leg := range legs {
			if leg != nil && !reason.Clean() {
				wg.Go(func() {
					defer m.survive()
					leg.Abort(reason)
				})
			}
		}
		wg.Wait()
		close(m.over)
		m.r.remove(m)
		if m.r.o.Ended != nil {
			m.r.o.Ended(Summary{
				Stream: s, Reason: reason, Err: err, Joined: joined,
				Up: m.up.Load(), Down: m.down.Load(), Duration: time.Since(s.Created),
			})
		}
	})
}
