package rendezvous

import (
	"context"
	"time"

	"github.com/farportio/farport/internal/hub/pairing"
	"github.com/farportio/farport/internal/wire"
)

// Entry is a join of an extended stream, by a bearer whose token, instance and rights
// have been found good.
type Entry struct {
	// Stream is what the token says. The rendezvous may have forgotten the stream: with
	// a resume window it is made anew from that.
	Stream
	Guest
	Side     wire.Side
	Join     uint64 // wire.HeaderJoin
	Instance string // wire.InstanceID of the end
	Peer     string // of the service's: that of the device's end
	Window   time.Duration
}

// Refusal is the error of an Entry that gets no leg.
type Refusal struct{ pairing.Refusal }

func (e *Refusal) Error() string {
	switch {
	case e.Ended == wire.EndRefused:
		return "the stream's token has been used"
	case e.Ended != "":
		return "the stream has ended: " + string(e.Ended)
	case e.Highest > 0:
		return "this join is not the newest"
	}
	return "the hub cannot take this leg now"
}

func ended(reason wire.EndReason) error { return &Refusal{pairing.Refusal{Ended: reason}} }

// later is the answer of a hub that is busy or stopping.
func later() error { return &Refusal{pairing.Refusal{RetryAfter: time.Second}} }

// Enter admits a join of an extended stream, in the place of a leg that the side may
// have. The caller must Take or Abandon the seat. Errors: *Refusal, or that of Recall.
func (r *Rendezvous) Enter(e Entry) (*Seat, error) {
	x, err := r.resumable(e)
	if err != nil {
		return nil, err
	}
	r.refreshInstance(x)
	return x.enter(e)
}

// Seat is a leg that has been admitted and is still to come.
type Seat struct{ m *member }

// Take takes the leg over and returns at once. The rendezvous closes the leg.
func (s *Seat) Take(leg Leg) { s.m.attach(leg) }

// Abandon says that the leg does not come.
func (s *Seat) Abandon() { s.m.leave() }

// resumable finds the stream that somebody wants to join, or makes its record: it is
// extended from its first join on.
func (r *Rendezvous) resumable(e Entry) (*extended, error) {
	x, err := r.known(e)
	if x != nil || err != nil {
		return x, err
	}
	if e.Window == 0 {
		return nil, ended(wire.EndLost) // who was here before cannot come back
	}
	if r.o.Recall != nil {
		if reason, err := r.o.Recall(e.ID); err != nil || reason != "" {
			if err == nil {
				err = ended(reason)
			}
			return nil, err
		}
	}
	return r.revive(e)
}

// known finds a stream among those that are there or have been; nil if it is not there.
func (r *Rendezvous) known(e Entry) (*extended, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return nil, later()
	}
	if x := r.extended[e.ID]; x != nil {
		return x, nil
	}
	if reason := r.memory.reason(e.ID, time.Now()); reason != "" {
		return nil, ended(reason)
	}
	m := r.streams[e.ID]
	if m == nil {
		return nil, nil
	}
	s, cancel, reason := m.extend()
	if cancel == nil {
		return nil, ended(wire.ParseReason(string(reason)))
	}
	x := newExtended(r, s, e.Window, s.Created.Add(r.o.HandshakeTimeout), cancel)
	delete(r.streams, e.ID)
	r.extended[e.ID] = x
	if e.Window == 0 {
		r.fragile++
	}
	r.tellEmpty()
	return x, nil
}

// revive makes the record of a stream that only its ends know of, as the hub was
// started anew.
func (r *Rendezvous) revive(e Entry) (*extended, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.extended[e.ID]; x != nil { // somebody was faster
		return x, nil
	}
	if reason := r.memory.reason(e.ID, time.Now()); reason != "" { // and has ended it since
		return nil, ended(reason)
	}
	if r.closing || r.full(e.Stream) != nil {
		return nil, later()
	}
	_, cancel := context.WithCancelCause(context.Background())
	x := newExtended(r, e.Stream, e.Window, time.Time{}, cancel)
	r.extended[e.ID] = x
	r.count(e.Stream)
	return x, nil
}

// InstanceChanged looks anew which instance of a device is connected. It is called
// whenever a control connection of the device has come or gone.
func (r *Rendezvous) InstanceChanged(device string) {
	for _, x := range r.extendedOf(device) {
		r.refreshInstance(x)
	}
}

func (r *Rendezvous) extendedOf(device string) (all []*extended) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.devices[device] == 0 {
		return nil
	}
	for _, x := range r.extended {
		if x.device == device {
			all = append(all, x)
		}
	}
	return all
}

// refreshInstance has a stream know which instance of its device is connected.
func (r *Rendezvous) refreshInstance(x *extended) {
	if r.o.Instance == nil {
		return
	}
	r.instances.Lock() // so that what was read last is what stays
	defer r.instances.Unlock()
	id, connected := r.o.Instance(x.device)
	if !connected {
		id = ""
	}
	x.do(func(c *pairing.Stream, _ time.Time) { c.Control(id) })
}

// maxMemory bounds the ended streams that are remembered (docs/farport-v1.md, section 8).
const maxMemory = 100_000

// memory remembers why streams ended, for as long as an end may ask. It is guarded by
// Rendezvous.mu.
type memory struct {
	reasons map[string]past
	order   []string // oldest first
}

type past struct {
	reason wire.EndReason
	until  time.Time
}

// add remembers a stream; the oldest give way.
func (m *memory) add(id string, reason wire.EndReason, until, now time.Time) {
	for len(m.order) > 0 && (len(m.order) >= maxMemory || now.After(m.reasons[m.order[0]].until)) {
		delete(m.reasons, m.order[0])
		m.order = m.order[1:]
	}
	if _, twice := m.reasons[id]; !twice {
		m.order = append(m.order, id)
	}
	m.reasons[id] = past{reason, until}
}

// reason returns why a stream ended; "" if it is not known to have.
func (m *memory) reason(id string, now time.Time) wire.EndReason {
	if p := m.reasons[id]; !now.After(p.until) {
		return p.reason
	}
	return ""
}
