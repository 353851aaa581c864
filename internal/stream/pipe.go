package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/farportio/farport/internal/wire"
)

// Half is a byte pipe whose two directions end apart, as TCP's do.
type Half interface {
	io.ReadWriteCloser
	// CloseWrite ends the writing direction in good order.
	CloseWrite() error
	// Abort breaks both directions so that the other end sees a break. A blocked
	// Read or Write returns soon. It may be called at any time, by anybody.
	Abort(wire.EndReason)
}

// TCP makes a TCP connection a Half, whose Abort resets the connection. The
// connection is the Half's to close.
func TCP(c *net.TCPConn) Half { return &tcp{TCPConn: c, raw: rawOf(c)} }

type tcp struct {
	*net.TCPConn
	raw   syscall.RawConn // nil where there is none
	ended atomic.Bool     // CloseWrite was called
}

func (t *tcp) CloseWrite() error {
	t.ended.Store(true)
	return t.TCPConn.CloseWrite()
}

func (t *tcp) Write(p []byte) (int, error) {
	if t.raw == nil {
		return t.TCPConn.Write(p)
	}
	return writeWhole(t.raw, p)
}

func (t *tcp) Read(p []byte) (int, error) {
	n, err := t.TCPConn.Read(p)
	return n, t.orReset(err)
}

// orReset tells an EOF from a reset. The system tells of a reset once: when a write has
// got the news, a read that comes later says EOF.
func (t *tcp) orReset(err error) error {
	if err == io.EOF && t.raw != nil && gone(t.raw) && !t.ended.Load() { // ended is set before both are
		return os.NewSyscallError("read", syscall.ECONNRESET)
	}
	return err
}

func (t *tcp) Abort(wire.EndReason) {
	_ = t.SetLinger(0) // fails on a closed connection only
	_ = t.Close()
}

// chunk is what one read takes and one message carries. It is taken from the pool
// when bytes are there to be read and put back when they have been written, by the
// same function.
type chunk = [wire.Chunk]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// chunkSource is a reader that needs no buffer while it waits. The caller puts the
// chunk back, which is nil if nothing was read.
type chunkSource interface {
	readChunk() (*chunk, int, error)
}

// readChunk reads from any source.
func readChunk(src io.Reader) (*chunk, int, error) {
	if s, ok := src.(chunkSource); ok {
		return s.readChunk()
	}
	return readHolding(src)
}

// readHolding holds its chunk while it waits.
func readHolding(src io.Reader) (*chunk, int, error) {
	c := chunks.Get().(*chunk)
	n, err := src.Read(c[:])
	return c, n, err
}

func (t *tcp) readChunk() (*chunk, int, error) {
	if t.raw == nil {
		return readHolding(t.TCPConn)
	}
	c, n, err := readReady(t.raw, &chunks, func(c *chunk) []byte { return c[:] })
	return c, n, t.orReset(err)
}

// Copy copies src to dst until src ends, and adds to count what was written.
// It returns nil when src ended in good order.
func Copy(dst io.Writer, src io.Reader, count *atomic.Int64) error {
	for {
		c, n, err := readChunk(src)
		if n > 0 {
			written, writeErr := dst.Write(c[:n])
			count.Add(int64(written))
			if writeErr != nil {
				err = writeErr
			}
		}
		if c != nil {
			chunks.Put(c)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// carry copies one direction, and its end.
func carry(dst, src Half, count *atomic.Int64) error {
	if e, ok := src.(*Extended); ok {
		return e.deliverTo(dst, count)
	}
	if e, ok := dst.(*Extended); ok {
		return e.takeFrom(src, count)
	}
	if err := Copy(dst, src, count); err != nil {
		return err
	}
	return dst.CloseWrite()
}

// Meter counts the bytes a Pipe has carried. It may be read at any time.
type Meter struct{ AToB, BToA atomic.Int64 }

// Pipe copies both ways until each direction has ended. It returns nil if both
// ended in good order. When one fails, or ctx ends, both sides are aborted and
// the first cause is returned: the cause of ctx, or the error of the direction.
// Pipe closes a and b.
func Pipe(ctx context.Context, a, b Half, m *Meter) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	aborted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(aborted)
		reason := Reason(context.Cause(ctx))
		var wg sync.WaitGroup
		wg.Go(func() { a.Abort(reason) })
		wg.Go(func() { b.Abort(reason) })
		wg.Wait()
	})
	half := func(dst, src Half, count *atomic.Int64) {
		if err := carry(dst, src, count); err != nil {
			cancel(err) // ends the other direction too; the first cause is kept
		}
	}
	for _, h := range []Half{a, b} {
		if e, ok := h.(*Extended); ok {
			e.whenBroken(func(err error) { cancel(err) })
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { half(b, a, &m.AToB) })
	wg.Go(func() { half(a, b, &m.BToA) })
	wg.Wait()
	for _, h := range []Half{a, b} {
		if e, ok := h.(*Extended); ok {
			if err := e.settle(); err != nil {
				cancel(err)
			}
		}
	}
	if !stop() {
		<-aborted // or Close would make a clean end of a break
	}
	wg.Go(func() { _ = a.Close() }) // how the stream ended is known by now
	wg.Go(func() { _ = b.Close() })
	wg.Wait()
	return context.Cause(ctx)
}

// Reason is the word for how a stream ended with err: the peer's own, network for
// a connection that was lost, aborted for anything an end did on purpose.
func Reason(err error) wire.EndReason {
	if end, ok := errors.AsType[*EndError](err); ok {
		return end.Reason
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) {
		return wire.EndNetwork
	}
	return wire.EndAborted
}
