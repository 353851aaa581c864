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
func TCP(c *net.TCPConn) Half { return tcp{c} }

type tcp struct{ *net.TCPConn }

func (t tcp) Abort(wire.EndReason) {
	_ = t.SetLinger(0) // fails on a closed connection only
	_ = t.Close()
}

// chunks holds buffers of wire.Chunk bytes. A buffer is taken when bytes are there
// to be read and put back when they have been written, by the same function.
var chunks = sync.Pool{New: func() any { return new([wire.Chunk]byte) }}

// waiter is a source that can tell when it is worth taking a buffer.
type waiter interface{ Wait() error }

// Copy copies src to dst until src ends, and adds to count what was written.
// It returns nil when src ended in good order.
func Copy(dst io.Writer, src io.Reader, count *atomic.Int64) error {
	idle, _ := src.(waiter)
	for {
		if idle != nil {
			if err := idle.Wait(); err != nil {
				return ended(err)
			}
		}
		if err := copyChunk(dst, src, count); err != nil {
			return ended(err)
		}
	}
}

func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func copyChunk(dst io.Writer, src io.Reader, count *atomic.Int64) error {
	chunk := chunks.Get().(*[wire.Chunk]byte)
	defer chunks.Put(chunk)
	n, err := src.Read(chunk[:])
	if n > 0 {
		written, err := dst.Write(chunk[:n])
		count.Add(int64(written))
		if err != nil {
			return err
		}
	}
	return err
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
	stop := context.AfterFunc(ctx, func() {
		reason := Reason(context.Cause(ctx))
		a.Abort(reason)
		b.Abort(reason)
	})
	half := func(dst, src Half, count *atomic.Int64) {
		err := Copy(dst, src, count)
		if err == nil {
			err = dst.CloseWrite()
		}
		if err != nil {
			cancel(err) // ends the other direction too; the first cause is kept
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { half(b, a, &m.AToB) })
	wg.Go(func() { half(a, b, &m.BToA) })
	wg.Wait()
	stop()
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
