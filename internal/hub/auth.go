package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/broker"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/wire"
)

// principal is who sent a request over HTTPS: a shared access policy. Devices have
// no business there; their identity is a broker.Identity.
type principal struct {
	policy     string
	rights     registry.Right
	credential string // ID of the key that signed
}

// may reports whether the principal has one of the rights; the error is for the
// caller's eyes.
func (p principal) may(rights registry.Right) error {
	if p.rights&rights != 0 {
		return nil
	}
	return &denied{fmt.Sprintf("policy %q lacks the right %s", p.policy, rights)}
}

// denied is a refusal whose reason may be told, since the caller has proved to
// hold a key. Any other error of this file is for the log alone.
type denied struct{ reason string }

func (d *denied) Error() string { return d.reason }

// unavailable is a failure of the registry: it says nothing about the caller.
type unavailable struct{ error }

func (u unavailable) Unwrap() error { return u.error }

// nobody stands in for the key of an identity or policy that does not exist, so
// that finding that out takes as long as checking a wrong key (security.md T1).
var nobody = credential.NewKey()

// authenticateService reads the SAS token of a request and finds its policy.
// segments are the path it has to cover.
func (h *Hub) authenticateService(r *http.Request, segments []string) (principal, error) {
	token, err := credential.ParseSAS(r.Header.Get("Authorization"))
	if err != nil {
		return principal{}, err
	}
	policy, key, err := h.policyOf(r.Context(), token)
	if err != nil {
		return principal{}, err
	}
	if err := h.judge(token, segments); err != nil {
		return principal{}, err
	}
	return principal{policy: policy.Name, rights: policy.Rights, credential: key.ID()}, nil
}

// policyOf finds the shared access policy that signed a token.
func (h *Hub) policyOf(ctx context.Context, token credential.SAS) (registry.Policy, credential.Key, error) {
	policy, err := h.registry.Policy(ctx, token.Policy)
	if errors.Is(err, registry.ErrNotFound) {
		policy, err = registry.Policy{Primary: nobody, Secondary: nobody}, nil
	}
	if err != nil {
		return policy, credential.Key{}, unavailable{err}
	}
	key, ok := signer(token, policy.Primary, policy.Secondary)
	if !ok || policy.Name == "" {
		return policy, credential.Key{}, fmt.Errorf("token of policy %s is not signed with its key", quote(token.Policy))
	}
	return policy, key, nil
}

// signer finds the key that signed a token, trying every one.
func signer(token credential.SAS, keys ...credential.Key) (found credential.Key, ok bool) {
	for _, key := range keys {
		if token.SignedBy(key) {
			found, ok = key, true
		}
	}
	return found, ok
}

// judge checks what a properly signed token is for, and until when.
func (h *Hub) judge(token credential.SAS, segments []string) error {
	if !token.Covers(h.names.has, segments...) {
		return &denied{"the token is made out to another hub or resource (the hub's names are " + strings.Join(h.names.order, ", ") + ")"}
	}
	if token.ExpiredAt(time.Now()) {
		return &denied{"the token expired on " + token.Expires.UTC().Format(time.RFC3339) + "; is the clock right?"}
	}
	return nil
}

// authenticateDevice is the broker's question who a device is. Whatever is wrong,
// the device hears no more than that it is refused.
func (h *Hub) authenticateDevice(ctx context.Context, l broker.Login) (broker.Identity, error) {
	id, err := h.identify(ctx, l)
	if err != nil {
		h.log.Warn("device refused", "device", l.User.DeviceID, "remote", l.Remote, "err", err)
	}
	return id, err
}

func (h *Hub) identify(ctx context.Context, l broker.Login) (broker.Identity, error) {
	refused := func(err error) (broker.Identity, error) {
		if broken, ok := errors.AsType[unavailable](err); ok {
			return broker.Identity{}, broken
		}
		return broker.Identity{}, fmt.Errorf("%w: %w", broker.ErrRefused, err)
	}
	if l.User.ModuleID != "" {
		return refused(errors.New("module identities are not known here"))
	}
	token, err := credential.ParseSAS(l.Password.Reveal())
	if err != nil {
		return refused(err)
	}
	device, err := h.registry.Get(ctx, l.User.DeviceID)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return broker.Identity{}, err
	}
	key, err := h.deviceKey(ctx, device, token)
	if err != nil {
		return refused(err)
	}
	if err := h.judge(token, []string{"devices", l.User.DeviceID}); err != nil {
		return refused(err)
	}
	return broker.Identity{
		Name:         device.Name(),
		GenerationID: device.GenerationID,
		CredentialID: key.ID(),
		Host:         l.User.Host,
		Expires:      token.Expires.Add(credential.ClockGrace),
	}, nil
}

// deviceKey finds the key that signed a device's token: one of its own, or one of
// a policy with the right to connect as any device. device is the zero value when
// there is none.
func (h *Hub) deviceKey(ctx context.Context, device wire.Device, token credential.SAS) (credential.Key, error) {
	if token.Policy != "" {
		policy, key, err := h.policyOf(ctx, token)
		if err != nil {
			return key, err
		}
		if !policy.Rights.Has(registry.DeviceConnect) {
			return key, fmt.Errorf("policy %q may not connect as a device", policy.Name)
		}
		return key, enabled(device)
	}
	keys := registry.DeviceKeys(device)
	if len(keys) == 0 {
		keys = []credential.Key{nobody, nobody}
	}
	key, ok := signer(token, keys...)
	if !ok {
		return key, errors.New("token is not signed with the device's key")
	}
	return key, enabled(device)
}

func enabled(d wire.Device) error {
	switch {
	case d.DeviceID == "":
		return errors.New("no such device")
	case d.Status != wire.StatusEnabled:
		return errors.New("device is disabled")
	}
	return nil
}

// admits reports whether the identity, as it is now, still lets in whoever came
// with this credential in this life of the identity. An empty credential stands
// for a device that has not come yet.
func (h *Hub) admits(ctx context.Context, d wire.Device, generation, credentialID string) (bool, error) {
	if enabled(d) != nil || d.GenerationID != generation {
		return false, nil
	}
	byKey := func(k credential.Key) bool { return k.ID() == credentialID }
	if credentialID == "" || slices.ContainsFunc(registry.DeviceKeys(d), byKey) {
		return true, nil
	}
	policies, err := h.registry.Policies(ctx)
	return slices.ContainsFunc(policies, func(p registry.Policy) bool {
		return p.Rights.Has(registry.DeviceConnect) && (byKey(p.Primary) || byKey(p.Secondary))
	}), err
}
