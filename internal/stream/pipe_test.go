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
	"testing/synctest"

	"github.com/farportio/farport/internal/wire"
)

// tcpPair is a TCP connection: the application's end and the proxy's.
func tcpPair(t testing.TB) (app, own *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dialled.Close()
		accepted.Close()
	})
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

// piped is an application behind a Pipe, with the hub's end of the leg.
type piped struct {
	app   *net.TCPConn
	hub   *Conn
	meter Meter
	ended chan error // how Pipe ended
}

func newPiped(ctx context.Context, t testing.TB, e *endpoint) *piped {
	t.Helper()
	p := &piped{ended: make(chan error, 1)}
	hub, end := e.leg(t)
	app, own := tcpPair(t)
	p.app, p.hub = app, hub
	go func() { p.ended <- Pipe(ctx, end, TCP(own), &p.meter) }()
	return p
}

// how hangs up and tells how Pipe ended.
func (p *piped) how() error {
	p.hub.Close()
	return <-p.ended
}

// wantReset checks that the application sees its connection reset.
func wantReset(t testing.TB, app net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, app); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the application saw %v, want a reset", err)
	}
}

// An application ends its direction and still gets the answer, and its end.
func TestPipeHalfClose(t *testing.T) {
	p := newPiped(t.Context(), t, newEndpoint(t))
	request, tail := noise(1, 300_000), noise(2, 2<<20)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = p.app.Write(request)
		_ = p.app.CloseWrite()
	})
	got := make([]byte, len(request))
	if _, err := io.ReadFull(p.hub, got); err != nil || !bytes.Equal(got, request) {
		t.Fatal("request:", err)
	}
	wg.Go(func() {
		if err := send(p.hub, tail); err != nil {
			t.Error(err)
		}
	})
	if got, err := io.ReadAll(p.app); err != nil || !bytes.Equal(got, tail) {
		t.Errorf("tail: %d bytes, %v", len(got), err)
	}
	_, err := readEnd(p.hub)
	wantEnd(t, err, "")
	wg.Wait()
	if err := p.how(); err != nil {
		t.Error(err)
	}
	if down, up := p.meter.AToB.Load(), p.meter.BToA.Load(); down != int64(len(tail)) || up != int64(len(request)) {
		t.Errorf("metered %d down, %d up", down, up)
	}
}

// The other way round: the peer ends first, the application has the last word.
func TestPipePeerEndsFirst(t *testing.T) {
	p := newPiped(t.Context(), t, newEndpoint(t))
	want := noise(3, 1<<20)
	if err := send(p.hub, []byte("request")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(p.app); string(got) != "request" || err != nil {
		t.Fatal(string(got), err)
	}
	go func() {
		_, _ = p.app.Write(want)
		_ = p.app.Close()
	}()
	got, err := readEnd(p.hub)
	if wantEnd(t, err, ""); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	if err := p.how(); err != nil {
		t.Error(err)
	}
}

func TestPipeResetBecomesAborted(t *testing.T) {
	p := newPiped(t.Context(), t, newEndpoint(t))
	_ = p.app.SetLinger(0)
	_ = p.app.Close()
	_, err := readEnd(p.hub)
	wantEnd(t, err, wire.EndAborted)
	if err := p.how(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("pipe ended with %v", err)
	}
}

// A break must never look like an end to the application (security.md T15), also
// when it has ended its own direction long before and nothing but Close is left.
func TestPipeBreakBecomesReset(t *testing.T) {
	e := newEndpoint(t)
	for _, halfClosed := range []bool{false, true} {
		for _, reason := range []wire.EndReason{wire.EndNetwork, wire.EndRevoked, ""} {
			t.Run(fmt.Sprint(halfClosed, reason), func(t *testing.T) {
				p := newPiped(t.Context(), t, e)
				if _, err := p.hub.Write([]byte("the first half of the ans")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(p.app, make([]byte, 25)); err != nil {
					t.Fatal(err)
				}
				if halfClosed {
					_, _ = p.app.Write([]byte("x"))
					_ = p.app.CloseWrite()
					if _, err := io.ReadFull(p.hub, make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
				}
				want := reason
				if reason == "" { // without a word
					want = wire.EndNetwork
					p.hub.ws.Conn.Close()
				} else {
					p.hub.Abort(reason)
				}
				wantReset(t, p.app)
				wantEnd(t, p.how(), want)
			})
		}
	}
}

// The same with a leg that takes its time to abort: the reset must not be overtaken
// by Close.
func TestPipeWaitsForItsAborts(t *testing.T) {
	broken := &fakeHalf{in: failing{&EndError{Reason: wire.EndNetwork}}}
	app, own := tcpPair(t)
	_ = app.CloseWrite()
	done := make(chan error, 1)
	broken.onWriteEnd = make(chan struct{})
	broken.in = afterwards{broken.onWriteEnd, broken.in}
	go func() { done <- Pipe(t.Context(), broken, TCP(own), new(Meter)) }()
	wantEnd(t, <-done, wire.EndNetwork)
	wantReset(t, app)
	if broken.aborted.Load() != 1 || broken.closed.Load() != 1 {
		t.Errorf("aborted %d times, closed %d times", broken.aborted.Load(), broken.closed.Load())
	}
}

// fakeHalf reads from in and drops what is written.
type fakeHalf struct {
	in              io.Reader
	onWriteEnd      chan struct{} // closed by CloseWrite
	aborted, closed atomic.Int64
}

func (f *fakeHalf) Read(p []byte) (int, error) { return f.in.Read(p) }

func (f *fakeHalf) Write(p []byte) (int, error) { return len(p), nil }

func (f *fakeHalf) CloseWrite() error { close(f.onWriteEnd); return nil }

func (f *fakeHalf) Close() error { f.closed.Add(1); return nil }

func (f *fakeHalf) Abort(wire.EndReason) { f.aborted.Add(1) }

// failing fails every Read.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// afterwards reads when something has happened.
type afterwards struct {
	happened <-chan struct{}
	io.Reader
}

func (a afterwards) Read(p []byte) (int, error) {
	<-a.happened
	return a.Reader.Read(p)
}

func TestPipeCancelled(t *testing.T) {
	e := newEndpoint(t)
	for _, cause := range []error{nil, &EndError{Reason: wire.EndStopping}, os.ErrDeadlineExceeded} {
		t.Run(fmt.Sprint(cause), func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			p := newPiped(ctx, t, e)
			cancel(cause)
			_, err := readEnd(p.hub)
			wantEnd(t, err, Reason(cause))
			wantReset(t, p.app)
			if cause == nil {
				cause = context.Canceled
			}
			if err := p.how(); err != cause {
				t.Errorf("pipe ended with %v, want %v", err, cause)
			}
		})
	}
}

// memHalf is a Half in memory, without room.
type memHalf struct {
	*io.PipeReader
	*io.PipeWriter
}

func memPair() (a, b memHalf) {
	ar, bw := io.Pipe()
	br, aw := io.Pipe()
	return memHalf{ar, aw}, memHalf{br, bw}
}

func (m memHalf) CloseWrite() error { return m.PipeWriter.Close() }

func (m memHalf) Close() error { m.PipeReader.Close(); return m.PipeWriter.Close() }

func (m memHalf) Abort(r wire.EndReason) {
	m.PipeReader.CloseWithError(&EndError{Reason: r})
	m.PipeWriter.CloseWithError(&EndError{Reason: r})
}

// A reader that takes nothing stops the sender after one chunk: nothing piles up.
func TestPipeSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, own := memPair()
		peer, leg := memPair()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		var m Meter
		go func() { ended <- Pipe(ctx, own, leg, &m) }()
		var sent atomic.Int64
		go func() {
			for {
				n, err := app.Write(make([]byte, 10_000))
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		if n := sent.Load(); n > wire.Chunk {
			t.Errorf("the pipe took %d bytes that nobody read", n)
		}
		if _, err := io.ReadFull(peer, make([]byte, 3<<20)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := sent.Load(); n > 3<<20+wire.Chunk {
			t.Errorf("the pipe took %d bytes when %d were read", n, 3<<20)
		}
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Error(err)
		}
		if n := m.AToB.Load(); n < 3<<20-10_000 || n > 3<<20+wire.Chunk {
			t.Errorf("metered %d", n)
		}
	})
}

func (w writer) Write(p []byte) (int, error) { return w(p) }
