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
}

func (s *streams) init() { s.ctx, s.cancel = context.WithCancelCause(context.Background()) }

// start runs one stream. Its context ends with the grace period.
func (s *streams) start(run func(context.Context)) { s.wg.Go(func() { run(s.ctx) }) }

// end waits until all streams have ended, which they are made to after grace.
func (s *streams) end(grace time.Duration) {
	timer := time.AfterFunc(grace, func() { s.cancel(errStopping) })
	s.wg.Wait()
	timer.Stop()
	s.cancel(nil)
}

// errStopping is why a stream is broken off when its grace is over.
var errStopping = &stream.EndError{Reason: wire.EndAborted}

// session is one stream with what is said of it.
type session struct {
	about   Event // Stream, Device, Service and Peer
	events  *events
	traffic *Traffic
}

// carry copies between the service's and the device's side until the stream has
// ended, and closes both. nil means a clean end.
func (s session) carry(ctx context.Context, service, device stream.Half) error {
	var m meter
	s.traffic.add(&m)
	began := time.Now()
	opened := s.about
	opened.Kind = Opened
	s.events.emit(opened)

	err := stream.Pipe(ctx, service, device, &m)

	s.traffic.remove(&m)
	ended := s.about
	ended.Kind, ended.Err, ended.Duration = Ended, err, time.Since(began)
	ended.Up, ended.Down = m.AToB.Load(), m.BToA.Load()
	s.events.emit(ended)
	return err
}
