package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair writes a certificate for name and its key.
func pair(t *testing.T, cert, key, name string, life time.Duration) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A new pair is taken once both files have come to rest; a bad one never.
func TestCertificateReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		const year = 365 * 24 * time.Hour
		pair(t, cert, key, "old", year)
		var said, log bytes.Buffer
		a := &app{term: newTerminal(&said, &said), lookup: environment(nil)}
		c, err := newFileCertificate(a, cert, key, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		serves := func(name string) {
			t.Helper()
			synctest.Wait()
			if got, _ := c.get(nil); got.Leaf.DNSNames[0] != name {
				t.Errorf("serves the certificate of %q, want %q; log: %s", got.Leaf.DNSNames[0], name, &log)
			}
		}
		c.checkName("https://old:443")
		if said.Len() > 0 {
			t.Errorf("warned: %s", &said)
		}
		c.checkName("https://hub.example.com:443")
		if !strings.Contains(said.String(), `is not for "hub.example.com"`) {
			t.Errorf("said %q of a wrong name", &said)
		}

		ctx, cancel := context.WithCancel(t.Context())
		hangup := make(chan os.Signal)
		var wg sync.WaitGroup
		wg.Go(func() { c.watch(ctx, hangup) })
		defer wg.Wait()
		defer cancel()

		time.Sleep(certificateCheck + time.Second)
		pair(t, cert, key, "newer", year)
		time.Sleep(certificateCheck)
		serves("old")
		time.Sleep(certificateCheck)
		serves("newer")

		write(t, key, []byte("no key at all"))
		time.Sleep(3 * certificateCheck)
		serves("newer")
		if n := strings.Count(log.String(), "new certificate cannot be used"); n != 1 {
			t.Errorf("said %d times that the pair is bad: %s", n, &log)
		}

		pair(t, cert, key, "the newest", 20*24*time.Hour)
		hangup <- syscall.SIGHUP
		serves("the newest")
		if !strings.Contains(log.String(), "expires soon") {
			t.Errorf("no warning that it expires: %s", &log)
		}
	})
}

func TestCertificateRefused(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	a := &app{term: newTerminal(&bytes.Buffer{}, &bytes.Buffer{}), lookup: environment(nil)}
	load := func() error {
		_, err := newFileCertificate(a, cert, key, slog.New(slog.DiscardHandler))
		return err
	}
	if load() == nil {
		t.Error("took files that do not exist")
	}
	pair(t, cert, key, "hub", time.Hour)
	if err := load(); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(key, 0o622); err != nil {
		t.Fatal(err)
	}
	if err := load(); err == nil || !strings.Contains(err.Error(), "can be written by others") {
		t.Errorf("a key that others can write: %v", err)
	}
}
