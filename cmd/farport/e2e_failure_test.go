//go:build unix

package main_test

import (
	"errors"
	"net"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hubtest"
)

// sshLost is ssh's own exit code when its connection was lost.
const sshLost = 255

// saying is whether text has a line that matches pattern.
func saying(t *testing.T, who, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile("(?m)" + pattern).MatchString(text) {
		t.Errorf("%s says %q, want a line with %q", who, text, pattern)
	}
}

// targetRefuses: sshd is stopped. Who calls learns that the device refused, and the
// device's own output says which address did not answer.
func targetRefuses(t *testing.T, binary string) {
	const id = "pi-1"
	s := newSSHSite(t, binary, id)
	s.sshd.stop()

	r := run(t, s.command(atService, "farport", "service-proxy", "--stdio", "-d", id), soon)
	if r.code != 5 || r.stdout != "" {
		t.Errorf("service-proxy --stdio: exit code %d, stdout %q; want 5 and nothing", r.code, r.stdout)
	}
	saying(t, "service-proxy", r.stderr, `^farport: error: .*"`+id+`".*device rejected the stream`)
	saying(t, "service-proxy", r.stderr, `^farport: hint: .*target`)
	s.device.said(t, regexp.QuoteMeta(s.sshd.address)+`.*connection refused`, 1, soon)

	r = run(t, s.login(id, "true"), soon)
	if r.code != sshLost {
		t.Errorf("ssh: exit code %d, want %d", r.code, sshLost)
	}
	saying(t, "ssh", r.stderr, `device rejected the stream`)
	saying(t, "ssh", r.stderr, `(?i)connection closed`)

	_, address := s.serviceProxy(id)
	conn, err := net.Dial("tcp", address)
	switch {
	case err == nil:
		defer func() { _ = conn.Close() }()
		broken(t, conn)
	case !errors.Is(err, syscall.ECONNRESET): // which can come before Dial has returned
		t.Fatal(err)
	}
}

// hubKilled: the hub dies without a word while a session is open. The session pauses and
// goes on once the hub is there again, and both proxies say so.
func hubKilled(t *testing.T, binary string) {
	const id = "pi-1"
	flags := []string{"--listen", freePort(t)}
	s := newSSHSite(t, binary, id, flags...)
	session := startEcho(t, s.login(id, "cat"))
	if err := echo(session, []byte("before")); err != nil {
		t.Fatal(err)
	}

	s.hub.kill()
	waits := `^farport: stream 1 waits: ` + id + ` \(default\), connection lost, up to 5m0s for it to return\r?$`
	session.said(t, waits, 1, soon)
	s.device.said(t, waits, 1, soon)
	s.serve(append(flags, "--mqtt-listen", "off")...)
	s.device.connected(t, id, 2)
	resumed := `^farport: stream 1 resumed: ` + id + ` \(default\), after `
	session.said(t, resumed, 1, soon)
	s.device.said(t, resumed, 1, soon)
	if err := echo(session, []byte("after")); err != nil {
		t.Error(err)
	}
	_ = session.in.Close()
	if code := session.exit(t, soon); code != 0 {
		t.Errorf("ssh after the hub's return: exit code %d, want 0", code)
	}
	s.device.said(t, `^farport: stream 1 closed: `, 1, soon) // ssh ends its ProxyCommand with SIGHUP
}

// streamLost: the hub is away for longer than the window. Both ends see a reset, and the
// exit code tells it from others.
func streamLost(t *testing.T, binary string) {
	const (
		id     = "pi-1"
		window = 6 * time.Second
	)
	for _, flags := range [][]string{{"--resume-window", window.String()}, {"--no-resume"}} {
		t.Run(flags[0], func(t *testing.T) {
			s := newEchoSite(t, binary, window)
			session := startEcho(t, s.command(atService, append([]string{"farport", "service-proxy", "--stdio", "-d", id}, flags...)...))
			if err := echo(session, []byte("before")); err != nil {
				t.Fatal(err)
			}
			s.hub.kill()
			began := time.Now()
			if code := session.exit(t, soon); code != 8 {
				t.Errorf("exit code %d, want 8", code)
			}
			took := time.Since(began)
			if waited := took >= window; waited != (len(flags) == 2) {
				t.Errorf("lost after %v", took)
			}
			saying(t, "service-proxy", session.stderr.String(), `^farport: error: .*stream ended: (lost|network)`)
			saying(t, "service-proxy", session.stderr.String(), `^farport: hint: .*--resume-window`)
			s.device.said(t, `^farport: warning: stream \d+ broke: .*(lost|network)`, 1, soon)
		})
	}
}

// deviceDisabled: who disables a device means now.
func deviceDisabled(t *testing.T, binary string) {
	const (
		id     = "pi-1"
		atOnce = 3 * time.Second // a second, and a busy machine
	)
	s := newSSHSite(t, binary, id)
	session := startEcho(t, s.login(id, "cat"))
	if err := echo(session, []byte("before")); err != nil {
		t.Fatal(err)
	}

	must(t, s.command(atHub, "farport", "device", "update", id, "--disable"))
	began := time.Now()
	if code := session.exit(t, atOnce); code != sshLost {
		t.Errorf("ssh to a device that was disabled: exit code %d, want %d", code, sshLost)
	}
	t.Logf("the session ended %v after the command", time.Since(began))
	s.sshd.ended(t)
	r := run(t, s.command(atService, "farport", "service-proxy", "--stdio", "-d", id), soon)
	if r.code != 4 {
		t.Errorf("service-proxy to a disabled device: exit code %d, want 4", r.code)
	}
	saying(t, "service-proxy", r.stderr, `^farport: error: .*"`+id+`".*disabled`)

	must(t, s.command(atHub, "farport", "device", "update", id, "--enable"))
	s.device.connected(t, id, 2)
	if r := run(t, s.login(id, "exit 7"), soon); r.code != 7 {
		t.Errorf("ssh to a device that was enabled again: exit code %d, want 7; %s", r.code, r.stderr)
	}
}

// echoSite is a site with one connected device whose target is an echo server, and
// a service-proxy in front of it.
type echoSite struct {
	*site
	device, service *process
	address         string // the service-proxy's
}

// newEchoSite starts an echoSite whose processes give open streams grace.
func newEchoSite(t *testing.T, binary string, grace time.Duration) *echoSite {
	t.Helper()
	const id = "pi-1"
	target := hubtest.Echo(t)
	s := &echoSite{site: newSite(t, binary)}
	s.serve("--listen", "127.0.0.1:0", "--mqtt-listen", "off", "--shutdown-grace", grace.String())
	s.device = s.deviceProxy(s.addDevice(id), id, "--target", target, "--grace", grace.String())
	s.service, s.address = s.serviceProxy(id, "--grace", grace.String())
	return s
}

// signals: SIGTERM ends each of the three programs, in good order.
func signals(t *testing.T, binary string) {
	const (
		long  = time.Minute            // a grace that nobody waits for
		short = 500 * time.Millisecond // one that is waited for
		slack = 5 * time.Second        // for the machine
	)
	for _, program := range []struct {
		name string
		of   func(*echoSite) *process
	}{
		{"serve", func(s *echoSite) *process { return s.hub }},
		{"device-proxy", func(s *echoSite) *process { return s.device }},
		{"service-proxy", func(s *echoSite) *process { return s.service }},
	} {
		t.Run(program.name+" idle", func(t *testing.T) {
			p := program.of(newEchoSite(t, binary, long))
			p.signal(t, syscall.SIGTERM)
			if code := p.exit(t, slack); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
		})
		t.Run(program.name+" with an open stream", func(t *testing.T) {
			s := newEchoSite(t, binary, short)
			conn := dialEcho(t, s.address)
			p := program.of(s)
			began := time.Now()
			p.signal(t, syscall.SIGTERM)
			if code := p.exit(t, short+slack); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			if p == s.hub { // needs no grace: the stream waits for another
				s.service.said(t, `^farport: stream 1 waits: `, 1, soon)
				return
			}
			if took := time.Since(began); took < short {
				t.Errorf("ended after %v, and the grace is %v", took, short)
			}
			broken(t, conn)
		})
		t.Run(program.name+" twice", func(t *testing.T) {
			s := newEchoSite(t, binary, long)
			conn := echoer(dialEcho(t, s.address))
			p := program.of(s)
			if p == s.hub { // waits only for what cannot be resumed
				conn = startEcho(t, s.command(atService, "farport", "service-proxy", "--stdio", "-d", "pi-1", "--no-resume"))
				if err := echo(conn, []byte("before")); err != nil {
					t.Fatal(err)
				}
			}
			p.signal(t, syscall.SIGTERM)
			if err := echo(conn, []byte("in the grace period")); err != nil {
				t.Error(err)
			}
			p.running(t)
			// Two signals at once may count as one.
			again := time.NewTicker(100 * time.Millisecond)
			defer again.Stop()
			for deadline := time.After(slack); ; {
				select {
				case <-again.C:
					p.signal(t, syscall.SIGTERM)
					continue
				case <-deadline:
				case <-p.done:
				}
				break
			}
			if code := p.exit(t, soon); code != 130 {
				t.Errorf("exit code %d, want 130", code)
			}
		})
	}
	t.Run("service-proxy --stdio with an open stream", func(t *testing.T) {
		s := newEchoSite(t, binary, short)
		session := startEcho(t, s.command(atService, "farport", "service-proxy", "--stdio", "-d", "pi-1", "--grace", short.String()))
		if err := echo(session, []byte("before")); err != nil {
			t.Fatal(err)
		}
		session.signal(t, syscall.SIGTERM)
		if code := session.exit(t, short+slack); code <= 0 {
			t.Errorf("exit code %d of a --stdio that cut its stream, want one that is not 0", code)
		}
	})
}
