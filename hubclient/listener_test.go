package hubclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// namedRequest asks for a stream of that name.
func namedRequest(rid int, name, url string) string {
	return wire.StreamRequest{RID: fmt.Sprint(rid), Name: name, URL: url, Token: testToken}.Topic()
}

// asker is a hub whose device is asked what a test wants.
type asker struct {
	*testHub
	asks    chan string // topics
	answers chan string
}

func newAsker(t *testing.T) *asker {
	a := &asker{testHub: new(testHub), asks: make(chan string), answers: make(chan string, 2*maxBacklog)}
	ended := make(chan struct{})
	a.device = func(s *deviceSession) {
		s.ready()
		go func() {
			for {
				select {
				case topic := <-a.asks:
					s.ask(topic)
				case <-ended:
					return
				}
			}
		}()
		defer close(ended)
		for {
			topic := s.answer()
			if topic == "" {
				return
			}
			a.answers <- topic
		}
	}
	a.start(t)
	return a
}

func (a *asker) wants(rid, status int) {
	a.t.Helper()
	select {
	case got := <-a.answers:
		if got != answerTopic(rid, status) {
			a.t.Errorf("answer is %q, not %d to %d", got, status, rid)
		}
	case <-time.After(patience):
		a.t.Fatalf("no answer to %d", rid)
	}
}

func TestListenNames(t *testing.T) {
	a := newAsker(t)
	d := a.dial(DeviceOptions{})
	for _, name := range []string{"", ".", "a b", strings.Repeat("x", wire.MaxStreamName+1)} {
		if l, err := d.Listen(name); l != nil || !errors.Is(err, ErrBadName) || !isOpError(err, "listen") {
			t.Errorf("listen on %q: %v, %v", name, l, err)
		}
	}
	l, err := d.Listen("ssh")
	if err != nil || l.Addr() != (Addr{testDevice, "ssh"}) || l.Addr().String() != "pi-1:ssh" || l.Addr().Network() != "farport" {
		t.Fatalf("%v, %v", l, err)
	}
	if _, err := d.Listen("ssh"); !errors.Is(err, ErrListening) {
		t.Errorf("second listener: %v", err)
	}
	if _, err := d.Listen("http"); err != nil {
		t.Errorf("other name: %v", err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.Accept(); !isOpError(err, "accept") || !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	again, err := d.Listen("ssh")
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := again.Accept()
		accepted <- err
	}()
	d.Close()
	if err := <-accepted; !isOpError(err, "accept") || !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the device's Close: %v", err)
	}
	if _, err := d.Listen("new"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen after the device's Close: %v", err)
	}
}

// A name with a listener goes there, others to Next once that is called, and nowhere
// before.
func TestListenBesideNext(t *testing.T) {
	a := newAsker(t)
	d := a.dial(DeviceOptions{})
	l, err := d.Listen("ssh")
	if err != nil {
		t.Fatal(err)
	}
	a.asks <- namedRequest(1, "other", a.legURL())
	a.wants(1, wire.StatusReject)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Next(ended); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	a.asks <- namedRequest(2, "other", a.legURL())
	a.asks <- namedRequest(3, "ssh", a.legURL())
	r, err := d.Next(bounded(t))
	if err != nil || r.Name != "other" {
		t.Fatalf("next is %+v, %v", r, err)
	}
	if err := r.Reject(bounded(t)); err != nil {
		t.Fatal(err)
	}
	a.wants(2, wire.StatusReject)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a.wants(3, wire.StatusAccept)
	echo(t, c.(Stream))
	c.Close()
	// Without its listener the name is as any other.
	l.Close()
	a.asks <- namedRequest(4, "ssh", a.legURL())
	if r, err = d.Next(bounded(t)); err != nil || r.Name != "ssh" {
		t.Fatalf("next is %+v, %v", r, err)
	}
}

// Nothing is accepted before Accept is called; what is too much is rejected at once, and
// what waits when the listener is closed is rejected then.
func TestListenBacklog(t *testing.T) {
	a := newAsker(t)
	d := a.dial(DeviceOptions{})
	l, err := d.Listen("ssh")
	if err != nil {
		t.Fatal(err)
	}
	for rid := range maxBacklog + 2 {
		a.asks <- namedRequest(rid, "ssh", a.legURL())
	}
	// paho hands messages on in any order (SetOrderMatters).
	refused := map[string]bool{<-a.answers: true, <-a.answers: true}
	l.Close()
	for range maxBacklog {
		select {
		case topic := <-a.answers:
			refused[topic] = true
		case <-time.After(patience):
			t.Fatalf("only %d requests are answered", len(refused))
		}
	}
	for rid := range maxBacklog + 2 {
		if !refused[answerTopic(rid, wire.StatusReject)] {
			t.Errorf("request %d is not rejected", rid)
		}
	}
}

// A stream that does not come about is no error of Accept's, and one that takes its time
// does not hold up the next.
func TestListenSlowStream(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	slow := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	a := newAsker(t)
	slow.TLS = a.serverTLS()
	slow.StartTLS()
	t.Cleanup(slow.Close)
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	d := a.dial(DeviceOptions{})
	l, err := d.Listen("ssh")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err != nil {
			t.Error(err)
		} else {
			accepted <- c
		}
	}()
	a.asks <- namedRequest(1, "ssh", "wss://"+slow.Listener.Addr().String()+"/slow")
	a.wants(1, wire.StatusAccept)
	<-asked
	a.asks <- namedRequest(2, "ssh", "ws://elsewhere.example.test/")
	a.wants(2, wire.StatusReject)
	a.asks <- namedRequest(3, "ssh", a.legURL())
	a.wants(3, wire.StatusAccept)
	select {
	case c := <-accepted:
		echo(t, c.(Stream))
		c.Close()
	case <-time.After(patience):
		t.Fatal("a slow stream holds up the others")
	}
	l.Close() // does not wait for the slow one either
}

// A stream that is open when the listener is closed, but that nobody has taken, ends.
// Others go on, and the name is refused from then on.
func TestListenClose(t *testing.T) {
	e := newEnds(t, plainStream)
	l := e.listen(t, "echo").(*listener)
	service, device := e.mustPair(t, l)
	dialled := make(chan net.Conn, 1)
	go func() {
		c, err := e.service.DialContext(bounded(t), testDevice, "echo")
		if err != nil {
			t.Error(err)
		}
		dialled <- c
	}()
	r := <-l.queue
	l.begin(r) // as an Accept does that returns another stream
	untaken := <-dialled
	if untaken == nil {
		return
	}
	defer untaken.Close()
	l.Close()
	if _, err := untaken.Read(make([]byte, 1)); !isOpError(err, "read") {
		t.Errorf("a stream that nobody took: %v", err)
	}
	if _, err := e.service.DialContext(bounded(t), testDevice, "echo"); !errors.Is(err, ErrStreamRejected) {
		t.Errorf("dial after Close: %v", err)
	}
	if _, err := io.WriteString(service, "x"); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(device, make([]byte, 1)); err != nil {
		t.Errorf("a stream that was taken: %v", err)
	}
}
