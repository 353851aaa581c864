package stream

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The subprotocol is echoed as it was offered, the first of several; compression is
// declined (docs/protocol.md, Handshake).
func TestAcceptNegotiates(t *testing.T) {
	e := newEndpoint(t)
	for offered, want := range map[string]string{
		"": "", "MQTT": "MQTT", "mqtt": "mqtt", "AMQP": "AMQP", "MQTT, HTTP": "MQTT", "a,b": "a", " b ,c": "b", ",x": "",
	} {
		t.Run(offered, func(t *testing.T) {
			header := http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}}
			if offered != "" {
				header.Set("Sec-WebSocket-Protocol", offered)
			}
			resp := e.upgrade(t, header)
			if resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(resp.Status)
			}
			if got := resp.Header.Get("Sec-Websocket-Protocol"); got != want {
				t.Errorf("echoed %q, want %q", got, want)
			}
			if got, ok := resp.Header["Sec-Websocket-Extensions"]; ok {
				t.Errorf("agreed to %q", got)
			}
			c := <-e.legs
			c.ws.Conn.Close()
			c.Close()
		})
	}
}

// upgrade asks for a leg and hangs up after the answer.
func (e *endpoint) upgrade(t *testing.T, header http.Header) *http.Response {
	t.Helper()
	conn, err := tls.Dial("tcp", e.Listener.Addr().String(), e.tls())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := httptest.NewRequest(http.MethodGet, e.URL+"/x", nil)
	r.Header = header.Clone()
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		if _, ok := r.Header[k]; !ok {
			r.Header.Set(k, v)
		}
	}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestAcceptRefuses(t *testing.T) {
	e := newEndpoint(t)
	for name, header := range map[string]http.Header{
		"no upgrade":    {"Upgrade": {"h2c"}},
		"no connection": {"Connection": {"close"}},
		"old version":   {"Sec-Websocket-Version": {"8"}},
		"short key":     {"Sec-Websocket-Key": {"c2hvcnQ="}},
		"no key":        {"Sec-Websocket-Key": {""}},
	} {
		t.Run(name, func(t *testing.T) {
			if resp := e.upgrade(t, header); resp.StatusCode < 400 || resp.StatusCode >= 500 {
				t.Errorf("answered %s", resp.Status)
			}
		})
	}
}

// A client that sends before the answer is refused rather than robbed of bytes.
func TestAcceptOfAnEagerClient(t *testing.T) {
	refused := make(chan error, 1)
	url, config := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := Accept(w, r)
		if err == nil {
			_, err = readEnd(c)
			c.Close()
		}
		refused <- err
	})
	conn, err := tls.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "wss://"), "/x"), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peer := &rawPeer{Conn: conn, masks: true}
	peer.push(t, append([]byte("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"), peer.data("early")...))
	if err := <-refused; err == nil || err == io.EOF {
		t.Errorf("accepted, and ended with %v", err)
	}
}

func TestRemoteAddr(t *testing.T) {
	e := newEndpoint(t)
	hub, end := e.leg(t)
	if got := end.RemoteAddr().String(); got != e.Listener.Addr().String() {
		t.Errorf("end's peer is %s", got)
	}
	if got, want := hub.RemoteAddr().String(), end.ws.LocalAddr().String(); got != want {
		t.Errorf("hub's peer is %s, want %s", got, want)
	}
}
