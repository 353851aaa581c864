package hub

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/farportio/farport/internal/hub/rendezvous"
	"github.com/farportio/farport/internal/wire"
)

// initiate sets up a stream for a service: it asks the device, and hands both
// sides a URL and a token of their own (docs/protocol.md, Starting a stream).
func (h *Hub) initiate(w http.ResponseWriter, r *request) {
	if _, ok := h.beginLongCall(w, r, maxBody); !ok {
		return
	}
	wait, answer, ok := timeouts(r.Header)
	if !ok {
		h.refuse(w, r, wire.ErrArgumentInvalid, fmt.Sprintf("the time-out headers are not seconds from 0 to %.0f", wire.MaxStreamTimeout.Seconds()))
		return
	}
	if !wire.ValidStreamName(r.name) {
		h.refuse(w, r, wire.ErrArgumentInvalid, fmt.Sprintf("stream name %s is not 1 to %d characters of A-Za-z0-9-._~", quote(r.name), wire.MaxStreamName))
		return
	}
	device, err := h.registry.Get(r.Context(), r.target())
	if err != nil || enabled(device) != nil {
		h.noDevice(w, r, err)
		return
	}
	s := rendezvous.Stream{
		ID: newID(), Name: r.name, Device: device.Name(), Generation: device.GenerationID,
		Policy: r.principal.policy, PolicyCredential: r.principal.credential, Created: time.Now(),
	}
	ctx, err := h.rendezvous.Create(r.Context(), s)
	if err != nil {
		h.noRoom(w, r, err)
		return
	}
	offer := wire.ParseOffer(r.Header.Values(wire.HeaderStream))
	said, err := h.ask(ctx, s, offer, wait, answer)
	if err != nil {
		h.notAsked(w, r, s, device, err, wait, answer)
		return
	}
	h.answer(w, r, s, offer, said)
}

// beginLongCall takes the bounds of ordinary requests off one that waits for a
// device. Its body is read first: only then does net/http lift its deadline, and see
// when the caller has gone. false means that the answer has been given.
func (h *Hub) beginLongCall(w http.ResponseWriter, r *request, limit int64) ([]byte, bool) {
	body, ok := h.readBody(w, r, limit)
	if ok {
		latest := time.Now().Add(h.o.HandshakeTimeout + 2*wire.MaxStreamTimeout + answerTimeout)
		_ = http.NewResponseController(w).SetWriteDeadline(latest) // the server's connections have deadlines
	}
	return body, ok
}

// ask puts a new stream to its device. An answer does not count when the stream has
// ended in the meantime, or its credential was taken away.
func (h *Hub) ask(ctx context.Context, s rendezvous.Stream, offer wire.Offer, wait, answer time.Duration) (Answer, error) {
	said, err := h.bus.Ask(ctx, s.Device, wait, Request{
		Generation: s.Generation, Timeout: answer,
		Stream: &StreamOffer{ID: s.ID, Name: s.Name, Created: s.Created, Expires: s.Created.Add(h.o.HandshakeTimeout), Service: offer},
	})
	if err != nil || !said.Accepted {
		return said, err
	}
	h.rendezvous.Admit(s.ID, said.Credential)
	err = h.stands(ctx, streamToken{Side: wire.SideDevice, Device: s.Device, Generation: s.Generation, Credential: said.Credential})
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return said, err
}

// answer tells the service, which made the offer, what the device said.
func (h *Hub) answer(w http.ResponseWriter, r *request, s rendezvous.Stream, offer wire.Offer, said Answer) {
	if !said.Accepted {
		h.rendezvous.End(s.ID, wire.EndRejected)
		w.Header().Set(wire.HeaderIsAccepted, wire.Rejected)
		w.WriteHeader(http.StatusOK)
		return
	}
	t := streamToken{
		Stream: s.ID, Side: wire.SideService, Device: s.Device, Generation: s.Generation,
		Policy: s.Policy, Credential: s.PolicyCredential, Expires: expiry(s.Created.Add(h.o.HandshakeTimeout)),
	}.granted(said.Grant, offer, s.Created)
	if said.Grant.Extended {
		t.Peer = said.Instance
		w.Header().Set(wire.HeaderStream, said.Grant.Header())
	}
	w.Header().Set(wire.HeaderIsAccepted, wire.Accepted)
	w.Header().Set(wire.HeaderStreamURL, h.streamURL(r.Host, s.ID))
	w.Header().Set(wire.HeaderStreamToken, h.token.mint(t).Reveal())
	w.WriteHeader(http.StatusOK)
}

// timeouts reads how long the service lets the hub wait for the device to connect,
// and for its answer. The C# SDK leaves a time-out of 0 out.
func timeouts(header http.Header) (connect, answer time.Duration, ok bool) {
	answer = wire.DefaultResponseTimeout
	if s := header.Get(wire.HeaderConnectTimeout); s != "" {
		if connect, ok = wire.ParseSeconds(s); !ok {
			return 0, 0, false
		}
	}
	if s := header.Get(wire.HeaderResponseTimeout); s != "" {
		if answer, ok = wire.ParseSeconds(s); !ok {
			return 0, 0, false
		}
	}
	return connect, answer, true
}

// noDevice answers for an identity that is not there, or disabled, or cannot be read.
func (h *Hub) noDevice(w http.ResponseWriter, r *request, err error) {
	if err == nil {
		h.refuse(w, r, wire.ErrDeviceNotFound, "device "+quote(r.id)+" is disabled")
		return
	}
	h.failed(w, r, err)
}

// noRoom answers for an error of Create.
func (h *Hub) noRoom(w http.ResponseWriter, r *request, err error) {
	if errors.Is(err, rendezvous.ErrStopping) {
		h.refuse(w, r, wire.ErrUnavailable, err.Error())
		return
	}
	h.log.Warn("stream refused", "device", r.target(), "name", r.name, "policy", r.principal.policy, "err", err)
	h.refuse(w, r, wire.ErrThrottling, err.Error())
}

// notAsked answers for an error of ask, and ends the stream that came to nothing.
func (h *Hub) notAsked(w http.ResponseWriter, r *request, s rendezvous.Stream, d wire.Device, err error, wait, answer time.Duration) {
	reason, code, message, timeout := wire.EndOffline, wire.ErrUnavailable, err.Error(), time.Duration(0)
	var early wire.EndReason // why the stream had ended by itself
	if ended, ok := errors.AsType[*rendezvous.EndedError](err); ok {
		early = ended.Reason
	}
	switch {
	case early == wire.EndStopping:
		message = rendezvous.ErrStopping.Error()
	case early == wire.EndRevoked, errors.Is(err, errRevoked):
		reason, code, message = wire.EndRevoked, wire.ErrDeviceNotFound, errRevoked.Error()
	case early == "" && r.Context().Err() != nil:
		reason, message = wire.EndAborted, "the service went away before the device answered"
	case errors.Is(err, errNotConnected):
		code, message, timeout = wire.ErrDeviceNotOnline, offline(d, time.Now()), wait
	case errors.Is(err, errNoAnswer):
		reason, code, timeout = wire.EndExpired, wire.ErrGatewayTimeout, answer
	case early == wire.EndExpired:
		code, message, timeout = wire.ErrGatewayTimeout, "the stream's handshake time is over", h.o.HandshakeTimeout
	case errors.Is(err, errDeviceBusy):
		reason, code = wire.EndRejected, wire.ErrThrottling
	default:
		h.log.Warn("ask device for a stream", "device", s.Device, "stream", s.ID, "err", err)
	}
	h.rendezvous.End(s.ID, reason) // unless it has ended
	h.refuseAfter(w, r, code, message, timeout)
}

// offline says that a device is not connected, and since when.
func offline(d wire.Device, now time.Time) string {
	text := errNotConnected.Error()
	if !d.LastActivityTime.IsZero() {
		text += " (last seen " + ago(now.Sub(d.LastActivityTime.Time)) + " ago)"
	}
	return text
}

// ago writes a time span in one unit, as one would say it.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// streamURL is where a leg goes, under the name by which the client knows the hub.
// The port is always written out: the C SDK needs it.
func (h *Hub) streamURL(host, stream string) string {
	return "wss://" + h.names.address(host) + wire.PathBridges + stream
}

// newID is 128 random bits, hex.
func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}
