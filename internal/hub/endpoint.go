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
	ok, err := h.stands(r.Context(), token)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	if !ok {
		h.refuseLeg(w, r, token, wire.ErrUnauthorizedAccess, errors.New("the right that the stream was opened with has been taken away"))
		return
	}
	place, err := h.rendezvous.Claim(token.Stream, token.Side)
	if err != nil {
		code := wire.ErrStreamGone
		if errors.Is(err, rendezvous.ErrTaken) {
			code = wire.ErrUnauthorizedAccess
		}
		h.refuseLeg(w, r, token, code, err)
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

// stands reports whether the identity, and for the service's side the policy, that
// a token was minted for still let its bearer in.
func (h *Hub) stands(ctx context.Context, t streamToken) (bool, error) {
	device, err := h.registry.Get(ctx, t.Device)
	if errors.Is(err, registry.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if t.Side == wire.SideDevice {
		return h.admits(ctx, device, t.Generation, t.Credential)
	}
	policy, err := h.registry.Policy(ctx, t.Policy)
	if errors.Is(err, registry.ErrNotFound) {
		return false, nil
	}
	byKey := func(k credential.Key) bool { return k.ID() == t.Credential }
	return enabled(device) == nil && device.GenerationID == t.Generation &&
		policy.Rights.Has(registry.ServiceConnect) && (byKey(policy.Primary) || byKey(policy.Secondary)), err
}

// refuseLeg turns a leg away, before the upgrade. That somebody came with a token
// that was used before, or with a forged one, is for the log (security.md T14).
func (h *Hub) refuseLeg(w http.ResponseWriter, r *request, t streamToken, code wire.ErrorCode, err error) {
	h.log.Warn("leg refused", "stream", quote(r.id), "device", t.Device, "side", t.Side, "remote", r.RemoteAddr, "err", err, "tracking", r.tracking)
	wire.WriteError(w, code, err.Error(), r.tracking, 0)
}

// quote makes a text that somebody sent fit for a message: quoted, escaped, short
// (security.md T38).
func quote(s string) string {
	const most = 256
	if len(s) > most {
		s = s[:most]
	}
	return fmt.Sprintf("%q", s)
}
