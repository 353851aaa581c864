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

// joinStream is the streaming endpoint: it lets the bearer of a stream token join
// that stream on that side, once (docs/protocol.md, The streaming endpoint).
func (h *Hub) joinStream(w http.ResponseWriter, r *request) {
	token, err := h.bearer(r)
	if err != nil {
		h.refuseLeg(w, r, token, wire.ErrUnauthorizedAccess, err)
		return
	}
	place, err := h.claim(r, token)
	switch {
	case errors.Is(err, rendezvous.ErrUnknown):
		h.refuseLeg(w, r, token, wire.ErrStreamGone, err)
		return
	case errors.Is(err, rendezvous.ErrTaken), errors.Is(err, errRevoked):
		h.refuseLeg(w, r, token, wire.ErrUnauthorizedAccess, err)
		return
	case err != nil:
		h.failed(w, r, err)
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
	place, err := h.rendezvous.Claim(t.Stream, t.Side)
	if err != nil {
		return nil, err
	}
	h.noteLeg(t.Stream, t.Side, leg{remote: r.RemoteAddr, credential: t.Credential})
	if t.Side == wire.SideDevice {
		h.rendezvous.Admit(t.Stream, t.Credential)
	}
	if err := h.stands(r.Context(), t); err != nil {
		h.rendezvous.End(t.Stream, wire.EndRevoked)
		return nil, err
	}
	return place, nil
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
	h.log.Warn("leg refused", "stream", escaped(r.id), "device", t.Device, "side", t.Side, "remote", r.RemoteAddr,
		"taken_from", h.legOf(t.Stream, t.Side).remote, "err", err, "tracking", r.tracking)
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
