package hubclient

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/farportio/farport/internal/credential"
)

// login is what a device signs in with on one control connection: a SAS token or a
// certificate.
type login struct {
	token   credential.Secret // "" with a certificate
	renewAt time.Time         // zero: never

	certificate *tls.Certificate // nil with a token
	asked       atomic.Bool      // the hub has asked for the certificate
}

// newLogin makes the token, or fetches the certificate.
func newLogin(cs ConnectionString, o DeviceOptions) (*login, error) {
	switch {
	case !cs.IsDevice():
		return nil, errors.New("the connection string has no DeviceId")
	case cs.X509 && o.GetCertificate == nil:
		return nil, errors.New("the connection string says x509=true, but there is no certificate to sign in with")
	case !cs.X509 && o.GetCertificate != nil:
		return nil, errors.New("there is a certificate to sign in with, but the connection string does not say x509=true")
	case cs.X509:
		return certificateLogin(o.GetCertificate)
	}
	return tokenLogin(cs, o.TokenLife)
}

func certificateLogin(get func() (*tls.Certificate, error)) (*login, error) {
	certificate, err := get()
	switch {
	case err != nil:
		return nil, fmt.Errorf("certificate: %w", err)
	case certificate == nil || len(certificate.Certificate) == 0:
		return nil, errors.New("certificate: there is none")
	}
	return &login{certificate: certificate}, nil
}

func tokenLogin(cs ConnectionString, life time.Duration) (*login, error) {
	if life <= 0 {
		life = deviceTokenLife
	}
	expires := time.Now().Add(life)
	token, err := cs.SAS(expires)
	if err != nil {
		return nil, err
	}
	l := &login{token: token}
	if cs.SharedAccessSignature == "" { // a ready token cannot be renewed
		l.renewAt = expires.Add(-life/10 - rand.N(1+life*15/100))
	}
	return l, nil
}

// present lets c, which is for the control connection alone, present the certificate
// if there is one.
func (l *login) present(c *tls.Config) {
	if l.certificate == nil {
		return
	}
	// Whatever CAs the hub says it knows: it may know this certificate by its thumbprint.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		l.asked.Store(true)
		return l.certificate, nil
	}
	// A resumed session brings the certificate back without asking, and so would
	// sign in the legs as well.
	c.ClientSessionCache = nil
	// In TLS 1.2 Azure may ask for the certificate only once it has read the
	// WebSocket's request (docs/protocol.md, Connecting).
	c.Renegotiation = tls.RenegotiateOnceAsClient
}

// unasked explains a refusal that the certificate is not to blame for.
func (l *login) unasked() string {
	if l.certificate == nil || l.asked.Load() {
		return ""
	}
	return "; nobody asked for the certificate, so something between here and the hub may end TLS"
}
