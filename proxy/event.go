// Package proxy carries TCP connections over device streams: RunDevice on the
// device, from streams to local targets, Listen and RunStdio for the service, from
// local listeners or standard input and output to streams.
//
//	TCP client ─▶ Listeners ═stream═▶ hub ═stream═▶ RunDevice ─▶ TCP target
//
// What is said to the hub is package hubclient's business. A break of a stream
// becomes a reset of its TCP connection, a clean end a clean end.
package proxy

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/farportio/farport/internal/stream"
)

// EventKind says what an Event is about.
type EventKind int

// The kinds of events.
const (
	Listening EventKind = iota + 1 // a local address is bound
	Connected                      // the device's control connection is up
	Retrying                       // the control connection was lost or refused; said once per cause
	Opened                         // a stream carries a connection
	Waiting                        // a stream has lost its own connection, and waits to resume
	Resumed                        // a stream that waited goes on, nothing lost
	Refused                        // a connection or request came to no stream
	Ended                          // a stream has ended
)

// Event tells what a proxy does. Callbacks come one at a time.
type Event struct {
	Kind     EventKind
	Stream   uint64        // number of the stream within this proxy, from 1; 0 for the proxy itself
	Device   string        // the DeviceID of the options
	Service  string        // stream name
	Local    net.Addr      // Listening: the bound address
	Peer     string        // the client's address on the service's side, the target's on the device's
	Up, Down int64         // Ended: bytes service to device, and device to service
	Duration time.Duration // Ended; Resumed: how long it waited
	Window   time.Duration // Waiting: how long it may
	Err      error         // Retrying, Refused; Ended: nil for a clean end
}

// events serialises callbacks and numbers streams.
type events struct {
	mu   sync.Mutex
	tell func(Event) // nil: nobody listens
	last uint64
}

func (e *events) emit(ev Event) {
	if e.tell == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tell(ev)
}

func (e *events) number() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.last++
	return e.last
}

// Traffic counts what a proxy carries, as it goes. The zero value is ready. It is
// safe for concurrent use.
type Traffic struct {
	mu       sync.Mutex
	open     map[*meter]time.Time // since when a stream waits to resume; zero: it does not
	up, down int64                // of streams that have ended
	setups   int
	control  struct{ since, next time.Time } // as Connecting has it
}

// meter counts one stream; a is the service's side, b the device's.
type meter = stream.Meter

// Totals returns the streams open now, and the bytes carried from service to
// device and back since the start.
func (t *Traffic) Totals() (open int, up, down int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	up, down = t.up, t.down
	for m := range t.open {
		up += m.AToB.Load()
		down += m.BToA.Load()
	}
	return len(t.open), up, down
}

func (t *Traffic) add(m *meter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = make(map[*meter]time.Time)
	}
	t.open[m] = time.Time{}
}

// Waiting returns how many of the open streams wait to resume, and since when the first
// of them does; zero when none does.
func (t *Traffic) Waiting() (waiting int, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, at := range t.open {
		if at.IsZero() {
			continue
		}
		waiting++
		if since.IsZero() || at.Before(since) {
			since = at
		}
	}
	return waiting, since
}

// SettingUp returns how many streams are being opened.
func (t *Traffic) SettingUp() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.setups
}

// setUp counts a stream that is being opened until the function it returns is called, which
// may be twice.
func (t *Traffic) setUp() (done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setups++
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.setups--
	})
}

// Connecting returns since when a device-proxy has no control connection, zero when it has
// one, and when it tries again, zero when it is trying.
func (t *Traffic) Connecting() (since, next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.control.since, t.control.next
}

// disconnected notes that there is no control connection, and when the next attempt to have
// one begins; zero: now.
func (t *Traffic) disconnected(next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.control.since.IsZero() {
		t.control.since = time.Now()
	}
	t.control.next = next
}

func (t *Traffic) connected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.control.since, t.control.next = time.Time{}, time.Time{}
}

// wait notes since when an open stream waits.
func (t *Traffic) wait(m *meter, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[m] = since
}

func (t *Traffic) remove(m *meter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, m)
	t.up += m.AToB.Load()
	t.down += m.BToA.Load()
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
