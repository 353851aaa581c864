package hostkey

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// A key and its fingerprint as ssh-keygen made and printed them.
const (
	line        = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOGHnJ5Dc3N3bWieqlP59ex/kecSZXX7jSsikQSDO8BJ"
	fingerprint = "SHA256:+LN41LbwmtxlaA9UDY5cRmUfWamOWwNZbr2ZkSlYIPs"
)

func TestParse(t *testing.T) {
	got, err := Parse([]string{line + " root@pi-1", line})
	if err != nil || len(got) != 1 || got[0].String() != line || got[0].Fingerprint() != fingerprint {
		t.Fatalf("%q, %v", got, err)
	}
	for _, bad := range []string{
		"", "ssh-ed25519", "ssh-rsa" + strings.TrimPrefix(line, "ssh-ed25519"), "ssh-ed25519 !", "ssh-ed25519 AAAA",
		"ssh-ed25519 " + strings.Repeat("A", 8*maxKey), "@revoked " + line, "\x1b[31m AAAA",
	} {
		got, err := Parse([]string{bad})
		if err == nil || strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("%.40q: %q, %v", bad, got, err)
		}
	}
	if _, err := Parse(slices.Repeat([]string{line}, maxKeys+1)); err == nil {
		t.Error("too many keys were taken")
	}
}

// TestParseCertificate: a host certificate stands for the key in it.
func TestParseCertificate(t *testing.T) {
	host, ca := signer(t, ssh.KeyAlgoED25519), signer(t, ssh.KeyAlgoED25519)
	certificate := &ssh.Certificate{Key: host.PublicKey(), CertType: ssh.HostCert, ValidBefore: ssh.CertTimeInfinity}
	if err := certificate.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	got, err := ParseBlob(base64.StdEncoding.EncodeToString(certificate.Marshal()))
	if err != nil || got != of(host.PublicKey()) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCheck(t *testing.T) {
	a, b, c := Key{"ssh-ed25519", "a"}, Key{"ssh-rsa", "b"}, Key{"ssh-rsa", "c"}
	for _, tt := range []struct {
		name               string
		approved, reported Set
		want, added, gone  Set
	}{
		{"same", Set{a, b}, Set{a, b}, Set{a, b}, nil, nil},
		{"one less", Set{a, b}, Set{a}, Set{a}, nil, nil},
		{"silence", Set{a, b}, nil, Set{a, b}, nil, nil},
		{"replaced", Set{a, b}, Set{a, c}, nil, Set{c}, Set{b}},
		{"one more", Set{a}, Set{a, c}, nil, Set{c}, nil},
	} {
		got, err := Check(tt.approved, tt.reported)
		var e *ChangedError
		if errors.As(err, &e) != (tt.added != nil) || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
		if e != nil && (!slices.Equal(e.Added, tt.added) || !slices.Equal(e.Gone, tt.gone)) {
			t.Errorf("%s: %+v", tt.name, e)
		}
	}
}

func TestMemory(t *testing.T) {
	m := Memory{filepath.Join(t.TempDir(), "state", "host-keys")}
	if got, found, err := m.Load("hub", "Pi"); got != nil || found || err != nil {
		t.Errorf("at first: %q, %v, %v", got, found, err)
	}
	one, two := Set{of(signer(t, ssh.KeyAlgoED25519).PublicKey())}, Set{of(signer(t, ssh.KeyAlgoED25519).PublicKey())}
	ids := []string{"Pi", "pi", strings.Repeat("$", 128) + "/" + strings.Repeat("$", 128), "pi\nssh-rsa"}
	for _, keys := range []Set{two, one} {
		for _, id := range ids {
			if err := m.Save("hub", id, keys); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.Save("hub", "pi", two); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		want := one
		if id == "pi" {
			want = two
		}
		if got, found, err := m.Load("hub", id); !slices.Equal(got, want) || !found || err != nil {
			t.Errorf("%.20q: %q, %v, %v", id, got, found, err)
		}
	}
	if _, found, _ := m.Load("other", "Pi"); found {
		t.Error("another hub's device is known")
	}
	files, err := os.ReadDir(m.Dir)
	if err != nil || len(files) != len(ids) {
		t.Errorf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if err := os.WriteFile(m.file("hub", "pi"), []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Load("hub", "pi"); err == nil {
		t.Error("a damaged file was taken")
	}
}
