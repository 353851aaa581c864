package hubclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"
)

// testCA signs certificates for 127.0.0.1 and more.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTestCA(t *testing.T) testCA {
	t.Helper()
	return sign(t, testCA{}, func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.KeyUsage = "test CA", true, x509.KeyUsageCertSign
	})
}

// sign makes a certificate, self-signed if by is zero.
func sign(t *testing.T, by testCA, change func(*x509.Certificate)) testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "hub"},
		NotBefore:             time.Now().Add(-48 * time.Hour),
		NotAfter:              time.Now().Add(48 * time.Hour),
		BasicConstraintsValid: true,
	}
	change(template)
	if by.cert == nil {
		by = testCA{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return testCA{cert, key}
}

// leaf makes a server certificate.
func (ca testCA) leaf(t *testing.T, change func(*x509.Certificate)) testCA {
	t.Helper()
	return sign(t, ca, func(c *x509.Certificate) {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		c.DNSNames = []string{"localhost"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if change != nil {
			change(c)
		}
	})
}

// rootsOf is a pool of one CA.
func rootsOf(ca testCA) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// chain is what a server presents: leaf first.
func (ca testCA) chain(rest ...testCA) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{ca.cert.Raw}, PrivateKey: ca.key}
	for _, r := range rest {
		c.Certificate = append(c.Certificate, r.cert.Raw)
	}
	return c
}
