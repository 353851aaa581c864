//go:build unix

package main_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hubtest"
)

// TestEndToEnd runs the built binary with the real ssh and sshd.
func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	binary := filepath.Join(t.TempDir(), "farport")
	must(t, exec.Command("go", "build", "-o", binary, "."))
	for _, test := range []struct {
		name string
		run  func(t *testing.T, binary string)
	}{
		{"ssh through stdio", sshThroughStdio},
		{"ssh through a listening port", sshThroughPort},
		{"200 MB scp each way", scpBothWays},
		{"32 ssh sessions at once", manySessions},
		{"only outbound 443", onlyOutbound443},
		{"only through a proxy", onlyThroughProxy},
		{"through an HTTP proxy", throughHTTPProxy},
		{"through a SOCKS proxy", throughSOCKSProxy},
		{"target refuses", targetRefuses},
		{"hub killed in mid-session", hubKilled},
		{"stream lost", streamLost},
		{"device disabled in mid-session", deviceDisabled},
		{"signals", signals},
		{"doctor and ping", doctorAndPing},
		{"quickstart", quickstart},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, binary) })
	}
}

// sshSite is a site with one connected device whose target is sshd.
type sshSite struct {
	*site
	*ssh
	sshd             *sshServer
	connectionString string // the device's
	device           *process
	cuts             *cutSite // where its networks can be cut, else nil
}

func newSSHSite(t *testing.T, binary, id string, serveFlags ...string) *sshSite {
	t.Helper()
	s := &sshSite{site: newSite(t, binary)}
	s.ssh = newSSH(t, s.site) // is skipped before a hub is there
	s.sshd = s.listen(t)
	s.serve(append([]string{"--listen", "127.0.0.1:0", "--mqtt-listen", "off"}, serveFlags...)...)
	s.connectionString = s.addDevice(id)
	s.device = s.deviceProxy(s.connectionString, id, "--target", s.sshd.address)
	return s
}

// login is an ssh to a device through a ProxyCommand.
func (s *sshSite) login(id, command string) *exec.Cmd {
	return s.command(atService, s.byProxy("ssh", s.user+"@"+id, command)...)
}

// sshThroughStdio: an ID with every kind of character that ssh lets through as a
// host name, and what a shell user expects of a remote command.
func sshThroughStdio(t *testing.T, binary string) {
	const id = "Pi_4.A+b"
	s := newSSHSite(t, binary, id)
	cmd := s.login(id, "cat; echo to stderr >&2; exit 7")
	cmd.Stdin = strings.NewReader("hello")
	if r := run(t, cmd, soon); r.code != 7 || r.stdout != "hello" || r.stderr != "to stderr\n" {
		t.Errorf("got exit code %d, stdout %q, stderr %q; want 7, hello, and nothing but the command's own line", r.code, r.stdout, r.stderr)
	}
	if r := run(t, s.login(id, "true"), soon); r.code != 0 {
		t.Errorf("ssh of true exited %d: %s", r.code, r.stderr)
	}
	// Case matters: this is another device, which does not exist.
	if r := run(t, s.login(strings.ToLower(id), "true"), soon); r.code != 255 || !strings.Contains(r.stderr, "farport: error: ") {
		t.Errorf("ssh to an unknown device: exit code %d, stderr %q; want 255 and farport's error", r.code, r.stderr)
	}
}

// sshThroughPort: an ID that ssh refuses as a host name.
func sshThroughPort(t *testing.T, binary string) {
	const id = "a$b(c)'d,e"
	s := newSSHSite(t, binary, id)
	_, address := s.serviceProxy(id)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		args := append([]string{"ssh", "-p", port}, s.options...)
		cmd := s.command(atService, append(args, s.user+"@"+host, "cat; exit 7")...)
		cmd.Stdin = strings.NewReader("hello")
		if r := run(t, cmd, soon); r.code != 7 || r.stdout != "hello" {
			t.Errorf("%d. ssh: exit code %d, stdout %q, stderr %q; want 7 and hello", i+1, r.code, r.stdout, r.stderr)
		}
	}
}

func scpBothWays(t *testing.T, binary string) {
	const (
		id   = "pi-1"
		size = 200_000_000
	)
	s := newSSHSite(t, binary, id)
	far, near := filepath.Join(s.dir, "far"), filepath.Join(s.dir, "near")
	for i, way := range []struct{ name, from, to, source, target string }{
		{"upload", near, id + ":" + far, near, far},
		{"download", id + ":" + far, near, far, near},
	} {
		want := randomFile(t, way.source, uint64(i), size)
		began := time.Now()
		must(t, s.command(atService, s.byProxy("scp", "-q", "-o", "User="+s.user, way.from, way.to)...))
		took := time.Since(began)
		if got := sum(t, way.target); got != want {
			t.Errorf("%s: SHA-256 of the copy is %s, want %s", way.name, got, want)
		}
		t.Logf("%s: %.0f MB/s", way.name, size/took.Seconds()/1e6)
	}
}

// randomFile writes a file whose content follows from seed, and returns its SHA-256.
func randomFile(t *testing.T, path string, seed uint64, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	random := rand.NewChaCha8([32]byte{byte(seed)})
	if _, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(random, size)); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// manySessions opens 32 sessions and lets none end before all of them have echoed,
// so that all are open at the same time.
func manySessions(t *testing.T, binary string) {
	const (
		id       = "pi-1"
		sessions = 32
		size     = 64 << 10
	)
	s := newSSHSite(t, binary, id)
	var open, wg sync.WaitGroup
	open.Add(sessions)
	began := time.Now()
	for i := range sessions {
		session := startEcho(t, s.login(id, "cat"))
		payload := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(payload) // never fails
		wg.Go(func() {
			err := echo(session, payload[:size/2])
			open.Done()
			open.Wait()
			if err == nil {
				err = echo(session, payload[size/2:])
			}
			if err != nil {
				t.Errorf("session %d: %v", i, err)
				return
			}
			_ = session.in.Close() // cat ends, and ssh with it
			if code := session.exit(t, soon); code != 0 {
				t.Errorf("session %d: exit code %d, want 0", i, code)
			}
		})
	}
	open.Wait()
	t.Logf("%d sessions open after %v", sessions, time.Since(began))
	wg.Wait()
}

// quickstart: the whole of farport in one command, as fast as promised, and without
// a trace.
func quickstart(t *testing.T, binary string) {
	const promised = 5 * time.Second
	check := func(t *testing.T, s *site, flags ...string) {
		t.Helper()
		began := time.Now()
		r := run(t, s.command(atHub, append([]string{"farport", "quickstart", "--check"}, flags...)...), 2*promised)
		t.Logf("took %v, and %v are promised", time.Since(began), promised)
		if r.code != 0 {
			t.Errorf("exit code %d, want 0; stderr: %s", r.code, r.stderr)
		}
	}
	t.Run("by itself", func(t *testing.T) {
		s := newSite(t, binary)
		check(t, s)
		if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
			t.Errorf("it left %v behind (%v)", left, err)
		}
	})
	t.Run("with an echo server", func(t *testing.T) {
		check(t, newSite(t, binary), "--target", hubtest.Echo(t))
	})
	t.Run("with sshd", func(t *testing.T) {
		s := newSite(t, binary)
		check(t, s, "--target", newSSH(t, s).listen(t).address)
	})
	t.Run("from source", func(t *testing.T) {
		cmd := exec.Command("go", "run", "./cmd/farport", "quickstart", "--check")
		cmd.Dir = "../.."
		must(t, cmd)
	})
}
