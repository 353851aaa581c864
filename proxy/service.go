package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// DefaultServiceStreams bounds the connections of all local listeners together.
const DefaultServiceStreams = 1000

// ServiceOptions configure a service-proxy. Hub and DeviceID are required.
type ServiceOptions struct {
	Hub      *hubclient.Service // opens streams; stays the caller's to close
	DeviceID string             // identity to reach, DEVICE or DEVICE/MODULE
	Open     hubclient.OpenOptions
	// MaxStreams bounds the connections served at once; one more is reset. Zero
	// means DefaultServiceStreams.
	MaxStreams int
	// GracePeriod is how long open streams, suspended ones too, may go on once ctx has
	// ended.
	GracePeriod time.Duration

	Watch   Watch        // nil: netwatch.Run
	Traffic *Traffic     // nil: not counted
	Events  func(Event)  // nil: not told
	Logger  *slog.Logger // nil discards
}

// Forward is a local address whose connections go to a service on the device.
type Forward struct {
	Address string // such as "127.0.0.1:2222"; port 0 lets the system pick one
	Service string // the stream's name
}

// Listeners are the bound addresses of a service-proxy. They run once.
type Listeners struct {
	o        ServiceOptions
	log      *slog.Logger
	events   events
	forwards []Forward
	bound    []net.Listener
	slots    chan struct{}
	streams  streams
	network  network
}

// Listen binds every forward's address, or none. The caller runs or closes the
// Listeners.
func Listen(o ServiceOptions, forwards []Forward) (*Listeners, error) {
	if o.MaxStreams == 0 {
		o.MaxStreams = DefaultServiceStreams
	}
	if o.Traffic == nil {
		o.Traffic = new(Traffic)
	}
	l := &Listeners{o: o, log: orDiscard(o.Logger), events: events{tell: o.Events}, forwards: forwards, slots: make(chan struct{}, o.MaxStreams)}
	for _, f := range forwards {
		bound, err := net.Listen("tcp", f.Address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen: %w", err), l.Close())
		}
		l.bound = append(l.bound, bound)
	}
	l.streams.init()
	return l, nil
}

// Addrs are the bound addresses, in the order of the forwards.
func (l *Listeners) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, b := range l.bound {
		addrs = append(addrs, b.Addr())
	}
	return addrs
}

// Close unbinds the addresses of Listeners that are not run.
func (l *Listeners) Close() error {
	var errs []error
	for _, b := range l.bound {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}

// Run opens a stream for each connection until ctx ends, then gives open streams
// their grace and returns nil. A listener that fails is an error.
func (l *Listeners) Run(ctx context.Context) error {
	l.network.watch(l.o.Watch, func() {
		l.o.Hub.NetworkChanged()
		l.streams.networkChanged()
	})
	defer l.network.close()
	defer l.streams.end(l.o.GracePeriod)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { _ = l.Close() })() // listeners that were closed before are no news
	var wg sync.WaitGroup
	for i, f := range l.forwards {
		l.events.emit(Event{Kind: Listening, Device: l.o.DeviceID, Service: f.Service, Local: l.bound[i].Addr()})
		wg.Go(func() {
			if err := l.accept(ctx, l.bound[i], f.Service, &wg); ctx.Err() == nil {
				cancel(fmt.Errorf("accept on %s: %w", l.bound[i].Addr(), err))
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// accept serves one listener until it is closed. Running out of descriptors is
// waited out.
func (l *Listeners) accept(ctx context.Context, from net.Listener, service string, wg *sync.WaitGroup) error {
	const least, most = 10 * time.Millisecond, time.Second
	pause := least
	for {
		conn, err := from.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			l.log.Warn("accept", "address", from.Addr(), "err", err)
			time.Sleep(pause)
			pause = min(2*pause, most)
			continue
		}
		pause = least
		tcp := conn.(*net.TCPConn)
		select {
		case l.slots <- struct{}{}:
			wg.Go(func() { l.open(ctx, tcp, service) })
		default:
			l.refuse(tcp, service, fmt.Errorf("%d connections are open, which is the limit", cap(l.slots)))
		}
	}
}

// open gets a stream for one connection. It holds a slot, which the stream takes
// over.
func (l *Listeners) open(ctx context.Context, conn *net.TCPConn, service string) {
	free := func() { <-l.slots }
	s := &session{about: Event{Device: l.o.DeviceID, Service: service, Peer: conn.RemoteAddr().String()}, events: &l.events, traffic: l.o.Traffic, streams: &l.streams}
	o := l.o.Open
	o.Changed = s.changed
	done := l.o.Traffic.setUp()
	leg, err := l.o.Hub.Open(ctx, l.o.DeviceID, service, o)
	done()
	if err != nil {
		free()
		l.refuse(conn, service, err)
		return
	}
	l.streams.start(func(ctx context.Context) {
		defer free()
		_ = s.carry(ctx, stream.TCP(conn), leg) // told as an event
	})
}

// refuse resets a connection that came to no stream.
func (l *Listeners) refuse(conn *net.TCPConn, service string, why error) {
	peer := conn.RemoteAddr().String()
	stream.TCP(conn).Abort(wire.EndRejected)
	l.events.emit(Event{Kind: Refused, Device: l.o.DeviceID, Service: service, Peer: peer, Err: why})
}
