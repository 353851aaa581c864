package hub

import (
	"context"
	"errors"
	"time"

	"github.com/farportio/farport/internal/hub/broker"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/hub/rendezvous"
	"github.com/farportio/farport/internal/wire"
)

// deviceConnected notes a device's new control connection. Should its identity have
// changed since it signed in, identityChanged has ended or will end the connection:
// the broker judges logins anew that it overtakes.
func (h *Hub) deviceConnected(s *broker.Session) {
	id := s.Identity()
	h.registry.SetConnected(id.Name, true, s.ConnectedAt())
	h.log.Info("device connected", "device", id.Name)
}

// deviceReady lets the device be asked for streams. A session that was replaced by
// this one gives its hold up here.
func (h *Hub) deviceReady(s *broker.Session) {
	device := s.Identity().Name
	release := h.bus.Hold(device, func(ctx context.Context, r Request) (Answer, error) {
		return h.askDevice(ctx, s, r)
	})
	if before := h.swapHold(device, release); before != nil {
		before()
	}
}

// deviceDisconnected is told when a device has lost its control connection, and not
// when a newer one took over.
func (h *Hub) deviceDisconnected(s *broker.Session) {
	device := s.Identity().Name
	if release := h.swapHold(device, nil); release != nil {
		release()
	}
	h.registry.SetConnected(device, false, time.Now())
	h.log.Info("device disconnected", "device", device, "dur", time.Since(s.ConnectedAt()))
}

// DropControl breaks off a device's control connection, as a network that fails
// does, and reports whether it had one. Its streams go on.
func (h *Hub) DropControl(device string) bool {
	return h.broker.EndWhere(func(i broker.Identity) bool { return i.Name == device }, wire.EndNetwork) > 0
}

// swapHold notes what releases the hold on a device, nil for none, and returns
// what did before.
func (h *Hub) swapHold(device string, release func()) (before func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before = h.holds[device]
	if release == nil {
		delete(h.holds, device)
	} else {
		h.holds[device] = release
	}
	return before
}

// askDevice puts a request to a device that is connected to this node: its leg's
// URL is under the name by which it knows the hub, its token bound to the
// credential it came with.
func (h *Hub) askDevice(ctx context.Context, s *broker.Session, r Request) (Answer, error) {
	id := s.Identity()
	if id.GenerationID != r.Generation {
		return Answer{}, errNotConnected // another life of the same ID
	}
	token := h.token.mint(streamToken{
		Stream: r.Stream, Side: wire.SideDevice, Device: id.Name,
		Generation: id.GenerationID, Credential: id.CredentialID, Expires: expiry(r.Expires),
	})
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, errNoAnswer)
	defer cancel()
	accepted, err := s.Initiate(ctx, r.Name, h.streamURL(id.Host, r.Stream), token.Reveal())
	switch {
	case errors.Is(err, broker.ErrGone), errors.Is(err, broker.ErrNotReady):
		return Answer{}, errNotConnected
	case errors.Is(err, broker.ErrBusy):
		return Answer{}, errDeviceBusy
	case err != nil && ctx.Err() != nil:
		return Answer{}, context.Cause(ctx)
	}
	return Answer{Accepted: accepted, Credential: id.CredentialID}, err
}

// identityChanged ends what a device's identity no longer allows: its control
// connection and the streams opened with a credential that has gone. It is how
// disabling, deleting and key changes reach live connections. An identity that cannot
// be read allows nothing.
func (h *Hub) identityChanged(device string) {
	ctx := context.Background()
	d, err := h.registry.Get(ctx, device) // the zero value when it has gone
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		h.log.Error("read a changed identity", "device", device, "err", err)
	}
	revoked := func(of, generation, credential string) bool {
		if of != device {
			return false
		}
		ok, err := h.admits(ctx, d, generation, credential)
		if err != nil {
			h.log.Error("read the policies", "err", err)
		}
		return !ok
	}
	// Streams come first, or those in set-up would end as those of an offline device.
	h.rendezvous.EndWhere(func(s rendezvous.Stream) bool {
		return revoked(s.Device, s.Generation, s.DeviceCredential)
	}, wire.EndRevoked)
	h.broker.EndWhere(func(i broker.Identity) bool {
		return revoked(i.Name, i.GenerationID, i.CredentialID)
	}, wire.EndRevoked)
}
