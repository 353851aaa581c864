package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/wire"
)

var quiet = log.New(io.Discard, "", 0)

// send writes all of b and ends the direction.
func send(c *Conn, b []byte) error {
	if _, err := c.Write(b); err != nil {
		return err
	}
	return c.CloseWrite()
}

func TestBytesBothWays(t *testing.T) {
	e := newEndpoint(t)
	for _, size := range []int{0, 1, 125, 126, headRoom, wire.Chunk - 1, wire.Chunk, wire.Chunk + 1, 5<<20 + 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			hub, end := e.leg(t)
			down, up := noise(1, size), noise(2, size)
			var wg sync.WaitGroup
			for _, dir := range []struct {
				from, to *Conn
				b        []byte
			}{{hub, end, down}, {end, hub, up}} {
				wg.Go(func() {
					if err := send(dir.from, dir.b); err != nil {
						t.Error("send:", err)
					}
				})
				wg.Go(func() {
					got, err := readEnd(dir.to)
					if err != io.EOF || !bytes.Equal(got, dir.b) {
						t.Errorf("got %d bytes and %v, want %d and EOF", len(got), err, size)
					}
				})
			}
			wg.Wait()
		})
	}
}

// A foreign peer writes text, fragments and empty messages; only bytes matter, and
// any size of read gets them.
func TestMessageBoundariesMeanNothing(t *testing.T) {
	e := newEndpoint(t)
	for _, size := range []int{1, 3, 7, 100_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dialer := websocket.Dialer{TLSClientConfig: e.tls(), WriteBufferSize: 16} // fragments at 16 bytes
			ws, _, err := dialer.Dial(e.wss(), nil)
			if err != nil {
				t.Fatal(err)
			}
			hub := <-e.legs
			defer hub.Close()
			defer ws.Close()
			long := strings.Repeat("fragmented ", 40)
			for _, m := range []struct {
				kind int
				text string
			}{
				{websocket.TextMessage, "text é"}, {websocket.BinaryMessage, ""}, {websocket.BinaryMessage, long},
				{websocket.TextMessage, ""}, {websocket.BinaryMessage, "last"},
			} {
				w, err := ws.NextWriter(m.kind)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(w, m.text)
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := ws.WriteControl(websocket.CloseMessage, nil, soonTime()); err != nil {
				t.Fatal(err)
			}
			var got []byte
			buf := make([]byte, size)
			for err == nil {
				var n int
				n, err = hub.Read(buf)
				got = append(got, buf[:n]...)
			}
			wantEnd(t, err, "")
			if want := "text é" + long + "last"; string(got) != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// Azure's C# proxies send empty messages in a tight loop once their local side has
// ended: that is their end. What came before it is not lost, and the loop ends when
// the leg does.
func TestFloodOfEmptyMessages(t *testing.T) {
	hub, peer := newRaw(t)
	sent := make(chan error, 1)
	go func() {
		_, err := peer.Write(peer.data("the last word"))
		for flood := bytes.Repeat(peer.data(""), 1000); err == nil; {
			_, err = peer.Write(flood)
		}
		sent <- err
	}()
	got, err := readEnd(hub)
	wantEnd(t, err, "")
	if string(got) != "the last word" {
		t.Errorf("got %q", got)
	}
	if n, err := hub.Write([]byte("the other direction goes on")); err != nil {
		t.Error(n, err)
	}
	if err := hub.CloseWrite(); err != nil {
		t.Error(err)
	}
	hub.Close()
	if err := <-sent; err == nil {
		t.Error("the loop found no end")
	}
}

// Empty messages that come now and then, or between others, mean nothing.
func TestEmptyMessagesNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, 0)
		go func() {
			for range 3 * emptyEnd {
				peer.push(t, peer.data(""))
				<-time.After(emptyTime / (emptyEnd - 2))
			}
			for range 3 {
				peer.push(t, bytes.Repeat(peer.data(""), emptyEnd-1))
				peer.push(t, peer.data("x"))
			}
			peer.push(t, peer.close(wire.CloseNormal, ""))
		}()
		got, err := readEnd(c)
		wantEnd(t, err, "")
		if string(got) != "xxx" {
			t.Errorf("got %q", got)
		}
	})
}

func TestReadAfterTheEnd(t *testing.T) {
	for _, reason := range []wire.EndReason{"", wire.EndAborted, wire.EndNetwork} {
		t.Run(string(reason), func(t *testing.T) {
			hub, peer := newRaw(t)
			switch reason {
			case "":
				peer.push(t, peer.close(wire.CloseNormal, ""))
			case wire.EndAborted:
				peer.push(t, peer.close(wire.CloseError, "aborted"))
			default:
				peer.Close()
			}
			_, first := readEnd(hub)
			wantEnd(t, first, reason)
			buf := make([]byte, 1)
			for range 10_000 {
				if n, err := hub.Read(buf); n != 0 || err != first {
					t.Fatalf("read %d bytes and %v, want %v for ever", n, err, first)
				}
			}
			if c, n, err := hub.readChunk(); c != nil || n != 0 || err != first {
				t.Fatal(c, n, err)
			}
		})
	}
}

func TestReadIntoNothing(t *testing.T) {
	hub, peer := newRaw(t)
	if n, err := hub.Read(nil); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	peer.push(t, peer.close(wire.CloseNormal, ""))
	_, err := readEnd(hub)
	wantEnd(t, err, "")
}

// Everything at once, many times: no panic, no data race, and whoever waits is let go.
func TestEndingAllAtOnce(t *testing.T) {
	e := newEndpoint(t)
	var all sync.WaitGroup
	for range 20 {
		hub, end := e.leg(t)
		all.Go(func() { endAllAtOnce(t, hub, end) })
	}
	all.Wait()
}

func endAllAtOnce(t *testing.T, hub, end *Conn) {
	var wg sync.WaitGroup
	for _, c := range []*Conn{hub, end} {
		wg.Go(func() { _, _ = readEnd(c) })
		wg.Go(func() {
			for b := noise(4, 70_000); ; {
				if _, err := c.Write(b); err != nil {
					if _, ok := errors.AsType[*EndError](err); !ok {
						t.Errorf("write: %v is no *EndError", err)
					}
					return
				}
			}
		})
		for range 2 {
			wg.Go(func() { _ = c.CloseWrite() })
			wg.Go(func() { c.Abort(wire.EndRevoked) })
			wg.Go(func() { _ = c.Close() })
		}
	}
	wg.Wait()
	if err := hub.Close(); err != nil {
		t.Error("close again:", err)
	}
	if err := end.CloseWrite(); err == nil {
		t.Error("CloseWrite of a closed leg ended in good order")
	}
}
