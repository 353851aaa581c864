package stream

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/farportio/farport/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// endpoint is a streaming endpoint over TLS that takes every leg.
type endpoint struct {
	*httptest.Server
	legs chan *Conn // accepted
}

func newEndpoint(t testing.TB) *endpoint {
	e := &endpoint{legs: make(chan *Conn, 1)}
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := Accept(w, r); err == nil {
			e.legs <- c
		}
	}))
	e.Listener = Listener(e.Listener)
	e.Config.ErrorLog = quiet
	e.StartTLS()
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) wss() string { return "wss" + strings.TrimPrefix(e.URL, "https") + "/bridges/1" }

// tls trusts the endpoint.
func (e *endpoint) tls() *tls.Config {
	return e.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}

// leg returns both ends of a new leg.
func (e *endpoint) leg(t testing.TB) (hub, end *Conn) {
	t.Helper()
	end, err := Dial(t.Context(), e.wss(), "token", DialOptions{TLS: e.tls()})
	if err != nil {
		t.Fatal(err)
	}
	hub = <-e.legs
	t.Cleanup(func() { closeBoth(hub, end) })
	return hub, end
}

func closeBoth(a, b *Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Close()
	}()
	b.Close()
	<-done
}

func newLeg(t testing.TB) (hub, end *Conn) {
	t.Helper()
	return newEndpoint(t).leg(t)
}

// rawPeer is the other end of a leg, which does as it likes.
type rawPeer struct {
	net.Conn
	in    *bufio.Reader
	masks bool
}

// raw connects to the endpoint and returns the hub's leg and its stranger.
func (e *endpoint) raw(t testing.TB) (*Conn, *rawPeer) {
	t.Helper()
	conn, err := tls.Dial("tcp", e.Listener.Addr().String(), e.tls())
	if err != nil {
		t.Fatal(err)
	}
	p := &rawPeer{Conn: conn, in: bufio.NewReader(conn), masks: true}
	p.push(t, []byte("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"))
	resp, err := http.ReadResponse(p.in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	hub := <-e.legs
	t.Cleanup(func() {
		conn.Close()
		hub.Close()
	})
	return hub, p
}

func newRaw(t testing.TB) (*Conn, *rawPeer) {
	t.Helper()
	return newEndpoint(t).raw(t)
}

// pipeLeg is a leg over an unbuffered net.Pipe, for bubbles.
func pipeLeg(t testing.TB, drain time.Duration) (*Conn, *rawPeer) {
	near, far := net.Pipe()
	c := newConn(newFrameConn(near, bufio.NewReaderSize(near, headRoom), false), drain)
	t.Cleanup(func() {
		far.Close()
		c.Close()
	})
	return c, &rawPeer{Conn: far, in: bufio.NewReader(far), masks: true}
}

// push writes raw bytes.
func (p *rawPeer) push(t testing.TB, raw ...[]byte) {
	t.Helper()
	for _, b := range raw {
		if _, err := p.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}

// frame is a whole frame of this peer's.
func (p *rawPeer) frame(first byte, payload []byte) []byte {
	f := &frameConn{client: p.masks}
	b := f.frame(make([]byte, 0, maxHeader+len(payload)), 0, payload)
	b[0] = first
	return b
}

func (p *rawPeer) data(payload string) []byte { return p.frame(bitFinal|opBinary, []byte(payload)) }

func (p *rawPeer) close(code int, text string) []byte {
	if code == wire.CloseNoStatus {
		return p.frame(bitFinal|opClose, nil)
	}
	return p.frame(bitFinal|opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), text...))
}

// next reads one frame, of a peer that does not mask.
func (p *rawPeer) next() (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(p.in, head[:]); err != nil {
		return 0, nil, err
	}
	length := uint64(head[1] &^ bitMask)
	if extended := map[uint64]int{126: 2, 127: 8}[length]; extended > 0 {
		var b [8]byte
		if _, err := io.ReadFull(p.in, b[8-extended:]); err != nil {
			return 0, nil, err
		}
		length = binary.BigEndian.Uint64(b[:])
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(p.in, payload)
	return head[0] & 0xf, payload, err
}

// until reads frames up to the first with this opcode, and returns the data of
// those before it and its own payload.
func (p *rawPeer) until(op byte) (data, payload []byte, err error) {
	for {
		got, b, err := p.next()
		switch {
		case err != nil || got == op:
			return data, b, err
		case got == opBinary:
			data = append(data, b...)
		}
	}
}

// wantClose reads to the close frame and checks what it says.
func (p *rawPeer) wantClose(t testing.TB, code int, text string) (data []byte) {
	t.Helper()
	data, b, err := p.until(opClose)
	if err != nil {
		t.Fatalf("no close frame: %v", err)
	}
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != code || string(b[2:]) != text {
		t.Fatalf("close frame %q, want %d %q", b, code, text)
	}
	return data
}

// wantEnd checks how reading ended: with this reason, or in good order for "".
func wantEnd(t testing.TB, err error, reason wire.EndReason) {
	t.Helper()
	if reason == "" {
		if err != io.EOF {
			t.Fatalf("ended with %v, want io.EOF", err)
		}
		return
	}
	end, ok := errors.AsType[*EndError](err)
	if !ok || end.Reason != reason {
		t.Fatalf("ended with %v, want %q", err, reason)
	}
	if errors.Is(err, io.EOF) {
		t.Fatalf("a break that is io.EOF: %v", err)
	}
}

// readEnd reads to the end, which comes in error form.
func readEnd(c io.Reader) ([]byte, error) {
	var got []byte
	buf := make([]byte, 100_000)
	for {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			return got, err
		}
	}
}

// noise returns n bytes that no other seed has.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// soon is a bound for what must come at once on a real socket.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func soonTime() time.Time { return time.Now().Add(20 * time.Second) }

// deadlineForTest makes a Read that hangs fail the test rather than stop it.
func (c *Conn) deadlineForTest(t testing.TB) {
	stop := context.AfterFunc(soon(t), func() { _ = c.ws.Conn.Close() })
	t.Cleanup(func() { stop() })
}

func newReader(c net.Conn) *bufio.Reader { return bufio.NewReaderSize(c, headRoom) }
