package proxy

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// lastInput is how long in may take to end once the device's side has: a plain
// stream has nowhere to take more to.
const lastInput = time.Second

// RunStdio opens one stream and carries in and out over it. EOF of in ends the
// direction to the device, the device's end closes out if it can be closed. An extended
// stream goes on until both have come, however long that takes; a plain one ends soon
// after the first. It returns nil only after a clean end; errors of opening are
// hubclient's, a stream that broke is an *hubclient.EndError, or out's error. When ctx
// ends, the stream gets GracePeriod, and so does telling the device that it has ended.
//
// A Read of in cannot be interrupted; one that still waits when RunStdio returns
// ends with the process.
func RunStdio(ctx context.Context, o ServiceOptions, service string, in io.Reader, out io.Writer) error {
	if o.Traffic == nil {
		o.Traffic = new(Traffic)
	}
	var all streams
	all.init()
	defer all.end(o.GracePeriod)
	defer context.AfterFunc(ctx, func() { all.endAfter(o.GracePeriod) })()
	var net network
	net.watch(o.Watch, all.networkChanged)
	defer net.close()

	s := &session{about: Event{Device: o.DeviceID, Service: service, Peer: "stdio"}, events: &events{tell: o.Events}, traffic: o.Traffic, streams: &all}
	o.Open.Changed = s.changed
	leg, err := o.Hub.Open(ctx, o.DeviceID, service, o.Open)
	if err != nil {
		return err
	}

	ends := &stdio{in: in, out: out, aborted: make(chan wire.EndReason, 1), peerDone: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- s.carry(all.ctx, ends, leg) }()
	select {
	case err := <-done:
		return err
	case reason := <-ends.aborted:
		return ends.afterAbort(leg, done, reason)
	case <-ends.peerDone: // what in has to say may follow
	}
	if _, plain := leg.(*stream.Conn); plain {
		return afterPeer(leg, done, ends)
	}
	select {
	case err := <-done:
		return err
	case reason := <-ends.aborted:
		return ends.afterAbort(leg, done, reason)
	}
}

// afterAbort ends a stream that broke, whether or not in can be read to its end.
func (s *stdio) afterAbort(leg stream.Half, done <-chan error, reason wire.EndReason) error {
	_ = leg.Close() // it was aborted
	select {
	case err := <-done:
		return err
	case <-time.After(lastInput):
		if err := s.failed.Load(); err != nil {
			return *err
		}
		return &stream.EndError{Reason: reason}
	}
}

// afterPeer ends a plain stream whose other side is done: what in still has to say may
// follow for a moment, then this side is done as well.
func afterPeer(leg stream.Half, done <-chan error, ends *stdio) error {
	select {
	case err := <-done:
		return err
	case reason := <-ends.aborted:
		return ends.afterAbort(leg, done, reason)
	case <-time.After(lastInput):
	}
	err := leg.CloseWrite()
	_ = leg.Close() // ended in both directions
	return err
}

// stdio is a process's standard input and output as a Half.
type stdio struct {
	in       io.Reader
	out      io.Writer
	aborted  chan wire.EndReason // gets the reason of the first Abort
	peerDone chan struct{}       // closed when out has ended
	once     sync.Once
	failed   atomic.Pointer[error] // why out took no more, which is what broke the stream
}

func (s *stdio) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *stdio) Write(p []byte) (int, error) {
	n, err := s.out.Write(p)
	if err != nil {
		s.failed.Store(&err)
	}
	return n, err
}

// CloseWrite closes out, so that its reader sees the end.
func (s *stdio) CloseWrite() error {
	defer s.once.Do(func() { close(s.peerDone) })
	if c, ok := s.out.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Abort lets RunStdio return. That a stream broke shows in its error.
func (s *stdio) Abort(reason wire.EndReason) {
	select {
	case s.aborted <- reason:
	default:
	}
}

// Close does nothing: in and out are the caller's.
func (s *stdio) Close() error { return nil }
