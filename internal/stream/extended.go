package stream

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Stream is an open device stream, plain (*Conn) or extended (*Extended): a net.Conn
// whose directions end apart.
type Stream interface {
	net.Conn
	// CloseWrite ends the writing direction in good order.
	CloseWrite() error
	// Abort breaks both directions so that the other end sees a break with this reason.
	Abort(wire.EndReason)
}

// JoinOptions say how an extended stream is kept.
type JoinOptions struct {
	DialOptions
	// Secret is the instance's (wire.NewInstance), the one the stream was agreed on with.
	Secret string
	// Window is how long the stream may be without its peer, as it was agreed on; 0 is
	// framing without resume.
	Window time.Duration
	// Linger bounds how long a stream that is done here goes on for the other end's sake.
	// Zero means the Window, and 60 s at most.
	Linger time.Duration
	// Changed is told when the stream waits for its peer, and when it has resumed; nil
	// means nobody. It is called by one goroutine at a time and must return soon.
	Changed func(Change)
}

// Change says that a stream waits for its peer, or no longer does.
type Change struct {
	Waiting bool
	Since   time.Time // when it began to wait
}

// Extended is one end of an extended stream.
type Extended struct{ net.Conn }

// Join opens an extended stream: it dials until the first leg is open, ctx ends, or the
// hub refuses for good. From then on the stream keeps itself, until it is closed.
func Join(ctx context.Context, url, token string, o JoinOptions) (*Extended, error) {
	return nil, errors.New("not built")
}

// NetworkChanged says that the machine has another address or route, or was asleep.
func (e *Extended) NetworkChanged() {}

// CloseWrite ends the writing direction.
func (e *Extended) CloseWrite() error { return nil }

// Abort breaks the stream off.
func (e *Extended) Abort(wire.EndReason) {}

var _ Stream = (*Extended)(nil)
