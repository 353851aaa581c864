package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/farportio/farport/internal/wire"
)

// An idle TCP connection gives its buffer back while it waits, and an end, a reset
// and a local close each read as what they are.
func TestTCPReads(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(app, own *net.TCPConn)
		want error
	}{
		{"end", func(app, _ *net.TCPConn) { app.Close() }, io.EOF},
		{"reset", func(app, _ *net.TCPConn) { _ = app.SetLinger(0); app.Close() }, syscall.ECONNRESET},
		{"closed here", func(_, own *net.TCPConn) { own.Close() }, net.ErrClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			app, own := tcpPair(t)
			half := TCP(own)
			_, _ = app.Write([]byte("hello"))
			c, n, err := readChunk(half)
			if err != nil || string(c[:n]) != "hello" {
				t.Fatal(n, err)
			}
			ended := make(chan error, 1)
			go func() {
				_, n, err := readChunk(half)
				if n != 0 {
					t.Errorf("%d bytes with the end", n)
				}
				ended <- err
			}()
			test.do(app, own)
			if err := <-ended; !errors.Is(err, test.want) {
				t.Errorf("read %v, want %v", err, test.want)
			}
		})
	}
}

// Space that is there when a connection has nothing to read yet, and is gone when it has, is
// no failure.
func TestReadSpaceGone(t *testing.T) {
	app, own := tcpPair(t)
	space := make([]byte, 1)
	n, err := readSpace(rawOf(own), func() []byte { return space }, func(int) {
		space = nil
		_, _ = app.Write([]byte("x"))
	})
	if n != 0 || err != nil {
		t.Errorf("%d bytes, %v; want none and no failure", n, err)
	}
}

// A reset reads as one also when a write was told of it first, and an end as an end when
// both directions have come to theirs.
func TestTCPResetAfterWrite(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(app *net.TCPConn, own Half)
		want error
	}{
		{"reset", func(app *net.TCPConn, own Half) {
			_ = app.SetLinger(0)
			app.Close()
			for { // until it knows
				if _, err := own.Write([]byte("x")); err != nil {
					return
				}
			}
		}, syscall.ECONNRESET},
		{"both ended", func(app *net.TCPConn, own Half) {
			_ = own.CloseWrite()
			_, _ = io.Copy(io.Discard, app)
			app.Close()
		}, io.EOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, read := range map[string]func(Half) error{
				"read":  func(h Half) error { _, err := h.Read(make([]byte, 1)); return err },
				"chunk": func(h Half) error { _, _, err := readChunk(h); return err },
			} {
				app, own := tcpPair(t)
				half := TCP(own)
				test.do(app, half)
				if err := read(half); !errors.Is(err, test.want) {
					t.Errorf("%s: %v, want %v", name, err, test.want)
				}
			}
		})
	}
}

func TestTCPClosedBefore(t *testing.T) {
	_, own := tcpPair(t)
	own.Close()
	if _, n, err := readChunk(TCP(own)); n != 0 || err == nil {
		t.Error(n, err)
	}
}

// Copy tells how its source ended, and counts what its destination took.
func TestCopy(t *testing.T) {
	errFull := errors.New("full")
	for _, test := range []struct {
		name string
		src  io.Reader
		dst  io.Writer
		n    int64
		want error
	}{
		{"clean", bytes.NewReader(make([]byte, 200_000)), io.Discard, 200_000, nil},
		{"source breaks", io.MultiReader(bytes.NewReader(make([]byte, 10)), failing{os.ErrDeadlineExceeded}), io.Discard, 10, os.ErrDeadlineExceeded},
		{"source breaks off like an end", failing{io.ErrUnexpectedEOF}, io.Discard, 0, io.ErrUnexpectedEOF},
		{"destination is full", bytes.NewReader(make([]byte, 200_000)), writer(func(p []byte) (int, error) { return 7, errFull }), 7, errFull},
	} {
		t.Run(test.name, func(t *testing.T) {
			var n atomic.Int64
			if err := Copy(test.dst, test.src, &n); err != test.want || n.Load() != test.n {
				t.Errorf("%v after %d bytes, want %v after %d", err, n.Load(), test.want, test.n)
			}
		})
	}
}

type writer func([]byte) (int, error)

func TestReason(t *testing.T) {
	for _, test := range []struct {
		err  error
		want wire.EndReason
	}{
		{&EndError{Reason: wire.EndRevoked}, wire.EndRevoked},
		{fmt.Errorf("read: %w", &EndError{Reason: wire.EndNetwork}), wire.EndNetwork},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, wire.EndAborted},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}, wire.EndNetwork},
		{&net.OpError{Op: "write", Err: os.ErrDeadlineExceeded}, wire.EndNetwork},
		{context.Canceled, wire.EndAborted},
	} {
		if got := Reason(test.err); got != test.want {
			t.Errorf("%v is %q, want %q", test.err, got, test.want)
		}
	}
}

// BenchmarkCopy relays from one leg to another, as the hub does.
func BenchmarkCopy(b *testing.B) {
	for _, size := range []int{100, wire.Chunk} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			e := newEndpoint(b)
			hubIn, from := e.leg(b)
			hubOut, to := e.leg(b)
			var n atomic.Int64
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := Copy(hubOut, hubIn, &n); err != nil {
					b.Error(err)
				}
				_ = hubOut.CloseWrite()
			})
			wg.Go(func() { _, _ = io.Copy(io.Discard, to) })
			message := noise(1, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := from.Write(message); err != nil {
					b.Fatal(err)
				}
			}
			from.sendClose(wire.CloseNormal, "") // without draining
			wg.Wait()
		})
	}
}
