package rendezvous

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/farportio/farport/internal/wire"
)

func newGate() (*gate, chan struct{}) {
	over := make(chan struct{})
	g := new(gate)
	g.init(wire.SideDevice, over)
	return g, over
}

// A closed gate takes a chunk, in as many writes as come, and then has the writer
// wait with the rest; when it opens, everything passes in order.
func TestGateHolds(t *testing.T) {
	for _, size := range []int{1, 1000, wire.Chunk - 1, wire.Chunk, wire.Chunk + 1, 3*wire.Chunk + 5} {
		for _, write := range []int{1000, wire.Chunk} {
			synctest.Test(t, func(t *testing.T) {
				g, _ := newGate()
				want := make([]byte, size)
				for i := range want {
					want[i] = byte(i * 7)
				}
				done := make(chan error, 1)
				taken := 0
				go func() {
					for taken < size {
						n, err := g.Write(want[taken:min(taken+write, size)])
						taken += n
						if err != nil {
							done <- err
							return
						}
					}
					done <- g.CloseWrite()
				}()
				synctest.Wait()
				if len(g.held) != min(size, wire.Chunk) {
					t.Errorf("holds %d of %d bytes", len(g.held), size)
				}
				if waits := len(done) == 0; waits != (size > wire.Chunk) {
					t.Errorf("%d bytes: writer waits: %v", size, waits)
				}
				l, f := newLeg()
				opened := make(chan error, 1)
				go func() { opened <- g.open(l) }()
				got, err := io.ReadAll(f.in)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes came out of %d, %v", len(got), size, err)
				}
				if err := errors.Join(<-opened, <-done); err != nil {
					t.Error(err)
				}
				if g.held != nil {
					t.Error("still holds what it has handed on")
				}
			})
		}
	}
}

// What comes while the held bytes are being written waits its turn.
func TestGateKeepsOrderWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, _ := newGate()
		_, _ = g.Write([]byte("first "))
		l, f := newLeg()
		go func() { _ = g.open(l) }()
		synctest.Wait() // is writing
		go func() {
			_, _ = g.Write([]byte("second"))
			_ = g.CloseWrite()
		}()
		synctest.Wait()
		if got := f.all(); got != "first second" {
			t.Errorf("got %q", got)
		}
	})
}

// A stream that ends lets go of who waits at the gate.
func TestGateOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, over := newGate()
		wrote, closed := make(chan error, 1), make(chan error, 1)
		go func() {
			n, err := g.Write(make([]byte, wire.Chunk+1))
			if n != wire.Chunk {
				t.Errorf("wrote %d", n)
			}
			wrote <- err
			closed <- g.CloseWrite()
		}()
		synctest.Wait()
		close(over)
		if err := <-wrote; err != errOver {
			t.Errorf("write: %v", err)
		}
		if err := <-closed; err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// Errors name the leg that failed.
func TestGateErrors(t *testing.T) {
	g, _ := newGate()
	l, _ := newLeg()
	if err := g.open(l); err != nil {
		t.Fatal(err)
	}
	l.Abort(wire.EndNetwork)
	if _, err := g.Write([]byte("x")); err == nil || !strings.HasPrefix(err.Error(), "device's leg: ") {
		t.Errorf("write: %v", err)
	}
	g, _ = newGate()
	_, _ = g.Write([]byte("held"))
	if err := g.open(l); err == nil {
		t.Error("opened onto a broken leg")
	}
}
