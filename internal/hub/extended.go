package hub

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/hub/rendezvous"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

var (
	errNotExtended = errors.New("the stream takes a WebSocket of " + wire.SubprotocolExtended + ", with " + wire.HeaderJoin)
	errInstance    = errors.New("the secret is not that of the instance the stream token was made for")
)

// joinExtended lets the bearer of a token of an extended stream join it, as often as the
// token allows. What is looked at, in which order, and what the answers mean, is in
// docs/farport-v1.md, section 2.
func (h *Hub) joinExtended(w http.ResponseWriter, r *request, t streamToken) {
	join, ok := wire.ParseJoin(r.Header.Get(wire.HeaderJoin))
	if !ok || !isExtended(r.Header) || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		h.refuseLeg(w, r, t, wire.ErrArgumentInvalid, errNotExtended)
		return
	}
	seat, err := h.seat(r, t, join)
	if err != nil {
		h.notSeated(w, r, t, err)
		return
	}
	header := http.Header{}
	if t.Window > 0 {
		header.Set(wire.HeaderToken, h.renewed(t).Reveal())
	}
	leg, err := stream.AcceptLeg(w, r.Request, header)
	if err != nil {
		h.log.Debug("leg not accepted", "stream", t.Stream, "side", t.Side, "err", err)
		seat.Abandon()
		return
	}
	h.log.Debug("leg joined", "stream", t.Stream, "device", t.Device, "side", t.Side, "join", join, "remote", r.RemoteAddr)
	seat.Take(leg)
}

// isExtended reports whether a handshake asks for a leg of an extended stream.
func isExtended(header http.Header) bool {
	for _, value := range header.Values("Sec-WebSocket-Protocol") {
		for offered := range strings.SplitSeq(value, ",") {
			if strings.TrimSpace(offered) == wire.SubprotocolExtended {
				return true
			}
		}
	}
	return false
}

// seat takes a seat on the token's stream. What the token stands on is looked at before,
// as a dead token must not evict a leg, and after, when taking it away would end the
// stream.
func (h *Hub) seat(r *request, t streamToken, join uint64) (*rendezvous.Seat, error) {
	id := wire.InstanceID(r.Header.Get(wire.HeaderInstance))
	if subtle.ConstantTimeCompare([]byte(id), []byte(t.Instance)) != 1 {
		return nil, errInstance
	}
	if err := h.lasts(r.Context(), t); err != nil {
		return nil, err
	}
	e := rendezvous.Entry{
		Stream: rendezvous.Stream{
			ID: t.Stream, Device: t.Device, Generation: t.Generation, Policy: t.Policy, Created: time.UnixMilli(t.Minted),
		},
		Guest: rendezvous.Guest{Remote: r.RemoteAddr, Credential: t.Credential},
		Side:  t.Side, Join: join, Instance: t.Instance, Peer: t.Peer, Window: time.Duration(t.Window) * time.Second,
	}
	if t.Side == wire.SideService {
		e.PolicyCredential = t.Credential
	}
	seat, err := h.rendezvous.Enter(e)
	if err != nil {
		return nil, err
	}
	if err := h.lasts(r.Context(), t); err != nil {
		if errors.Is(err, errRevoked) {
			h.rendezvous.End(t.Stream, wire.EndRevoked)
		}
		seat.Abandon()
		return nil, err
	}
	return seat, nil
}

// lasts is stands for a stream that may have been without legs while its rights changed:
// one that is older than its device's status has been cut off, also if the device has
// been enabled again. A module shares its device's status.
func (h *Hub) lasts(ctx context.Context, t streamToken) error {
	if err := h.stands(ctx, t); err != nil {
		return err
	}
	owner, _ := wire.SplitTarget(t.Device)
	d, err := h.registry.Get(ctx, owner)
	if errors.Is(err, registry.ErrNotFound) || err == nil && t.Minted < d.StatusUpdatedTime.UnixMilli() {
		return errRevoked
	}
	return err
}

// renewed is a token like t, good for a whole token's life from now.
func (h *Hub) renewed(t streamToken) credential.Secret {
	t.Expires = time.Now().Add(wire.ResumeTokenLife).Unix()
	return h.token.mint(t)
}

// notSeated answers for an error of seat.
func (h *Hub) notSeated(w http.ResponseWriter, r *request, t streamToken, err error) {
	final := func(code wire.ErrorCode, reason wire.EndReason) {
		w.Header().Set(wire.HeaderEnd, string(reason))
		h.refuseLeg(w, r, t, code, err)
	}
	refusal, refused := errors.AsType[*rendezvous.Refusal](err)
	switch {
	case errors.Is(err, errInstance):
		h.log.Warn("a stream token came without its instance's secret: it may have leaked", "stream", t.Stream,
			"device", t.Device, "side", t.Side, "remote", r.RemoteAddr)
		final(wire.ErrUnauthorizedAccess, wire.EndRefused)
	case errors.Is(err, errRevoked):
		final(wire.ErrStreamGone, wire.EndRevoked)
	case !refused:
		w.Header().Set("Retry-After", wire.FormatSeconds(time.Second))
		h.failed(w, r, err)
	case refusal.Ended == wire.EndRefused:
		final(wire.ErrUnauthorizedAccess, wire.EndRefused)
	case refusal.Ended != "": // no news
		w.Header().Set(wire.HeaderEnd, string(refusal.Ended))
		h.refuse(w, r, wire.ErrStreamGone, err.Error())
	case refusal.Highest > 0:
		w.Header().Set(wire.HeaderJoin, wire.FormatJoin(refusal.Highest))
		h.refuseLeg(w, r, t, wire.ErrStaleJoin, err)
	default:
		w.Header().Set("Retry-After", wire.FormatSeconds(refusal.RetryAfter))
		h.refuse(w, r, wire.ErrUnavailable, err.Error())
	}
}
