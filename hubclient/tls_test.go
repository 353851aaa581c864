package hubclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"testing"
	"time"
)

// serveTLS completes handshakes on a loopback port until the test ends.
func serveTLS(t *testing.T, config *tls.Config) (port int) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			// TLS 1.3 sends its session ticket with the first byte.
			_, _ = conn.Write([]byte{0})
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return listener.Addr().(*net.TCPAddr).Port
}

// handshake connects to host and reads the byte that serveTLS sends.
func handshake(t *testing.T, tr trust, host string, port int) (tls.ConnectionState, error) {
	t.Helper()
	h := &hub{trust: tr, proxy: noProxy}
	conn, err := h.dialTLS(t.Context(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return conn.(*tls.Conn).ConnectionState(), nil
}

func TestTrust(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	between := sign(t, ca, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
	good := ca.leaf(t, nil)
	yesterday := time.Now().Add(-24 * time.Hour)
	tomorrow := time.Now().Add(24 * time.Hour)
	expired := ca.leaf(t, func(c *x509.Certificate) { c.NotAfter = yesterday })
	early := ca.leaf(t, func(c *x509.Certificate) { c.NotBefore = tomorrow })
	elsewhere := ca.leaf(t, func(c *x509.Certificate) {
		c.IPAddresses, c.DNSNames = nil, []string{"other.example.test", "\x1b[31mred"}
	})
	client := ca.leaf(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	pool := rootsOf(ca)

	tests := []struct {
		name  string
		chain tls.Certificate
		trust trust
		want  []string // parts of the error; none: it is trusted
	}{
		{"right pin", good.chain(ca), newTrust(fingerprint(ca.cert), nil), nil},
		{"right pin, other roots are ignored", good.chain(ca), newTrust(fingerprint(ca.cert), x509.NewCertPool()), nil},
		{"right pin behind an intermediate", between.leaf(t, nil).chain(between, ca), newTrust(fingerprint(ca.cert), nil), nil},
		{"pinned intermediate", between.leaf(t, nil).chain(between, ca), newTrust(fingerprint(between.cert), nil), nil},
		{"roots", good.chain(ca), newTrust("", pool), nil},
		{
			"wrong pin", good.chain(ca), newTrust(fingerprint(other.cert), nil),
			[]string{"none of the certificates presented is the pinned sha256:" + fingerprint(other.cert), "presented: sha256:" + fingerprint(ca.cert)},
		},
		{
			"wrong pin, though roots trust it", good.chain(ca), newTrust(fingerprint(other.cert), pool),
			[]string{"none of the certificates presented"},
		},
		{
			"pinned CA presented, but did not sign", other.leaf(t, nil).chain(ca), newTrust(fingerprint(ca.cert), nil),
			[]string{"signed by an unknown CA"},
		},
		{
			"CA not presented", good.chain(), newTrust(fingerprint(ca.cert), nil),
			[]string{"none of the certificates presented", "presented: sha256:" + fingerprint(good.cert)},
		},
		{
			"pin is the leaf's", good.chain(ca), newTrust(fingerprint(good.cert), nil),
			[]string{"is not the certificate of a CA"},
		},
		{"wrong name", elsewhere.chain(ca), newTrust(fingerprint(ca.cert), nil), []string{`not for "127.0.0.1"`, `other.example.test`, `\x1b[31mred`}},
		{"wrong name, roots", elsewhere.chain(ca), newTrust("", pool), []string{`not for "127.0.0.1"`, `other.example.test`, `\x1b[31mred`}},
		{"expired", expired.chain(ca), newTrust(fingerprint(ca.cert), nil), []string{"expired on " + yesterday.UTC().Format(time.DateOnly)}},
		{"expired, roots", expired.chain(ca), newTrust("", pool), []string{"expired on " + yesterday.UTC().Format(time.DateOnly)}},
		{"not yet valid", early.chain(ca), newTrust(fingerprint(ca.cert), nil), []string{"not valid before " + tomorrow.UTC().Format(time.DateOnly), "clock"}},
		{"for clients only", client.chain(ca), newTrust(fingerprint(ca.cert), nil), []string{"incompatible key usage"}},
		{"unknown CA", good.chain(ca), newTrust("", x509.NewCertPool()), []string{"unknown CA", "presented: sha256:" + fingerprint(ca.cert)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{tt.chain}})
			_, err := handshake(t, tt.trust, "127.0.0.1", port)
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrUntrusted) || errors.Is(err, ErrHubUnreachable) {
				t.Fatalf("error is %v", err)
			}
			contains(t, err.Error(), append(tt.want, "127.0.0.1")...)
		})
	}
}

// A resumed session must not carry the trust of an earlier connection: the cache
// is shared, and what counts is what is pinned now.
func TestResumedSessionIsVerified(t *testing.T) {
	ca := newTestCA(t)
	port := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, nil).chain(ca)}})
	tr := newTrust(fingerprint(ca.cert), nil)
	if _, err := handshake(t, tr, "127.0.0.1", port); err != nil {
		t.Fatal(err)
	}
	state, err := handshake(t, tr, "127.0.0.1", port)
	if err != nil {
		t.Fatal(err)
	}
	if !state.DidResume {
		t.Error("second connection did not resume the session")
	}
	tr.pin = fingerprint(newTestCA(t).cert)
	if _, err := handshake(t, tr, "127.0.0.1", port); !errors.Is(err, ErrUntrusted) {
		t.Errorf("with another pin the resumed session gave %v", err)
	}
}

func TestTLS11IsRefused(t *testing.T) {
	ca := newTestCA(t)
	port := serveTLS(t, &tls.Config{
		Certificates: []tls.Certificate{ca.leaf(t, nil).chain(ca)},
		MinVersion:   tls.VersionTLS10,
		MaxVersion:   tls.VersionTLS11,
	})
	_, err := handshake(t, newTrust(fingerprint(ca.cert), nil), "127.0.0.1", port)
	if !errors.Is(err, ErrHubUnreachable) {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), "TLS handshake")
}
