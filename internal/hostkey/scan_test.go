package hostkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// signer returns a host key of a type.
func signer(t *testing.T, kind string) ssh.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case ssh.KeyAlgoED25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case ssh.KeyAlgoECDSA256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ssh.KeyAlgoECDSA521:
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case ssh.KeyAlgoRSA:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve calls each for every connection, until the test ends, and returns how to connect.
func serve(t *testing.T, each func(net.Conn)) func(context.Context) (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	working.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			working.Go(func() {
				defer conn.Close()
				each(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		working.Wait()
	})
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

// sshServer serves SSH with these keys, as far as a scan goes.
func sshServer(t *testing.T, keys ...ssh.Signer) func(context.Context) (net.Conn, error) {
	config := &ssh.ServerConfig{NoClientAuth: true}
	for _, k := range keys {
		config.AddHostKey(k)
	}
	return serve(t, func(conn net.Conn) {
		if _, _, _, err := ssh.NewServerConn(conn, config); err == nil {
			t.Error("the scan has logged in")
		}
	})
}

func TestScan(t *testing.T) {
	var keys []ssh.Signer
	var want []Key
	for _, kind := range []string{ssh.KeyAlgoRSA, ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA521} {
		s := signer(t, kind)
		keys, want = append(keys, s), append(want, of(s.PublicKey()))
	}
	got, err := Scan(t.Context(), sshServer(t, keys...))
	if err != nil || !slices.Equal(got, newSet(want)) {
		t.Errorf("got %q, %v", got, err)
	}
	if got[0].Fingerprint() != ssh.FingerprintSHA256(keys[2].PublicKey()) {
		t.Errorf("%s has the fingerprint %s", got[0], got[0].Fingerprint())
	}
	one, err := Scan(t.Context(), sshServer(t, keys[1]))
	if err != nil || !slices.Equal(one, Set{of(keys[1].PublicKey())}) {
		t.Errorf("a server with one key: %q, %v", one, err)
	}
}

// TestScanFails: another server is told apart, and what ends early is no set of keys.
func TestScanFails(t *testing.T) {
	var sent []byte
	t.Cleanup(func() { // runs when the servers have ended
		if len(sent) > 0 {
			t.Errorf("a server that is not SSH was sent %q", sent)
		}
	})
	other := serve(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "220 mail.example.com\r\n")
		sent, _ = io.ReadAll(conn)
	})
	if keys, err := Scan(t.Context(), other); !errors.Is(err, ErrNotSSH) {
		t.Errorf("another server: %q, %v", keys, err)
	}
	for _, refusal := range []string{"", "Exceeded MaxStartups\r\n", "Not allowed at this time\r\n"} {
		busy := serve(t, func(conn net.Conn) { _, _ = io.WriteString(conn, refusal) })
		if keys, err := Scan(t.Context(), busy); err == nil || errors.Is(err, ErrNotSSH) {
			t.Errorf("a server that says %q: %q, %v", refusal, keys, err)
		}
	}
	broken := serve(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "SSH-2.0-x\r\n") })
	if keys, err := Scan(t.Context(), broken); err == nil || errors.Is(err, ErrNotSSH) {
		t.Errorf("a server that hangs up: %q, %v", keys, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	silent := serve(t, func(conn net.Conn) {
		cancel()
		_, _ = io.ReadAll(conn)
	})
	if keys, err := Scan(ctx, silent); err == nil {
		t.Errorf("a silent server: %q", keys)
	}
	cancel()
	if keys, err := Scan(t.Context(), func(context.Context) (net.Conn, error) { return nil, io.ErrClosedPipe }); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("no server: %q, %v", keys, err)
	}
}

// TestScanRefused: a server that was SSH at first is SSH all the time.
func TestScanRefused(t *testing.T) {
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer(t, ssh.KeyAlgoED25519))
	var connections atomic.Int32
	dial := serve(t, func(conn net.Conn) {
		if connections.Add(1) == 1 {
			_, _, _, _ = ssh.NewServerConn(conn, config)
			return
		}
		_, _ = io.WriteString(conn, "Go away\r\n")
	})
	if keys, err := Scan(t.Context(), dial); err == nil || errors.Is(err, ErrNotSSH) {
		t.Errorf("got %q, %v", keys, err)
	}
}
