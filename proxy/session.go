package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// streams are the open streams of a proxy, which outlive what they were opened by.
type streams struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	resume map[resumer]struct{} // the open ones that can
}

// resumer is a stream that outlives its connections: an extended one.
type resumer interface {
	Abort(wire.EndReason)
	NetworkChanged()
	Window() time.Duration // how long it may be without one
	// LingerAtMost bounds how long it goes on for its peer's sake once it was closed, and
	// Ended is closed when nothing is left of it.
	LingerAtMost(time.Duration)
	Ended() <-chan struct{}
}

// farewell is how long a stream that was broken off when its grace was over may take to
// tell its peer.
const farewell = 2 * time.Second

func (s *streams) init() {
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.resume = make(map[resumer]struct{})
}

// start runs one stream. Its context ends with the grace period.
func (s *streams) start(run func(context.Context)) { s.wg.Go(func() { run(s.ctx) }) }

// end waits until all streams have ended and told their peers so. They are made to end
// after grace, whether they are suspended or not.
func (s *streams) end(grace time.Duration) {
	timer := s.endAfter(grace)
	s.wg.Wait()
	timer.Stop()
	s.cancel(nil)
}

// endAfter makes them end after grace, those too that were closed before.
func (s *streams) endAfter(grace time.Duration) *time.Timer {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.resume {
		r.LingerAtMost(max(grace, farewell))
	}
	return time.AfterFunc(grace, func() { s.cancel(errStopping) })
}

// errStopping is why a stream is broken off when its grace is over.
var errStopping = &stream.EndError{Reason: wire.EndShutdown}

// networkChanged lets every stream that can find out whether its leg still stands, or
// join again at once.
func (s *streams) networkChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.resume {
		r.NetworkChanged()
	}
}

// keep lists a stream until it is done, which may be some time after it was closed: its
// peer may not know yet.
func (s *streams) keep(r resumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resume[r] = struct{}{}
	s.wg.Go(func() {
		select {
		case <-r.Ended():
		case <-s.ctx.Done():
			r.Abort(errStopping.Reason) // also one that was closed before all was sent
			r.LingerAtMost(farewell)
			select {
			case <-r.Ended():
			case <-time.After(2 * farewell): // once more for closing its connection
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.resume, r)
	})
}

// session is one stream with what is said of it.
type session struct {
	about   Event // Stream once it is open, Device, Service and Peer
	events  *events
	traffic *Traffic
	streams *streams
	meter   meter
	resumed func() // told when the stream has a connection again; nil: nobody

	mu      sync.Mutex
	open    bool          // Opened was told, and Ended was not
	waiting time.Time     // since when; zero: the stream has its connection
	window  time.Duration // how long it may wait
}

// carry copies between the service's and the device's side until the stream has
// ended, and closes both. nil means a clean end.
func (s *session) carry(ctx context.Context, service, device stream.Half) error {
	for _, side := range []stream.Half{service, device} {
		if r, ok := side.(resumer); ok {
			s.streams.keep(r)
			s.window = r.Window()
		}
	}
	began := time.Now()
	s.opened()
	err := stream.Pipe(ctx, service, device, &s.meter)
	s.ended(err, time.Since(began))
	return err
}

func (s *session) opened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	s.about.Stream = s.events.number()
	s.traffic.add(&s.meter)
	s.tell(Event{Kind: Opened})
	s.tellWaiting()
}

func (s *session) ended(err error, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
	s.traffic.remove(&s.meter)
	s.tell(Event{Kind: Ended, Err: err, Duration: took, Up: s.meter.AToB.Load(), Down: s.meter.BToA.Load()})
}

// changed is told when the stream has lost its connection and when it has another. The
// first may be before carry has begun.
func (s *session) changed(c stream.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Waiting {
		s.waiting = c.Since
		s.tellWaiting()
		return
	}
	waited := time.Since(s.waiting)
	s.waiting = time.Time{}
	if s.open {
		s.traffic.wait(&s.meter, time.Time{})
		s.tell(Event{Kind: Resumed, Duration: waited})
	}
	if s.resumed != nil {
		s.resumed()
	}
}

// tellWaiting needs s.mu.
func (s *session) tellWaiting() {
	if s.open && !s.waiting.IsZero() {
		s.traffic.wait(&s.meter, s.waiting)
		s.tell(Event{Kind: Waiting, Window: s.window})
	}
}

// tell completes e with what it is about. It needs s.mu.
func (s *session) tell(e Event) {
	e.Stream, e.Device, e.Service, e.Peer = s.about.Stream, s.about.Device, s.about.Service, s.about.Peer
	s.events.emit(e)
}
