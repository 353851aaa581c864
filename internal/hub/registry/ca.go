package registry

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// maxCAs is how many CAs a hub takes; Azure takes 100 too.
const maxCAs = 100

// CA is a registered certificate authority. It vouches for identities of type
// certificateAuthority.
type CA struct {
	wire.CA
	Cert *x509.Certificate
}

// storedCA is a CA as it is kept, under its fingerprint.
type storedCA struct {
	Created wire.Time `json:"created"`
	DER     []byte    `json:"der"`
}

// AddCA registers a CA at the given time and returns it, or what there is when it was
// registered before. Whether the caller has the CA's key is for the hub to find out.
// Error: *InvalidError when it is no CA certificate, or expired, or there are as many
// CAs as a hub takes; or the store's.
func (r *Registry) AddCA(ctx context.Context, cert *x509.Certificate, at time.Time) (wire.CA, error) {
	added, err := r.addCA(ctx, cert, at)
	if err != nil {
		return wire.CA{}, fmt.Errorf("add CA %s: %w", caFingerprint(cert), err)
	}
	return added.CA, nil
}

func (r *Registry) addCA(ctx context.Context, cert *x509.Certificate, at time.Time) (CA, error) {
	r.adding.Lock()
	defer r.adding.Unlock()
	if known, err := r.CA(ctx, caFingerprint(cert)); !errors.Is(err, ErrNotFound) {
		return known, err
	}
	if _, err := NewCA(cert, at); err != nil {
		return CA{}, err
	}
	all, err := r.store.List(ctx, store.KindCA, "", maxCAs)
	if err != nil {
		return CA{}, err
	}
	if len(all) >= maxCAs {
		return CA{}, &InvalidError{"certificate", fmt.Sprintf("this hub has %d CAs already, the most it takes", maxCAs)}
	}
	value, err := json.Marshal(storedCA{stamp(at), cert.Raw})
	if err != nil {
		return CA{}, err
	}
	if _, err := r.store.Create(ctx, store.KindCA, caFingerprint(cert), value); err != nil && !errors.Is(err, store.ErrExists) {
		return CA{}, err
	}
	return r.CA(ctx, caFingerprint(cert))
}

// CA returns one registered CA by its fingerprint. Error: ErrNotFound or the store's.
func (r *Registry) CA(ctx context.Context, fingerprint string) (CA, error) {
	record, err := r.store.Get(ctx, store.KindCA, fingerprint)
	if errors.Is(err, store.ErrNotFound) {
		return CA{}, fmt.Errorf("get CA %q: %w", fingerprint, ErrNotFound)
	}
	if err != nil {
		return CA{}, err // names the CA
	}
	return decodeCA(record)
}

// CAs returns all registered CAs, by fingerprint; those that have expired too.
func (r *Registry) CAs(ctx context.Context) ([]CA, error) {
	records, err := r.store.List(ctx, store.KindCA, "", maxCAs)
	if err != nil {
		return nil, err
	}
	all := make([]CA, 0, len(records))
	for _, record := range records {
		ca, err := decodeCA(record)
		if err != nil {
			return nil, err
		}
		all = append(all, ca)
	}
	return all, nil
}

// RemoveCA forgets a CA. Error: ErrNotFound or the store's.
func (r *Registry) RemoveCA(ctx context.Context, fingerprint string) error {
	err := r.store.Delete(ctx, store.KindCA, fingerprint, 0)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("remove CA %q: %w", fingerprint, ErrNotFound)
	}
	return err // names the CA
}

// NewCA is what AddCA would register, without doing so. Error: *InvalidError when it is
// no CA certificate, or expired.
func NewCA(cert *x509.Certificate, at time.Time) (wire.CA, error) {
	invalid := func(problem string) (wire.CA, error) { return wire.CA{}, &InvalidError{"certificate", problem} }
	switch {
	case !cert.BasicConstraintsValid || !cert.IsCA:
		return invalid("is not that of a CA: its basic constraints do not say so")
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return invalid("is not for signing certificates: its key usage does not say so")
	case at.After(cert.NotAfter):
		return invalid("has expired, on " + cert.NotAfter.UTC().Format(time.DateTime) + " UTC")
	}
	return describeCA(cert, stamp(at)), nil
}

func describeCA(cert *x509.Certificate, created wire.Time) wire.CA {
	return wire.CA{
		Fingerprint: caFingerprint(cert),
		Subject:     cert.Subject.String(),
		NotAfter:    stamp(cert.NotAfter),
		Created:     created,
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})),
	}
}

func decodeCA(record store.Record) (CA, error) {
	var s storedCA
	err := json.Unmarshal(record.Value, &s)
	var cert *x509.Certificate
	if err == nil {
		cert, err = x509.ParseCertificate(s.DER)
	}
	if err != nil {
		return CA{}, fmt.Errorf("read stored CA %q: %w", record.Key, err)
	}
	return CA{Cert: cert, CA: describeCA(cert, s.Created)}, nil
}

// caFingerprint is what a CA is called by: the SHA-256 of its DER.
func caFingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}
