package hub

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/atomicfile"
)

// newCA makes a CA with its key in a file.
func newCA(t *testing.T) *authority {
	t.Helper()
	cert, key, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	ca := &authority{cert: cert, keyFile: filepath.Join(t.TempDir(), fileCAKey)}
	if err := os.WriteFile(ca.keyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *authority, hosts ...string) *tls.Certificate {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.issue(hosts, key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestIssue(t *testing.T) {
	ca := newCA(t)
	long := strings.Repeat("a", 63) + ".example.test"
	cert := issue(t, ca, long, "hub.example.test", "192.0.2.1", "::1")
	if len(cert.Certificate) != 2 || !bytes.Equal(cert.Certificate[1], ca.cert.Raw) {
		t.Errorf("chain has %d certificates", len(cert.Certificate))
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, name := range []string{long, "hub.example.test", "192.0.2.1", "::1"} {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"example.test", "x.hub.example.test", "192.0.2.2"} {
		if cert.Leaf.VerifyHostname(name) == nil {
			t.Errorf("it is good for %s", name)
		}
	}
	if cert.Leaf.IsCA || cert.Leaf.NotAfter.Before(time.Now().Add(300*24*time.Hour)) || cert.Leaf.NotBefore.After(time.Now()) {
		t.Errorf("certificate is from %s to %s", cert.Leaf.NotBefore, cert.Leaf.NotAfter)
	}
	if !ca.cert.IsCA || ca.cert.MaxPathLen != 0 || ca.cert.NotAfter.Before(time.Now().Add(20*365*24*time.Hour)) {
		t.Errorf("the CA's is %+v", ca.cert)
	}
	other := newCA(t)
	if other.cert.Subject.String() == ca.cert.Subject.String() || other.fingerprint() == ca.fingerprint() {
		t.Error("two CAs have the same name")
	}
	// The other CA's key makes nothing.
	other.keyFile = ca.keyFile
	if _, err := other.issue([]string{"a"}, cert.PrivateKey.(*ecdsa.PrivateKey)); err == nil || !strings.Contains(err.Error(), ca.keyFile) {
		t.Errorf("error is %v", err)
	}
}

func TestServes(t *testing.T) {
	ca := newCA(t)
	cert := issue(t, ca, "hub.example.test", "192.0.2.1")
	end := cert.Leaf.NotAfter
	for _, c := range []struct {
		hosts []string
		now   time.Time
		want  bool
	}{
		{[]string{"hub.example.test", "192.0.2.1"}, time.Now(), true},
		{[]string{"hub.example.test"}, time.Now(), true},
		{[]string{"other.example.test"}, time.Now(), false},
		{[]string{"hub.example.test", "192.0.2.2"}, time.Now(), false},
		{[]string{"hub.example.test"}, end.Add(-renewAhead), true},
		{[]string{"hub.example.test"}, end.Add(-renewAhead + time.Second), false},
		{[]string{"hub.example.test"}, end.Add(time.Hour), false},
	} {
		if got := serves(cert, c.hosts, c.now); got != c.want {
			t.Errorf("for %q at %s: %t", c.hosts, c.now, got)
		}
	}
}

// The running hub renews its certificate in time, with the key it has, and keeps
// the old one while the CA's key is not there.
func TestRenewInMemory(t *testing.T) {
	ca := newCA(t)
	text, err := os.ReadFile(ca.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) { // starts in the year 2000
		first := issue(t, ca, "hub.example.test")
		own := &ownCertificate{ca: ca, hosts: []string{"hub.example.test"}, log: slog.New(slog.NewTextHandler(&log, nil)), cert: first}
		get := func() *tls.Certificate {
			cert, err := own.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		if get() != first {
			t.Error("a fresh certificate is not kept")
		}
		time.Sleep(time.Until(first.Leaf.NotAfter) - renewAhead)
		if get() != first {
			t.Error("it is renewed before it is time")
		}
		time.Sleep(time.Second)
		if err := os.Remove(ca.keyFile); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if get() != first {
				t.Error("a certificate that cannot be renewed does not serve on")
			}
		}
		if n := strings.Count(log.String(), "renew the server certificate"); n != 1 {
			t.Errorf("three attempts at once left %d lines", n)
		}
		if err := os.WriteFile(ca.keyFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(renewRetry + time.Second)
		second := get()
		if second == first || !second.Leaf.NotAfter.After(first.Leaf.NotAfter) || !serves(second, own.hosts, time.Now()) {
			t.Errorf("the new certificate ends on %s, the old one on %s", second.Leaf.NotAfter, first.Leaf.NotAfter)
		}
		if !second.PrivateKey.(*ecdsa.PrivateKey).Equal(first.PrivateKey) {
			t.Error("it has another key")
		}
		if len(second.Certificate) != 2 || get() != second {
			t.Error("the new certificate is not served as the first one was")
		}
	})
}

// A certificate that is about to expire is replaced at the next start.
func TestRenewAtStart(t *testing.T) {
	d := &dataDir{path: t.TempDir()}
	if err := d.openCA(); err != nil {
		t.Fatal(err)
	}
	first, err := d.serverCertificate([]string{"a.example.test"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.serverCertificate([]string{"a.example.test"}, nil); err != nil || !bytes.Equal(again.cert.Certificate[0], first.cert.Certificate[0]) {
		t.Errorf("the second start has another certificate, %v", err)
	}
	// As old as one is when it is due.
	key, err := d.ca.readKey()
	if err != nil {
		t.Fatal(err)
	}
	old := *first.cert.Leaf
	old.NotAfter = time.Now().Add(renewAhead - time.Hour)
	short, err := sign(&old, d.ca.cert, old.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(d.file(fileServer), encodeCert(short.Raw, d.ca.cert.Raw), 0o644); err != nil {
		t.Fatal(err)
	}
	renewed, err := d.serverCertificate([]string{"a.example.test"}, nil)
	if err != nil || renewed.cert.Leaf.NotAfter.Before(time.Now().Add(renewAhead)) {
		t.Errorf("the certificate ends on %s, %v", renewed.cert.Leaf.NotAfter, err)
	}
	if info, err := os.Stat(d.file(fileServer)); err != nil || info.Mode() != fs.FileMode(0o644) {
		t.Errorf("its file is %v, %v", info, err)
	}
}
