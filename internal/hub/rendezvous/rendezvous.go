// Package rendezvous holds the streams of one hub node: it makes a place for
// each side of a stream, lets each side join once, relays between the two legs
// once both are there, and remembers why a stream ended until it has said so.
//
//	Create ──▶ waiting ──Claim, Join──▶ one leg, early bytes held ──Claim, Join──▶ relaying ──▶ ended
//
// Who may create and join is decided by the caller; what a leg is on the wire is
// package stream's business.
package rendezvous

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// Default limits (security.md T31).
const (
	DefaultMaxStreams   = 10_000
	DefaultMaxPerDevice = 100
	DefaultMaxPerPolicy = 2_000
)

// Errors of Create and Claim.
var (
	ErrHubFull    = errors.New("the hub's limit of open streams is reached")
	ErrDeviceFull = errors.New("the device's limit of open streams is reached")
	ErrPolicyFull = errors.New("the policy's limit of open streams is reached")
	ErrStopping   = errors.New("the hub is stopping")
	ErrUnknown    = errors.New("no such stream: it has ended or was never opened")
)

// TakenError is Claim's error for a place that somebody has taken before.
type TakenError struct {
	By Guest
}

func (e *TakenError) Error() string { return "this side of the stream has joined already" }

// EndedError is the cause that a stream's context ends with.
type EndedError struct {
	Reason wire.EndReason
}

func (e *EndedError) Error() string { return "the stream has ended: " + string(e.Reason) }

// Guest is who takes a side's place: where from, and the key that lets it in.
type Guest struct {
	Remote     string // address, host:port
	Credential string
}

// Stream says what a stream is and who is behind it. It does not change.
type Stream struct {
	ID     string // 128 random bits, hex
	Name   string // the service on the device
	Device string
	// Generation is the life of the device identity that the stream belongs to.
	Generation string
	// Policy is the shared access policy that opened the stream, PolicyCredential
	// names the key it was opened with.
	Policy           string
	PolicyCredential string
	// DeviceCredential names the key that lets the device's side in: that of its
	// leg, or before there is one, of the control connection that accepted. Empty
	// before both.
	DeviceCredential string
	Created          time.Time
}

// Summary tells how a stream ended. Err is nil for a clean end and where the
// reason says it all.
type Summary struct {
	Stream
	Reason wire.EndReason
	Err    error
	// DeviceRemote and ServiceRemote are where the legs came from, "" for none.
	DeviceRemote, ServiceRemote string

	Joined   bool  // both legs had met
	Up, Down int64 // bytes handed on, service to device and device to service
	Duration time.Duration
}

// Options configure a Rendezvous. Zero limits mean the defaults.
type Options struct {
	// HandshakeTimeout is how long both legs have, from Create. Zero means
	// wire.HandshakeTimeout.
	HandshakeTimeout time.Duration
	MaxStreams       int
	MaxPerDevice     int
	MaxPerPolicy     int
	// Opened and Ended are told of each stream, from its own goroutines: Opened
	// when both legs have met, Ended once for every stream that was created. nil
	// means that nobody wants to know.
	Opened func(Stream)
	Ended  func(Summary)
	Logger *slog.Logger // nil discards
}

// Rendezvous is safe for concurrent use.
type Rendezvous struct {
	o  Options
	wg sync.WaitGroup // a goroutine per leg, and one per stream that ends

	mu       sync.Mutex
	stopping bool
	streams  map[string]*meeting
	devices  map[string]int // streams per device
	policies map[string]int // streams per policy
	empty    chan struct{}  // closed when the last stream has gone; nil when nobody waits
}

// New returns an empty rendezvous.
func New(o Options) *Rendezvous {
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = wire.HandshakeTimeout
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = DefaultMaxStreams
	}
	if o.MaxPerDevice == 0 {
		o.MaxPerDevice = DefaultMaxPerDevice
	}
	if o.MaxPerPolicy == 0 {
		o.MaxPerPolicy = DefaultMaxPerPolicy
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Rendezvous{
		o:        o,
		streams:  make(map[string]*meeting),
		devices:  make(map[string]int),
		policies: make(map[string]int),
	}
}

// Create makes room for a stream and starts its handshake time. It ends by itself
// with EndExpired when the legs have not met in time. The context returned is one
// for the stream's life: it ends with ctx, or with an *EndedError as its cause.
func (r *Rendezvous) Create(ctx context.Context, s Stream) (context.Context, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopping:
		return nil, ErrStopping
	case len(r.streams) >= r.o.MaxStreams:
		return nil, ErrHubFull
	case r.devices[s.Device] >= r.o.MaxPerDevice:
		return nil, ErrDeviceFull
	case r.policies[s.Policy] >= r.o.MaxPerPolicy:
		return nil, ErrPolicyFull
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r.streams[s.ID] = newMeeting(r, s, cancel)
	r.devices[s.Device]++
	r.policies[s.Policy]++
	return ctx, nil
}

// remove forgets a stream that has ended. It must be called once for each.
func (r *Rendezvous) remove(m *meeting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, m.ID)
	uncount(r.devices, m.Device)
	uncount(r.policies, m.Policy)
	if len(r.streams) == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

func uncount(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

func (r *Rendezvous) find(id string) *meeting {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.streams[id]
}

// Admit notes the credential of the control connection over which the device
// accepted. A leg that has come is bound to its own, which may be another's.
func (r *Rendezvous) Admit(id, deviceCredential string) {
	if m := r.find(id); m != nil {
		m.admit(deviceCredential)
	}
}

// Claim takes side's one place on a stream, for good: it is what makes a stream
// token good for one use. The caller must Join or Abandon it. ErrUnknown or a
// *TakenError.
func (r *Rendezvous) Claim(id string, side wire.Side, g Guest) (*Place, error) {
	m := r.find(id)
	if m == nil {
		return nil, ErrUnknown
	}
	return m.claim(side, g)
}

// Place is one side's place on a stream.
type Place struct {
	m    *meeting
	side wire.Side
}

// Join takes the leg over and returns at once. The rendezvous closes the leg.
func (p *Place) Join(leg stream.Half) { p.m.join(p.side, leg) }

// Abandon ends the stream, as the side cannot join after all.
func (p *Place) Abandon(err error) { p.m.end(wire.EndNetwork, err) }

// End ends a stream; one that is unknown has ended already.
func (r *Rendezvous) End(id string, reason wire.EndReason) {
	if m := r.find(id); m != nil {
		m.end(reason, nil)
	}
}

// EndWhere ends the streams that match, and returns their number.
func (r *Rendezvous) EndWhere(match func(Stream) bool, reason wire.EndReason) int {
	n := 0
	for _, m := range r.all() {
		if match(m.stream()) {
			m.end(reason, nil)
			n++
		}
	}
	return n
}

// List returns the streams there are, oldest first.
func (r *Rendezvous) List() []Stream {
	var list []Stream
	for _, m := range r.all() {
		list = append(list, m.stream())
	}
	slices.SortFunc(list, func(a, b Stream) int { return a.Created.Compare(b.Created) })
	return list
}

func (r *Rendezvous) all() []*meeting {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*meeting, 0, len(r.streams))
	for _, m := range r.streams {
		all = append(all, m)
	}
	return all
}

// Stop lets no new stream in. The channel is closed once there is none left.
func (r *Rendezvous) Stop() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
	done := make(chan struct{})
	if len(r.streams) == 0 {
		close(done)
		return done
	}
	if r.empty == nil {
		r.empty = done
	}
	return r.empty
}

// Close ends every stream with EndStopping, and waits until all legs are closed.
func (r *Rendezvous) Close() {
	r.Stop()
	r.EndWhere(func(Stream) bool { return true }, wire.EndStopping)
	r.wg.Wait()
}
