package rendezvous

import (
	"errors"
	"sync"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// errOver ends a Write that waits at a gate when the stream ends.
var errOver = errors.New("the stream has ended")

// legError says which side's leg has failed.
type legError struct {
	side wire.Side
	err  error
}

func (e *legError) Error() string { return string(e.side) + "'s leg: " + e.err.Error() }

func (e *legError) Unwrap() error { return e.err }

// gate leads to a leg that may not have joined yet. Until it opens it holds up to
// wire.Chunk bytes (security.md T32), then it makes the writer wait, who stops
// reading the other leg.
type gate struct {
	side   wire.Side
	leg    stream.Half     // valid once opened is closed
	opened chan struct{}   // closed when what was held has been written
	over   <-chan struct{} // closed when the stream has ended

	mu      sync.Mutex
	held    []byte
	opening bool // nothing may be held any more
	closed  bool // CloseWrite came while bytes were held
}

func (g *gate) init(side wire.Side, over <-chan struct{}) {
	g.side, g.opened, g.over = side, make(chan struct{}), over
}

// open lets everything through to leg, what was held first.
func (g *gate) open(leg stream.Half) error {
	g.mu.Lock()
	held, closed := g.held, g.closed
	g.held, g.opening = nil, true
	g.mu.Unlock()
	if len(held) > 0 {
		if _, err := leg.Write(held); err != nil {
			return err
		}
	}
	g.leg = leg
	close(g.opened)
	if closed {
		return leg.CloseWrite()
	}
	return nil
}

// Write hands p to the leg, or holds what there is room for and waits with the
// rest until the gate opens.
func (g *gate) Write(p []byte) (int, error) {
	held := g.hold(p)
	if held == len(p) {
		return held, nil
	}
	if err := g.wait(); err != nil {
		return held, err
	}
	n, err := g.leg.Write(p[held:])
	if err != nil {
		err = &legError{g.side, err}
	}
	return held + n, err
}

// hold takes what it has room for.
func (g *gate) hold(p []byte) int {
	select {
	case <-g.opened: // the usual case, without a lock
		return 0
	default:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opening {
		return 0
	}
	n := min(len(p), wire.Chunk-len(g.held))
	g.held = append(g.held, p[:n]...)
	return n
}

func (g *gate) wait() error {
	select {
	case <-g.opened:
		return nil
	default:
	}
	select {
	case <-g.opened:
		return nil
	case <-g.over:
		return errOver
	}
}

// CloseWrite ends the direction after everything that was written.
func (g *gate) CloseWrite() error {
	g.mu.Lock()
	if !g.opening {
		g.closed = true
		g.mu.Unlock()
		return nil
	}
	g.mu.Unlock()
	if err := g.wait(); err != nil {
		return err
	}
	if err := g.leg.CloseWrite(); err != nil {
		return &legError{g.side, err}
	}
	return nil
}
