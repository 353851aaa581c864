package proxy

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// half is one side of a stream: it reads nothing until it is ended.
type half struct {
	end     chan error
	aborted wire.EndReason
	changes int // of the network, as it was told
}

func newHalf() *half { return &half{end: make(chan error, 2)} }

func (h *half) Read([]byte) (int, error)    { return 0, <-h.end }
func (h *half) Write(p []byte) (int, error) { return len(p), nil }
func (h *half) CloseWrite() error           { return nil }
func (h *half) Close() error                { return nil }
func (h *half) NetworkChanged()             { h.changes++ }
func (h *half) Window() time.Duration       { return time.Minute }
func (h *half) Abort(reason wire.EndReason) {
	h.aborted = reason
	h.end <- &stream.EndError{Reason: reason}
}

// bench is a session that carries, and what it told.
type bench struct {
	session
	all          streams
	local, leg   *half
	told         []Event
	done         chan error
	traffic      Traffic
	sessionEvent events
}

func newBench() *bench {
	b := &bench{local: newHalf(), leg: newHalf(), done: make(chan error, 1)}
	b.all.init()
	b.sessionEvent.tell = func(e Event) { b.told = append(b.told, e) }
	b.about = Event{Device: "pi-1", Service: "ssh", Peer: "peer"}
	b.events, b.streams, b.session.traffic = &b.sessionEvent, &b.all, &b.traffic
	return b
}

func (b *bench) start() {
	b.all.start(func(ctx context.Context) { b.done <- b.carry(ctx, b.local, b.leg) })
	synctest.Wait()
}

func (b *bench) kinds() (kinds []EventKind) {
	for _, e := range b.told {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (b *bench) wantWaiting(t *testing.T, want int, since time.Time) {
	t.Helper()
	if n, at := b.traffic.Waiting(); n != want || !at.Equal(since) {
		t.Errorf("%d streams wait since %v, want %d since %v", n, at, want, since)
	}
}

func TestWaitingAndResumed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.start()
		b.wantWaiting(t, 0, time.Time{})
		lost := time.Now()
		time.Sleep(time.Second) // until the loss is noticed
		b.changed(stream.Change{Waiting: true, Since: lost})
		b.wantWaiting(t, 1, lost)
		time.Sleep(2 * time.Second)
		b.changed(stream.Change{Waiting: false, Since: lost})
		b.wantWaiting(t, 0, time.Time{})
		b.local.end <- io.EOF
		b.leg.end <- io.EOF
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		b.changed(stream.Change{Waiting: true, Since: time.Now()}) // while it lingers: no news
		b.changed(stream.Change{Waiting: false, Since: time.Now()})
		if got, want := b.kinds(), []EventKind{Opened, Waiting, Resumed, Ended}; !slices.Equal(got, want) {
			t.Fatalf("told %v, want %v", got, want)
		}
		for _, e := range b.told {
			if e.Stream != 1 || e.Device != "pi-1" || e.Service != "ssh" || e.Peer != "peer" {
				t.Errorf("event does not say what it is about: %+v", e)
			}
		}
		if w := b.told[1].Window; w != time.Minute {
			t.Errorf("it may wait for %v, want the stream's minute", w)
		}
		if d := b.told[2].Duration; d != 3*time.Second {
			t.Errorf("resumed after %v, want 3 s", d)
		}
		b.wantWaiting(t, 0, time.Time{})
	})
}

// A leg may be lost between the opening and the first byte.
func TestWaitingBeforeOpened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		lost := time.Now()
		b.changed(stream.Change{Waiting: true, Since: lost})
		b.wantWaiting(t, 0, time.Time{}) // it is not open yet
		b.start()
		b.wantWaiting(t, 1, lost)
		b.leg.end <- &stream.EndError{Reason: wire.EndLost}
		err := <-b.done
		if end, ok := errors.AsType[*stream.EndError](err); !ok || end.Reason != wire.EndLost || b.local.aborted != wire.EndLost {
			t.Errorf("ended with %v, local side aborted with %q; want lost", err, b.local.aborted)
		}
		if got, want := b.kinds(), []EventKind{Opened, Waiting, Ended}; !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
		b.wantWaiting(t, 0, time.Time{})
	})
}

func TestNetworkChangeReachesOpenStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.all.networkChanged()
		b.start()
		b.all.networkChanged()
		b.all.networkChanged()
		b.leg.end <- io.EOF
		b.local.end <- io.EOF
		<-b.done
		b.all.networkChanged()
		if b.leg.changes != 2 {
			t.Errorf("the stream was told %d times, want the 2 while it was open", b.leg.changes)
		}
	})
}

// Suspended or not, a stream has the grace period, and is told why it ends.
func TestGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.start()
		b.changed(stream.Change{Waiting: true, Since: time.Now()})
		began := time.Now()
		b.all.end(5 * time.Second)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("ended after %v, want 5 s", took)
		}
		if b.leg.aborted != wire.EndShutdown || b.local.aborted != wire.EndShutdown {
			t.Errorf("aborted with %q and %q, want shutdown", b.leg.aborted, b.local.aborted)
		}
		if err := <-b.done; err != errStopping {
			t.Errorf("ended with %v", err)
		}
	})
}
