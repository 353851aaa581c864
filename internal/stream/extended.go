package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/farportio/farport/internal/stream/resume"
	"github.com/farportio/farport/internal/wire"
)

// Stream is an open device stream, plain (*Conn) or extended (*Extended): a net.Conn
// whose directions end apart.
type Stream interface {
	net.Conn
	// CloseWrite ends the writing direction in good order.
	CloseWrite() error
	// Abort breaks both directions so that the other end sees a break with this reason.
	Abort(wire.EndReason)
}

// JoinOptions say how an extended stream is kept.
type JoinOptions struct {
	DialOptions
	// Secret is the instance's (wire.NewInstance), the one the stream was agreed on with.
	Secret string
	// Window is how long the stream may be without its peer, as it was agreed on; 0 is
	// framing without resume.
	Window time.Duration
	// Linger bounds how long a stream that is done here goes on for the other end's sake.
	// Zero means the Window, and 60 s at most, and lingerUnsent for what is unsent at Close.
	Linger time.Duration
	// Changed is told when the stream waits for its peer, and when it has resumed; nil
	// means nobody. It is called by one goroutine at a time.
	Changed func(Change)
}

// Change says that a stream waits for its peer, or no longer does.
type Change struct {
	Waiting bool
	Since   time.Time // when it began to wait
}

// lingerUnsent bounds how long a closed stream keeps what its peer has not received yet,
// and waits for the peer to close too.
const lingerUnsent = 5 * time.Minute

// budget is shared by all extended streams of the process.
var budget = resume.NewBudget(resume.DefaultBudget)

// Extended is one end of an extended stream (farport-v1.md): a connection like TCP's that
// outlives the legs it is carried by. It is owned by whoever got it from Join, who must
// Close it; all methods may be called by anybody at any time.
//
// package resume decides what is done. Here are the sockets, goroutines and timers: one
// goroutine writes, one per leg reads, one per attempt dials.
type Extended struct {
	url string
	o   JoinOptions

	reading sync.Mutex // held by who reads what is there of a leg: core has memory for one

	mu       sync.Mutex // held for everything below, and never during I/O
	readable sync.Cond  // there is something for the application to read, or it is over
	writable sync.Cond  // there is room for what it writes, or it is over
	work     sync.Cond  // there is something for the writer
	core     *resume.End
	over     bool // the stream has an outcome

	token   string
	attempt uint64             // join of the newest
	cancel  context.CancelFunc // of the newest attempt
	failure error              // of the latest attempt that came to nothing
	legs    map[uint64]*keptLeg
	leg     *keptLeg // the newest
	writing bool     // somebody is at it
	running int      // goroutines that may still use the stream, the writer aside

	timer *time.Timer
	due   time.Time // when it fires; zero: it does not
	clock time.Time // of the last tick, to notice that the machine was asleep

	closed     bool // by the application
	closeBy    time.Time
	finished   bool      // nothing more will be written
	sawEOF     bool      // the application has seen the peer's end
	readBy     timeLimit // of Read
	writeBy    timeLimit // of Write
	delivering bool      // somebody writes what core.App has returned
	sink       func([]byte) int
	wakePump   func()      // wakes who waits for room in a Pipe; nil: nobody
	broken     func(error) // told of a break, once; nil: nobody

	met     bool // there was a pairing
	told    bool // that the stream waits
	telling bool

	joined chan struct{} // closed with the first leg, or the end
	first  bool          // joined is closed
	ended  chan struct{} // closed when nothing is left of the stream
}

// Join opens an extended stream: url and token are what the hub handed out. It dials until
// the first leg is open, ctx ends, or the hub refuses for good, which is a *JoinError or
// an *EndError. From then on the stream keeps itself, whatever becomes of ctx.
func Join(ctx context.Context, url, token string, o JoinOptions) (*Extended, error) {
	e := &Extended{
		url: url, token: token, o: o, legs: make(map[uint64]*keptLeg), clock: time.Now(),
		joined: make(chan struct{}), ended: make(chan struct{}),
	}
	e.readable.L, e.writable.L, e.work.L = &e.mu, &e.mu, &e.mu
	e.core = resume.New(resume.Config{Window: o.Window, Linger: o.Linger, Budget: budget, Now: time.Now})
	e.mu.Lock()
	e.timer = time.AfterFunc(time.Hour, e.tick)
	e.pursue()
	e.mu.Unlock()
	go e.writer()
	var err error
	select {
	case <-e.joined:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch refused, final := errors.AsType[*JoinError](e.failure); {
	case e.leg != nil && !e.over:
		return e, nil
	case err == nil && final:
		err = refused
	case err == nil && e.leg != nil:
		err = e.breach()
	default:
		if err == nil {
			err = e.breach()
		}
		if e.failure != nil { // says more than that the time is over
			err = fmt.Errorf("%w, after: %w", err, e.failure)
		}
	}
	e.closed = true
	e.core.Abort(wire.EndReset)
	e.core.LingerAtMost(0) // nobody is left who could wait for that
	e.pursue()
	return nil, err
}

// breach is the error of a stream that was broken; nil while it runs, and when it has
// ended in good order.
func (e *Extended) breach() error {
	switch reason := e.core.Outcome(); reason {
	case "", wire.EndFinished:
		return nil
	default:
		return &EndError{Reason: reason}
	}
}

// Read returns what has come, at least one byte. io.EOF comes when the peer has ended its
// direction and all before was read; a stream that was broken fails with an *EndError, and
// what was unread is lost.
func (e *Extended) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		switch err := e.breach(); {
		case e.closed:
			return 0, net.ErrClosed
		case e.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, err
		case e.sawEOF:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		case e.delivering: // by a Pipe
		case e.core.AppEOF():
			e.core.ShutdownDone()
			e.sawEOF = true
			e.pursue()
			return 0, io.EOF
		default:
			if n := copy(p, e.core.App()); n > 0 {
				e.core.Delivered(n)
				e.pursue()
				return n, nil
			}
		}
		e.readable.Wait()
	}
}

// Write returns when all of p is on its way, which need not have begun: it is kept until
// the peer has it. It waits while that is too much (farport-v1.md section 8).
func (e *Extended) Write(p []byte) (done int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		switch err := e.breach(); {
		case e.closed:
			return done, net.ErrClosed
		case e.writeBy.passed():
			return done, os.ErrDeadlineExceeded
		case err != nil:
			return done, err
		case e.finished:
			return done, &EndError{Reason: wire.EndAborted, Cause: errWriteEnded}
		case done == len(p):
			return done, nil
		}
		if space := e.core.Space(); space != nil {
			n := copy(space, p[done:])
			e.core.Filled(n)
			done += n
			e.pursue()
			continue
		}
		e.writable.Wait()
	}
}

var errWriteEnded = errors.New("the writing direction was ended")

// CloseWrite ends the writing direction: the peer reads io.EOF behind what was written.
func (e *Extended) CloseWrite() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	e.finish()
	return e.breach()
}

// finish ends the writing direction.
func (e *Extended) finish() {
	e.finished = true
	e.core.ReadEOF()
	e.wakeWriters()
	e.pursue()
}

// Abort breaks the stream so that the peer sees a break with this reason. What is under
// way in both directions is lost.
func (e *Extended) Abort(reason wire.EndReason) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if reason = wire.ParseReason(string(reason)); reason == wire.EndFinished {
		reason = wire.EndReset
	}
	e.core.Abort(reason)
	e.pursue()
}

// Close lets go of the stream, as closing a TCP socket does: if there is something unread,
// or something comes later, the stream is reset; else the peer still gets what was
// written, and its end, in the background.
func (e *Extended) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	e.closeBy = time.Now().Add(lingerUnsent)
	if e.o.Linger > 0 {
		e.closeBy = time.Now().Add(e.o.Linger)
	}
	e.readBy.stop()
	e.writeBy.stop()
	e.readable.Broadcast()
	e.finish()
	return nil
}

// NetworkChanged says that the machine has another address or route, or was asleep.
func (e *Extended) NetworkChanged() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.core.NetworkChanged()
	e.pursue()
}

// LingerAtMost bounds how long the stream goes on in the background: the process is told
// to stop.
func (e *Extended) LingerAtMost(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.o.Linger = d
	if by := time.Now().Add(d); e.closed && by.Before(e.closeBy) {
		e.closeBy = by
	}
	e.core.LingerAtMost(d)
	e.pursue()
}

// Window is how long the stream may be without its peer, as it was agreed on.
func (e *Extended) Window() time.Duration { return e.o.Window }

// Ended is closed when nothing is left of the stream: the other end knows how it has
// ended, or the time for telling it is over.
func (e *Extended) Ended() <-chan struct{} { return e.ended }

// settle waits until it is known how the stream ends for this side: nil means that both
// directions were delivered in full.
func (e *Extended) settle() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for !e.over {
		e.readable.Wait()
	}
	return e.breach()
}

// whenBroken has tell called once the stream is broken; it must not wait for the stream.
func (e *Extended) whenBroken(tell func(error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.breach(); err != nil {
		tell(err)
		return
	}
	e.broken = tell
}

// RemoteAddr is the hub's address on the newest leg.
func (e *Extended) RemoteAddr() net.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leg.RemoteAddr()
}

// LocalAddr is this end's address on the newest leg.
func (e *Extended) LocalAddr() net.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.leg.LocalAddr()
}

// SetDeadline sets both deadlines.
func (e *Extended) SetDeadline(t time.Time) error {
	return errors.Join(e.SetReadDeadline(t), e.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read, also one that is waiting: it fails with
// os.ErrDeadlineExceeded. Zero is no bound.
func (e *Extended) SetReadDeadline(t time.Time) error {
	return e.setLimit(&e.readBy, &e.readable, t)
}

// SetWriteDeadline bounds Write, as SetReadDeadline does Read. What Write has counted is
// on its way all the same.
func (e *Extended) SetWriteDeadline(t time.Time) error {
	return e.setLimit(&e.writeBy, &e.writable, t)
}

func (e *Extended) setLimit(l *timeLimit, waiting *sync.Cond, t time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return net.ErrClosed
	}
	l.stop()
	l.at = t
	if !t.IsZero() {
		in := time.Until(t)
		l.at = time.Now().Add(in) // by the clock that the timer goes by
		l.timer = time.AfterFunc(in, func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			waiting.Broadcast()
		})
	}
	return nil
}

// timeLimit is a deadline of Read or Write.
type timeLimit struct {
	at    time.Time // zero: none
	timer *time.Timer
}

func (l *timeLimit) passed() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

func (l *timeLimit) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}
