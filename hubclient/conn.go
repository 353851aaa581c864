package hubclient

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/farportio/farport/internal/stream"
)

// network is what streams are called where package net names a network.
const network = "farport"

// Addr is where a stream leads: a service on a device or module.
type Addr struct {
	Target  string // DEVICE or DEVICE/MODULE
	Service string // name of the stream
}

// Network returns "farport".
func (a Addr) Network() string { return network }

// String returns TARGET:SERVICE, in a form that net.SplitHostPort takes apart.
func (a Addr) String() string { return net.JoinHostPort(a.Target, a.Service) }

// DialContext opens a stream as package net opens a connection, for whoever wants a
// net.Conn: http.Transport, an SSH client, tls.Client. It is Open with farport's own
// time-outs; ctx bounds the dialling only. The Conn's RemoteAddr is an Addr; CloseWrite
// is there, too. Errors are a *net.OpError, of the Conn's methods as well, around what
// Open and Stream have; after Close they match net.ErrClosed, and after a deadline
// os.ErrDeadlineExceeded.
func (s *Service) DialContext(ctx context.Context, target, service string) (net.Conn, error) {
	to := Addr{target, service}
	leg, err := s.open(ctx, target, service, OpenOptions{ConnectTimeout: DefaultConnectTimeout})
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: to, Err: timedOut(err)}
	}
	return &conn{Stream: leg, local: leg.LocalAddr(), remote: to}, nil
}

// timedOut makes err one that net.Error's Timeout tells of, if it is about time.
func timedOut(err error) error {
	if errors.Is(err, ErrTimeout) {
		return &timeout{err}
	}
	return err
}

type timeout struct{ error }

func (t *timeout) Timeout() bool { return true }
func (t *timeout) Unwrap() error { return t.error }

// conn is a Stream as users of package net expect one.
type conn struct {
	Stream
	local, remote net.Addr
	closed        atomic.Bool
}

// LocalAddr is the Addr of the Listener that accepted the stream, else the leg's.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the Addr that was dialled, else the hub's.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) Read(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, c.failed("read", net.ErrClosed)
	}
	n, err := c.Stream.Read(p)
	if err == io.EOF { //nolint:errorlint // the end of what the other end had to say, and no cause of a broken stream
		return n, err
	}
	return n, c.failed("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Stream.Write(p)
	return n, c.failed("write", err)
}

func (c *conn) CloseWrite() error { return c.failed("close", c.Stream.CloseWrite()) }

// Close ends the stream as it does a TCP connection: what was written still arrives, in the
// background, and what the other end has sent and nobody has read is lost, which breaks
// the stream.
func (c *conn) Close() error {
	leg, isPlain := c.Stream.(*stream.Conn)
	if !isPlain { // it is so by itself
		c.closed.Store(true)
		return c.failed("close", c.Stream.Close())
	}
	if !c.closed.Swap(true) {
		_ = leg.SetDeadline(time.Unix(1, 0)) // wakes whoever reads or writes
		go leg.Finish()
	}
	return nil
}

// failed makes the error of an operation, nil if it has none.
func (c *conn) failed(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case c.closed.Load() && op != "close":
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: network, Source: c.local, Addr: c.remote, Err: err}
}
