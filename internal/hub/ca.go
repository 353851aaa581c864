package hub

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// Lives of the certificates that the private CA makes. The CA's own has to outlive
// every device that pins it.
const (
	caLife     = 30 * 365 * 24 * time.Hour
	serverLife = 397 * 24 * time.Hour
	renewAhead = 30 * 24 * time.Hour
	renewRetry = 10 * time.Minute // between attempts, when the CA's key cannot be read
	clockSlack = 24 * time.Hour   // certificates start this much in the past
)

// authority is the hub's private CA. Its key stays in its file, which is read only
// to make a server certificate.
type authority struct {
	cert    *x509.Certificate
	keyFile string
}

// newAuthority makes a CA: its certificate, and the PEM of its key.
func newAuthority() (cert *x509.Certificate, keyPEM []byte, err error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "farport hub CA " + hex.EncodeToString(serial.Bytes()[:4])},
		NotBefore:             now.Add(-clockSlack),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if cert, err = sign(template, template, key.Public(), key); err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return cert, keyPEM, err
}

// fingerprint is the CA's name in connection strings: SHA-256 of its DER, hex.
func (a *authority) fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	return hex.EncodeToString(sum[:])
}

// issue makes a server certificate for the names, with the CA's own at the end of
// its chain: clients that pin the CA look for it there.
func (a *authority) issue(hosts []string, key crypto.Signer) (*tls.Certificate, error) {
	caKey, err := a.readKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: hosts[0]},
		NotBefore:    now.Add(-clockSlack),
		NotAfter:     now.Add(serverLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if len(hosts[0]) > 64 { // RFC 5280 A.1, ub-common-name
		template.Subject = pkix.Name{}
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	leaf, err := sign(template, a.cert, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func (a *authority) readKey() (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(a.keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the private CA's key: %w", err)
	}
	pair, err := tls.X509KeyPair(encodeCert(a.cert.Raw), text)
	if err != nil {
		return nil, fmt.Errorf("private CA's key %s: %w", a.keyFile, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private CA's key %s: not an ECDSA key", a.keyFile)
	}
	return key, nil
}

// parseAuthority reads a CA's certificate. One that is not whole does not verify
// itself, and would lock out all clients that know the CA by its fingerprint.
func parseAuthority(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("not a PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err == nil {
		err = cert.CheckSignatureFrom(cert)
	}
	return cert, err
}

// serves reports whether cert, one of the CA's, names every host and is not about to
// expire.
func serves(cert *tls.Certificate, hosts []string, now time.Time) bool {
	if now.Add(renewAhead).After(cert.Leaf.NotAfter) {
		return false
	}
	return !slices.ContainsFunc(hosts, func(h string) bool { return cert.Leaf.VerifyHostname(h) != nil })
}

// ownCertificate is the hub's certificate from its private CA. It renews itself in
// memory while the hub runs; the next start writes a new one.
type ownCertificate struct {
	ca    *authority
	hosts []string
	log   *slog.Logger

	mu    sync.Mutex
	cert  *tls.Certificate
	again time.Time // no attempt to renew before
}

// get is for tls.Config.GetCertificate. It makes a new certificate in good time;
// while that fails, the old one still serves.
func (o *ownCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := time.Now()
	o.mu.Lock()
	cert, due := o.cert, now.After(o.again) && !serves(o.cert, o.hosts, now)
	if due {
		o.again = now.Add(renewRetry) // also keeps others from doing the same at once
	}
	o.mu.Unlock()
	if !due {
		return cert, nil
	}
	fresh, err := o.ca.issue(o.hosts, cert.PrivateKey.(crypto.Signer))
	if err != nil {
		o.log.Error("renew the server certificate", "expires", cert.Leaf.NotAfter, "err", err)
		return cert, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cert = fresh
	return fresh, nil
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// newSerial makes a serial number: positive, random, of 127 bits (RFC 5280
// §4.1.2.2).
func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return serial.SetBit(serial, 126, 1), nil
}

func sign(template, parent *x509.Certificate, key crypto.PublicKey, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// encodeCert writes a chain of certificates as PEM.
func encodeCert(chain ...[]byte) []byte {
	var text []byte
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

func encodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
