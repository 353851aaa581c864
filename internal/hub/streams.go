package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/farportio/farport/internal/hub/rendezvous"
	"github.com/farportio/farport/internal/wire"
)

// errRevoked says that the right to a stream has been taken away.
var errRevoked = errors.New("the right that the stream was opened with has been taken away")

// live is what the hub notes of a stream besides what the rendezvous holds, from
// before its creation until it has ended.
type live struct {
	stopWaiting context.CancelCauseFunc // for the device's answer
	legs        map[wire.Side]leg       // those that came
}

// leg is where a leg came from, and the credential that let it in.
type leg struct{ remote, credential string }

func (h *Hub) noteStream(id string, l *live) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams[id] = l
}

func (h *Hub) forgetStream(id string) live {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.streams[id]
	delete(h.streams, id)
	if l == nil {
		return live{}
	}
	return *l
}

// stopWaiting tells all who wait for a device's answer that the hub stops.
func (h *Hub) stopWaiting() {
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.streams))
	h.mu.Unlock()
	for _, s := range all {
		s.stopWaiting(rendezvous.ErrStopping)
	}
}

// noteLeg notes a leg that has its place on a stream.
func (h *Hub) noteLeg(stream string, side wire.Side, l leg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.streams[stream]; s != nil { // else it has ended meanwhile
		s.legs[side] = l
	}
}

// legOf is the leg that took side's place on a stream, or the zero value.
func (h *Hub) legOf(stream string, side wire.Side) leg {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.streams[stream]; s != nil {
		return s.legs[side]
	}
	return leg{}
}

func (h *Hub) streamOpened(s rendezvous.Stream) {
	h.log.Info("stream opened", "stream", s.ID, "device", s.Device, "name", s.Name, "policy", s.Policy)
}

// streamEnded lets go of a stream; whoever still waits for the device's answer
// hears of it.
func (h *Hub) streamEnded(s rendezvous.Summary) {
	l := h.forgetStream(s.ID)
	if l.stopWaiting != nil {
		l.stopWaiting(endedEarly(s.Reason))
	}
	attrs := []any{"stream", s.ID, "device", s.Device, "name", s.Name, "policy", s.Policy,
		"device_remote", l.legs[wire.SideDevice].remote, "service_remote", l.legs[wire.SideService].remote,
		"reason", s.Reason, "joined", s.Joined, "up", s.Up, "down", s.Down, "dur", s.Duration}
	if s.Err != nil {
		attrs = append(attrs, "err", s.Err)
	}
	h.log.Info("stream ended", attrs...)
}

// endedEarly is what a service hears of a stream that ended before the device
// answered.
func endedEarly(reason wire.EndReason) error {
	switch reason {
	case wire.EndExpired:
		return errHandshake
	case wire.EndRevoked:
		return errRevoked
	case wire.EndStopping:
		return rendezvous.ErrStopping
	}
	return fmt.Errorf("the stream has ended: %s", reason)
}
