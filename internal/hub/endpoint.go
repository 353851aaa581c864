package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/hub/rendezvous"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// errRevoked says that the right to a stream has been taken away.
var errRevoked = errors.New("the right that the stream was opened with has been taken away")

// joinStream is the streaming endpoint: it lets the bearer of a stream token join
// that stream on that side, once (docs/protocol.md, The streaming endpoint).
func (h *Hub) joinStream(w http.ResponseWriter, r *request) {
	token, err := h.bearer(r)
	if err != nil {
		if isExtended(r.Header) {
			w.Header().Set(wire.HeaderEnd, string(wire.EndRefused))
		}
		h.refuseLeg(w, r, token, wire.ErrUnauthorizedAccess, err)
		return
	}
	if token.Instance != "" {
		h.joinExtended(w, r, token)
		return
	}
	place, err := h.claim(r, token)
	if err != nil {
		h.notClaimed(w, r, token, err)
		return
	}
	leg, err := stream.Accept(w, r.Request)
	if err != nil {
		place.Abandon(err)
		return
	}
	h.log.Debug("leg joined", "stream", token.Stream, "device", token.Device, "side", token.Side, "remote", r.RemoteAddr)
	place.Join(leg)
}

// claim takes the token's place on its stream. What it stands on is looked at
// before, as a dead token must not use the place up, and after, when taking it away
// would end the stream.
func (h *Hub) claim(r *request, t streamToken) (*rendezvous.Place, error) {
	if err := h.stands(r.Context(), t); err != nil {
		return nil, err
	}
	place, err := h.rendezvous.Claim(t.Stream, t.Side, rendezvous.Guest{Remote: r.RemoteAddr, Credential: t.Credential})
	if err != nil {
		return nil, err
	}
	if err := h.stands(r.Context(), t); err != nil {
		h.rendezvous.End(t.Stream, wire.EndRevoked)
		return nil, err
	}
	return place, nil
}

// notClaimed answers for an error of claim.
func (h *Hub) notClaimed(w http.ResponseWriter, r *request, t streamToken, err error) {
	_, taken := errors.AsType[*rendezvous.TakenError](err)
	switch {
	case errors.Is(err, rendezvous.ErrUnknown):
		h.refuseLeg(w, r, t, wire.ErrStreamGone, err)
	case taken, errors.Is(err, errRevoked):
		h.refuseLeg(w, r, t, wire.ErrUnauthorizedAccess, err)
	default:
		h.failed(w, r, err)
	}
}

// bearer reads the stream token, which must be for the stream in the path.
func (h *Hub) bearer(r *request) (streamToken, error) {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return streamToken{}, errBadToken
	}
	token, err := h.token.verify(text, time.Now())
	if err == nil && token.Stream != r.id {
		err = errBadToken
	}
	return token, err
}

// stands returns errRevoked when the identity, or for the service's side the policy,
// that a token was minted for does not let its bearer in any more.
func (h *Hub) stands(ctx context.Context, t streamToken) error {
	device, err := h.registry.Get(ctx, t.Device) // the zero value when it has gone
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	var ok bool
	if t.Side == wire.SideService {
		ok, err = h.admitsService(ctx, device, t)
	} else {
		ok, err = h.admits(ctx, device, t.Generation, t.Credential)
	}
	if err == nil && !ok {
		err = errRevoked
	}
	return err
}

func (h *Hub) admitsService(ctx context.Context, device wire.Device, t streamToken) (bool, error) {
	policy, err := h.registry.Policy(ctx, t.Policy) // the zero value when it has gone
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return false, err
	}
	byKey := func(k credential.Key) bool { return k.ID() == t.Credential }
	return enabled(device) == nil && device.GenerationID == t.Generation &&
		policy.Rights.Has(registry.ServiceConnect) && (byKey(policy.Primary) || byKey(policy.Secondary)), nil
}

// refuseLeg turns a leg away, before the upgrade. That somebody came with a token
// that was used before, or with a forged one, is for the log (security.md T14).
func (h *Hub) refuseLeg(w http.ResponseWriter, r *request, t streamToken, code wire.ErrorCode, err error) {
	takenFrom := ""
	if taken, ok := errors.AsType[*rendezvous.TakenError](err); ok {
		takenFrom = taken.By.Remote
	}
	h.log.Warn("leg refused", "stream", escaped(r.id), "device", t.Device, "side", t.Side, "remote", r.RemoteAddr,
		"taken_from", takenFrom, "err", err, "tracking", r.tracking)
	wire.WriteError(w, code, err.Error(), r.tracking, 0)
}

// quote makes a text that somebody sent fit for a message: quoted, escaped, short
// (security.md T38).
func quote(s string) string {
	return fmt.Sprintf("%q", short(s))
}

// escaped is quote without the quotes, for what a log puts in quotes itself.
func escaped(s string) string {
	q := quote(s)
	return q[1 : len(q)-1]
}

// short cuts a text that somebody sent to what a log line may hold.
func short(s string) string { return s[:min(len(s), 256)] }
