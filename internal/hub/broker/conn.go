package broker

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/farportio/farport/internal/wire"
)

const (
	// maxPublish bounds a PUBLISH packet, maxControl every other one, CONNECT
	// included (T28, T30). Mochi allocates what a packet announces.
	maxPublish = 256 << 10
	maxControl = 16 << 10
)

// What ends a connection before mochi has seen the packet.
var (
	errNotConnect = errors.New("first packet is not CONNECT")
	errPacketType = errors.New("packet of a reserved type")
	errLength     = errors.New("malformed packet length")
	errTooLarge   = errors.New("packet too large")
)

// conn is a device's connection as mochi sees it: it bounds packets before they
// are read and writes while they are made, and can be broken off without waiting.
type conn struct {
	net.Conn  // TLS, or a WebSocket
	transport io.Closer
	log       *slog.Logger
	serial    uint64
	framing   framing
	client    *mqtt.Client // nil until the login began
	session   *Session     // nil until the login succeeded
}

func newConn(nc net.Conn, log *slog.Logger) *conn {
	return &conn{Conn: nc, transport: innermost(nc), log: log}
}

// innermost finds the connection below TLS and WebSocket.
func innermost(nc net.Conn) net.Conn {
	for {
		wrapped, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = wrapped.NetConn()
	}
}

// Read reads what the device sent, up to the first packet no device may send.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bad := c.framing.advance(p[:n]); bad != nil {
		return 0, bad
	}
	return n, err
}

// Write gives the device a bounded time to take p.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(wire.WriteStall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// SetDeadline is how mochi sets the keep-alive. Writes have their own bound.
func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// abort breaks the connection off at once: a farewell could wait for the peer.
func (c *conn) abort() { _ = c.transport.Close() }

// close ends the connection in the way of its protocol, unless that is done.
func (c *conn) close() { _ = c.Conn.Close() }

// name is the client ID the device logged in with, or "" before.
func (c *conn) name() string {
	if c.session == nil {
		return ""
	}
	return c.session.id
}

// tlsState is the state of the TLS layer, or nil without one.
func (c *conn) tlsState() *tls.ConnectionState {
	t, ok := c.Conn.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	state := t.ConnectionState()
	return &state
}

// recovered, deferred, keeps a panic to the connection it happened on.
func (c *conn) recovered() {
	if p := recover(); p != nil {
		c.log.Error("panic on a device connection", "client", c.name(), "panic", p, "stack", string(debug.Stack()))
		c.abort()
	}
}

// framing follows the packets in a byte stream just far enough to judge each
// one's type and announced length. The zero value stands before the first.
type framing struct {
	connected bool // CONNECT has begun
	header    byte // first byte of a packet whose length is being read, or 0
	shift     uint8
	length    int
	body      int // bytes left of the current packet
}

// advance moves on over p.
func (f *framing) advance(p []byte) error {
	for len(p) > 0 {
		if f.body > 0 {
			n := min(f.body, len(p))
			f.body -= n
			p = p[n:]
			continue
		}
		if err := f.step(p[0]); err != nil {
			return err
		}
		p = p[1:]
	}
	return nil
}

// step takes one byte of a fixed header.
func (f *framing) step(b byte) error {
	if f.header == 0 {
		return f.start(b)
	}
	f.length |= int(b&0x7f) << f.shift
	f.shift += 7
	if b&0x80 != 0 {
		if f.shift == 4*7 { // [MQTT-2.2.3]: four bytes at most
			return errLength
		}
		return nil
	}
	limit := maxControl
	if f.header>>4 == typePublish {
		limit = maxPublish
	}
	if f.length > limit {
		return errTooLarge
	}
	f.body = f.length
	f.header, f.shift, f.length = 0, 0, 0
	return nil
}

// start takes the first byte of a packet.
func (f *framing) start(b byte) error {
	if !f.connected && b != typeConnect<<4 { // [MQTT-3.1.0-1]
		return errNotConnect
	}
	if t := b >> 4; t == 0 || t == typeReserved { // [MQTT-2.2.1]
		return errPacketType
	}
	f.connected = true
	f.header = b
	return nil
}
