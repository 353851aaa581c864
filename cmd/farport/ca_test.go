package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/skip"
)

// caHub answers as a hub does to who registers a CA. Its code is "0123456789abcdef"
// unless told otherwise.
type caHub struct {
	t      *testing.T
	code   string
	env    map[string]string // leads farport to it
	proven int
}

func newCAHub(t *testing.T) *caHub {
	h := &caHub{t: t, code: "0123456789abcdef"}
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	sum := sha256.Sum256(server.Certificate().Raw)
	h.env = map[string]string{"IOTHUB_CONNECTION_STRING": "HostName=" + server.Listener.Addr().String() +
		";SharedAccessKeyName=iothubowner;SharedAccessKey=bXkgb3duIGxpdHRsZSBzZWNyZXQ=;CaFingerprint=sha256:" + hex.EncodeToString(sum[:])}
	return h
}

func (h *caHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var p hubclient.CAProposal
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		h.t.Error(err)
	}
	ca := h.parse(p.Certificate)
	sum := sha256.Sum256(ca.Raw)
	answer := hubclient.CA{Fingerprint: hex.EncodeToString(sum[:]), Subject: ca.Subject.String(), Certificate: p.Certificate}
	answer.NotAfter.Time = ca.NotAfter
	if p.Proof == "" {
		answer.VerificationCode = h.code
	} else if proof := h.parse(p.Proof); proof.CheckSignatureFrom(ca) != nil || proof.Subject.CommonName != h.code {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"Message":"ErrorCode:ArgumentInvalid;no proof"}`)
		return
	} else {
		if now := time.Now(); now.Before(proof.NotBefore) || now.Add(7*24*time.Hour).Before(proof.NotAfter) {
			h.t.Errorf("proof is good from %s to %s", proof.NotBefore, proof.NotAfter)
		}
		h.proven++
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		h.t.Error(err)
	}
}

func (h *caHub) parse(text string) *x509.Certificate {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(rest) > 0 {
		h.t.Fatalf("not a certificate: %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		h.t.Fatal(err)
	}
	return cert
}

// farport runs one command and returns what it printed.
func (h *caHub) farport(wantCode int, args ...string) (out, said string) {
	h.t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), args, streams{strings.NewReader(""), &stdout, &stderr}, environment(h.env))
	if code != wantCode {
		h.t.Fatalf("%v: exit code %d, want %d: %s%s", args, code, wantCode, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

// The CA's key, in each form that openssl writes, never leaves the machine: what the
// hub gets is a certificate.
func TestCAAdd(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		key  crypto.Signer
		pem  []byte
	}{
		{"SEC 1 after parameters", ec, append(parameters, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})...)},
		{"PKCS#1", rsaKey, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})},
		{"PKCS#8", rsaKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newCAHub(t)
			ca := issueWith(t, caTemplate("\x1b[2Jcleared\u009b"), test.key)
			write(t, ca+".key", test.pem)
			out, said := h.farport(exitDone, "ca", "add", ca+".pem", "--key", ca+".key")
			if h.proven != 1 {
				t.Fatalf("registered %d times, want once: %s%s", h.proven, out, said)
			}
			if !strings.Contains(out, `\x1b[2Jcleared`) || strings.ContainsAny(out+said, "\x1b\u009b") {
				t.Errorf("printed %q, want the subject's escape sequence in words", out)
			}
			if !strings.Contains(said, "vouches for devices") {
				t.Errorf("said %q", said)
			}
			if out, _ = h.farport(exitDone, "ca", "add", ca+".pem", "--key", ca+".key", "-o", "json"); strings.ContainsAny(out, "\x1b\u009b") {
				t.Errorf("printed %q in JSON", out)
			}
		})
	}
}

// issueWith is issueIn for a CA that signs itself with key. It writes no key.
func issueWith(t *testing.T, template *x509.Certificate, key crypto.Signer) (path string) {
	t.Helper()
	path, _ = issueIn(t, "ca", template, nil)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path+".pem", pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}))
	return path
}

// Without the key the hint is a command that works.
func TestCAAddInTwoSteps(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		skip.Test(t, "openssl is not installed")
	}
	h := newCAHub(t)
	ca, _ := issueIn(t, "it's a ca", caTemplate("Example CA"), nil)
	out, said := h.farport(exitDone, "ca", "add", ca+".pem")
	if out != h.code+"\n" || h.proven > 0 {
		t.Fatalf("printed %q, registered %d times; want the code alone", out, h.proven)
	}
	found := regexp.MustCompile(`(?m)^farport: hint: +(openssl req .*)$`).FindStringSubmatch(said)
	if found == nil {
		t.Fatalf("no openssl command in %q", said)
	}
	command := exec.Command("sh", "-c", strings.ReplaceAll(found[1], "CA-KEY", shellWord(ca+".key")))
	command.Dir = t.TempDir()
	command.Env = append(os.Environ(), "PATH="+filepath.Dir(openssl)+string(filepath.ListSeparator)+os.Getenv("PATH"))
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", found[1], err, text)
	}
	if want := "farport ca add " + shellWord(ca+".pem") + " --proof proof.pem"; !strings.Contains(said, want) {
		t.Errorf("said %q, want %q in it", said, want)
	}
	h.farport(exitDone, "ca", "add", ca+".pem", "--proof", filepath.Join(command.Dir, "proof.pem"))
	if h.proven != 1 {
		t.Errorf("registered %d times, want once", h.proven)
	}
}

func TestCAAddRefused(t *testing.T) {
	h := newCAHub(t)
	ca, issuer := issueIn(t, "ca", caTemplate("CA"), nil)
	leaf, _ := issueIn(t, "leaf", leafTemplate("leaf"), issuer)
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	chain := filepath.Join(t.TempDir(), "chain.pem")
	write(t, chain, []byte(read(ca+".pem")+read(leaf+".pem")))
	encrypted := filepath.Join(t.TempDir(), "encrypted.key")
	write(t, encrypted, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	broken := filepath.Join(t.TempDir(), "broken.key")
	write(t, broken, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{leaf + ".pem", exitUsage, "is not the certificate of a CA"},
		{ca + ".key", exitUsage, "has no certificate in PEM"},
		{chain, exitUsage, "has more than one certificate"},
		{ca + ".pem --proof " + chain, exitUsage, "has more than one certificate"},
		{ca + ".pem --key " + leaf + ".key", exitUsage, "is not the key of"},
		{ca + ".pem --key " + ca + ".pem", exitUsage, "has no private key in PEM"},
		{ca + ".pem --key " + encrypted, exitUsage, "is encrypted"},
		{ca + ".pem --key " + broken, exitUsage, "cannot be read"},
		{ca + ".pem --proof " + leaf + ".pem", exitFailed, "no proof"},
	} {
		if _, said := h.farport(test.code, append([]string{"ca", "add"}, strings.Fields(test.args)...)...); !strings.Contains(said, test.want) {
			t.Errorf("%s: said %q, want %q", test.args, said, test.want)
		}
	}
	h.code = `$(reboot)"; echo`
	for _, args := range [][]string{{"ca", "add", ca + ".pem"}, {"ca", "add", ca + ".pem", "--key", ca + ".key"}} {
		if out, said := h.farport(exitFailed, args...); out != "" || strings.Contains(said, "openssl") {
			t.Errorf("%v: a code that is none: printed %q, said %q", args, out, said)
		}
	}
	if h.proven != 0 {
		t.Errorf("registered %d times", h.proven)
	}
}

func TestFindCA(t *testing.T) {
	cas := []hubclient.CA{{Fingerprint: strings.Repeat("ab", 32)}, {Fingerprint: strings.Repeat("ab", 31) + "cd"}, {Fingerprint: strings.Repeat("12", 32)}}
	for text, want := range map[string]string{
		"12121212":                          cas[2].Fingerprint,
		"sha256:12121212":                   cas[2].Fingerprint,
		"12:12:12:12":                       cas[2].Fingerprint,
		strings.ToUpper(cas[1].Fingerprint): cas[1].Fingerprint,
		"abababab":                          "more than one",
		"34343434":                          "no CA's",
	} {
		digits, ok := parseFingerprint(text)
		got, err := findCA(cas, digits)
		if !ok || err != nil && !strings.Contains(err.Error(), want) || err == nil && got != want {
			t.Errorf("%s: %q, %v, %v, want %q", text, got, ok, err, want)
		}
	}
	for _, text := range []string{"", "1212121", "1212121x", strings.Repeat("12", 33)} {
		if _, ok := parseFingerprint(text); ok {
			t.Errorf("took %q", text)
		}
	}
}
