package broker

import (
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// maxQueued bounds the bytes that wait to be written to one device: eight of the
// largest methods (T32).
const maxQueued = 1 << 20

// message is a PUBLISH to a device, in QoS 0.
type message struct {
	topic   string
	payload []byte
}

func (m message) size() int { return len(m.topic) + len(m.payload) }

// outbox is what waits to be written to a device. It takes memory only while it holds
// something. Guarded by Session.mu.
type outbox struct {
	messages []message
	bytes    int
	writing  bool // drain is running
}

// Notify tells the device that its desired properties have changed. version is theirs
// after the change; change is a wire.TwinChangeTopic's payload and must not change any
// more. It does not wait for the device. The error is ErrNotReady, ErrBusy when too
// much waits to be written already, or ErrGone.
func (s *Session) Notify(version int, change []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reachable(twinChanges); err != nil {
		return err
	}
	return s.post(message{wire.TwinChangeTopic(version), change})
}

// reachable tells why nothing can be sent to a device that has to have subscribed to
// needs for it. The caller holds s.mu.
func (s *Session) reachable(needs filters) error {
	switch {
	case s.ended:
		return ErrGone
	case !s.open || s.subscribed&needs == 0:
		return ErrNotReady
	}
	return nil
}

// post queues a message; there is room for all unanswered requests of both kinds. The
// caller holds s.mu and has found the device reachable.
func (s *Session) post(m message) error {
	if len(s.out.messages) >= 2*s.maxPending || s.out.bytes+m.size() > maxQueued {
		return ErrBusy
	}
	s.out.messages = append(s.out.messages, m)
	s.out.bytes += m.size()
	if !s.out.writing {
		s.out.writing = true
		s.writer.Go(s.drain)
	}
	return nil
}

// drain writes queued messages. It runs only while there are some, and apart from
// those who queue them, whom a device that does not read must not hold up.
func (s *Session) drain() {
	defer s.conn.recovered()
	for m, ok := s.next(); ok; m, ok = s.next() {
		s.write(m)
	}
}

// next takes a message off the queue; false tells drain to return.
func (s *Session) next() (m message, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || len(s.out.messages) == 0 {
		s.out = outbox{}
		return message{}, false
	}
	m, s.out.messages[0] = s.out.messages[0], message{} // or the array would keep the payload
	s.out.messages = s.out.messages[1:]
	s.out.bytes -= m.size()
	return m, true
}

// write sends a message and waits until the device has taken it, for wire.WriteStall
// at most, after which the session ends.
func (s *Session) write(m message) {
	err := s.client.WritePacket(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish},
		TopicName:   m.topic,
		Payload:     m.payload,
	})
	if err != nil {
		s.end(string(wire.EndNetwork)) // a write cut short leaves the connection unusable
	}
}
