package hubclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// A listener keeps maxBacklog requests for Accept to be called, and opens maxOpening
// streams at once while it is. One that is being opened when the listener is closed gets
// closeGrace: the device has said yes, and only a leg can take that back.
const (
	maxBacklog = 64
	maxOpening = 16
	closeGrace = 2 * time.Second
)

// ErrListening is what Listen returns for a name that has a listener already.
var ErrListening = errors.New("stream name has a listener already")

// Listen takes all requests for streams of that name, as net.Listen takes a port, for
// http.Serve and its like; other names go to Next as before. Where Listen has been called
// and Next never has, requests for names without a listener are rejected.
// There is no Listen for all names: "" is ErrBadName, and a second listener on a name
// ErrListening, until the first is closed.
//
// A request is answered with yes once Accept is called. Until then 64 of them wait,
// each for as long as its service does; more are rejected. A stream that cannot be
// opened is no error of Accept's, which waits for the next one.
//
// The listener lives as long as the control connection: after its end Accept returns
// what Err returns, in a *net.OpError as all its errors. Close rejects the requests that
// wait, and ends streams that Accept has not returned. The caller closes it; Device.Close
// does as well.
func (d *Device) Listen(service string) (net.Listener, error) {
	l := &listener{device: d, addr: Addr{Target(d.hub.cs), service}, queue: make(chan *StreamRequest, maxBacklog), opened: make(chan net.Conn), closed: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	if err := d.register(l); err != nil {
		l.cancel()
		return nil, l.failed("listen", err)
	}
	return l, nil
}

func (d *Device) register(l *listener) error {
	name := l.addr.Service
	if !wire.ValidStreamName(name) {
		return fmt.Errorf("%s is %w of a stream", quote(name), ErrBadName)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return d.err
	case d.listeners[name] != nil:
		return ErrListening
	}
	if d.listeners == nil {
		d.listeners = make(map[string]*listener)
	}
	d.listened = true
	d.listeners[name] = l
	return nil
}

// dispatch puts a request where somebody will answer it, and reports whether there was
// room. It never blocks.
func (d *Device) dispatch(r *StreamRequest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	queue := d.requests
	if l := d.listeners[r.Name]; l != nil {
		queue = l.queue
	} else if d.listened && !d.nexted {
		return false
	}
	select {
	case queue <- r:
		return true
	default:
		return false
	}
}

// listener is a net.Listener for one stream name.
type listener struct {
	device *Device
	addr   Addr
	queue  chan *StreamRequest // from dispatch
	opened chan net.Conn       // nil for a stream that came to nothing
	closed chan struct{}
	ctx    context.Context // of opening streams
	cancel context.CancelFunc

	opening atomic.Int32   // streams that Accept has begun to open, until it takes them
	working sync.WaitGroup // waits for open
}

func (l *listener) Addr() net.Addr { return l.addr }

// Accept opens streams beside each other, so that one that is slow to open does not hold
// up the next ones.
func (l *listener) Accept() (net.Conn, error) {
	for {
		queue := l.queue
		if l.opening.Load() >= maxOpening {
			queue = nil
		}
		if err := l.over(); err != nil {
			return nil, err
		}
		select {
		case <-l.closed:
		case <-l.device.gone:
		case r := <-queue:
			l.begin(r)
		case c := <-l.opened:
			l.opening.Add(-1)
			if c != nil {
				return c, nil
			}
		}
	}
}

// over is why the listener accepts no more, nil while it does.
func (l *listener) over() error {
	select {
	case <-l.closed:
		return l.failed("accept", net.ErrClosed)
	default:
	}
	if err := l.device.Err(); err != nil {
		return l.failed("accept", err)
	}
	return nil
}

// begin opens a stream in the background, unless the listener is closed.
func (l *listener) begin(r *StreamRequest) {
	l.device.mu.Lock()
	defer l.device.mu.Unlock()
	if l.device.listeners[l.addr.Service] != l {
		l.device.rejectSoon(r.asked)
		return
	}
	l.opening.Add(1)
	l.working.Go(func() { l.open(r) })
}

// open accepts one request and hands the stream to Accept.
func (l *listener) open(r *StreamRequest) {
	ctx, cancel := context.WithTimeout(l.ctx, wire.HandshakeTimeout)
	defer cancel()
	leg, err := r.Accept(ctx)
	var c net.Conn // nil, not a nil *conn
	if err == nil {
		c = &conn{Stream: leg, local: l.addr, remote: leg.RemoteAddr()}
	} else {
		l.device.hub.logger.Debug("stream not opened", "device", l.addr.Target, "name", r.Name, "err", err)
	}
	select {
	case l.opened <- c:
		return
	case <-l.closed:
	case <-l.device.gone:
	}
	if leg != nil {
		leg.Abort(wire.EndAborted)
		_ = leg.Close()
	}
}

// Close stops listening and waits until nothing of it is running, a few seconds at most.
// It may be called twice.
func (l *listener) Close() error {
	l.device.mu.Lock()
	if l.device.listeners[l.addr.Service] == l { // the first Close
		delete(l.device.listeners, l.addr.Service)
		close(l.closed)
	}
	l.device.mu.Unlock()
	for len(l.queue) > 0 { // nothing comes in any more
		select {
		case r := <-l.queue:
			l.device.rejectSoon(r.asked)
		default:
		}
	}
	late := time.AfterFunc(closeGrace, l.cancel)
	l.working.Wait()
	late.Stop()
	l.cancel()
	return nil
}

func (l *listener) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: network, Addr: l.addr, Err: err}
}
