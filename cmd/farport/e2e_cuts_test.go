//go:build unix

package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// weak is a network that can be cut: what one end says to the hub passes it.
type weak struct {
	t     *testing.T
	name  string
	proxy *toxiproxy.Proxy
}

// cutSite is a site in which each end has a weak network between it and the hub, and a
// connected device.
type cutSite struct {
	*site
	flags           []string   // of serve
	hubs            []*process // one after another
	service, device weak
	connection      string // the device's connection string
}

const (
	cutDevice = "pi-1"
	legJoined = `msg="leg joined"` // in a hub's log
)

// newCutSite needs no namespaces: the hub is known by one name to the service and by
// another to the device, each with the port of that end's network.
func newCutSite(t *testing.T, binary string, serveFlags ...string) *cutSite {
	t.Helper()
	ports := freePorts(t, 3)
	s := &cutSite{site: newSite(t, binary)}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	for i, w := range []*weak{&s.service, &s.device} {
		w.t, w.name = t, [...]string{atService, atDevice}[i]
		w.proxy = toxiproxy.NewProxy(server, w.name, ports[i], ports[2])
		w.up()
		t.Cleanup(w.proxy.Stop)
	}
	_, devicePort, _ := net.SplitHostPort(ports[1])
	s.flags = append([]string{
		"-v", "--listen", ports[2], "--mqtt-listen", "off",
		"--host", ports[0], "--host", "localhost:" + devicePort,
	}, serveFlags...)
	s.startHub()
	s.connection = strings.Replace(s.addDevice(cutDevice), "HostName="+ports[0], "HostName=localhost:"+devicePort, 1)
	return s
}

func (s *cutSite) startHub() {
	s.t.Helper()
	s.serve(s.flags...)
	s.hubs = append(s.hubs, s.hub)
}

// restart kills the hub and starts it again.
func (s *cutSite) restart() {
	s.t.Helper()
	s.hub.kill()
	s.startHub()
}

// logged counts the lines in the logs of all hubs so far that match a pattern.
func (s *cutSite) logged(pattern string) (n int) {
	expr := regexp.MustCompile("(?m)" + pattern)
	for _, h := range s.hubs {
		n += len(expr.FindAllString(h.stderr.String(), -1))
	}
	return n
}

// up lets connections through, in a network that was down.
func (w *weak) up() {
	if err := w.proxy.Start(); err != nil {
		w.t.Errorf("network of the %s: %v", w.name, err)
	}
}

// down closes all connections and lets no new ones in.
func (w *weak) down() { w.proxy.Stop() }

// toxic spoils connections, and new ones too, for as long as told. Toxicity is how many of
// them, 1 is all. After that, those that were silent are closed.
func (w *weak) toxic(kind, direction string, toxicity float64, how time.Duration) {
	text := fmt.Sprintf(`{"name": "cut", "type": %q, "stream": %q, "toxicity": %.2f, "attributes": {"timeout": 0}}`, kind, direction, toxicity)
	if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
		w.t.Errorf("network of the %s: %v", w.name, err)
		return
	}
	time.Sleep(how)
	if err := w.proxy.Toxics.RemoveToxic(context.Background(), "cut"); err != nil {
		w.t.Errorf("network of the %s: %v", w.name, err)
	}
}

// The ways to cut a network.
const (
	cutReset   = "reset_peer" // connections break
	cutSilence = "timeout"    // bytes vanish, and nobody is told for some time
	cutClose   = "close"      // all connections are closed and new ones refused
)

// cut cuts the network in one of the ways, for as long as told.
func (w *weak) cut(kind string, toxicity float64, how time.Duration) {
	if kind == cutClose {
		w.down()
		time.Sleep(how)
		w.up()
		return
	}
	w.toxic(kind, [...]string{"upstream", "downstream"}[rand.IntN(2)], toxicity, how)
}

// storm cuts both networks n times between them, at random moments and in random ways,
// and kills the hub some times while it does.
func (s *cutSite) storm(cuts, kills int) {
	s.t.Helper()
	const apart = 1600 * time.Millisecond // at most, between two cuts of one network
	var left atomic.Int64
	left.Store(int64(cuts))
	var wg sync.WaitGroup
	for _, w := range []*weak{&s.service, &s.device} {
		wg.Go(func() {
			for left.Add(-1) >= 0 && !s.t.Failed() {
				time.Sleep(rand.N(apart / 2))
				kind := [...]string{cutReset, cutReset, cutSilence, cutSilence, cutClose}[rand.IntN(5)]
				w.cut(kind, 0.2+0.6*rand.Float64(), rand.N(apart/2))
			}
		})
	}
	began := time.Now()
	for i := range kills {
		// At even parts of the time that the cuts will take, more or less.
		until := time.Duration(float64(cuts) / 2 * float64(apart/2) * (float64(i) + rand.Float64()) / float64(kills))
		time.Sleep(time.Until(began.Add(until)))
		s.restart()
	}
	wg.Wait()
}

// manyCuts: streams with data in both directions outlive cuts of both networks, deaths of
// the hub, and all of these at once.
func manyCuts(t *testing.T, binary string) {
	streams, cuts, kills := 20, 60, 3
	if long() {
		streams, cuts, kills = 100, 1000, 20
	}
	const (
		back  = 12 * time.Second // for all streams to go on once nothing is cut any more
		many  = "1000"           // streams, more than there are
		asked = 20               // streams that are opened at once: the hub refuses too many
	)
	s := newCutSite(t, binary, "--max-streams-per-device", many)
	l := newLoad(t, streams, pace{chunk: 16 << 10, pause: time.Duration(streams) * 3 * time.Millisecond})
	device := s.deviceProxy(s.connection, cutDevice, "--target", l.target, "--max-streams", many)
	service, address := s.serviceProxy(cutDevice)
	idle, freshHub := []left{leftIn(t, device), leftIn(t, service)}, leftIn(t, s.hub)

	dialled := 0
	l.connect(func() (net.Conn, error) {
		if dialled++; dialled > asked {
			service.said(t, `stream \d+ opened`, dialled-asked, soon)
		}
		return net.Dial("tcp", address)
	})
	l.flowing(soon)
	began := time.Now()
	s.storm(cuts, kills)
	t.Logf("%d cuts and %d kills in %v", cuts, kills, time.Since(began))
	t.Logf("after it, bytes flow in %v", l.flowing(back))

	// All at once.
	s.service.down()
	s.device.down()
	s.restart()
	s.service.up()
	s.device.up()
	t.Logf("after all at once, bytes flow in %v", l.flowing(back))
	l.finish(soon)

	s.hub.said(t, `msg="stream ended".* reason=finished `, streams, soon)
	joins := s.logged(legJoined)
	t.Logf("%d legs joined, %d were refused, %d not accepted", joins, s.logged(`msg="leg refused"`), s.logged(`msg="leg not accepted"`))
	if least := 2*streams + cuts; joins < least {
		t.Errorf("%d legs joined, want %d at least: were they cut?", joins, least)
	}
	if n := s.logged(`msg="stream ended"`); n != streams {
		t.Errorf("the hubs say of %d streams that they ended, want %d", n, streams)
	}
	for i, p := range []*process{device, service} {
		p.running(t)
		idle[i].wait(t, p, soon)
		text := p.stderr.String()
		t.Logf("%s: %d waits, %d resumed", p, strings.Count(text, " waits: "), strings.Count(text, " resumed: "))
		if m := regexp.MustCompile(`(?m)^farport: .*broke.*$`).FindString(text); m != "" {
			t.Errorf("%s says %q", p, m)
		}
		p.noStreams(t)
	}
	freshHub.wait(t, s.hub, soon)
}

// noStreams asks a process that has no streams any more for its goroutines, which ends it,
// and looks for those that belong to streams.
func (p *process) noStreams(t *testing.T) {
	t.Helper()
	before := len(p.stderr.String())
	p.signal(t, syscall.SIGQUIT) // the Go runtime's own
	p.exit(t, soon)
	stacks := strings.Split(p.stderr.String()[before:], "\n\n")
	if len(stacks) < 3 {
		t.Fatalf("%s: no stacks after SIGQUIT", p)
	}
	for _, stack := range stacks {
		if strings.Contains(stack, "/internal/stream") || strings.Contains(stack, "proxy.(*session)") {
			t.Errorf("%s: a goroutine is left:\n%s", p, stack)
		}
	}
	t.Logf("%s: %d goroutines at the end", p, len(stacks)-2)
}
