//go:build linux

package main_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/farportio/farport/internal/hubtest"
)

// within runs f in a place's network: what f listens on or dials stays there.
func (n *network) within(place string, f func()) {
	n.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := os.Open("/run/netns/" + n.name(place))
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		n.t.Fatalf("network namespace of the %s: %v", place, err)
	}
}

// deaf is a filter that lets nothing in or out, and tells nobody.
const deaf = `table inet deaf {
	chain input { type filter hook input priority 0; policy drop; iif lo accept; }
	chain output { type filter hook output priority 0; policy drop; oif lo accept; }
}
`

// networkSite is a site whose places are networks of their own, with an interactive session over
// --stdio and connections through a listening service-proxy.
type networkSite struct {
	*site
	*network
	flags           []string // of serve
	device, service *process
	load            *load
	session         *echoSession
}

func newNetworkSite(t *testing.T, binary string) *networkSite {
	t.Helper()
	const id = "pi-1"
	s := &networkSite{site: newSite(t, binary), network: newNetwork(t)}
	s.site.inside = map[string][]string{atHub: s.network.inside(atHub), atDevice: s.network.inside(atDevice), atService: s.network.inside(atService)}
	s.flags = []string{"--listen", ":443", "--mqtt-listen", "off", "--host", addresses[atHub]}
	s.serve(s.flags...)
	var echo string
	s.within(atDevice, func() {
		echo = hubtest.Echo(t)
		s.load = newLoad(t, 2, pace{chunk: 128 << 10, pause: 20 * time.Millisecond})
	})
	s.device = s.deviceProxy(s.addDevice(id), id, "--service", "echo="+echo, "--service", "load="+s.load.target)
	s.service = start(t, s.command(atService, "farport", "service-proxy", "-d", id, "-L", "0=load"))
	m := s.service.said(t, `^farport: listening on (127\.0\.0\.1:\d+) -> pi-1 \(load\)$`, 1, soon)
	s.within(atService, func() {
		s.load.connect(func() (net.Conn, error) { return net.Dial("tcp", m[1]) })
	})
	s.session = s.stdio()
	return s
}

// stdio starts a session by --stdio and waits until it stands.
func (s *networkSite) stdio(flags ...string) *echoSession {
	s.site.t.Helper()
	session := startEcho(s.site.t, s.command(atService, append([]string{"farport", "service-proxy", "--stdio", "-d", "pi-1", "--service", "echo"}, flags...)...))
	if err := echo(session, []byte("are you there?")); err != nil {
		s.site.t.Fatal(err)
	}
	return session
}

// fault is something that happens to a site, and its end.
type fault struct {
	name        string
	begin, over func()
	lasts       time.Duration
}

// promised is how soon bytes flow after a network's return; a busy machine may take as
// much again.
const promised = 5 * time.Second

// faults are all of them, in an order.
func (s *networkSite) faults(t *testing.T) []fault {
	const (
		unnoticed = 2 * time.Second // which a leg may outlive
		// An end that has something to send notices silence after 5 s, one that has not after
		// 10, or 15 soon after another verdict (farport-v1.md section 3); and vain dials.
		noticed     = 8 * time.Second
		idleNoticed = 17 * time.Second
	)
	stopped := 22 * time.Second // longer than the hub bears silence
	if long() {
		stopped = 2 * time.Minute
	}
	nft := require(t, "nft")
	link := func(state string, places ...string) func() {
		return func() {
			for _, place := range places {
				s.do(place, "link", "set", "uplink", state)
			}
		}
	}
	filter := func(place, script string) func() {
		return func() {
			cmd := s.command(place, nft, "-f", "-")
			cmd.Stdin = strings.NewReader(script)
			must(t, cmd)
		}
	}
	signal := func(sig syscall.Signal, to ...*process) func() {
		return func() {
			for _, p := range to {
				p.signal(t, sig)
			}
		}
	}
	move := func(place, to string) fault {
		old := addresses[place]
		return fault{name: place + "'s address changes",
			begin: func() { s.do(place, "address", "del", old+"/24", "dev", "uplink") },
			over:  func() { s.do(place, "address", "add", to+"/24", "dev", "uplink") }}
	}
	return []fault{
		{"service's link is down for a moment", link("down", atService), link("up", atService), unnoticed},
		{"service's link is down", link("down", atService), link("up", atService), noticed},
		{"device's link is down", link("down", atDevice), link("up", atDevice), noticed},
		{"both links are down", link("down", atService, atDevice), link("up", atService, atDevice), noticed},
		{"service's packets vanish", filter(atService, deaf), filter(atService, "delete table inet deaf"), noticed},
		{"device's packets vanish", filter(atDevice, deaf), filter(atDevice, "delete table inet deaf"), idleNoticed},
		// Over before the device, which only listens, notices: its pings go on, or the hub's
		// TCP tries again.
		{"device's packets vanish, not noticed", filter(atDevice, deaf), filter(atDevice, "delete table inet deaf"), noticed},
		move(atService, "192.0.2.13"),
		move(atDevice, "192.0.2.12"),
		{"service-proxies are stopped", signal(syscall.SIGSTOP, s.service, s.session.process), signal(syscall.SIGCONT, s.service, s.session.process), noticed},
		{"device-proxy is stopped", signal(syscall.SIGSTOP, s.device), signal(syscall.SIGCONT, s.device), stopped},
		{"hub is killed", func() { s.hub.kill() }, func() { s.serve(s.flags...) }, noticed},
		{"hub is upgraded", func() {
			s.hub.signal(t, syscall.SIGTERM)
			if code := s.hub.exit(t, soon); code != 0 {
				t.Errorf("hub that was told to stop: exit code %d", code)
			}
		}, func() { s.serve(s.flags...) }, 0},
	}
}

// networks: an interactive session and copies in both directions outlive what happens to
// networks and processes, and go on soon after it is over.
func networks(t *testing.T, binary string) {
	s := newNetworkSite(t, binary)
	s.load.flowing(soon)
	for _, f := range s.faults(t) {
		t.Run(f.name, func(t *testing.T) {
			f.begin()
			// What is typed meanwhile is not lost.
			typed := []byte("typed while " + f.name + "\n")
			if _, err := s.session.Write(typed); err != nil {
				t.Fatal(err)
			}
			time.Sleep(f.lasts)
			f.over()
			began := time.Now()
			if err := s.session.SetDeadline(time.Now().Add(soon)); err != nil {
				t.Fatal(err)
			}
			if err := expectText(s.session, typed); err != nil {
				t.Fatal(err)
			}
			session := time.Since(began)
			s.load.flowing(soon)
			all := time.Since(began)
			t.Logf("after %v: the session goes on %v, the copies %v after it was over", f.lasts, session, all)
			if all > 2*promised {
				t.Errorf("bytes flow only %v after it was over, want %v", all, promised)
			}
			if err := echo(s.session, []byte("and on")); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("window over", func(t *testing.T) { windowOver(t, s) })

	_ = s.session.in.Close()
	if code := s.session.exit(t, soon); code != 0 {
		t.Errorf("session: exit code %d, want 0", code)
	}
	s.load.finish(soon)
	for _, p := range []*process{s.service, s.device} {
		if m := regexp.MustCompile(`(?m)^farport: .*load.*broke.*$`).FindString(p.stderr.String()); m != "" {
			t.Errorf("%s says %q", p, m)
		}
	}
}

// windowOver: a session whose network stays away for longer than its window is lost, and
// says so by its exit code.
func windowOver(t *testing.T, s *networkSite) {
	const window = 3 * time.Second
	s.hub.said(t, `msg="device connected"`, 1, 3*soon) // it may not be back yet since the last restart
	session := s.stdio("--resume-window", window.String())
	s.do(atService, "link", "set", "uplink", "down")
	began := time.Now()
	if code := session.exit(t, soon); code != 8 {
		t.Errorf("exit code %d, want 8", code)
	}
	took := time.Since(began)
	s.do(atService, "link", "set", "uplink", "up")
	if took < window {
		t.Errorf("lost after %v, and the window is %v", took, window)
	}
	t.Logf("lost after %v", took)
	s.load.flowing(soon) // all others go on
}

// expectText reads exactly text.
func expectText(from echoer, text []byte) error {
	got := make([]byte, 0, len(text))
	for len(got) < len(text) {
		n, err := from.Read(got[len(got):cap(got)])
		got = got[:len(got)+n]
		if err != nil {
			return errors.Join(fmt.Errorf("%q came back of %q", got, text), err)
		}
	}
	if string(got) != string(text) {
		return fmt.Errorf("%q came back instead of %q", got, text)
	}
	return nil
}
