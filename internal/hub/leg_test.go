package hub_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/wire"
)

// tryLeg dials the streaming endpoint. When it refuses, the connection is nil.
func (w *world) tryLeg(url, authorization string) (*websocket.Conn, answer) {
	w.t.Helper()
	dialer := websocket.Dialer{TLSClientConfig: w.trust(), HandshakeTimeout: patience}
	header := http.Header{}
	if authorization != "" {
		header.Set("Authorization", authorization)
	}
	ws, got, err := dialer.Dial(url, header)
	if err == nil {
		w.t.Cleanup(func() { ws.Close() })
		return ws, answer{got.StatusCode, got.Header, ""}
	}
	if got == nil {
		w.t.Fatalf("dial %s: %v", url, err)
	}
	body, _ := io.ReadAll(got.Body)
	return nil, answer{got.StatusCode, got.Header, string(body)}
}

func (w *world) leg(url, token string) *websocket.Conn {
	w.t.Helper()
	ws, a := w.tryLeg(url, "Bearer "+token)
	if ws == nil {
		w.t.Fatalf("leg refused: %d %s", a.status, a.body)
	}
	return ws
}

// pair is an open stream.
type pair struct {
	device, service           *websocket.Conn
	url                       string
	deviceToken, serviceToken string
}

// stream opens a stream to a connected device, both legs joined.
func (w *world) stream(d *device) pair {
	w.t.Helper()
	asked := w.open(d.id, "shell", "", "")
	r := d.next()
	d.answer(r, 200)
	url, token := asked.accepted()
	p := pair{url: url, deviceToken: r.Token, serviceToken: token}
	p.device, p.service = w.leg(r.URL, r.Token), w.leg(url, token)
	p.echo(w.t)
	return p
}

// echo sends something in each direction.
func (p pair) echo(t *testing.T) {
	t.Helper()
	relayed(t, p.device, p.service)
	relayed(t, p.service, p.device)
}

// relayed sends through one leg and reads from the other.
func relayed(t *testing.T, from, to *websocket.Conn) {
	t.Helper()
	send(t, from, "ping")
	receive(t, to, "ping")
}

func send(t *testing.T, leg *websocket.Conn, text string) {
	t.Helper()
	if err := leg.WriteMessage(websocket.BinaryMessage, []byte(text)); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func receive(t *testing.T, leg *websocket.Conn, want string) {
	t.Helper()
	_ = leg.SetReadDeadline(time.Now().Add(patience))
	var got []byte
	for len(got) < len(want) {
		_, b, err := leg.ReadMessage()
		if err != nil {
			t.Fatalf("read %q, then %v; want %q", got, err, want)
		}
		got = append(got, b...)
	}
	if string(got) != want {
		t.Fatalf("read %q, want %q", got, want)
	}
}

// ends checks that a leg is ended by the hub, soon and with this reason.
func ends(t *testing.T, leg *websocket.Conn, reason wire.EndReason) {
	t.Helper()
	_ = leg.SetReadDeadline(time.Now().Add(soon))
	for {
		_, _, err := leg.ReadMessage()
		if err == nil {
			continue
		}
		code, text := reason.CloseFrame()
		if !websocket.IsCloseError(err, code) || err.(*websocket.CloseError).Text != text {
			t.Errorf("leg ended with %v, want %d %q", err, code, text)
		}
		return
	}
}
