package rendezvous

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/hub/pairing"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// xleg is a leg of an extended stream in memory. What the test puts into in comes from
// its end; what is written goes to out, and waits there if the end takes nothing.
type xleg struct {
	in     chan any // string: data, []byte: a text, error
	out    chan string
	stuck  chan struct{} // closed: the end takes everything
	panics bool

	once    sync.Once
	dropped chan struct{}
	mu      sync.Mutex
	code    int
	text    string
}

func newXleg() *xleg {
	l := &xleg{in: make(chan any, 10), out: make(chan string, 100), stuck: make(chan struct{}), dropped: make(chan struct{})}
	close(l.stuck)
	return l
}

func (l *xleg) Next() (*stream.Chunk, int, []byte, error) {
	if l.panics {
		panic("at Next")
	}
	select {
	case <-l.dropped:
		return nil, 0, nil, io.ErrClosedPipe
	case what := <-l.in:
		switch what := what.(type) {
		case string:
			c := new(stream.Chunk)
			return c, copy(c[:], what), nil, nil
		case []byte:
			return nil, 0, what, nil
		default:
			return nil, 0, nil, what.(error)
		}
	}
}

func (l *xleg) LimitSilence(time.Duration) {}

func (l *xleg) WriteData(p []byte, deadline time.Time) error {
	late := time.NewTimer(time.Until(deadline))
	defer late.Stop()
	select {
	case <-l.stuck:
	case <-l.dropped:
		return io.ErrClosedPipe
	case <-late.C:
		return errors.New("takes nothing")
	}
	l.out <- string(p)
	return nil
}

func (l *xleg) WriteText(p []byte, deadline time.Time) error { return l.WriteData(p, deadline) }

// Close has the end echo the frame, if it is still there.
func (l *xleg) Close(code int, text string) {
	l.mu.Lock()
	l.code, l.text = code, text
	l.mu.Unlock()
	select {
	case l.in <- error(&stream.CloseFrame{Code: code, Text: text}):
	default:
	}
	time.Sleep(20 * time.Millisecond) // seeing off takes a moment
	l.Drop()
}

func (l *xleg) Drop() { l.once.Do(func() { close(l.dropped) }) }

// closedWith waits until the leg is closed, and returns the code and text.
func (l *xleg) closedWith() (int, string) {
	<-l.dropped
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.code, l.text
}

// entry is a side's join of a stream of device d and policy p.
func entry(id string, side wire.Side, join uint64) Entry {
	e := Entry{
		Stream: Stream{ID: id, Device: "d", Created: time.Now()},
		Guest:  Guest{Remote: string(side) + ":1", Credential: string(side) + "'s key"},
		Side:   side, Join: join, Instance: string(side) + "'s", Window: time.Minute,
	}
	if side == wire.SideService {
		e.Policy, e.PolicyCredential = "p", e.Credential
	}
	return e
}

func (w *world) enter(id string, side wire.Side, join uint64) *xleg {
	w.t.Helper()
	seat, err := w.Enter(entry(id, side, join))
	if err != nil {
		w.t.Fatalf("%s's join %d: %v", side, join, err)
	}
	l := newXleg()
	seat.Take(l)
	return l
}

func (w *world) refusal(e Entry) Refusal {
	w.t.Helper()
	seat, err := w.Enter(e)
	refused, ok := errors.AsType[*Refusal](err)
	if !ok {
		w.t.Fatalf("%s's join %d: %v %v", e.Side, e.Join, seat, err)
	}
	return *refused
}

// both makes a stream with both legs joined.
func (w *world) both(id string) (device, service *xleg) {
	w.t.Helper()
	w.create(id)
	return w.enter(id, wire.SideDevice, 1), w.enter(id, wire.SideService, 1)
}

// What one leg brings reaches the other in order, also what came before that one.
func TestExtendedOrder(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("x")
	d := w.enter("x", wire.SideDevice, 1)
	d.in <- "early"
	d.in <- []byte("E 5")
	seat, err := w.Enter(entry("x", wire.SideService, 1))
	if err != nil {
		t.Fatal(err)
	}
	d.in <- "later" // while the leg is still to come
	s := newXleg()
	seat.Take(s)
	for _, want := range []string{"early", "E 5", "later"} {
		if got := <-s.out; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	s.in <- "back"
	if got := <-d.out; got != "back" {
		t.Errorf("got %q", got)
	}
	d.in <- error(&stream.CloseFrame{Code: wire.CloseNormal})
	w.wantEnd("x", wire.EndFinished, 4, 10)
	if code, text := s.closedWith(); code != wire.CloseEnded || text != "finished" {
		t.Errorf("closed with %d %q", code, text)
	}
}

// A seat that is abandoned takes its partner along, and does not hold it up.
func TestExtendedAbandon(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("x")
	seat, err := w.Enter(entry("x", wire.SideService, 1))
	if err != nil {
		t.Fatal(err)
	}
	d := w.enter("x", wire.SideDevice, 1)
	d.in <- "for nobody"
	seat.Abandon()
	if code, _ := d.closedWith(); code != wire.ClosePeerAway {
		t.Errorf("closed with %d", code)
	}
	w.End("x", wire.EndRevoked)
	w.wantEnd("x", wire.EndRevoked, 0, 0)
	if r := w.refusal(entry("x", wire.SideService, 2)); r.Ended != wire.EndRevoked {
		t.Errorf("%+v", r)
	}
}

// A leg that takes nothing for wire.WriteStall is given up, and the stream waits.
func TestExtendedStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		d, s := w.both("x")
		s.stuck = make(chan struct{})
		start := time.Now()
		d.in <- "x"
		<-s.dropped
		if took := time.Since(start); took != wire.WriteStall {
			t.Errorf("took %s", took)
		}
		if code, _ := d.closedWith(); code != wire.ClosePeerAway {
			t.Errorf("closed with %d", code)
		}
		d, s = w.enter("x", wire.SideDevice, 2), w.enter("x", wire.SideService, 2)
		d.in <- "y"
		if got := <-s.out; got != "y" {
			t.Errorf("got %q", got)
		}
		d.Drop()
		s.closedWith()
		synctest.Wait()
		time.Sleep(time.Minute + time.Minute)
		w.wantEnd("x", wire.EndIdle, 0, 1)
	})
}

// What is on its way to a leg that is to be closed has a second.
func TestExtendedFlush(t *testing.T) {
	for _, stuck := range []time.Duration{500 * time.Millisecond, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Options{})
			d, s := w.both("x")
			s.stuck = make(chan struct{})
			d.in <- "x"
			synctest.Wait()
			w.End("x", wire.EndRevoked)
			time.Sleep(min(stuck, 900*time.Millisecond))
			if stuck < time.Second {
				close(s.stuck)
			}
			code, _ := s.closedWith()
			if stuck < time.Second && (code != wire.CloseEnded || <-s.out != "x") || stuck > time.Second && code != 0 {
				t.Errorf("stuck for %s: closed with %d", stuck, code)
			}
		})
	}
}

// Limits count streams of both kinds, and those that only their ends remember.
func TestExtendedLimits(t *testing.T) {
	w := newWorld(t, Options{MaxPerDevice: 2, MaxPerPolicy: 1})
	w.create("x")
	w.enter("x", wire.SideDevice, 1)
	e := entry("y", wire.SideService, 1)
	if r := w.refusal(e); r.RetryAfter == 0 || r.Ended != "" {
		t.Errorf("a stream more than the policy may have: %+v", r)
	}
	w.enter("y", wire.SideDevice, 1)
	if r := w.refusal(entry("y", wire.SideService, 1)); r.RetryAfter == 0 {
		t.Errorf("its service's side: %+v", r)
	}
	if r := w.refusal(entry("z", wire.SideDevice, 1)); r.RetryAfter == 0 {
		t.Errorf("a stream more than the device may have: %+v", r)
	}
	if err := w.make(Stream{ID: "z", Device: "d", Policy: "q"}); !errors.Is(err, ErrDeviceFull) {
		t.Errorf("Create: %v", err)
	}
	if n := len(w.List()); n != 2 {
		t.Errorf("%d streams", n)
	}
	w.End("x", wire.EndRevoked)
	w.wantEnd("x", wire.EndRevoked, 0, 0)
	w.enter("y", wire.SideService, 1)
	w.End("y", wire.EndRevoked)
	w.wantEnd("y", wire.EndRevoked, 0, 0)
}

// A panic ends its own stream only.
func TestExtendedPanic(t *testing.T) {
	w := newWorld(t, Options{})
	d, s := w.both("other")
	w.create("x")
	seat, err := w.Enter(entry("x", wire.SideDevice, 1))
	if err != nil {
		t.Fatal(err)
	}
	l := newXleg()
	l.panics = true
	seat.Take(l)
	w.wantEnd("x", wire.EndReset, 0, 0)
	d.in <- "x"
	if got := <-s.out; got != "x" {
		t.Errorf("got %q", got)
	}
	w.End("other", wire.EndRevoked)
}

// As long as an abort is neither told nor written down, its end is not told that it is
// settled; when the hub gives up, the end finds the stream open again, and repeats itself.
func TestExtendedDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		w := newWorld(t, Options{Persist: func(string, wire.EndReason, time.Time) error {
			tries.Add(1)
			return errors.New("disk full")
		}})
		d := func() *xleg { w.create("x"); return w.enter("x", wire.SideDevice, 1) }()
		d.in <- error(&stream.CloseFrame{Code: wire.CloseBrokenOff, Text: "reset"})
		synctest.Wait()
		if r := w.refusal(entry("x", wire.SideDevice, 2)); r.RetryAfter == 0 || r.Ended != "" {
			t.Errorf("%+v", r)
		}
		if r := w.refusal(entry("x", wire.SideService, 1)); r.Ended != wire.EndReset {
			t.Errorf("%+v", r)
		}
		if code, _ := d.closedWith(); code != 0 {
			t.Errorf("closed with %d", code)
		}
		w.wantEnd("x", wire.EndReset, 0, 0)
		if n := tries.Load(); n < 10 {
			t.Errorf("tried %d times", n)
		}
		w.enter("x", wire.SideDevice, 3)
	})
}

// A stream that is on disk as ended stays ended; without a disk nobody can tell.
func TestExtendedRecall(t *testing.T) {
	answer, failure := wire.EndReset, error(nil)
	w := newWorld(t, Options{Recall: func(string) (wire.EndReason, error) { return answer, failure }})
	if r := w.refusal(entry("x", wire.SideDevice, 1)); r.Ended != wire.EndReset {
		t.Errorf("%+v", r)
	}
	failure = errors.New("disk")
	if _, err := w.Enter(entry("x", wire.SideDevice, 1)); err == nil {
		t.Error("joined")
	}
	e := entry("x", wire.SideDevice, 1)
	e.Window = 0
	if r := w.refusal(e); r.Ended != wire.EndLost {
		t.Errorf("%+v", r)
	}
}

// A plain stream is none that can be entered, nor the other way round.
func TestExtendedOrPlain(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("plain")
	place, err := w.claim("plain", wire.SideDevice)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.refusal(entry("plain", wire.SideService, 1)); r.Ended == "" {
		t.Errorf("%+v", r)
	}
	place.Abandon(errors.New("x"))
	w.both("x")
	if _, err := w.claim("x", wire.SideDevice); !errors.Is(err, ErrUnknown) {
		t.Errorf("claim: %v", err)
	}
	w.End("x", wire.EndRevoked)
}

// When the hub stops, plain streams are waited for; extended ones go on until Close.
func TestExtendedStop(t *testing.T) {
	w := newWorld(t, Options{})
	ctx, err := w.Create(t.Context(), Stream{ID: "x", Device: "d", Policy: "p", Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	d := w.enter("x", wire.SideDevice, 1)
	<-w.Stop()
	s := w.enter("x", wire.SideService, 1)
	w.Close()
	for _, l := range []*xleg{d, s} {
		if code, _ := l.closedWith(); code != wire.CloseRestart {
			t.Errorf("closed with %d", code)
		}
	}
	if r := w.refusal(entry("x", wire.SideService, 2)); r.RetryAfter == 0 || r.Ended != "" {
		t.Errorf("%+v", r)
	}
	if ended, ok := errors.AsType[*EndedError](context.Cause(ctx)); !ok || ended.Reason != wire.EndStopping {
		t.Errorf("the stream's context ended with %v", context.Cause(ctx))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ended["x"]) != 0 {
		t.Error("the stream is told to have ended")
	}
}

// A stream that cannot be resumed is waited for as a plain one is, and told of its loss.
func TestExtendedStopWithoutWindow(t *testing.T) {
	for _, early := range []bool{true, false} {
		w := newWorld(t, Options{})
		w.create("x")
		var legs []*xleg
		for _, side := range sides {
			e := entry("x", side, 1)
			e.Window = 0
			seat, err := w.Enter(e)
			if err != nil {
				t.Fatal(err)
			}
			l := newXleg()
			seat.Take(l)
			legs = append(legs, l)
		}
		empty := w.Stop()
		select {
		case <-empty:
			t.Fatal("told that no stream is left")
		default:
		}
		want := wire.EndLost
		if early {
			want = wire.EndFinished
			legs[0].in <- error(&stream.CloseFrame{Code: wire.CloseNormal})
			<-empty
		}
		w.Close()
		<-empty
		for _, l := range legs[1:] {
			if code, text := l.closedWith(); code != wire.CloseEnded || text != string(want) {
				t.Errorf("closed with %d %s", code, text)
			}
		}
		if s := w.summary("x"); s.Reason != want {
			t.Errorf("ended %q", s.Reason)
		}
	}
}

func TestMemory(t *testing.T) {
	m := memory{reasons: map[string]past{}}
	now := time.Now()
	for i := range maxMemory + 10 {
		m.add(strconv.Itoa(i), wire.EndReset, now.Add(time.Minute), now)
	}
	if len(m.order) != maxMemory || len(m.reasons) > maxMemory {
		t.Errorf("%d and %d remembered", len(m.order), len(m.reasons))
	}
	m = memory{reasons: map[string]past{}}
	m.add("a", wire.EndReset, now.Add(time.Minute), now)
	if m.reason("a", now) != wire.EndReset || m.reason("a", now.Add(time.Hour)) != "" || m.reason("b", now) != "" {
		t.Error("remembers wrongly")
	}
	m.add("b", wire.EndLost, now.Add(2*time.Hour), now.Add(time.Hour))
	if len(m.order) != 1 {
		t.Error("forgets nothing")
	}
}

// lingering is a leg that takes its time to go when it is dropped once more.
type lingering struct {
	*xleg
	leave chan struct{}
}

func (l lingering) Drop() {
	select {
	case <-l.dropped:
		<-l.leave
	default:
		l.xleg.Drop()
	}
}

// An abort that is written down just after the hub has given it up, as it stops, closes
// no leg twice.
func TestExtendedSettledWhileStopping(t *testing.T) {
	writing, written := make(chan struct{}), make(chan struct{})
	w := newWorld(t, Options{Persist: func(string, wire.EndReason, time.Time) error {
		close(writing)
		<-written
		return nil
	}})
	w.create("x")
	seat, err := w.Enter(entry("x", wire.SideDevice, 1))
	if err != nil {
		t.Fatal(err)
	}
	d := lingering{newXleg(), make(chan struct{})}
	seat.Take(d)
	d.in <- error(&stream.CloseFrame{Code: wire.CloseBrokenOff, Text: "reset"})
	<-writing
	x := w.extended["x"]
	var closing sync.WaitGroup
	closing.Go(w.Close)
	<-d.dropped
	close(written)
	for settled := false; !settled; time.Sleep(time.Millisecond) {
		x.do(func(c *pairing.Stream, _ time.Time) { _, settled = c.Over() })
	}
	close(d.leave)
	closing.Wait()
	w.wantEnd("x", wire.EndReset, 0, 0)
}

// A disk that is slow with many aborts does not hold up a hub that stops.
func TestExtendedManyAbortsWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := make(chan struct{}, 1) // one write at a time
		w := newWorld(t, Options{Persist: func(string, wire.EndReason, time.Time) error {
			disk <- struct{}{}
			time.Sleep(time.Second)
			<-disk
			return nil
		}})
		for i := range 50 {
			id := strconv.Itoa(i)
			w.create(id)
			w.enter(id, wire.SideDevice, 1).in <- error(&stream.CloseFrame{Code: wire.CloseBrokenOff, Text: "reset"})
		}
		synctest.Wait()
		start := time.Now()
		w.Close()
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A stream that ends while the service's side comes to it, which it did not know of,
// leaves no count behind.
func TestExtendedPolicyOfEnded(t *testing.T) {
	var connected atomic.Bool
	w := newWorld(t, Options{Instance: func(string) (string, bool) { return "another", connected.Load() }})
	d := w.enter("x", wire.SideDevice, 1)
	d.Drop()
	for gone := false; !gone; time.Sleep(time.Millisecond) {
		w.extended["x"].do(func(c *pairing.Stream, _ time.Time) { gone = c.Legs() == 0 })
	}
	connected.Store(true)
	if r := w.refusal(entry("x", wire.SideService, 1)); r.Ended != wire.EndInstance {
		t.Errorf("%+v", r)
	}
}

// A stream that becomes an extended one while streams are ended does not escape.
func TestExtendedWhileEnding(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("x")
	var s *xleg
	w.EndWhere(func(Stream) bool {
		s = w.enter("x", wire.SideService, 1)
		return true
	}, wire.EndRevoked)
	w.wantEnd("x", wire.EndRevoked, 0, 0)
	if code, text := s.closedWith(); code != wire.CloseEnded || text != "revoked" {
		t.Errorf("closed with %d %q", code, text)
	}
}

// A stream that has come and gone while somebody asked the disk about it stays ended.
func TestExtendedEndedMeanwhile(t *testing.T) {
	var w *world
	asked := 0
	w = newWorld(t, Options{Recall: func(string) (wire.EndReason, error) {
		if asked++; asked == 1 {
			w.enter("x", wire.SideDevice, 2)
			w.End("x", wire.EndClosed)
			w.wantEnd("x", wire.EndClosed, 0, 0)
		}
		return "", nil
	}})
	if r := w.refusal(entry("x", wire.SideDevice, 1)); r.Ended != wire.EndClosed {
		t.Errorf("%+v", r)
	}
}
