package broker

import (
	"errors"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/wire"
)

// errUnsettled: the device's rights or sessions kept changing during its login.
var errUnsettled = errors.New("login overtaken by other events")

// login judges a CONNECT packet and, if it is good, makes the connection the
// device's session. ErrRefused wants CONNACK 5, another error CONNACK 3.
func (b *Broker) login(c *conn, cl *mqtt.Client, p packets.ConnectParams) error {
	user, ok := wire.ParseUserName(string(p.Username))
	if !ok || p.ClientIdentifier != wire.TargetName(user.DeviceID, user.ModuleID) {
		return ErrRefused
	}
	l := Login{
		ClientID: p.ClientIdentifier,
		User:     user,
		Password: credential.Secret(p.Password),
		TLS:      c.tlsState(),
		Remote:   c.RemoteAddr(),
	}
	for range loginTries {
		epoch := b.currentEpoch()
		identity, err := b.authenticate(l)
		if err != nil {
			return err
		}
		if identity.Name != l.ClientID {
			return ErrRefused
		}
		identity.Offer = user.Offer()
		// What may be kept for long must not be a view of the whole packet.
		identity.Name, identity.Host = strings.Clone(l.ClientID), strings.Clone(identity.Host)
		identity.Offer.Instance = strings.Clone(identity.Offer.Instance)
		s := &Session{
			id:          identity.Name,
			identity:    identity,
			connectedAt: time.Now(),
			maxPending:  b.options.MaxPending,
			conn:        c,
			client:      cl,
			done:        make(chan struct{}),
			finished:    make(chan struct{}),
			persistent:  !p.Clean,
		}
		previous, rest, ok := b.take(s, epoch)
		if ok {
			c.session = s
			return b.begin(s, previous)
		}
		if err := b.pause(rest); err != nil {
			return err
		}
	}
	return errUnsettled
}

// currentEpoch tells one call of EndWhere from the next.
func (b *Broker) currentEpoch() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.epoch
}

// take makes s the device's session, with the state kept for it, and returns the
// one it replaces, if any. It does not when the login has to be judged again because
// EndWhere ran since epoch, or has to wait for a rest because the previous session is
// itself fresh from an eviction.
func (b *Broker) take(s *Session, epoch uint64) (previous *Session, rest time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.epoch != epoch {
		return nil, 0, false
	}
	previous = b.sessions[s.id]
	if previous != nil && !previous.over() {
		now := time.Now()
		if rest = evictionRest - now.Sub(previous.evicted); rest > 0 {
			return nil, rest, false
		}
		s.evicted = now
	}
	b.sessions[s.id] = s
	if r := b.retained[s.id]; r != nil {
		delete(b.retained, s.id)
		s.inherit(*r)
	}
	return previous, 0, true
}

// pause waits out a rest between evictions.
func (b *Broker) pause(rest time.Duration) error {
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-b.stopping:
		return ErrGone
	}
}

// begin ends the session that s replaced, waits for its last callback, takes its state
// over, and tells that s is the device's session now, unless another has replaced it
// meanwhile.
func (b *Broker) begin(s, previous *Session) error {
	if previous != nil {
		previous.end("replaced by a newer connection")
		<-previous.finished
		b.takeOver(s, previous)
	}
	if !s.identity.Expires.IsZero() {
		s.expiry = time.AfterFunc(time.Until(s.identity.Expires), func() { s.end("token expired") })
	}
	if !b.isCurrent(s) {
		return ErrGone
	}
	b.options.Connected(s)
	return nil
}

// leave ends a session whose connection is gone. It stays the device's session
// until Disconnected has returned, so that a newer one's Connected comes later.
func (b *Broker) leave(s *Session) {
	defer close(s.finished)
	s.end(string(wire.EndNetwork))
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.writer.Wait()
	if !b.isCurrent(s) {
		return
	}
	b.disconnected(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sessions[s.id] != s {
		return // the successor asks for its state
	}
	delete(b.sessions, s.id)
	if s.persistent {
		r := s.retained()
		b.retained[s.id] = &r
	}
}

// disconnected calls Disconnected and survives it.
func (b *Broker) disconnected(s *Session) {
	defer s.conn.recovered()
	b.options.Disconnected(s)
}

// isCurrent reports whether s is still its device's session.
func (b *Broker) isCurrent(s *Session) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[s.id] == s
}
