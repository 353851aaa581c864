package hub

import (
	"context"
	"crypto/sha1" //nolint:gosec // thumbprints may be SHA-1 (docs/protocol.md, SAS tokens): a name of 160 bits, not a signature
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/broker"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/wire"
)

// authenticateDevice is the broker's question who a device is. Whatever is wrong,
// the device hears no more than that it is refused.
func (h *Hub) authenticateDevice(ctx context.Context, l broker.Login) (broker.Identity, error) {
	id, err := h.identify(ctx, l)
	if err != nil {
		h.log.Warn("device refused", "device", l.ClientID, "remote", l.Remote, "err", err)
	}
	return id, err
}

// identify finds out whether a login is the identity that it says. A token is
// looked at where there is one, else the client certificate.
func (h *Hub) identify(ctx context.Context, l broker.Login) (broker.Identity, error) {
	d, err := h.registry.Get(ctx, l.ClientID) // the zero value when there is none
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return broker.Identity{}, err
	}
	id := broker.Identity{Name: strings.Clone(l.ClientID), GenerationID: d.GenerationID, Host: l.User.Host}
	if l.Password != "" {
		err = h.byToken(ctx, &id, d, l)
	} else {
		id.CredentialID, err = h.byCertificate(ctx, d, l.TLS)
	}
	if err == nil {
		err = enabled(d)
	}
	if broken, ok := errors.AsType[unavailable](err); ok {
		return broker.Identity{}, broken
	}
	if err != nil {
		return broker.Identity{}, fmt.Errorf("%w: %w", broker.ErrRefused, err)
	}
	return id, nil
}

// byToken checks the SAS token of a login, and notes in id which key signed it and
// until when it holds.
func (h *Hub) byToken(ctx context.Context, id *broker.Identity, d wire.Device, l broker.Login) error {
	token, err := credential.ParseSAS(l.Password.Reveal())
	if err != nil {
		return err
	}
	key, err := h.deviceKey(ctx, d, token)
	if err != nil {
		return err
	}
	covers := token.CoversOwner
	if token.Policy != "" {
		covers = token.Covers
	}
	segments := []string{"devices", l.User.DeviceID}
	if l.User.ModuleID != "" {
		segments = append(segments, "modules", l.User.ModuleID)
	}
	id.CredentialID, id.Expires = key.ID(), token.Expires.Add(credential.ClockGrace)
	return h.judge(token, covers, segments...)
}

// deviceKey finds the key that signed a device's token: one of its own, or one of
// a policy with the right to connect as any device. d is the zero value when there
// is none.
func (h *Hub) deviceKey(ctx context.Context, d wire.Device, token credential.SAS) (credential.Key, error) {
	if token.Policy != "" {
		policy, key, err := h.policyOf(ctx, token)
		if err == nil && !policy.Rights.Has(registry.DeviceConnect) {
			err = fmt.Errorf("policy %q may not connect as a device", policy.Name)
		}
		return key, err
	}
	keys := registry.DeviceKeys(d)
	if len(keys) == 0 {
		keys = []credential.Key{nobody, nobody}
	}
	key, ok := signer(token, keys...)
	if !ok {
		return key, errors.New("token is not signed with the device's key")
	}
	return key, nil
}

// maxChain bounds, in bytes, the certificates that a peer may present: TLS takes 256 KiB
// and keeps them as long as the connection (security.md T28).
const maxChain = 32 << 10

// boundChain ends a TLS handshake in which the peer presents more. A resumed session
// has only what was let in once.
func boundChain(raw [][]byte, _ [][]*x509.Certificate) error {
	size := 0
	for _, certificate := range raw {
		size += len(certificate)
	}
	if size > maxChain {
		return fmt.Errorf("the client's certificates have %d bytes, more than %d", size, maxChain)
	}
	return nil
}

// Prefixes of the credential IDs of certificates; those of keys have none.
const (
	byThumbprint = "thumbprint:"
	byCA         = "ca:"
)

// byCertificate checks a login's client certificate, as the identity's kind has it
// (security.md T26), and returns the ID of what admits it. TLS has seen that the peer
// holds the key, and verified nothing else.
func (h *Hub) byCertificate(ctx context.Context, d wire.Device, state *tls.ConnectionState) (string, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return "", errors.New("there is neither a token nor a client certificate")
	}
	if d.Authentication == nil {
		return "", errors.New("no such device")
	}
	switch d.Authentication.Type {
	case wire.AuthSelfSigned:
		return matchThumbprint(d, state.PeerCertificates[0])
	case wire.AuthCA:
		return h.verifyChain(ctx, d.Name(), state.PeerCertificates)
	}
	return "", errors.New("the identity signs in with a key, not with a certificate")
}

// matchThumbprint compares a certificate with the identity's thumbprints. Its dates do
// not count: the thumbprint alone is what was agreed on.
func matchThumbprint(d wire.Device, leaf *x509.Certificate) (string, error) {
	short, long := sha1.Sum(leaf.Raw), sha256.Sum256(leaf.Raw) //nolint:gosec // as above
	for _, known := range registry.Thumbprints(d) {
		if known == fmt.Sprintf("%X", short) || known == fmt.Sprintf("%X", long) {
			return byThumbprint + known, nil
		}
	}
	return "", fmt.Errorf("the certificate's thumbprint %X is not the identity's", long)
}

// verifyChain checks that a registered CA vouches for the peer under the identity's
// name. Of what the peer sent beside its own certificate nothing is a root.
func (h *Hub) verifyChain(ctx context.Context, name string, peer []*x509.Certificate) (string, error) {
	cas, err := h.registry.CAs(ctx)
	if err != nil {
		return "", unavailable{err}
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, ca := range cas {
		roots.AddCert(ca.Cert)
	}
	for _, c := range peer[1:] {
		intermediates.AddCert(c)
	}
	chains, err := peer[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", errors.New("no registered CA vouches for the certificate: " + short(err.Error())) // it quotes the peer's names
	}
	if !isCommonName(peer[0], name) {
		return "", fmt.Errorf("the certificate's subject %s does not have the one CN %q", quote(peer[0].Subject.String()), name)
	}
	root := chains[0][len(chains[0])-1]
	return byCA + fmt.Sprintf("%x", sha256.Sum256(root.Raw)), nil
}

// isCommonName reports whether name is the certificate's one subject CN.
func isCommonName(c *x509.Certificate, name string) bool {
	n, commonName := 0, asn1.ObjectIdentifier{2, 5, 4, 3}
	for _, attribute := range c.Subject.Names {
		if attribute.Type.Equal(commonName) {
			n++
		}
	}
	return n == 1 && c.Subject.CommonName == name
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
	if thumbprint, ok := strings.CutPrefix(credentialID, byThumbprint); ok {
		return slices.Contains(registry.Thumbprints(d), thumbprint), nil
	}
	if fingerprint, ok := strings.CutPrefix(credentialID, byCA); ok {
		return h.admitsCA(ctx, d, fingerprint)
	}
	policies, err := h.registry.Policies(ctx)
	return slices.ContainsFunc(policies, func(p registry.Policy) bool {
		return p.Rights.Has(registry.DeviceConnect) && (byKey(p.Primary) || byKey(p.Secondary))
	}), err
}

func (h *Hub) admitsCA(ctx context.Context, d wire.Device, fingerprint string) (bool, error) {
	if d.Authentication == nil || d.Authentication.Type != wire.AuthCA {
		return false, nil
	}
	_, err := h.registry.CA(ctx, fingerprint)
	if errors.Is(err, registry.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
