package hubclient

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// sessionCache is how many hosts TLS sessions are kept of: the hub and its
// streaming endpoints.
const sessionCache = 16

// trust decides which certificates are good, for the API, the control connection
// and the legs alike.
type trust struct {
	roots    *x509.CertPool // nil: the system's
	pin      string         // hex of the only CA to trust; "" when roots decide
	sessions tls.ClientSessionCache
}

func newTrust(pin string, roots *x509.CertPool) trust {
	return trust{roots: roots, pin: pin, sessions: tls.NewLRUClientSessionCache(sessionCache)}
}

// config is for connections to host alone. Sessions are shared by all configs of
// one trust.
func (t trust) config(host string) *tls.Config {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		RootCAs:            t.roots,
		ClientSessionCache: t.sessions,
		// Small records at the start are for web pages; legs carry bulk.
		DynamicRecordSizingDisabled: true,
	}
	if t.pin != "" {
		// The CA comes with the handshake, so crypto/tls cannot know it beforehand;
		// VerifyConnection also runs when a session is resumed.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if err := verifyPinned(state.PeerCertificates, host, t.pin); err != nil {
				return untrusted(host, state.PeerCertificates, err)
			}
			return nil
		}
	}
	return c
}

// verifyPinned checks name, dates, usage and chain as ever, against the one CA of
// the chain presented that has the fingerprint.
func verifyPinned(chain []*x509.Certificate, host, pin string) error {
	ca := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return fingerprint(c) == pin })
	switch {
	case ca < 0:
		return fmt.Errorf("none of the certificates presented is the pinned sha256:%s", pin)
	case !chain[ca].IsCA:
		return fmt.Errorf("the pinned sha256:%s is not the certificate of a CA", pin)
	case host == "":
		return errors.New("no host name to verify") // x509 would skip the check
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(chain[ca])
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName:       host,
		Roots:         roots,
		Intermediates: between,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return explain(host, err)
	}
	return nil
}

// fingerprint is the hex SHA-256 of the whole certificate.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// untrusted says that host's certificates failed the check.
func untrusted(host string, chain []*x509.Certificate, err error) *UntrustedError {
	e := &UntrustedError{Host: host, Err: err}
	if len(chain) > 0 {
		e.Fingerprint = "sha256:" + fingerprint(chain[len(chain)-1])
	}
	return e
}

// explained is a certificate problem in words for people.
type explained struct {
	text string
	err  error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// explain puts x509's errors into words: the library's own hold what stands in
// the certificate without quotes.
func explain(host string, err error) error {
	if wrongName, ok := errors.AsType[x509.HostnameError](err); ok {
		text := "it is for " + names(wrongName.Certificate) + ", not for " + quote(host)
		return &explained{text, err}
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		text := "it expired on " + invalid.Cert.NotAfter.UTC().Format(time.DateOnly)
		if time.Now().Before(invalid.Cert.NotAfter) {
			text = "it is not valid before " + invalid.Cert.NotBefore.UTC().Format(time.RFC3339) + ", check this machine's clock"
		}
		return &explained{text, err}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return &explained{"it is signed by an unknown CA", err}
	}
	return &explained{quote(err.Error()), err}
}

// names are the host names and addresses a certificate is for, the first few.
func names(c *x509.Certificate) string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		return "no host at all"
	}
	return quote(strings.Join(all, ", "))
}

// certificateError returns the *UntrustedError for what a TLS handshake with host
// failed with, nil when that is not about trust.
func certificateError(host string, err error) error {
	if e, ok := errors.AsType[*UntrustedError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return untrusted(host, e.UnverifiedCertificates, explain(host, e.Err))
	}
	return nil
}

// hostOf is the host of an address with a port.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
