package broker

import (
	"maps"
	"slices"

	"github.com/farportio/farport/internal/wire"
)

// retained is what is left of a session whose CONNECT had clean session 0, as long as
// the device is away: its subscriptions, be there any or not. Messages are not kept:
// all that a device is sent is QoS 0. There is at most one for each identity that can
// log in, and none while it has a session, which then is its own state.
type retained struct {
	identity   Identity // as of the last login
	subscribed filters
}

// inherit lets a session go on with the state of an older one, in the same life of the
// identity, unless it asked for a clean one. The caller holds Broker.mu; the session
// has not been told to anybody.
func (s *Session) inherit(from retained) {
	if !s.persistent || from.identity.GenerationID != s.identity.GenerationID {
		return
	}
	s.present = true
	s.subscribe(from.subscribed)
}

// takeOver hands the state of a session that has finished to its successor.
func (b *Broker) takeOver(s, previous *Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if previous.persistent {
		s.inherit(previous.retained())
	}
}

// retained is what is left of the session once it has finished.
func (s *Session) retained() retained { return retained{s.identity, s.subscriptions()} }

// EndWhere ends every session whose identity match picks, and returns how many
// those were. It does not wait for them. A login that is being judged at this
// moment is judged again, so rights taken away before the call let nobody in
// after it. For any reason but wire.EndNetwork the state kept for those identities is
// dropped too, be they connected or not. match runs without any lock held.
func (b *Broker) EndWhere(match func(Identity) bool, reason wire.EndReason) int {
	b.mu.Lock()
	b.epoch++
	sessions := slices.Collect(maps.Values(b.sessions))
	b.mu.Unlock()
	n := 0
	for _, s := range sessions {
		if !match(s.identity) {
			continue
		}
		if reason != wire.EndNetwork {
			b.impersist(s)
		}
		if s.end(string(reason)) {
			n++
		}
	}
	if reason != wire.EndNetwork {
		b.forgetWhere(match) // last: it sees what a session left behind meanwhile
	}
	return n
}

// impersist makes a session leave nothing behind.
func (b *Broker) impersist(s *Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.persistent = false
}

// forgetWhere drops the state of devices that are away. One that comes back meanwhile
// was judged after the epoch had moved on, and may keep it.
func (b *Broker) forgetWhere(match func(Identity) bool) {
	b.mu.Lock()
	all := slices.Collect(maps.Values(b.retained))
	b.mu.Unlock()
	for _, r := range all {
		if !match(r.identity) {
			continue
		}
		b.mu.Lock()
		if b.retained[r.identity.Name] == r {
			delete(b.retained, r.identity.Name)
		}
		b.mu.Unlock()
	}
}
