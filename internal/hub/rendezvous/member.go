package rendezvous

import (
	"errors"
	"time"

	"github.com/farportio/farport/internal/hub/pairing"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// flushTime bounds the wait for what was taken for a leg that is to be closed
// (docs/farport-v1.md, section 5).
const flushTime = time.Second

// Leg is one WebSocket of an extended stream; a hub's is a *stream.Leg, which says what
// the methods do.
type Leg interface {
	Next() (c *stream.Chunk, n int, text []byte, err error)
	LimitSilence(time.Duration)
	WriteData(p []byte, deadline time.Time) error
	WriteText(p []byte, deadline time.Time) error
	Close(code int, text string)
	Drop()
}

// member is a leg of an extended stream, from its admission until it is gone. A
// goroutine reads it and writes to its partner what comes.
type member struct {
	x    *extended
	id   pairing.LegID
	side wire.Side

	write  chan struct{} // the right to write to leg; there is none before pending is written
	down   chan struct{} // closed when the leg is not to be read any more
	gone   chan struct{} // closed when nothing can be written to the leg any more
	closed chan struct{} // closed when the leg has been closed for the core

	// Guarded by x.mu.
	leg     Leg // nil until it has come
	partner *member
	pending []pairing.Action // came for it before it did
	busy    int              // messages, or pending, that somebody is about to write to leg
	idle    chan struct{}    // closed when busy is 0; made by shut
	code    int              // of the close frame to send; 0 for none
	text    string
	left    bool // it is gone for the core
}

func newMember(x *extended, id pairing.LegID, side wire.Side) *member {
	return &member{
		x: x, id: id, side: side, busy: 1, // pending
		write: make(chan struct{}, 1), down: make(chan struct{}), gone: make(chan struct{}), closed: make(chan struct{}),
	}
}

// attach begins to relay.
func (m *member) attach(leg Leg) {
	leg.LimitSilence(wire.HubSilence)
	x := m.x
	x.mu.Lock()
	late, code, text := m.code != 0 || x.dropped, m.code, m.text
	if !late {
		m.leg = leg
		x.r.wg.Go(func() { m.run(leg) })
	}
	x.mu.Unlock()
	if late {
		leg.Close(code, text)
		m.leave()
	}
}

// run is the leg's goroutine.
func (m *member) run(leg Leg) {
	defer m.leave()
	defer leg.Drop()
	defer m.x.survive()
	m.writePending(leg)
	err := m.relay(leg)
	m.x.r.o.Logger.Debug("leg left", "stream", m.x.ID, "side", m.side, "join", m.id, "err", err)
	closed, isClosed := errors.AsType[*stream.CloseFrame](err)
	broken, isBroken := errors.AsType[*stream.ProtocolError](err)
	switch {
	case isClosed:
		m.x.do(func(c *pairing.Stream, now time.Time) { c.Closed(m.id, closed.Code, closed.Text, now) })
	case isBroken:
		m.x.do(func(c *pairing.Stream, _ time.Time) { c.Violation(m.id, broken.Code) })
	}
	if isClosed || m.isShut() {
		<-m.closed
	}
}

func (m *member) isShut() bool {
	m.x.mu.Lock()
	defer m.x.mu.Unlock()
	return m.code != 0
}

// relay carries what the leg brings until it brings no more.
func (m *member) relay(leg Leg) error {
	for {
		c, n, text, err := leg.Next()
		switch {
		case n > 0:
			m.carry(pairing.Data, c[:n])
		case text != nil:
			m.carry(pairing.Text, text)
		}
		if c != nil {
			stream.FreeChunk(c)
		}
		if err != nil {
			return err
		}
	}
}

// carry takes a message to the partner, or to the core as long as there is none. On a
// leg that is closed in the middle of it, it is dropped.
func (m *member) carry(kind pairing.Kind, message []byte) {
	to := m.take(kind, message)
	if to == nil {
		return
	}
	defer to.wrote()
	select {
	case <-to.write:
	case <-to.gone:
		return
	case <-m.down: // so is the partner
		select {
		case <-to.write:
		default:
			return
		}
	}
	if err := to.send(kind, message); err != nil {
		to.fail(err)
	}
	to.write <- struct{}{}
}

// take returns who gets a message; nil when it is held, or nobody does.
func (m *member) take(kind pairing.Kind, message []byte) *member {
	x := m.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if m.partner == nil {
		x.core.Hold(m.id, kind, message)
		x.act()
		return nil
	}
	if m.partner.code != 0 || m.partner.left {
		return nil
	}
	m.partner.busy++
	return m.partner
}

// wrote is said when a message that take or the admission has counted is dealt with.
func (m *member) wrote() {
	m.x.mu.Lock()
	defer m.x.mu.Unlock()
	m.busy--
	if m.busy == 0 && m.idle != nil {
		close(m.idle)
		m.idle = nil
	}
}

// send writes a message to the leg.
func (m *member) send(kind pairing.Kind, message []byte) error {
	deadline := time.Now().Add(wire.WriteStall)
	if kind == pairing.Text {
		return m.leg.WriteText(message, deadline)
	}
	err := m.leg.WriteData(message, deadline)
	if err == nil {
		if m.side == wire.SideDevice {
			m.x.up.Add(int64(len(message)))
		} else {
			m.x.down.Add(int64(len(message)))
		}
	}
	return err
}

// fail gives up a leg that nothing can be written to.
func (m *member) fail(err error) {
	m.x.r.o.Logger.Debug("leg takes nothing", "stream", m.x.ID, "side", m.side, "join", m.id, "err", err)
	m.leg.Drop() // its own goroutine sees that
}

// writePending writes what came before the leg, and lets others write.
func (m *member) writePending(leg Leg) {
	defer m.wrote()
	for _, a := range m.takePending() {
		if err := m.send(a.Kind, a.Bytes); err != nil {
			m.fail(err)
			break
		}
	}
	m.write <- struct{}{}
}

func (m *member) takePending() []pairing.Action {
	m.x.mu.Lock()
	defer m.x.mu.Unlock()
	pending := m.pending
	m.pending = nil
	return pending
}

// shut closes the leg once what was taken for it is written. It is called with x.mu
// held. A leg that dropNow has ended stays as it is.
func (m *member) shut(code int, text string) {
	if m.code != 0 {
		return
	}
	m.code, m.text = code, text
	close(m.down)
	leg := m.leg
	if leg == nil {
		return // attach sees to it
	}
	var idle chan struct{}
	if m.busy > 0 {
		idle = make(chan struct{})
		m.idle = idle
	}
	m.x.r.wg.Go(func() {
		defer close(m.closed)
		defer m.x.survive()
		if !flushed(idle) {
			leg.Drop() // a frame is half written
			return
		}
		leg.Close(code, text)
	})
}

func flushed(idle <-chan struct{}) bool {
	if idle == nil {
		return true
	}
	late := time.NewTimer(flushTime)
	defer late.Stop()
	select {
	case <-idle:
		return true
	case <-late.C:
		return false
	}
}

// dropNow ends a leg that waits for an echo that never comes. It is called with x.mu
// held.
func (m *member) dropNow() {
	if m.code == 0 {
		m.code = wire.CloseAbnormal
		close(m.down)
		if m.leg != nil {
			m.leg.Drop()
		}
		close(m.closed)
	}
}

// leave says that the leg is gone.
func (m *member) leave() {
	m.x.do(func(c *pairing.Stream, now time.Time) {
		if !m.left {
			m.left = true
			close(m.gone)
			delete(m.x.members, m.id)
			c.LegGone(m.id, now)
		}
	})
}
