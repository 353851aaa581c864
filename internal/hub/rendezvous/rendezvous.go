// Package rendezvous holds the streams of one hub node: it makes a place for
// each side of a stream, lets each side join once, relays between the two legs
// once both are there, and remembers why a stream ended until it has said so.
//
//	Create ──▶ waiting ──Claim, Join──▶ one leg, early bytes held ──Claim, Join──▶ relaying ──▶ ended
//
// An extended stream (docs/farport-v1.md) begins the same way. Its first Enter moves it
// out of the meetings; from then on its legs come and go as package pairing says, and a
// valid join makes its record again when the hub has forgotten it:
//
//	Create ──▶ waiting ──Enter, Take──▶ alone ──Enter, Take──▶ paired ◀──▶ without legs ──▶ ended
//
// Who may create and join is decided by the caller; what a leg is on the wire is
// package stream's business.
package rendezvous

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/farportio/farport/internal/hub/pairing"
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
	// Opened and Ended are told of each stream: Opened when both legs have met, Ended
	// once for every stream that was created, unless it is an extended one that is open
	// when Close is called. They must not call the Rendezvous. nil means that nobody
	// wants to know.
	Opened func(Stream)
	Ended  func(Summary)
	// Instance says which instance of a device has its control connection up, if any;
	// id "" is one that has offered none. nil means that there never is one.
	Instance func(device string) (id string, connected bool)
	// Persist writes to disk that an extended stream has ended, to be known until that
	// time. Recall reads why one has, "" if that is not written. nil does nothing.
	Persist func(id string, reason wire.EndReason, until time.Time) error
	Recall  func(id string) (wire.EndReason, error)
	Logger  *slog.Logger // nil discards
}

// Rendezvous is safe for concurrent use.
type Rendezvous struct {
	o  Options
	wg sync.WaitGroup // a goroutine per leg, and one per stream that ends

	instances sync.Mutex    // held while Instance is asked and a stream is told
	disk      chan struct{} // holds a token while Persist is called

	mu       sync.Mutex
	stopping bool
	closing  bool                // no leg is let in
	streams  map[string]*meeting // plain ones, and those that nobody has joined
	extended map[string]*extended
	memory   memory
	devices  map[string]int // streams per device
	policies map[string]int // streams per policy
	fragile  int            // extended streams without a resume window
	empty    chan struct{}  // closed when the last stream has gone that cannot be resumed; nil when nobody waits
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
		disk:     make(chan struct{}, 1),
		streams:  make(map[string]*meeting),
		extended: make(map[string]*extended),
		memory:   memory{reasons: make(map[string]past)},
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
	if r.stopping {
		return nil, ErrStopping
	}
	if err := r.full(s); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r.streams[s.ID] = newMeeting(r, s, cancel)
	r.count(s)
	return ctx, nil
}

// remove forgets a meeting that has ended. It must be called once for each. Of one that
// nobody came to an end may have a token that is good for an extended stream.
func (r *Rendezvous) remove(m *meeting, met bool, reason wire.EndReason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.streams, m.ID)
	r.uncount(m.Stream)
	r.tellEmpty()
	if !met {
		r.remember(m.ID, reason, wire.MaxResumeWindow)
	}
}

// forget is remove for an extended stream. One that is not settled leaves nothing
// behind: the end that waits has to say it again.
func (r *Rendezvous) forget(s Stream, reason wire.EndReason, settled bool, window time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.extended, s.ID)
	r.uncount(s)
	if window == 0 {
		r.fragile--
		r.tellEmpty()
	}
	if settled {
		r.remember(s.ID, reason, window)
	}
}

func (r *Rendezvous) remember(id string, reason wire.EndReason, window time.Duration) {
	now := time.Now()
	r.memory.add(id, wire.ParseReason(string(reason)), now.Add(window+pairing.Afterlife), now)
}

func (r *Rendezvous) isClosing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closing
}

func (r *Rendezvous) tellEmpty() {
	if r.settledDown() && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// settledDown reports whether there is no stream that could not be resumed.
func (r *Rendezvous) settledDown() bool { return len(r.streams) == 0 && r.fragile == 0 }

func (r *Rendezvous) find(id string) *meeting {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.streams[id]
}

// open is what meetings and extended streams have in common.
type open interface {
	stream() Stream
	admit(deviceCredential string)
	end(reason wire.EndReason)
}

// there returns a stream of either kind; nil if there is none.
func (r *Rendezvous) there(id string) open {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.extended[id]; x != nil {
		return x
	}
	if m := r.streams[id]; m != nil {
		return m
	}
	return nil
}

// Admit notes the credential of the control connection over which the device
// accepted. A leg that has come is bound to its own, which may be another's.
func (r *Rendezvous) Admit(id, deviceCredential string) {
	if s := r.there(id); s != nil {
		s.admit(deviceCredential)
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
func (p *Place) Abandon(err error) { p.m.endWith(wire.EndNetwork, err) }

// End ends a stream; one that is unknown has ended already.
func (r *Rendezvous) End(id string, reason wire.EndReason) {
	for range 2 { // what was there may have become an extended stream just then
		if s := r.there(id); s != nil {
			s.end(reason)
		}
	}
}

// EndWhere ends the streams that match, and returns their number.
func (r *Rendezvous) EndWhere(match func(Stream) bool, reason wire.EndReason) int {
	n := 0
	for _, m := range r.all() {
		if s := m.stream(); match(s) {
			r.End(s.ID, reason)
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

func (r *Rendezvous) all() []open {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]open, 0, len(r.streams)+len(r.extended))
	for _, m := range r.streams {
		all = append(all, m)
	}
	for _, x := range r.extended {
		all = append(all, x)
	}
	return all
}

// Stop lets no new stream in. The channel is closed once there is none left that could
// not be resumed at the next hub; extended ones go on, and may be joined, until Close.
func (r *Rendezvous) Stop() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
	done := make(chan struct{})
	if r.settledDown() {
		close(done)
		return done
	}
	if r.empty == nil {
		r.empty = done
	}
	return r.empty
}

// Close ends every plain stream with EndStopping, closes the legs of the extended ones,
// which are not ended by that, and waits until all legs are closed.
func (r *Rendezvous) Close() {
	r.Stop()
	r.mu.Lock()
	r.closing = true
	meetings, extended := slices.Collect(maps.Values(r.streams)), slices.Collect(maps.Values(r.extended))
	r.mu.Unlock()
	for _, m := range meetings {
		m.end(wire.EndStopping)
	}
	for _, x := range extended {
		x.stop()
	}
	r.wg.Wait()
}
