package broker

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// Why a device could not be asked, or did not answer.
var (
	// ErrNotReady: the device is connected but does not listen to stream requests.
	ErrNotReady = errors.New("device has not subscribed to stream requests")
	// ErrBusy: Options.MaxPending requests to the device are unanswered.
	ErrBusy = errors.New("too many unanswered stream requests to the device")
	// ErrGone: the session has ended; a newer one may have taken its place.
	ErrGone = errors.New("device connection has ended")
)

// Session is one device's control connection, from login to its end. It is safe
// for concurrent use and belongs to the broker.
type Session struct {
	id          string // MQTT client ID
	identity    Identity
	connectedAt time.Time
	maxPending  int
	conn        *conn
	client      *mqtt.Client
	expiry      *time.Timer   // nil: never; touched by the connection's goroutine only
	done        chan struct{} // closed when the session ends
	finished    chan struct{} // closed when its last callback has returned
	evicted     time.Time     // when it pushed an older session out; guarded by Broker.mu
	told        bool          // Ready was called; touched by the connection's goroutine only

	mu         sync.Mutex
	ended      bool
	subscribed bool
	rid        uint64
	pending    map[string]chan<- bool // by $rid
	queue      []string               // topics of requests to be written
	writing    bool                   // drain is running
	writer     sync.WaitGroup         // waits for drain
}

// Identity returns what the device proved to be when it logged in.
func (s *Session) Identity() Identity { return s.identity }

// ConnectedAt returns when the device logged in.
func (s *Session) ConnectedAt() time.Time { return s.connectedAt }

// Initiate asks the device for a stream and waits for its answer. name, url and
// token are as wire.StreamRequest has them and must be valid there. The error is
// ErrNotReady, ErrBusy, ErrGone (at once when the session ends), or ctx's. An
// answer that comes after Initiate returned is ignored.
func (s *Session) Initiate(ctx context.Context, name, url, token string) (accepted bool, err error) {
	rid, answer, err := s.ask(wire.StreamRequest{Name: name, URL: url, Token: token})
	if err != nil {
		return false, err
	}
	defer s.forget(rid)
	select {
	case accepted = <-answer:
		return accepted, nil
	case <-s.done:
		err = ErrGone
	case <-ctx.Done():
		err = ctx.Err()
	}
	select { // an answer that did come in time counts
	case accepted = <-answer:
		return accepted, nil
	default:
		return false, err
	}
}

// ask queues the request under a fresh $rid.
func (s *Session) ask(r wire.StreamRequest) (rid string, answer <-chan bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return "", nil, ErrGone
	case !s.subscribed:
		return "", nil, ErrNotReady
	case len(s.pending) >= s.maxPending, len(s.queue) >= s.maxPending:
		return "", nil, ErrBusy
	}
	s.rid++
	r.RID = strconv.FormatUint(s.rid, 10)
	ch := make(chan bool, 1) // so that answer never waits
	if s.pending == nil {
		s.pending = make(map[string]chan<- bool)
	}
	s.pending[r.RID] = ch
	s.queue = append(s.queue, r.Topic())
	if !s.writing {
		s.writing = true
		s.writer.Go(s.drain)
	}
	return r.RID, ch, nil
}

// forget drops a request that nobody waits for any more.
func (s *Session) forget(rid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, rid)
	if len(s.pending) == 0 {
		s.pending = nil // an idle session keeps no table
	}
}

// answer takes the device's answer; any but the first to a pending $rid is
// ignored.
func (s *Session) answer(r wire.StreamResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch, ok := s.pending[r.RID]; ok {
		delete(s.pending, r.RID)
		ch <- r.Accepted()
	}
}

// drain writes queued requests. It runs only while there are some, and apart
// from Initiate, which a device that does not read must not hold up.
func (s *Session) drain() {
	defer s.conn.recovered()
	for topic, ok := s.next(); ok; topic, ok = s.next() {
		err := s.client.WritePacket(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish},
			TopicName:   topic,
		})
		if err != nil {
			s.end(string(wire.EndNetwork)) // a write cut short leaves the connection unusable
		}
	}
}

// next takes a topic off the queue; false tells drain to return.
func (s *Session) next() (topic string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.queue) == 0 {
		s.queue, s.writing = nil, false
		return "", false
	}
	topic = s.queue[0]
	s.queue = s.queue[1:]
	return topic, true
}

// setSubscribed notes whether the device listens to stream requests now.
func (s *Session) setSubscribed(yes bool) {
	s.mu.Lock()
	s.subscribed = yes
	s.mu.Unlock()
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
