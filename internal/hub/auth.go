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
	if err := h.judge(token, token.Covers, segments...); err != nil {
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

// judge checks what a properly signed token is for, and until when. covers is one of
// the token's ways to say the first.
func (h *Hub) judge(token credential.SAS, covers func(func(string) bool, ...string) bool, segments ...string) error {
	if !covers(h.names.has, segments...) {
		return &denied{"the token is made out to another hub or resource (the hub's names are " + strings.Join(h.names.order, ", ") + ")"}
	}
	if token.ExpiredAt(time.Now()) {
		return &denied{"the token expired on " + token.Expires.UTC().Format(time.RFC3339) + "; is the clock right?"}
	}
	return nil
}
