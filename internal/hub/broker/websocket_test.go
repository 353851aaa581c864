package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// dialWS opens a WebSocket with the given subprotocols.
func (h *harness) dialWS(t testing.TB, header http.Header, protocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: h.roots, ServerName: "example.com"}, Subprotocols: protocols, EnableCompression: true}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, resp, err := d.DialContext(ctx, h.wss+"?"+wire.QueryNoClientCert, header)
	if err == nil {
		t.Cleanup(func() { _ = ws.Close() })
	}
	return ws, resp, err
}

func TestSubprotocol(t *testing.T) {
	h := start(t, nil)
	for _, c := range []struct {
		offer []string
		want  string // "" means refused
	}{
		{[]string{"mqtt"}, "mqtt"},
		{[]string{"MQTT"}, "MQTT"},
		{[]string{"AMQPWSB10", "Mqtt"}, "Mqtt"},
		{[]string{"AMQPWSB10"}, ""},
		{[]string{"mqttv3.1"}, ""},
		{nil, ""},
	} {
		ws, resp, err := h.dialWS(t, nil, c.offer...)
		if c.want == "" {
			if err == nil || resp == nil || resp.StatusCode != http.StatusBadRequest {
				t.Errorf("offer %q: %v", c.offer, err)
				continue
			}
			if text, _ := io.ReadAll(resp.Body); !strings.Contains(string(text), "subprotocol") {
				t.Errorf("offer %q: refused with %q", c.offer, text)
			}
			continue
		}
		if err != nil {
			t.Errorf("offer %q: %v", c.offer, err)
			continue
		}
		if got := resp.Header.Get("Sec-Websocket-Protocol"); got != c.want || ws.Subprotocol() != c.want {
			t.Errorf("offer %q: got %q", c.offer, got)
		}
		if e := resp.Header.Get("Sec-Websocket-Extensions"); e != "" {
			t.Errorf("extensions %q", e)
		}
		_ = ws.Close()
	}
}

func TestWebSocketRefused(t *testing.T) {
	h := start(t, nil)
	_, resp, err := h.dialWS(t, http.Header{"Origin": {"https://evil.example"}}, "mqtt")
	if err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("foreign origin: %v", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.roots, ServerName: "example.com"}}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: patience}
	plain, err := client.Get("https" + strings.TrimPrefix(h.wss, "wss"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Body.Close()
	if text, _ := io.ReadAll(plain.Body); plain.StatusCode != http.StatusBadRequest || len(text) == 0 {
		t.Errorf("no WebSocket: %d %q", plain.StatusCode, text)
	}
	_ = h.Close()
	if _, resp, err := h.dialWS(t, nil, "mqtt"); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("closed: %v", err)
	}
}

// messages reads binary messages until want bytes are there.
func messages(t testing.TB, ws *websocket.Conn, want []byte) {
	t.Helper()
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	var got []byte
	for len(got) < len(want) {
		kind, p, err := ws.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage {
			t.Fatalf("kind %d, %v", kind, err)
		}
		got = append(got, p...)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %x, want %x", got, want)
	}
}

// TestMessageBorders: MQTT packets and WebSocket messages need not coincide.
func TestMessageBorders(t *testing.T) {
	stream := bytes.Join([][]byte{connect("pi-1", nil), subscribe(7, 0, wire.FilterStreamRequests),
		publish(1, "devices/pi-1/messages/events/", strings.Repeat("x", 3000)), {packets.Pingreq << 4, 0}}, nil)
	answers := []byte{packets.Connack << 4, 2, 0, 0, packets.Suback << 4, 3, 0, 7, 0, packets.Puback << 4, 2, 0, 9, packets.Pingresp << 4, 0}
	for _, size := range []int{1, 2, 100, len(stream)} {
		h := start(t, nil)
		ws, _, err := h.dialWS(t, nil, "mqtt")
		if err != nil {
			t.Fatal(err)
		}
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			if err := ws.WriteMessage(websocket.BinaryMessage, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			if n == 100 { // empty messages and pings carry nothing
				_ = ws.WriteMessage(websocket.BinaryMessage, nil)
				_ = ws.WriteMessage(websocket.PingMessage, []byte("x"))
			}
		}
		messages(t, ws, answers)
	}
}

func TestWebSocketEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		send func(ws *websocket.Conn) error
		code int
	}{
		{"text", func(ws *websocket.Conn) error { return ws.WriteMessage(websocket.TextMessage, []byte("x")) }, websocket.CloseUnsupportedData},
		{"huge message", func(ws *websocket.Conn) error {
			_ = ws.WriteMessage(websocket.BinaryMessage, bytes.Repeat(publish(0, "t", strings.Repeat("x", 1000)), 300))
			return nil // the hub need not read it all
		}, 0},
		{"MQTT goodbye", func(ws *websocket.Conn) error {
			return ws.WriteMessage(websocket.BinaryMessage, []byte{packets.Disconnect << 4, 0})
		}, websocket.CloseNormalClosure},
		{"goodbye", func(ws *websocket.Conn) error {
			return ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
		}, websocket.CloseNormalClosure},
		{"goodbye without a word", func(ws *websocket.Conn) error { return ws.WriteMessage(websocket.CloseMessage, nil) }, websocket.CloseNoStatusReceived},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, nil)
			ws, _, err := h.dialWS(t, nil, "mqtt")
			if err != nil {
				t.Fatal(err)
			}
			if err := ws.WriteMessage(websocket.BinaryMessage, connect("pi-1", nil)); err != nil {
				t.Fatal(err)
			}
			messages(t, ws, []byte{packets.Connack << 4, 2, 0, 0})
			h.expect(t, "connected")
			if err := c.send(ws); err != nil {
				t.Fatal(err)
			}
			_ = ws.SetReadDeadline(time.Now().Add(patience))
			if _, _, err := ws.ReadMessage(); err == nil || c.code != 0 && !websocket.IsCloseError(err, c.code) {
				t.Errorf("ended with %v, want %d", err, c.code)
			}
			h.expect(t, "disconnected")
		})
	}
}

// TestClientCertificate: Authenticate sees it on either port.
func TestClientCertificate(t *testing.T) {
	transports(t, func(t *testing.T, h *harness, url string) {
		for _, present := range []bool{false, true} {
			client := h.device(url, "pi-1", func(o *mqtt.ClientOptions) {
				o.SetPassword("") // paho sends none then, as SDKs with a certificate do
				if present {
					o.TLSConfig.Certificates = []tls.Certificate{h.certificate}
				}
			})
			if err := done(t, client.Connect()); err == nil {
				t.Fatal("let in")
			}
			l := <-h.logins
			if l.TLS == nil || (len(l.TLS.PeerCertificates) > 0) != present {
				t.Errorf("certificate presented: %v, TLS state %+v", present, l.TLS)
			}
		}
	})
}
