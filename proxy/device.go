package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/backoff"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

const (
	dialTimeout   = 10 * time.Second // for a target (security.md T18)
	settled       = time.Minute      // a control connection that lived this long starts backoff anew
	renewRetry    = 30 * time.Second // after a renewal that failed
	answerTimeout = 10 * time.Second // for a rejection to go out
	lateDial      = 5 * time.Second  // for an attempt to connect when the network has changed meanwhile
)

// DefaultDeviceStreams bounds the streams of one device, here and on a hub
// (security.md T31).
const DefaultDeviceStreams = 100

// DeviceOptions configure a device-proxy. Dial, and Target or Services, are
// required.
type DeviceOptions struct {
	DeviceID string // DEVICE or DEVICE/MODULE, for events
	// Dial makes one control connection. It is called again whenever the last one
	// was lost, and before its token expires. All of them have one hubclient.Instance, or
	// else the hub ends the streams that wait to resume.
	Dial func(ctx context.Context) (*hubclient.Device, error)
	// Target is the HOST:PORT that every stream goes to; "" when Services is set.
	Target string
	// Services are the HOST:PORTs by stream name; other names are rejected.
	Services map[string]string
	// MaxStreams bounds the streams open and being set up. Zero means
	// DefaultDeviceStreams.
	MaxStreams int
	// GracePeriod is how long open streams, suspended ones too, may go on once ctx has
	// ended.
	GracePeriod time.Duration

	Watch   Watch        // nil: netwatch.Run
	Traffic *Traffic     // nil: not counted
	Events  func(Event)  // nil: not told
	Logger  *slog.Logger // nil discards
}

// device is one run of RunDevice.
type device struct {
	o       DeviceOptions
	log     *slog.Logger
	events  events
	slots   chan struct{}
	streams streams
	network network
	wait    backoff.Backoff // between attempts to connect
}

// RunDevice serves a device's streams until ctx ends, then gives open streams
// their grace and returns nil. It reconnects for ever; only credentials that the
// hub refuses before it has ever accepted them are an error,
// hubclient.ErrUnauthorized. Streams outlive the control connection that they were
// asked for over. When the network changes, it looks whether its connection still
// stands, or tries again at once.
func RunDevice(ctx context.Context, o DeviceOptions) error {
	if o.MaxStreams == 0 {
		o.MaxStreams = DefaultDeviceStreams
	}
	if o.Traffic == nil {
		o.Traffic = new(Traffic)
	}
	d := &device{o: o, log: orDiscard(o.Logger), events: events{tell: o.Events}, slots: make(chan struct{}, o.MaxStreams)}
	d.wait.Told = func(wait time.Duration) { o.Traffic.disconnected(time.Now().Add(wait)) }
	d.streams.init()
	d.network.watch(o.Watch, d.streams.networkChanged)
	defer d.network.close()
	defer d.streams.end(o.GracePeriod)

	conn, err := d.connect(ctx, true)
	for conn != nil {
		began := time.Now()
		next := d.serve(ctx, conn)
		if next == nil {
			if time.Since(began) >= settled {
				d.wait.Reset()
			}
			d.pause(ctx, d.network.changed()) // also for the first attempt: many devices may have lost one hub
			next, err = d.connect(ctx, false)
		}
		conn = next
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// connect dials until it has a control connection or ctx ends; then it returns
// nil. The one error is that credentials are refused which have never been good.
func (d *device) connect(ctx context.Context, first bool) (*hubclient.Device, error) {
	cause := ""
	for ctx.Err() == nil {
		epoch := d.network.changed()
		d.o.Traffic.disconnected(time.Time{})
		conn, err := d.dial(ctx, epoch)
		switch {
		case err == nil:
			d.o.Traffic.connected()
			d.events.emit(Event{Kind: Connected, Device: d.o.DeviceID})
			return conn, nil
		case first && errors.Is(err, hubclient.ErrUnauthorized):
			return nil, err
		case ctx.Err() != nil:
			return nil, nil
		}
		if c := root(err).Error(); c != cause {
			cause = c
			d.events.emit(Event{Kind: Retrying, Device: d.o.DeviceID, Err: err})
		}
		d.pause(ctx, epoch)
	}
	return nil, nil
}

// errNetworkChanged is why an attempt to connect is given up.
var errNetworkChanged = errors.New("the network has changed meanwhile")

// dial makes one attempt. One that began in another epoch may wait for an answer to an
// address that this machine no longer has.
func (d *device) dial(ctx, epoch context.Context) (*hubclient.Device, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(epoch, func() { time.AfterFunc(lateDial, func() { cancel(errNetworkChanged) }) })()
	return d.o.Dial(ctx)
}

// pause waits before the next attempt, until the epoch has ended at most. In another
// network the hub may be reached at once.
func (d *device) pause(ctx, epoch context.Context) {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(epoch, cancel)()
	if d.wait.Wait(waiting) != nil {
		d.wait.Reset()
	}
}

// root is the innermost error, which says what is wrong without saying by which
// connection it was found.
func root(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// serve answers requests over one control connection until it is lost or ctx ends,
// and then returns nil; or until the token is about to expire and the next
// connection stands, which it returns.
func (d *device) serve(ctx context.Context, conn *hubclient.Device) (next *hubclient.Device) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	defer cancel()
	wg.Go(func() { d.answer(ctx, conn) })

	var renew <-chan time.Time
	if at := conn.RenewAt(); !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		renew = timer.C
	}
	epoch := d.network.changed()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-conn.Done():
			d.events.emit(Event{Kind: Retrying, Device: d.o.DeviceID, Err: conn.Err()})
			return nil
		case <-epoch.Done():
			epoch = d.network.changed()
			_ = conn.Probe(ctx) // one that fails ends the connection
		case <-renew:
			// Make before break: the hub lets the newer connection win.
			next, err := d.dial(ctx, epoch)
			if err == nil {
				return next
			}
			d.log.Warn("renew control connection", "device", d.o.DeviceID, "err", err)
			renew = time.After(renewRetry)
		}
	}
}

// answer takes requests until the connection is lost or ctx ends. What has been
// asked for by then goes on without it.
func (d *device) answer(ctx context.Context, conn *hubclient.Device) {
	for {
		req, err := conn.Next(ctx)
		if err != nil {
			return
		}
		select {
		case d.slots <- struct{}{}:
			d.streams.start(func(ctx context.Context) {
				// The place is free before the service hears no: it may ask again at once.
				if target, err := d.open(ctx, req); err != nil {
					d.refuse(ctx, req, target, err)
				}
			})
		default:
			d.streams.start(func(ctx context.Context) {
				d.refuse(ctx, req, "", fmt.Errorf("%d streams are open, which is the limit", cap(d.slots)))
			})
		}
	}
}

// open sets one stream up, the target first, then the leg, carries it, and gives its place
// back. An error says why req is still to be refused, and target what it stood for.
func (d *device) open(ctx context.Context, req *hubclient.StreamRequest) (target string, err error) {
	defer func() { <-d.slots }()
	done := d.o.Traffic.setUp()
	defer done()
	setup, cancel := context.WithTimeout(ctx, wire.HandshakeTimeout)
	defer cancel()
	target, conn, err := d.o.DialTarget(setup, req.Name)
	if err != nil {
		return target, err
	}
	s := &session{about: Event{Device: d.o.DeviceID, Service: req.Name, Peer: target}, events: &d.events, traffic: d.o.Traffic, streams: &d.streams}
	s.resumed = d.network.next // the hub can be reached: the control connection need not wait either
	leg, err := req.AcceptWith(setup, hubclient.AcceptOptions{Changed: s.changed})
	if err != nil {
		stream.TCP(conn).Abort(stream.Reason(err))
		d.events.emit(Event{Kind: Refused, Device: d.o.DeviceID, Service: req.Name, Peer: target, Err: err})
		return target, nil
	}
	done()
	_ = s.carry(ctx, leg, stream.TCP(conn)) // told as an event
	return target, nil
}

// refuse answers no.
func (d *device) refuse(ctx context.Context, req *hubclient.StreamRequest, target string, why error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := req.Reject(ctx); err != nil {
		d.log.Warn("reject stream", "name", req.Name, "err", err)
	}
	d.events.emit(Event{Kind: Refused, Device: d.o.DeviceID, Service: req.Name, Peer: target, Err: why})
}

// errNoService is why a name that is not on the list is refused.
var errNoService = errors.New("no such service on this device")

// DialTarget connects to what a stream name stands for, and returns its address, too.
// Nothing in the name is ever taken for an address (security.md T16). The caller closes the
// connection.
func (o DeviceOptions) DialTarget(ctx context.Context, name string) (target string, _ *net.TCPConn, err error) {
	target = o.Target
	if o.Services != nil {
		var ok bool
		if target, ok = o.Services[name]; !ok {
			return "", nil, errNoService
		}
	}
	dialer := net.Dialer{Timeout: dialTimeout, Control: refuseLinkLocal(target)}
	conn, err := dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		return target, nil, fmt.Errorf("connect to target: %w", err)
	}
	return target, conn.(*net.TCPConn), nil
}

// refuseLinkLocal keeps a host name from leading to a link-local address, where
// clouds keep their metadata services, unless target names that address itself.
func refuseLinkLocal(target string) func(network, address string, _ syscall.RawConn) error {
	host, _, _ := net.SplitHostPort(target)
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	return func(_, address string, _ syscall.RawConn) error {
		if ap, err := netip.ParseAddrPort(address); err == nil && ap.Addr().Unmap().IsLinkLocalUnicast() {
			return errors.New(strconv.Quote(host) + " leads to the link-local address " + ap.Addr().String() + ", which must be named itself")
		}
		return nil
	}
}
