package hub

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/broker"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// pipes is a listener of in-memory connections, so that time can be a test's own.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

// bare is a hub with an HTTP server and no more than a stranger sees of it.
func bare(t *testing.T, s store.Store, log io.Writer) *Hub {
	t.Helper()
	n, err := newNames([]string{"hub.example.test"}, 443)
	if err != nil {
		t.Fatal(err)
	}
	h := &Hub{names: n, log: slog.New(slog.NewTextHandler(log, nil)), holds: map[string]func(){}}
	h.o.HandshakeTimeout = wire.HandshakeTimeout
	if s != nil {
		h.registry = registry.New(s)
	}
	h.server = h.newServer()
	return h
}

// lasts runs a conversation with the server and returns how long the server let it
// go on.
func lasts(t *testing.T, wrap func(net.Listener) net.Listener, talk func(net.Conn)) (took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		h := bare(t, nil, io.Discard)
		l := newPipes()
		var wg sync.WaitGroup
		wg.Go(func() { _ = h.server.Serve(wrap(l)) })
		c := l.dial()
		start := time.Now()
		wg.Go(func() { talk(c) })
		_, _ = io.Copy(io.Discard, c)
		took = time.Since(start)
		c.Close()
		_ = h.server.Close()
		wg.Wait()
	})
	return took
}

func plain(l net.Listener) net.Listener { return l }

func say(c net.Conn, text string) { _, _ = io.WriteString(c, text) }

// Strangers get little time, whatever they are slow with (security.md T28).
func TestSlowStrangers(t *testing.T) {
	cert := issue(t, newCA(t), "hub.example.test")
	secure := func(l net.Listener) net.Listener {
		return tls.NewListener(l, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	}
	const head = "PUT /devices/pi-1 HTTP/1.1\r\nHost: h\r\n"
	drip := func(c net.Conn, text string) {
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}
	for name, c := range map[string]struct {
		wrap func(net.Listener) net.Listener
		talk func(net.Conn)
		most time.Duration
	}{
		"silent in TLS":      {secure, func(net.Conn) {}, headTimeout},
		"silent":             {plain, func(net.Conn) {}, headTimeout},
		"half a head":        {plain, func(c net.Conn) { say(c, head) }, headTimeout},
		"a head in drops":    {plain, func(c net.Conn) { say(c, "GET / HTTP/1.1\r\nHost: h\r\nX-Slow: "); drip(c, "x") }, headTimeout},
		"no body":            {plain, func(c net.Conn) { say(c, head+"Content-Length: 10\r\n\r\n") }, bodyTimeout},
		"a body in drops":    {plain, func(c net.Conn) { say(c, head+"Content-Length: 1000\r\n\r\n"); drip(c, "x") }, bodyTimeout},
		"chunks in drops":    {plain, func(c net.Conn) { say(c, head+"Transfer-Encoding: chunked\r\n\r\n"); drip(c, "1\r\nx\r\n") }, bodyTimeout},
		"a body for a GET":   {plain, func(c net.Conn) { say(c, "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n") }, bodyTimeout},
		"idle after a call":  {plain, func(c net.Conn) { say(c, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n") }, idleTimeout},
		"a head of 40 KiB":   {plain, func(c net.Conn) { say(c, "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", 40<<10)+"\r\n\r\n") }, 0},
		"a path of 40 KiB":   {plain, func(c net.Conn) { say(c, "GET /"+strings.Repeat("x", 40<<10)+" HTTP/1.1\r\nHost: h\r\n\r\n") }, 0},
		"nothing but spaces": {plain, func(c net.Conn) { drip(c, " ") }, headTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			if took := lasts(t, c.wrap, c.talk); took > c.most+time.Second {
				t.Errorf("it may last %s, want %s", took, c.most)
			}
		})
	}
}

// Who asks and does not read the answers is given up, too.
func TestStrangerWhoDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := bare(t, nil, io.Discard)
		l := newPipes()
		var wg sync.WaitGroup
		wg.Go(func() { _ = h.server.Serve(l) })
		c := l.dial()
		start := time.Now()
		for {
			if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				break
			}
		}
		if took := time.Since(start); took > answerTimeout+time.Second {
			t.Errorf("it lasts %s", took)
		}
		_ = h.server.Close()
		wg.Wait()
	})
}

// A panic ends its connection, leaves a line, and nothing else.
func TestPanic(t *testing.T) {
	var log strings.Builder
	synctest.Test(t, func(t *testing.T) {
		h := bare(t, nil, &log) // has no registry to ask: authentication panics
		l := newPipes()
		var wg sync.WaitGroup
		wg.Go(func() { _ = h.server.Serve(l) })
		c := l.dial()
		token := credential.Sign("hub.example.test", "service", credential.NewKey(), time.Now().Add(time.Hour))
		say(c, "GET /devices HTTP/1.1\r\nHost: h\r\nAuthorization: "+token.Reveal()+"\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
			t.Error("a request that panics is answered")
		}
		c = l.dial()
		say(c, "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if a, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || a.StatusCode != http.StatusOK {
			t.Errorf("after it: %v", err)
		}
		_ = h.server.Close()
		wg.Wait()
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "panic serving") {
			t.Errorf("log has %d lines: %s", n, &log)
		}
		if strings.Contains(log.String(), token.Reveal()[30:]) {
			t.Error("the token is in the log")
		}
	})
}

// brokenStore fails whatever is asked.
type brokenStore struct{ store.Store }

var errBroken = errors.New("disk on fire")

func (brokenStore) Get(context.Context, store.Kind, string) (store.Record, error) {
	return store.Record{}, errBroken
}

// A registry that fails is the hub's trouble, not the caller's: nobody is told that
// his credentials are wrong.
func TestBrokenRegistry(t *testing.T) {
	var log strings.Builder
	h := bare(t, brokenStore{}, &log)
	token := credential.Sign("hub.example.test", "iothubowner", credential.NewKey(), time.Now().Add(time.Hour)).Reveal()
	for _, path := range []string{"/devices", "/twins/pi-1"} {
		near, far := net.Pipe()
		var wg sync.WaitGroup
		l := newPipes()
		wg.Go(func() { _ = h.server.Serve(l) })
		l.conns <- far
		say(near, "GET "+path+" HTTP/1.1\r\nHost: h\r\nAuthorization: "+token+"\r\n\r\n")
		a, err := http.ReadResponse(bufio.NewReader(near), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(a.Body)
		if a.StatusCode != http.StatusServiceUnavailable || strings.Contains(string(body), "fire") {
			t.Errorf("%s: %d %s", path, a.StatusCode, body)
		}
		near.Close()
		l.Close()
		wg.Wait()
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), errBroken.Error()) {
		t.Errorf("log: %s", &log)
	}
	for _, policy := range []string{"", "device"} {
		login := broker.Login{User: wire.UserName{Host: "h", DeviceID: "pi-1"}}
		login.Password = credential.Sign("hub.example.test/devices/pi-1", policy, credential.NewKey(), time.Now().Add(time.Hour))
		if _, err := h.authenticateDevice(t.Context(), login); err == nil || errors.Is(err, broker.ErrRefused) {
			t.Errorf("a device with policy %q hears %v", policy, err)
		}
	}
	if err := h.stands(t.Context(), streamToken{Side: wire.SideService, Device: "pi-1"}); err == nil || errors.Is(err, errRevoked) {
		t.Errorf("a leg hears %v", err)
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0 s", 0: "0 s", 59 * time.Second: "59 s", time.Minute: "1 min", 59 * time.Minute: "59 min", time.Hour: "1 h", 47 * time.Hour: "47 h", 48 * time.Hour: "2 days",
	} {
		if got := ago(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
