package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// half is one side of a stream: it reads nothing until it is ended.
type half struct {
	end     chan error
	mu      sync.Mutex
	closed  bool
	aborted wire.EndReason
	changes int // of the network, as it was told
	linger  []time.Duration
	done    chan struct{} // closed when it has told its peer of its end
}

func newHalf() *half { return &half{end: make(chan error, 2), done: make(chan struct{})} }

func (h *half) Read([]byte) (int, error)    { return 0, <-h.end }
func (h *half) Write(p []byte) (int, error) { return len(p), nil }
func (h *half) CloseWrite() error           { return nil }
func (h *half) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return nil
}
func (h *half) NetworkChanged()              { h.changes++ }
func (h *half) Window() time.Duration        { return time.Minute }
func (h *half) Ended() <-chan struct{}       { return h.done }
func (h *half) LingerAtMost(d time.Duration) { h.linger = append(h.linger, d) }
func (h *half) Abort(reason wire.EndReason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed && h.aborted == "" {
		h.aborted = reason
		h.end <- &stream.EndError{Reason: reason}
	}
}

// bench is a session that carries, and what it told.
type bench struct {
	session
	all          streams
	local        localHalf
	leg          *half
	told         []Event
	done         chan error
	traffic      Traffic
	sessionEvent events
}

// localHalf is a half that is no stream.
type localHalf struct{ stream.Half }

func (l localHalf) inside() *half { return l.Half.(*half) }

func newBench() *bench {
	b := &bench{local: localHalf{newHalf()}, leg: newHalf(), done: make(chan error, 1)}
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
		b.local.inside().end <- io.EOF
		b.leg.end <- io.EOF
		if err := <-b.done; err != nil {
			t.Error(err)
		}
		b.changed(stream.Change{Waiting: true, Since: time.Now()}) // while it lingers: no news
		b.changed(stream.Change{Waiting: false, Since: time.Now()})
		close(b.leg.done)
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
		close(b.leg.done)
		if end, ok := errors.AsType[*stream.EndError](err); !ok || end.Reason != wire.EndLost || b.local.inside().aborted != wire.EndLost {
			t.Errorf("ended with %v, local side aborted with %q; want lost", err, b.local.inside().aborted)
		}
		if got, want := b.kinds(), []EventKind{Opened, Waiting, Ended}; !slices.Equal(got, want) {
			t.Errorf("told %v, want %v", got, want)
		}
		b.wantWaiting(t, 0, time.Time{})
	})
}

// A stream is told of changes until its peer knows that it has ended.
func TestNetworkChangeReachesStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.all.networkChanged()
		b.start()
		b.all.networkChanged()
		b.leg.end <- io.EOF
		b.local.inside().end <- io.EOF
		<-b.done
		b.all.networkChanged()
		close(b.leg.done)
		synctest.Wait()
		b.all.networkChanged()
		if b.leg.changes != 2 {
			t.Errorf("the stream was told %d times, want the 2 while it was there", b.leg.changes)
		}
	})
}

// Suspended or not, a stream has the grace period, then it is told why it ends, and it
// has a moment to tell its peer.
func TestGrace(t *testing.T) {
	t.Parallel()
	const grace = 5 * time.Second
	for name, test := range map[string]struct {
		during func(*bench) // started with the grace period
		took   time.Duration
		err    error
	}{
		"goes on":         {func(*bench) {}, grace + 2*farewell, errStopping},
		"peer soon knows": {func(b *bench) { time.Sleep(grace + time.Second); close(b.leg.done) }, grace + time.Second, errStopping},
		"ends, and its peer does not know": {func(b *bench) {
			b.leg.end <- io.EOF
			b.local.inside().end <- io.EOF
		}, grace + 2*farewell, nil},
		"ends": {func(b *bench) {
			b.leg.end <- io.EOF
			b.local.inside().end <- io.EOF
			close(b.leg.done)
		}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench()
				b.start()
				b.changed(stream.Change{Waiting: true, Since: time.Now()})
				began := time.Now()
				go test.during(b)
				b.all.end(grace)
				if took := time.Since(began); took != test.took {
					t.Errorf("ended after %v, want %v", took, test.took)
				}
				if got, want := b.leg.linger, []time.Duration{grace, farewell}; !slices.Equal(got, want[:len(got)]) || test.took > grace && len(got) != 2 {
					t.Errorf("may linger for %v, want %v", got, want)
				}
				want := wire.EndReason("")
				if test.err != nil {
					want = wire.EndShutdown
				}
				// Either side of the session may be the first to say why.
				if err := <-b.done; fmt.Sprint(err) != fmt.Sprint(test.err) || b.leg.aborted != want || b.local.inside().aborted != want {
					t.Errorf("ended with %v, aborted with %q and %q", err, b.leg.aborted, b.local.inside().aborted)
				}
			})
		})
	}
}
