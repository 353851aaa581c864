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
	h.mu.Lock()
	h.sessions[id.Name] = s
	h.mu.Unlock()
	h.rendezvous.InstanceChanged(id.Name)
}

// instance says which process of a device has its control connection up; id is "" if
// that process has not offered the extended stream.
func (h *Hub) instance(device string) (id string, connected bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, connected := h.sessions[device]
	if connected {
		id = s.Identity().Offer.Instance
	}
	return id, connected
}

// leaveSession forgets a control connection that has gone.
func (h *Hub) leaveSession(s *broker.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if name := s.Identity().Name; h.sessions[name] == s {
		delete(h.sessions, name)
	}
}

// deviceReady lets the device be asked for what it has just subscribed to. Each time
// those who wait for it try anew. A session that was replaced by this one gives its
// hold up here.
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
	h.leaveSession(s)
	h.rendezvous.InstanceChanged(device)
	h.registry.SetConnected(device, false, time.Now())
	h.log.Info("device disconnected", "device", device, "dur", time.Since(s.ConnectedAt()), "events", s.Events())
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

// askDevice puts a request to a device that is connected to this node.
func (h *Hub) askDevice(ctx context.Context, s *broker.Session, r Request) (answer Answer, err error) {
	if s.Identity().GenerationID != r.Generation {
		return Answer{}, errNotConnected // another life of the same ID
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, errNoAnswer)
	defer cancel()
	switch {
	case r.Stream != nil:
		answer, err = h.offerStream(ctx, s, *r.Stream)
	case r.Method != nil:
		answer.Status, answer.Payload, err = s.Invoke(ctx, r.Method.Name, r.Method.Payload)
	case r.Change != nil:
		err = s.Notify(r.Change.Version, r.Change.Desired)
	}
	switch {
	case r.Method != nil && errors.Is(err, broker.ErrUnanswered):
		return Answer{}, errLost
	case errors.Is(err, broker.ErrGone), errors.Is(err, broker.ErrNotReady):
		return Answer{}, errNotConnected
	case errors.Is(err, broker.ErrBusy):
		return Answer{}, errDeviceBusy
	case err != nil && ctx.Err() != nil:
		return Answer{}, context.Cause(ctx)
	}
	return answer, err
}

// offerStream asks the device for a stream: its leg's URL is under the name by which
// it knows the hub, its token bound to the credential it came with. The kind of stream
// is agreed on with this very connection, as the device may be another program than the
// one that was connected a moment ago.
func (h *Hub) offerStream(ctx context.Context, s *broker.Session, o StreamOffer) (Answer, error) {
	id := s.Identity()
	grant := wire.Agree(id.Offer, o.Service, h.o.ResumeWindow)
	token := h.token.mint(streamToken{
		Stream: o.ID, Side: wire.SideDevice, Device: id.Name,
		Generation: id.GenerationID, Credential: id.CredentialID, Expires: expiry(o.Expires),
	}.granted(grant, id.Offer, o.Created))
	accepted, err := s.Initiate(ctx, wire.StreamRequest{
		Name: o.Name, URL: h.streamURL(id.Host, o.ID), Token: token.Reveal(), Grant: grant,
	})
	return Answer{Accepted: accepted, Credential: id.CredentialID, Grant: grant, Instance: id.Offer.Instance}, err
}

// identityChanged ends what the identities of a device and its modules no longer
// allow, of all devices when it is "": control connections, and the streams opened with
// a credential that has gone. It is how disabling, deleting and key changes reach live
// connections. An identity that cannot be read allows nothing.
func (h *Hub) identityChanged(name string) {
	device, _ := wire.SplitTarget(name)
	ctx := context.Background()
	identities := map[string]wire.Device{} // the zero value for one that has gone
	revoked := func(of, generation, credential string) bool {
		if owner, _ := wire.SplitTarget(of); device != "" && owner != device {
			return false
		}
		d, known := identities[of]
		if !known {
			var err error
			if d, err = h.registry.Get(ctx, of); err != nil && !errors.Is(err, registry.ErrNotFound) {
				h.log.Error("read a changed identity", "device", of, "err", err)
			}
			identities[of] = d
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
