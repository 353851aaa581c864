//go:build unix

package main_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newCutSSH is a cutSite whose device leads to sshd.
func newCutSSH(t *testing.T, binary string) *sshSite {
	t.Helper()
	s := newCutSite(t, binary)
	h := &sshSite{site: s.site, cuts: s}
	h.ssh = newSSH(t, h.site)
	h.sshd = h.listen(t)
	h.connectionString = s.connection
	h.device = s.deviceProxy(s.connection, cutDevice, "--target", h.sshd.address)
	return h
}

// sshThroughRestarts: somebody types in a terminal while the hub is killed, and while it
// is told to stop for an upgrade, and notices nothing but a pause.
func sshThroughRestarts(t *testing.T, binary string) {
	const prompt = "ready"
	s := newCutSSH(t, binary)
	cmd := s.command(atService, s.byProxy("ssh", "-tt", s.user+"@"+cutDevice,
		"stty -echo; echo "+prompt+"; while read line; do echo got $line; done; exit 7")...)
	session := startEcho(t, cmd)
	lines := bufio.NewScanner(session.out)
	expect := func(want string) {
		t.Helper()
		if err := session.SetDeadline(time.Now().Add(soon)); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if text := strings.TrimSuffix(lines.Text(), "\r"); text == want {
				return
			} else if strings.HasPrefix(text, "got ") {
				t.Fatalf("terminal shows %q, want %q", text, want)
			}
		}
		t.Fatalf("terminal shows no %q: %v", want, lines.Err())
	}
	expect(prompt)

	typed, shown := 0, 0
	typeLine := func() {
		t.Helper()
		typed++
		if _, err := fmt.Fprintf(session, "line %d\n", typed); err != nil {
			t.Fatal(err)
		}
	}
	for _, restart := range []struct {
		name string
		stop func()
	}{
		{"killed", s.hub.kill},
		{"told to stop", func() {
			s.hub.signal(t, syscall.SIGTERM)
			if code := s.hub.exit(t, soon); code != 0 {
				t.Errorf("hub that was told to stop: exit code %d", code)
			}
		}},
	} {
		typeLine()
		restart.stop()
		typeLine()
		s.cuts.startHub()
		began := time.Now()
		typeLine()
		for shown < typed {
			shown++
			expect(fmt.Sprintf("got line %d", shown))
		}
		t.Logf("hub %s: the terminal goes on %v after it was ready again", restart.name, time.Since(began))
	}
	if _, err := session.Write([]byte{4}); err != nil { // Ctrl-D
		t.Fatal(err)
	}
	if code := session.exit(t, soon); code != 7 {
		t.Errorf("ssh: exit code %d, want 7", code)
	}
}

// scpThroughCuts: a copy of a file goes on through five cuts of every kind.
func scpThroughCuts(t *testing.T, binary string) {
	size, kilobits := int64(50_000_000), "80000" // 5 s without cuts
	if long() {
		size, kilobits = 500_000_000, "400000" // 10 s
	}
	const noticed = 8 * time.Second // a silence that is noticed, after 5 s
	s := newCutSSH(t, binary)
	far, near := filepath.Join(s.dir, "far"), filepath.Join(s.dir, "near")
	cuts := []struct {
		name string
		cut  func()
	}{
		{"service's connection breaks", func() { s.cuts.service.cut(cutReset, 1, 300*time.Millisecond) }},
		{"device's connection is silent", func() { s.cuts.device.cut(cutSilence, 1, noticed) }},
		{"hub is killed", s.cuts.restart},
		{"device's network is gone", func() { s.cuts.device.cut(cutClose, 1, 2*time.Second) }},
		{"service's connection is silent for a second", func() { s.cuts.service.cut(cutSilence, 1, time.Second) }},
	}
	for i, way := range []struct{ name, from, to, source, target string }{
		{"upload", near, cutDevice + ":" + far, near, far},
		{"download", cutDevice + ":" + far, near, far, near},
	} {
		want := randomFile(t, way.source, uint64(i), size)
		_ = os.Remove(way.target)
		copying := start(t, s.command(atService, s.byProxy("scp", "-q", "-l", kilobits, "-o", "User="+s.user, way.from, way.to)...))
		began, before := time.Now(), s.cuts.logged(legJoined)
		for n, c := range cuts {
			s.grown(t, copying, way.target, size*int64(n+1)/int64(len(cuts)+1))
			c.cut()
			copying.running(t)
		}
		if code := copying.exit(t, 3*soon); code != 0 {
			t.Fatalf("%s: scp exited %d: %s", way.name, code, copying.stderr)
		}
		if got := sum(t, way.target); got != want {
			t.Errorf("%s: SHA-256 of the copy is %s, want %s", way.name, got, want)
		}
		if joins, least := s.cuts.logged(legJoined)-before, 2*(1+len(cuts)); joins < least {
			t.Errorf("%s: %d legs joined, want %d at least: were they cut?", way.name, joins, least)
		}
		t.Logf("%s: %d bytes through %d cuts in %v", way.name, size, len(cuts), time.Since(began))
	}
}

// grown waits until a file that p writes to has n bytes.
func (s *sshSite) grown(t *testing.T, p *process, path string, n int64) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(2 * soon); ; {
		if info, err := os.Stat(path); err == nil && info.Size() >= n {
			return
		}
		select {
		case <-tick.C:
		case <-p.done:
			t.Fatalf("%s has ended before all cuts: %v", p, p.cmd.ProcessState)
		case <-late:
			t.Fatalf("%s has not copied %d bytes", p, n)
		}
	}
}
