package broker

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/farportio/farport/internal/wire"
)

// Why a device could not be asked or told, or did not answer as it should.
var (
	// ErrNotReady: the device is connected but does not listen to this kind of message.
	ErrNotReady = errors.New("device has not subscribed to such requests")
	// ErrBusy: Options.MaxPending requests of the kind are unanswered, or too much
	// waits to be written to the device.
	ErrBusy = errors.New("too many unanswered requests to the device")
	// ErrGone: the session has ended; a newer one may have taken its place.
	ErrGone = errors.New("device connection has ended")
	// ErrUnanswered is an ErrGone after the device may have been asked.
	ErrUnanswered = fmt.Errorf("%w before the device answered", ErrGone)
	// ErrAnswerTooLarge: the device answered with more than wire.MaxMethodPayload.
	ErrAnswerTooLarge = errors.New("device's answer is too large")
)

// Session is one device's or module's control connection, from login to its end. It
// is safe for concurrent use and belongs to the broker.
type Session struct {
	id          string // MQTT client ID and Identity.Name
	identity    Identity
	connectedAt time.Time
	maxPending  int
	conn        *conn
	client      *mqtt.Client
	expiry      *time.Timer   // nil: never; touched by the connection's goroutine only
	done        chan struct{} // closed when the session ends
	finished    chan struct{} // closed when its last callback has returned
	evicted     time.Time     // when it pushed an older session out; guarded by Broker.mu
	persistent  bool          // its state outlives it; guarded by Broker.mu
	present     bool          // it goes on with an older one's state; touched by the connection's goroutine only
	events      atomic.Uint64

	mu         sync.Mutex
	ended      bool
	open       bool // CONNACK was written; nothing may be sent before
	subscribed filters
	streams    requests[bool] // true: accepted
	methods    requests[methodAnswer]
	out        outbox
	writer     sync.WaitGroup // waits for drain
}

// Identity returns what the device proved to be when it logged in.
func (s *Session) Identity() Identity { return s.identity }

// ConnectedAt returns when the device logged in.
func (s *Session) ConnectedAt() time.Time { return s.connectedAt }

// Events returns how many telemetry messages the device has published in this session.
// They were acknowledged and dropped; one that it sent again counts again.
func (s *Session) Events() uint64 { return s.events.Load() }

// opened notes that CONNACK was written, and returns what the device is subscribed to.
func (s *Session) opened() filters {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	return s.subscribed
}

// subscribe adds subscriptions and returns those that are new.
func (s *Session) subscribe(granted filters) (added filters) {
	s.mu.Lock()
	defer s.mu.Unlock()
	added = granted &^ s.subscribed
	s.subscribed |= granted
	return added
}

// unsubscribe removes subscriptions, unless the session has ended: mochi takes all of
// them from a client that has gone.
func (s *Session) unsubscribe(gone filters) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.subscribed &^= gone
	}
}

// subscriptions is what the device is subscribed to.
func (s *Session) subscriptions() filters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subscribed
}

// receive takes what the device published. Nothing of it goes to any other device.
func (s *Session) receive(topic string, payload []byte, twin func(*Session, wire.TwinRequest, []byte) TwinAnswer) {
	if r, ok := wire.ParseStreamResponse(topic); ok {
		s.streamAnswered(r)
	} else if r, ok := wire.ParseMethodResponse(topic); ok {
		s.methodAnswered(r, payload)
	} else if r, ok := wire.ParseTwinRequest(topic); ok && twin != nil {
		s.answerTwin(r, twin(s, r, payload))
	} else if wire.IsEvent(s.id, topic) {
		s.events.Add(1)
	}
}

// answerTwin writes the answer to a twin request, if the device listens to any. It
// waits for the device, so one that asks and does not read holds up itself alone.
func (s *Session) answerTwin(r wire.TwinRequest, a TwinAnswer) {
	if s.subscriptions()&twinAnswers != 0 {
		s.write(message{wire.TwinAnswerTopic(a.Status, r.RID, a.Version), a.Body})
	}
}

// over reports whether the session has ended.
func (s *Session) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// end breaks the session off without waiting, and reports whether it was alive.
func (s *Session) end(reason string) bool {
	s.mu.Lock()
	first := !s.ended
	if first {
		s.ended = true
		close(s.done)
	}
	s.mu.Unlock()
	if first {
		s.conn.log.Debug("device session ends", "client", s.id, "reason", reason)
		s.conn.abort()
	}
	return first
}
