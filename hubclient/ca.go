package hubclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/farportio/farport/internal/wire"
)

// ListCAs returns the CAs that vouch for devices. Only farport's hub can tell, as with
// all that is asked about CAs; Azure's answers with a *HubError.
func (s *Service) ListCAs(ctx context.Context) ([]CA, error) {
	var got []CA
	if _, err := s.do(ctx, call{method: http.MethodGet, path: wire.PathCAs, result: &got, limit: maxList}); err != nil {
		return nil, fmt.Errorf("list CAs on %s: %w", s.hub.authority(), err)
	}
	return got, nil
}

// RegisterCA lets a CA vouch for devices. Without a proof nothing is stored: the CA
// that comes back has a VerificationCode, for which the CA is to sign a certificate
// that goes with the second call as its proof.
func (s *Service) RegisterCA(ctx context.Context, p CAProposal) (CA, error) {
	var got CA
	if _, err := s.do(ctx, call{method: http.MethodPost, path: wire.PathCAs, body: p, result: &got}); err != nil {
		return CA{}, fmt.Errorf("register CA on %s: %w", s.hub.authority(), err)
	}
	return got, nil
}

// RemoveCA takes the CA with that fingerprint, 64 hex digits, its right to vouch for
// devices. ErrCANotFound when there is none.
func (s *Service) RemoveCA(ctx context.Context, fingerprint string) error {
	if err := s.removeCA(ctx, fingerprint); err != nil {
		return fmt.Errorf("remove CA %s on %s: %w", quote(fingerprint), s.hub.authority(), err)
	}
	return nil
}

func (s *Service) removeCA(ctx context.Context, fingerprint string) error {
	sum, err := hex.DecodeString(fingerprint)
	if err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("%w of a CA, which has %d hex digits", ErrBadName, 2*sha256.Size)
	}
	_, err = s.do(ctx, call{method: http.MethodDelete, path: wire.CAPath(hex.EncodeToString(sum))})
	if refused, ok := errors.AsType[*HubError](err); ok && refused.has(wire.ErrNotFound) {
		return ErrCANotFound
	}
	return err
}
