package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// pipeListener gives out one connection.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { l.once.Do(func() { close(l.done) }); return nil }

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

// bubbleLeg makes a leg with both handshakes over a net.Pipe.
func bubbleLeg(t *testing.T, e *endpoint) (hub, end *Conn, far net.Conn) {
	l := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	legs := make(chan *Conn, 1)
	server := &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := Accept(w, r); err == nil {
			legs <- c
		}
	})}
	// A ticket would be written while the client writes too: a net.Pipe has no room.
	config := &tls.Config{Certificates: e.TLS.Certificates, SessionTicketsDisabled: true}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(tls.NewListener(Listener(l), config))
	}()
	client := e.tls()
	client.ServerName = "example.com"
	var near net.Conn
	end, err := Dial(t.Context(), "wss://example.com/bridges/1", "token", DialOptions{
		TLS: client,
		DialTCP: func(context.Context, string, string) (net.Conn, error) {
			near, far = net.Pipe()
			l.conns <- far
			return near, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	hub = <-legs
	t.Cleanup(func() {
		closeBoth(hub, end)
		_ = server.Close()
		<-served
	})
	return hub, end, far
}

// Two ends of ours keep an idle leg alive for ever, over TLS too.
func TestIdleLeg(t *testing.T) {
	e := newEndpoint(t)
	synctest.Test(t, func(t *testing.T) {
		hub, end, _ := bubbleLeg(t, e)
		hubEnded := readInto(hub)
		buf := make([]byte, 100)
		got := make(chan string, 1)
		go func() {
			n, _ := end.Read(buf)
			got <- string(buf[:n])
		}()
		<-time.After(24 * time.Hour)
		go func() { _, _ = hub.Write([]byte("morning")) }()
		if text := <-got; text != "morning" {
			t.Errorf("after a day: %q", text)
		}
		endEnded := readInto(end)
		go func() { _ = hub.CloseWrite() }()
		wantEnd(t, <-endEnded, "")
		_ = end.CloseWrite()
		wantEnd(t, <-hubEnded, "")
	})
}

// A path that takes nothing any more, over TLS: neither Abort nor Close may wait for
// long, although TLS wants to say farewell.
func TestStuckTLS(t *testing.T) {
	e := newEndpoint(t)
	synctest.Test(t, func(t *testing.T) {
		hub, end, _ := bubbleLeg(t, e)
		ended := readInto(hub)
		start := time.Now()
		_, err := hub.Write(make([]byte, wire.Chunk)) // nobody reads at the other end
		wantEnd(t, err, wire.EndNetwork)
		near(t, "write given up", time.Since(start), wire.WriteStall)
		start = time.Now()
		hub.Close()
		if d := time.Since(start); d > 2*lastWords {
			t.Errorf("closing took %v", d)
		}
		<-ended
		end.Close()
	})
}

// A chunk crosses in full although the records below come piece by piece.
func TestBytesOverAPipe(t *testing.T) {
	e := newEndpoint(t)
	synctest.Test(t, func(t *testing.T) {
		hub, end, _ := bubbleLeg(t, e)
		want := noise(7, 3*wire.Chunk+1)
		hubEnded := readInto(hub)
		go func() { _ = send(hub, want) }()
		got, err := readEnd(bufio.NewReaderSize(end, 16))
		if wantEnd(t, err, ""); !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, want %d", len(got), len(want))
		}
		_ = end.CloseWrite()
		wantEnd(t, <-hubEnded, "")
	})
}
