package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// relay is as much of a hub as two ends of extended streams need (farport-v1.md sections 2
// and 6): it takes any token "STREAM SIDE", and can be cut, restarted and told to refuse.
type relay struct {
	*httptest.Server
	config *tls.Config

	mu      sync.Mutex
	streams map[string]*relayed
	conns   map[*net.TCPConn]bool
	joins   int
	refuse  func(w http.ResponseWriter, r *http.Request) bool // nil: nobody
	tasks   sync.WaitGroup
}

// relayed is a stream, its two sides by name.
type relayed struct {
	highest map[string]uint64
	legs    map[string]*relayLeg
	reason  wire.EndReason // it has ended
}

type relayLeg struct {
	*Leg
	side   string
	paired *relayLeg // guarded by relay.mu

	hold sync.Mutex
	held []func(*Leg) error
	to   *Leg
}

func newRelay(t testing.TB) *relay {
	r := &relay{streams: make(map[string]*relayed), conns: make(map[*net.TCPConn]bool)}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(r.join))
	r.Listener = Listener(tracking{r.Listener, r})
	r.Config.ErrorLog = quiet
	r.StartTLS()
	r.config = r.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	t.Cleanup(func() {
		r.cut()
		r.Server.Close()
		r.tasks.Wait()
	})
	return r
}

// tracking keeps the connections, to cut them.
type tracking struct {
	net.Listener
	r *relay
}

func (l tracking) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.r.mu.Lock()
		defer l.r.mu.Unlock()
		l.r.conns[c.(*net.TCPConn)] = true
	}
	return c, err
}

// cut resets all connections, and reports how many there were.
func (r *relay) cut() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		_ = c.SetLinger(0)
		if c.Close() == nil {
			n++
		}
	}
	clear(r.conns)
	return n
}

// restart closes all legs as a hub does that is told to stop, and forgets everything.
func (r *relay) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	streams := r.streams
	r.streams = make(map[string]*relayed)
	for _, s := range streams {
		for _, l := range s.legs {
			r.tasks.Go(func() { l.Close(wire.CloseRestart, "") })
		}
	}
}

func (r *relay) refuseWith(refuse func(w http.ResponseWriter, req *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = refuse
}

func (r *relay) joined() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.joins
}

func (r *relay) join(w http.ResponseWriter, req *http.Request) {
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	stream, side, _ := strings.Cut(token, ".")
	join, ok := wire.ParseJoin(req.Header.Get(wire.HeaderJoin))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joins++
	if r.refuse != nil && r.refuse(w, req) {
		return
	}
	s := r.streams[stream]
	if s == nil {
		s = &relayed{highest: make(map[string]uint64), legs: make(map[string]*relayLeg)}
		r.streams[stream] = s
	}
	switch {
	case !ok:
		w.WriteHeader(http.StatusBadRequest)
		return
	case s.reason != "":
		w.Header().Set(wire.HeaderEnd, string(s.reason))
		w.WriteHeader(http.StatusGone)
		return
	case join <= s.highest[side]:
		w.Header().Set(wire.HeaderJoin, wire.FormatJoin(s.highest[side]))
		w.WriteHeader(http.StatusConflict)
		return
	}
	leg, err := AcceptLeg(w, req, http.Header{wire.HeaderToken: {token}})
	if err != nil {
		return
	}
	s.highest[side] = join
	l := &relayLeg{Leg: leg, side: side}
	if old := s.legs[side]; old != nil {
		r.part(s, old, wire.CloseReplaced, "replaced")
	}
	s.legs[side] = l
	other := s.legs[otherSide(side)]
	if other != nil && other.paired == nil {
		l.paired, other.paired = other, l
		l.pairWith(other)
		other.pairWith(l)
	}
	r.tasks.Go(func() { r.relay(s, l) })
}

func otherSide(side string) string {
	if side == "device" {
		return "service"
	}
	return "device"
}

// part closes a leg and the one that it was paired with. mu is held.
func (r *relay) part(s *relayed, l *relayLeg, code int, text string) {
	if s.legs[l.side] == l {
		delete(s.legs, l.side)
	}
	r.tasks.Go(func() { l.Close(code, text) })
	if p := l.paired; p != nil && s.legs[p.side] == p {
		delete(s.legs, p.side)
		r.tasks.Go(func() { p.Close(wire.ClosePeerAway, "peer away") })
	}
}

// relay carries what comes from a leg to its partner, and holds it while there is none.
func (r *relay) relay(s *relayed, l *relayLeg) {
	for {
		c, n, text, err := l.Next()
		if err != nil {
			r.gone(s, l, err)
			return
		}
		l.hold.Lock()
		to := l.to
		if to == nil && c == nil {
			held := string(text)
			l.held = append(l.held, func(to *Leg) error { return to.WriteText([]byte(held), soonTime()) })
		} else if to == nil {
			held := append([]byte(nil), c[:n]...)
			l.held = append(l.held, func(to *Leg) error { return to.WriteData(held, soonTime()) })
		}
		l.hold.Unlock()
		// A failure is the partner's to notice.
		if to != nil && c == nil {
			_ = to.WriteText(text, soonTime())
		} else if to != nil {
			_ = to.WriteData(c[:n], soonTime())
		}
		if c != nil {
			FreeChunk(c)
		}
	}
}

// pairWith gives a leg its partner.
func (l *relayLeg) pairWith(partner *relayLeg) {
	l.hold.Lock()
	defer l.hold.Unlock()
	for _, write := range l.held {
		_ = write(partner.Leg)
	}
	l.held, l.to = nil, partner.Leg
}

// gone ends the pairing, or the stream, of a leg that has ended.
func (r *relay) gone(s *relayed, l *relayLeg, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	closed, ok := errors.AsType[*CloseFrame](err)
	switch {
	case ok && closed.Code == wire.CloseNormal:
		r.end(s, wire.EndFinished)
		r.tasks.Go(func() { l.Close(wire.CloseNormal, "") })
	case ok && closed.Code == wire.CloseBrokenOff:
		r.end(s, wire.EndReason(closed.Text))
		r.tasks.Go(func() { l.Close(wire.CloseBrokenOff, closed.Text) })
	case s.legs[l.side] == l:
		r.part(s, l, wire.CloseNormal, "")
	default:
		r.tasks.Go(func() { l.Close(wire.CloseNormal, "") })
	}
}

// end ends the stream. mu is held.
func (r *relay) end(s *relayed, reason wire.EndReason) {
	if s.reason == "" {
		s.reason = reason
		for _, l := range s.legs {
			r.tasks.Go(func() { l.Close(wire.CloseEnded, string(reason)) })
		}
		clear(s.legs)
	}
}

func (r *relay) endStream(stream string, reason wire.EndReason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(r.streams[stream], reason)
}

// options trust the relay.
func (r *relay) options() JoinOptions {
	return JoinOptions{DialOptions: DialOptions{TLS: r.config}, Secret: wire.NewInstance(), Window: time.Minute}
}

// open joins one side of a stream.
func (r *relay) open(ctx context.Context, stream, side string, o JoinOptions) (*Extended, error) {
	return Join(ctx, "wss"+strings.TrimPrefix(r.URL, "https")+"/"+stream, stream+"."+side, o)
}

// pair returns both ends of a new stream, which have ended with the test.
func (r *relay) pair(t testing.TB, stream string, o JoinOptions) (service, device *Extended) {
	t.Helper()
	var err error
	if service, err = r.open(t.Context(), stream, "service", o); err != nil {
		t.Fatal(err)
	}
	if device, err = r.open(t.Context(), stream, "device", o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wantGone(t, service, device) })
	return service, device
}

// wantGone aborts streams that have not ended and checks that nothing is left of them.
func wantGone(t testing.TB, streams ...*Extended) {
	t.Helper()
	for _, e := range streams {
		e.Abort(wire.EndReset)
		_ = e.Close()
		e.LingerAtMost(2 * time.Second)
	}
	for _, e := range streams {
		select {
		case <-e.Ended():
		case <-time.After(20 * time.Second):
			t.Error("the stream does not end")
		}
	}
}

// plainPair returns two ends of a plain stream through a relay.
func plainPair(b testing.TB) (near, far *Conn) {
	legs := make(chan *Conn, 2)
	e := newEndpoint(b)
	e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if c, err := Accept(w, req); err == nil {
			legs <- c
		}
	})
	dial := func() *Conn {
		c, err := Dial(b.Context(), "wss"+strings.TrimPrefix(e.URL, "https")+"/x", "token", DialOptions{TLS: e.tls()})
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	near, far = dial(), dial()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = Pipe(b.Context(), <-legs, <-legs, new(Meter))
	}()
	b.Cleanup(func() {
		closeBoth(near, far)
		<-done
	})
	return near, far
}
