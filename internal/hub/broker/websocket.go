package broker

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/wire"
)

const (
	// wsBuffer sizes the WebSocket's buffers: an idle device sends and gets less.
	wsBuffer = 512
	// farewell is how long a closing WebSocket may take to say so.
	farewell = time.Second
)

// errText: MQTT travels in binary frames only [MQTT-6.0.0-1].
var errText = errors.New("MQTT in a text frame")

// newUpgrader makes the upgrader for all devices. Write buffers are shared, as
// nearly all devices are idle. A browser's request must come from the same host.
func newUpgrader() websocket.Upgrader {
	return websocket.Upgrader{
		HandshakeTimeout: strangerTimeout,
		ReadBufferSize:   wsBuffer,
		WriteBufferSize:  wsBuffer,
		WriteBufferPool:  &sync.Pool{},
	}
}

// ServeHTTP takes a request for MQTT over WebSocket, on whatever path it came.
// It returns once the connection is upgraded, or refused with a text that says
// why; the broker serves the connection from then on. w must be an
// http.Hijacker.
func (b *Broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protocol := offered(r)
	if websocket.IsWebSocketUpgrade(r) && protocol == "" {
		http.Error(w, `this WebSocket carries the subprotocol "mqtt", which was not offered`, http.StatusBadRequest)
		return
	}
	if !b.enter() {
		http.Error(w, "the hub is stopping", http.StatusServiceUnavailable)
		return
	}
	ws, err := b.upgrader.Upgrade(w, r, http.Header{"Sec-Websocket-Protocol": {protocol}})
	if err != nil {
		b.serving.Done()
		b.options.Logger.Debug("no WebSocket for MQTT", "remote", r.RemoteAddr, "err", err)
		return
	}
	ws.SetReadLimit(maxPublish + wsBuffer)
	// A goroutine of its own leaves net/http's buffers and grown stack behind.
	go b.serve(&wsConn{ws: ws})
}

// offered is the subprotocol for MQTT as the client wrote it, or "".
func offered(r *http.Request) string {
	for _, p := range websocket.Subprotocols(r) {
		if strings.EqualFold(p, wire.SubprotocolMQTT) {
			return p
		}
	}
	return ""
}

// wsConn is a WebSocket as a byte stream: what binary messages carry, without
// their borders [MQTT-6.0.0-2].
type wsConn struct {
	ws      *websocket.Conn
	message io.Reader // rest of the message being read, nil between two
	err     error     // first error of Read; gorilla panics if read on and on after it
}

// Read reads from the current message, or from the next one.
func (c *wsConn) Read(p []byte) (int, error) {
	for c.err == nil {
		if c.message == nil {
			c.next()
			continue
		}
		n, err := c.message.Read(p)
		if err == io.EOF {
			c.message, err = nil, nil
		}
		c.err = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, c.err
}

// next waits for a message.
func (c *wsConn) next() {
	kind, r, err := c.ws.NextReader()
	switch {
	case websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived):
		c.err = io.EOF
	case err != nil:
		c.err = err
	case kind != websocket.BinaryMessage:
		c.err = errText
	default:
		c.message = r
	}
}

// Write sends p as one binary message.
func (c *wsConn) Write(p []byte) (int, error) {
	if err := c.ws.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close says goodbye, if the peer listens, and closes.
func (c *wsConn) Close() error {
	code := websocket.CloseNormalClosure
	if errors.Is(c.err, errText) {
		code = websocket.CloseUnsupportedData
	}
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(farewell))
	return c.ws.Close()
}

// ConnectionState is that of the TLS below, so that a login sees the client's
// certificate.
func (c *wsConn) ConnectionState() tls.ConnectionState {
	if t, ok := c.ws.NetConn().(interface{ ConnectionState() tls.ConnectionState }); ok {
		return t.ConnectionState()
	}
	return tls.ConnectionState{}
}

func (c *wsConn) NetConn() net.Conn                  { return c.ws.NetConn() }
func (c *wsConn) LocalAddr() net.Addr                { return c.ws.LocalAddr() }
func (c *wsConn) RemoteAddr() net.Addr               { return c.ws.RemoteAddr() }
func (c *wsConn) SetReadDeadline(t time.Time) error  { return c.ws.SetReadDeadline(t) }
func (c *wsConn) SetWriteDeadline(t time.Time) error { return c.ws.SetWriteDeadline(t) }

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
