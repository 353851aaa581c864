package hubclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/wire"
)

const (
	// controlWrite bounds each write to the control connection.
	controlWrite = 10 * time.Second
	// maxControlMessage bounds one WebSocket message of the control connection:
	// the largest MQTT packet a farport hub sends. Source: docs/security.md, Big
	// messages.
	maxControlMessage = 256 << 10
	controlBuffer     = 1 << 10
)

// dialControl connects to the hub for MQTT.
func (h *hub) dialControl(ctx context.Context, o DeviceOptions, l *login) (*controlConn, error) {
	config := h.trust.config(h.cs.Host())
	l.present(config)
	var conn net.Conn
	var err error
	if o.Transport == MQTT {
		conn, err = h.dialTLSWith(ctx, "tcp", h.mqttAddress(o.MQTTPort), config)
	} else {
		conn, err = h.dialWebSocket(ctx, config)
	}
	if err != nil {
		return nil, err
	}
	return &controlConn{Conn: conn}, nil
}

// mqttAddress is where the hub listens for MQTT in TLS; port 0 is the default one.
func (h *hub) mqttAddress(port int) string {
	return net.JoinHostPort(h.cs.Host(), strconv.Itoa(cmp.Or(port, DefaultMQTTPort)))
}

// dialWebSocket connects for MQTT in a WebSocket. paho has a function for that, but
// it knows no context, and drops what the hub answers instead of 101.
func (h *hub) dialWebSocket(ctx context.Context, config *tls.Config) (net.Conn, error) {
	var dialErr error // the library hands it on as it is; kept to tell it from others
	stop := func() bool { return true }
	dialer := websocket.Dialer{
		NetDialTLSContext: func(dialing context.Context, network, addr string) (net.Conn, error) {
			var conn net.Conn
			if conn, dialErr = h.dialTLSWith(dialing, network, addr, config); dialErr != nil {
				return nil, dialErr
			}
			// The library's handshake heeds deadlines, but not the end of ctx.
			stop = context.AfterFunc(ctx, func() { conn.Close() })
			return conn, nil
		},
		HandshakeTimeout: 3 * dialTimeout, // TCP, TLS, answer
		Subprotocols:     []string{wire.SubprotocolMQTT},
		ReadBufferSize:   controlBuffer,
		WriteBufferSize:  controlBuffer,
	}
	url := "wss://" + h.authority() + wire.PathMQTT
	if !h.cs.X509 {
		url += "?" + wire.QueryNoClientCert
	}
	ws, answer, err := dialer.DialContext(ctx, url, http.Header{"User-Agent": {h.agent}})
	stop() // if it is too late, the caller sees ctx's end
	switch {
	case err == nil:
	case dialErr != nil:
		return nil, dialErr
	case errors.Is(err, websocket.ErrBadHandshake) && answer.StatusCode != http.StatusSwitchingProtocols:
		body, _ := io.ReadAll(answer.Body) // held in memory, 1 KiB at most
		return nil, hubError(answer.StatusCode, answer.Header, body)
	default:
		return nil, h.hopFailed(ctx, hopHTTP, h.cs.Address(), err)
	}
	if chosen := ws.Subprotocol(); !strings.EqualFold(chosen, wire.SubprotocolMQTT) {
		ws.Close()
		return nil, &hopError{hopMQTT, h.cs.Address(), errors.New("the hub chose subprotocol " + quote(chosen))}
	}
	ws.SetReadLimit(maxControlMessage)
	return &wsConn{Conn: ws}, nil
}

// wsConn reads and writes the binary messages of a WebSocket as bytes. MQTT packets
// may be split over messages in any way [MQTT-6.0.0-2].
type wsConn struct {
	*websocket.Conn
	message io.Reader // being read; nil between two messages
}

func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			kind, message, err := c.NextReader()
			if err != nil {
				return 0, closedBy(err)
			}
			if kind != websocket.BinaryMessage { // [MQTT-6.0.0-1]
				return 0, errors.New("the hub sent a text message")
			}
			c.message = message
		}
		n, err := c.message.Read(p)
		if err == io.EOF {
			c.message = nil
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

// closedBy quotes the hub's words in a close frame.
func closedBy(err error) error {
	closed, ok := errors.AsType[*websocket.CloseError](err)
	if !ok {
		return err
	}
	if closed.Code == websocket.CloseAbnormalClosure { // the library's name for no close frame
		return io.ErrUnexpectedEOF
	}
	return &explained{"closed by the hub, " + strconv.Itoa(closed.Code) + " " + quote(closed.Text), err}
}

func (c *wsConn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// controlConn is what paho gets as its connection. It bounds every write, also
// paho's pings, which have no deadline of their own; it lets only one of them
// through at a time, which a WebSocket needs; and it keeps the first error, which
// paho loses while it connects.
type controlConn struct {
	net.Conn

	writing sync.Mutex // held while writing

	mu  sync.Mutex
	err error // first error of reading or writing
}

func (c *controlConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.note(err)
	return n, err
}

func (c *controlConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.Conn.SetWriteDeadline(time.Now().Add(controlWrite)) // shows in the write
	n, err := c.Conn.Write(p)
	c.note(err)
	return n, err
}

// SetDeadline bounds reading; Write sets its own deadline.
func (c *controlConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing; Write sets its own deadline.
func (c *controlConn) SetWriteDeadline(time.Time) error { return nil }

// note keeps err, unless it only shows that we closed the connection.
func (c *controlConn) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && !errors.Is(err, net.ErrClosed) {
		c.err = err
	}
}

// failure is the first error of the connection, nil if there was none.
func (c *controlConn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
