package rendezvous

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a rendezvous with a record of what it says. When the test ends, so do
// all streams, each exactly once.
type world struct {
	*Rendezvous
	t testing.TB

	mu      sync.Mutex
	created []string
	opened  []string
	ended   map[string][]Summary
	told    *sync.Cond // of mu: another stream has ended
}

func newWorld(t testing.TB, o Options) *world {
	w := &world{t: t, ended: make(map[string][]Summary)}
	w.told = sync.NewCond(&w.mu)
	o.Opened = func(s Stream) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.opened = append(w.opened, s.ID)
	}
	o.Ended = func(s Summary) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended[s.ID] = append(w.ended[s.ID], s)
		w.told.Broadcast()
	}
	w.Rendezvous = New(o)
	t.Cleanup(w.check)
	return w
}

func (w *world) check() {
	w.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range w.created {
		if n := len(w.ended[id]); n != 1 {
			w.t.Errorf("stream %s was told to have ended %d times", id, n)
		}
	}
	if n := len(w.List()); n != 0 {
		w.t.Errorf("%d streams left", n)
	}
	if len(w.devices) != 0 || len(w.policies) != 0 {
		w.t.Errorf("counts left: %v %v", w.devices, w.policies)
	}
}

// create makes a stream of this name, of device d and policy p.
func (w *world) create(id string) {
	w.t.Helper()
	if err := w.make(Stream{ID: id, Device: "d", Policy: "p"}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) make(s Stream) error {
	s.Created = time.Now()
	_, err := w.Create(w.t.Context(), s)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.created = append(w.created, s.ID)
	}
	return err
}

func (w *world) claim(id string, side wire.Side) (*Place, error) {
	return w.Claim(id, side, Guest{Remote: string(side) + ":1", Credential: string(side) + "'s key"})
}

// join lets side join with a new leg, and returns the leg and who is at its other
// end.
func (w *world) join(id string, side wire.Side) (*leg, *far) {
	w.t.Helper()
	place, err := w.claim(id, side)
	if err != nil {
		w.t.Fatal(err)
	}
	l, f := newLeg()
	place.Join(l)
	return l, f
}

// open makes a stream with both legs.
func (w *world) open(id string) (device, service *far) {
	w.t.Helper()
	w.create(id)
	_, device = w.join(id, wire.SideDevice)
	_, service = w.join(id, wire.SideService)
	return device, service
}

// summary waits for a stream's end.
func (w *world) summary(id string) Summary {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.ended[id]) == 0 {
		w.told.Wait()
	}
	return w.ended[id][0]
}

// wantEnd checks how a stream ended.
func (w *world) wantEnd(id string, reason wire.EndReason, up, down int64) Summary {
	w.t.Helper()
	s := w.summary(id)
	if s.Reason != reason || s.Up != up || s.Down != down {
		w.t.Errorf("ended %q with %d up and %d down (%v), want %q, %d, %d", s.Reason, s.Up, s.Down, s.Err, reason, up, down)
	}
	if reason.Clean() && s.Err != nil {
		w.t.Errorf("clean end with %v", s.Err)
	}
	return s
}

func (w *world) wasOpened(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.opened, id)
}

// leg is a leg in memory that takes one byte only when the other end reads one.
type leg struct {
	*io.PipeReader
	*io.PipeWriter
	panics string // the method that panics

	closed   atomic.Int64
	closedBy wire.EndReason // reason when it was closed
	mu       sync.Mutex
	reason   wire.EndReason // it was aborted with, first
}

// far is the other end of a leg.
type far struct {
	in  *io.PipeReader
	out *io.PipeWriter
}

func newLeg() (*leg, *far) {
	in, out := io.Pipe()
	farIn, farOut := io.Pipe()
	return &leg{PipeReader: in, PipeWriter: farOut}, &far{farIn, out}
}

func (l *leg) at(method string) {
	if l.panics == method {
		panic("at " + method)
	}
}

func (l *leg) Read(p []byte) (int, error)  { l.at("Read"); return l.PipeReader.Read(p) }
func (l *leg) Write(p []byte) (int, error) { l.at("Write"); return l.PipeWriter.Write(p) }
func (l *leg) CloseWrite() error           { l.at("CloseWrite"); return l.PipeWriter.Close() }

func (l *leg) Close() error {
	l.closedBy = l.abortedWith()
	l.closed.Add(1)
	l.end(wire.EndAborted)
	l.at("Close")
	return nil
}

func (l *leg) Abort(reason wire.EndReason) {
	l.mu.Lock()
	if l.reason == "" {
		l.reason = reason
	}
	l.mu.Unlock()
	l.end(reason)
	l.at("Abort")
}

func (l *leg) end(reason wire.EndReason) {
	l.PipeReader.CloseWithError(&stream.EndError{Reason: reason})
	l.PipeWriter.CloseWithError(&stream.EndError{Reason: reason}) // no change after a clean end
}

func (l *leg) abortedWith() wire.EndReason {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

func (f *far) say(text string) error { _, err := io.WriteString(f.out, text); return err }
func (f *far) finish()               { f.out.Close() }
func (f *far) abort(reason wire.EndReason) {
	f.out.CloseWithError(&stream.EndError{Reason: reason})
	f.in.CloseWithError(&stream.EndError{Reason: reason})
}

// all is all that comes until the end, and the reason of an end that is not clean.
func (f *far) all() string {
	b, err := io.ReadAll(f.in)
	if err != nil {
		return fmt.Sprintf("%s (%s)", b, stream.Reason(err))
	}
	return string(b)
}

// next is the next n bytes.
func (f *far) next(n int) string {
	b := make([]byte, n)
	m, _ := io.ReadFull(f.in, b)
	return string(b[:m])
}
