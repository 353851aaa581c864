package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// legPair returns both ends of a new leg of an extended stream.
func legPair(t testing.TB) (hub, end *Leg) {
	t.Helper()
	legs := make(chan *Leg, 1)
	url, config := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		if l, err := AcceptLeg(w, r, nil); err == nil {
			legs <- l
		}
	})
	end, _, err := DialLeg(t.Context(), url, "token", LegJoin{Join: 1, Secret: "secret"}, DialOptions{TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	hub = <-legs
	t.Cleanup(func() {
		hub.Drop()
		end.Drop()
	})
	return hub, end
}

// rawLeg is a leg and a stranger at its other end, over an unbuffered net.Pipe.
func rawLeg(t testing.TB) (*Leg, *rawPeer) {
	near, far := net.Pipe()
	l := legOver(newFrameConn(near, bufio.NewReaderSize(near, headRoom), false))
	t.Cleanup(func() {
		far.Close()
		l.Drop()
	})
	return l, &rawPeer{Conn: far, in: bufio.NewReader(far), masks: true}
}

func TestJoinHandshake(t *testing.T) {
	got := make(chan http.Header, 1)
	url, config := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Clone()
		l, err := AcceptLeg(w, r, http.Header{wire.HeaderToken: {"next"}})
		if err != nil {
			t.Error(err)
			return
		}
		l.Drop()
	})
	l, token, err := DialLeg(t.Context(), url, "k3J", LegJoin{Join: 7, Secret: "s-e"}, DialOptions{TLS: config, UserAgent: "farport/1"})
	if err != nil {
		t.Fatal(err)
	}
	l.Drop()
	if token != "next" {
		t.Errorf("token %q", token)
	}
	header := <-got
	for name, want := range map[string]string{
		"Authorization": "Bearer k3J", "Sec-WebSocket-Protocol": "farport.v1", "Farport-Join": "7", "Farport-Instance": "s-e", "User-Agent": "farport/1",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestJoinRefused(t *testing.T) {
	for name, test := range map[string]struct {
		header http.Header
		want   JoinError
	}{
		"not ours":     {nil, JoinError{Status: 404}},
		"portal":       {http.Header{"Location": {"/login"}, "Farport-End": {"finished"}}, JoinError{Status: 302}},
		"a page":       {http.Header{"Content-Type": {"text/html"}}, JoinError{Status: 200}},
		"refused":      {http.Header{"Farport-End": {"refused"}}, JoinError{Status: 401, End: wire.EndRefused}},
		"no hub's 401": {nil, JoinError{Status: 401}},
		"ended":        {http.Header{"Farport-End": {"closed"}}, JoinError{Status: 410, End: wire.EndClosed}},
		"unknown word": {http.Header{"Farport-End": {"eaten"}}, JoinError{Status: 410, End: wire.EndReset}},
		"conflict":     {http.Header{"Farport-Join": {"12"}}, JoinError{Status: 409, Highest: 12}},
		"odd conflict": {http.Header{"Farport-Join": {"-1"}}, JoinError{Status: 409}},
		"busy":         {http.Header{"Retry-After": {"7"}}, JoinError{Status: 503, RetryAfter: 7 * time.Second}},
		"till a date":  {http.Header{"Retry-After": {"Fri, 31 Dec 1999 23:59:59 GMT"}}, JoinError{Status: 503}},
	} {
		t.Run(name, func(t *testing.T) {
			url, config := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range test.header {
					w.Header()[k] = v
				}
				w.WriteHeader(test.want.Status)
			})
			l, token, err := DialLeg(t.Context(), url, "token", LegJoin{Join: 1}, DialOptions{TLS: config})
			refused, ok := errors.AsType[*JoinError](err)
			if l != nil || token != "" || !ok || *refused != test.want {
				t.Fatalf("%v, %q, %v, want %v", l, token, err, test.want)
			}
			if !strings.Contains(err.Error(), fmt.Sprint(test.want.Status)) || !strings.Contains(err.Error(), string(test.want.End)) {
				t.Errorf("%q does not say so", err)
			}
		})
	}
}

// A 101 that selects another protocol is a failed join, and no final one.
func TestJoinOfAPlainEndpoint(t *testing.T) {
	for _, protocol := range []string{"", "Sec-WebSocket-Protocol: MQTT\r\n"} {
		url, config := answering(t, func(key string) []byte { return []byte(switching(key) + protocol + "\r\n") })
		l, _, err := DialLeg(t.Context(), url, "token", LegJoin{Join: 1}, DialOptions{TLS: config})
		if l != nil || err != errNotExtended {
			t.Errorf("%q: %v, %v", protocol, l, err)
		}
	}
}

func TestAcceptLegOfAPlainEnd(t *testing.T) {
	refused := make(chan error, 1)
	url, config := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := AcceptLeg(w, r, nil)
		refused <- err
	})
	_, err := Dial(t.Context(), url, "token", DialOptions{TLS: config})
	if e, ok := errors.AsType[*DialError](err); !ok || e.Status != http.StatusBadRequest || <-refused == nil {
		t.Error(err)
	}
}

// Bytes and texts come in the order they were written, bytes of any number of messages
// together, and never across a text.
func TestLegKeepsOrder(t *testing.T) {
	for _, how := range []string{"Read", "Next", "small Read"} {
		t.Run(how, func(t *testing.T) {
			hub, end := legPair(t)
			for _, dir := range [][2]*Leg{{hub, end}, {end, hub}} {
				from, to := dir[0], dir[1]
				var wg sync.WaitGroup
				data := noise(1, 3<<20)
				wg.Go(func() {
					for at, i := 0, 0; at < len(data); i++ {
						n := min(1+i*i*37%wire.Chunk, len(data)-at)
						if err := from.WriteData(data[at:at+n], soonTime()); err != nil {
							t.Error(err)
							return
						}
						if at += n; i%3 == 0 {
							if err := from.WriteText(fmt.Appendf(nil, "at %d", at), soonTime()); err != nil {
								t.Error(err)
							}
						}
						if i%7 == 0 {
							from.Ping()
						}
					}
					if err := from.WriteText([]byte("end"), soonTime()); err != nil {
						t.Error(err)
					}
				})
				if got := readTexts(t, to, how); !bytes.Equal(got, data) {
					t.Errorf("%d bytes, want %d", len(got), len(data))
				}
				wg.Wait()
			}
		})
	}
}

// readTexts reads to the text "end" and checks that the others come at their place.
func readTexts(t *testing.T, l *Leg, how string) (got []byte) {
	buf := make([]byte, 100_000)
	if how == "small Read" {
		buf = buf[:7]
	}
	for {
		var n int
		var text []byte
		var err error
		if how == "Next" {
			var c *Chunk
			if c, n, text, err = l.Next(); c != nil {
				got = append(got, c[:n]...)
				FreeChunk(c)
			}
		} else if n, text, err = l.Read(buf); n > 0 {
			got = append(got, buf[:n]...)
		}
		switch {
		case err != nil:
			t.Fatal(err)
		case string(text) == "end":
			return got
		case text != nil && (n > 0 || string(text) != fmt.Sprintf("at %d", len(got))):
			t.Fatalf("text %q after %d bytes", text, len(got))
		case text == nil && n == 0:
			t.Fatal("nothing was read")
		}
	}
}

func TestLegRefusesFrames(t *testing.T) {
	long := make([]byte, wire.Chunk)
	for name, test := range map[string]struct {
		frames func(*rawPeer) [][]byte
		code   int
	}{
		"text too long": {func(p *rawPeer) [][]byte {
			return [][]byte{p.frame(bitFinal|opText, make([]byte, wire.MaxControl+1))}
		}, wire.CloseProtocol},
		"long text": {func(p *rawPeer) [][]byte {
			return [][]byte{p.frame(bitFinal|opText, long)}
		}, wire.CloseProtocol},
		"text in fragments": {func(p *rawPeer) [][]byte {
			return [][]byte{p.frame(opText, []byte("A "))}
		}, wire.CloseProtocol},
		"message too large": {func(p *rawPeer) [][]byte {
			return [][]byte{p.frame(bitFinal|opBinary, append(long, 0))}
		}, wire.CloseTooBig},
		"large in fragments": {func(p *rawPeer) [][]byte {
			return [][]byte{p.frame(opBinary, long[1:]), p.frame(opContinuation, []byte("x")), p.frame(bitFinal|opContinuation, []byte("y"))}
		}, wire.CloseTooBig},
		"text in a message": {func(p *rawPeer) [][]byte {
			return [][]byte{p.frame(opBinary, []byte("x")), p.frame(bitFinal|opText, []byte("F"))}
		}, wire.CloseProtocol},
		"reserved": {func(p *rawPeer) [][]byte {
			return [][]byte{p.frame(bitFinal|0x40|opBinary, []byte("x"))}
		}, wire.CloseProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			l, peer := rawLeg(t)
			go func() {
				for _, f := range test.frames(peer) {
					if _, err := peer.Write(f); err != nil {
						return
					}
				}
			}()
			var err error
			for err == nil {
				_, _, err = l.Read(make([]byte, 100_000))
			}
			if e, ok := errors.AsType[*ProtocolError](err); !ok || e.Code != test.code {
				t.Errorf("%v, want code %d", err, test.code)
			}
		})
	}
}

// Any number of empty messages means nothing, and fragments do not either.
func TestLegIgnoresEmptyMessages(t *testing.T) {
	l, peer := rawLeg(t)
	go func() {
		_, _ = peer.Write(bytes.Repeat(peer.data(""), 3*emptyEnd))
		for _, f := range [][]byte{
			peer.frame(opBinary, []byte("ab")), peer.frame(bitFinal|opPing, nil), peer.frame(opContinuation, nil), peer.frame(bitFinal|opContinuation, []byte("cd")),
			peer.frame(bitFinal|opText, []byte("A 4 5")), peer.frame(bitFinal|opText, nil), peer.close(4000, "peer away"),
		} {
			_, _ = peer.Write(f)
		}
	}()
	go func() { _, _, _ = peer.next() }() // takes the pong
	var got []string
	for {
		buf := make([]byte, 10)
		n, text, err := l.Read(buf)
		if err != nil {
			if e, ok := errors.AsType[*CloseFrame](err); !ok || *e != (CloseFrame{4000, "peer away"}) {
				t.Error(err)
			}
			break
		}
		if text != nil {
			got = append(got, "text "+string(text))
		} else {
			got = append(got, string(buf[:n]))
		}
	}
	if want := []string{"ab", "cd", "text A 4 5", "text "}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLegWritesWholeMessages(t *testing.T) {
	l, peer := rawLeg(t)
	go func() {
		_ = l.WriteText([]byte("H 1 0 65536 00000000"), soonTime())
		_ = l.WriteData(noise(1, wire.Chunk), soonTime())
		l.sendClose(4004, "reset")
	}()
	for _, want := range []struct {
		op   byte
		size int
	}{{opText, 20}, {opBinary, wire.Chunk}, {opClose, 7}} {
		if op, p, err := peer.next(); op != want.op || len(p) != want.size || err != nil {
			t.Errorf("%x of %d bytes (%v), want %v", op, len(p), err, want)
		}
	}
}

// Both ends learn of a close, wherever they stand, and are free soon.
func TestLegClose(t *testing.T) {
	for _, reading := range []bool{false, true} {
		t.Run(fmt.Sprint(reading), func(t *testing.T) {
			hub, end := legPair(t)
			unread := make(chan error, 1)
			go func() { // bytes that nobody wants must not make a reset of the close
				var err error
				for err == nil {
					err = end.WriteData(noise(1, wire.Chunk), time.Now().Add(10*time.Second))
				}
				unread <- err
			}()
			if reading {
				go func() {
					for {
						if _, _, err := hub.Read(make([]byte, 100)); err != nil {
							return
						}
					}
				}()
			}
			closed := make(chan struct{})
			go func() {
				hub.Close(4001, "replaced")
				close(closed)
			}()
			_, _, err := end.Read(make([]byte, 1))
			if e, ok := errors.AsType[*CloseFrame](err); !ok || *e != (CloseFrame{4001, "replaced"}) {
				t.Error(err)
			}
			start := time.Now()
			end.Close(1000, "")
			<-closed
			if d := time.Since(start); d > 2*lastWords {
				t.Errorf("closing took %v", d)
			}
			<-unread
			if err := hub.WriteText([]byte("A"), soonTime()); err == nil {
				t.Error("written after the close")
			}
			end.Close(1000, "")
			end.Drop()
		})
	}
}

// A writer that is stuck holds up neither Ping, nor Close for long, nor Drop.
func TestLegStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, drop := range []bool{false, true} {
			l, _ := rawLeg(t)
			wrote := make(chan error, 1)
			go func() { wrote <- l.WriteData(make([]byte, 10), time.Now().Add(time.Hour)) }()
			synctest.Wait()
			start := time.Now()
			l.Ping()
			if drop {
				l.Drop()
			} else {
				l.Close(4000, "")
			}
			if d := time.Since(start); d > 2*lastWords {
				t.Errorf("took %v", d)
			}
			if err := <-wrote; err == nil {
				t.Error("written")
			}
		}
	})
}

func TestLegDropWakesTheReader(t *testing.T) {
	hub, end := legPair(t)
	failed := make(chan error, 2)
	go func() {
		_, _, err := end.Read(make([]byte, 1))
		failed <- err
	}()
	go func() {
		_, _, _, err := hub.Next()
		failed <- err
	}()
	end.Drop()
	for range 2 {
		if err := <-failed; err == nil || err == io.EOF {
			t.Error(err)
		}
	}
}

// Silence counts while somebody reads; a ping breaks it.
func TestLegSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, peer := rawLeg(t)
		l.LimitSilence(20 * time.Second)
		time.Sleep(time.Hour) // nobody reads
		go func() {
			for range 5 {
				time.Sleep(15 * time.Second)
				peer.push(t, peer.frame(bitFinal|opPing, nil))
				_, _, _ = peer.next()
			}
		}()
		start := time.Now()
		_, _, _, err := l.Next()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(start); d < 94*time.Second || d > 96*time.Second {
			t.Errorf("given up after %v", d)
		}
		if d := time.Since(l.Heard()); d < 19*time.Second || d > 21*time.Second {
			t.Errorf("heard %v ago", d)
		}
	})
}

func TestDialLegGivesUp(t *testing.T) {
	url, config := answering(t, func(string) []byte { return nil })
	_, _, err := DialLeg(t.Context(), url, "token", LegJoin{Join: 1}, DialOptions{TLS: config, Timeout: 50 * time.Millisecond})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
