package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub/store"
)

// makeCert returns a certificate that signs itself, which is a CA's unless change, which
// may be nil, has it otherwise.
func makeCert(t *testing.T, name string, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: noon.Add(-time.Hour), NotAfter: later,
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestCALife(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	cert := makeCert(t, "plant 7", nil)
	sum := sha256.Sum256(cert.Raw)
	fingerprint := hex.EncodeToString(sum[:])
	if list, err := r.CAs(ctx); err != nil || len(list) != 0 {
		t.Errorf("CAs = %v, %v", list, err)
	}
	added, err := r.AddCA(ctx, cert, noon)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode([]byte(added.Certificate))
	if added.Fingerprint != fingerprint || added.Subject != "CN=plant 7" || !added.NotAfter.Equal(cert.NotAfter) || !added.Created.Equal(noon) ||
		added.VerificationCode != "" || block == nil || block.Type != "CERTIFICATE" || string(block.Bytes) != string(cert.Raw) || len(rest) != 0 {
		t.Errorf("added %+v", added)
	}
	if again, err := r.AddCA(ctx, cert, later.Add(time.Hour)); err != nil || again != added {
		t.Errorf("added again %+v, %v", again, err)
	}
	if got, err := r.CA(ctx, fingerprint); err != nil || got.CA != added || !got.Cert.Equal(cert) {
		t.Errorf("CA = %+v, %v", got, err)
	}
	other := makeCert(t, "plant 7", nil) // of the same name, with another key
	if _, err := r.AddCA(ctx, other, noon); err != nil {
		t.Fatal(err)
	}
	list, err := New(r.store).CAs(ctx)
	if err != nil || len(list) != 2 || list[0].Fingerprint >= list[1].Fingerprint || !list[0].Cert.Equal(cert) && !list[1].Cert.Equal(cert) {
		t.Errorf("CAs = %v, %v", list, err)
	}
	if err := r.RemoveCA(ctx, fingerprint); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"get":          second(r.CA(ctx, fingerprint)),
		"remove again": r.RemoveCA(ctx, fingerprint),
		"remove none":  r.RemoveCA(ctx, ""),
		"other case":   second(r.CA(ctx, strings.ToUpper(caFingerprint(other)))),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list, err := r.CAs(ctx); err != nil || len(list) != 1 || !list[0].Cert.Equal(other) {
		t.Errorf("CAs = %v, %v", list, err)
	}
}

func TestInvalidCAs(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	for name, change := range map[string]func(*x509.Certificate){
		"a leaf":         func(c *x509.Certificate) { c.IsCA = false },
		"no constraints": func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false },
		"for signing":    func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature },
		"expired":        func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) },
	} {
		_, err := r.AddCA(ctx, makeCert(t, "x", change), noon)
		t.Run(name, func(t *testing.T) { wantInvalid(t, err, "certificate") })
	}
	if list, err := r.CAs(ctx); err != nil || len(list) != 0 {
		t.Errorf("CAs = %v, %v", list, err)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"any usage":         func(c *x509.Certificate) { c.KeyUsage = 0 },
		"the last second":   func(c *x509.Certificate) { c.NotAfter = noon.Truncate(time.Second).Add(time.Second) },
		"not valid as yet":  func(c *x509.Certificate) { c.NotBefore = later.Add(-time.Second) },
		"a subject of none": func(c *x509.Certificate) { c.Subject = pkix.Name{} },
	} {
		if _, err := r.AddCA(ctx, makeCert(t, "x", change), noon); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHundredCAs(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	cert := makeCert(t, "x", nil)
	full := map[string][]byte{}
	for i := range maxCAs - 2 {
		full[fmt.Sprintf("%064x", i)], _ = json.Marshal(storedCA{stamp(noon), cert.Raw})
	}
	if err := r.store.PutAll(ctx, store.KindCA, full); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range cap(errs) {
		other := makeCert(t, "x", nil)
		wg.Go(func() {
			_, err := r.AddCA(ctx, other, noon)
			errs <- err
		})
	}
	wg.Wait()
	refused := 0
	for range cap(errs) {
		if err := <-errs; err != nil {
			wantInvalid(t, err, "certificate")
			refused++
		}
	}
	if list, err := r.CAs(ctx); err != nil || len(list) != maxCAs || refused != 2 {
		t.Errorf("%d CAs, %d refused, %v", len(list), refused, err)
	}
}

func TestDamagedCA(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	for key, value := range map[string]string{"a": "?", "b": `{"der":"AAAA"}`} {
		if err := r.store.PutAll(ctx, store.KindCA, map[string][]byte{key: []byte(value)}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.CA(ctx, key); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("CA: %v", err)
		}
		if _, err := r.CAs(ctx); err == nil {
			t.Error("CAs leaves out what it cannot read")
		}
	}
}
