// Package pairing is the hub's part of one extended stream (docs/farport-v1.md,
// sections 2, 5 and 6) as a pure state machine: it does no I/O, has no goroutine and no
// clock of its own. Whoever drives it says what has happened and does what it asks for:
//
//	Join, Hold, Closed, Violation, LegGone ──▶ Stream ──Act──▶ pair, forward, close a leg,
//	Control, End, Restart, Persisted, Tick ──▶              write to disk, tell of the end
//
// Of the bytes it sees those only that come before a leg has its partner. Package
// rendezvous drives it with real legs; a simulator drives it with two ends of package
// resume.
package pairing

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Times and bounds (docs/farport-v1.md, sections 2, 6 and 8).
const (
	// FirstJoin is how long after its minting a stream's first join may come.
	FirstJoin = wire.HandshakeTimeout
	// Afterlife is what is added to the resume window wherever the hub waits for ends
	// that have the whole window themselves.
	Afterlife = 60 * time.Second
	// tellTime is how long the other end has to take note of an abort before it is
	// written to disk.
	tellTime = 5 * time.Second
	// maxJoins bounds a side's joins in a minute.
	maxJoins = 120
)

// What the close frames say (section 5).
const (
	textPeerAway = "peer away"
	textReplaced = "replaced"
)

// LegID names a leg of one stream, in the order of admission from 1. 0 is none.
type LegID uint64

// Kind says what an Action asks for.
type Kind int

// The kinds of actions.
const (
	// Pair: Leg and To are partners from now on, for good. What either brings is written
	// to the other, behind all that Data and Text actions bring it.
	Pair Kind = iota + 1
	// Data and Text: write Bytes, a binary or a text message, to Leg.
	Data
	Text
	// Close: let what was taken for Leg be written, for a second at most, then send a
	// close frame with Code and Reason, read on until the peer's, and hang up. On a leg
	// whose close frame has come it is the echo. LegGone follows.
	Close
	// Persist: write to disk that the stream has ended with Reason, and call Persisted.
	Persist
	// Ended: the stream has ended with Reason. It comes once.
	Ended
)

// Action is something to do. Actions are done in the order in which Act returns them.
type Action struct {
	Kind   Kind
	Leg    LegID
	To     LegID
	Bytes  []byte
	Code   int
	Reason wire.EndReason // of Close: the text of the frame
}

// Join is an attempt to join, of which token and instance have been found good.
type Join struct {
	Side     wire.Side
	Counter  uint64 // wire.HeaderJoin
	Instance string // wire.InstanceID of the end
	Peer     string // of a join of the service's: that of the device's end; "" if not known
}

// Refusal says why a join is turned away: finally if Ended is set, because it is not the
// newest if Highest is set, and else for the time being.
type Refusal struct {
	Ended      wire.EndReason // wire.EndRefused is a 401, anything else a 410
	Highest    uint64         // highest join that was admitted for the side
	RetryAfter time.Duration
}

// Config is what a Stream needs to know.
type Config struct {
	Window time.Duration // for resuming; 0: a stream that loses a leg has ended
	// JoinBy is until when the first join must come, zero when nobody can know whether
	// one has come before: the record is made anew after a restart.
	JoinBy time.Time
}

// side is what is known of one side.
type side struct {
	highest uint64 // join that was admitted
	leg     *leg   // that bytes may go to; nil for none
	minute  time.Time
	joins   int // since minute
}

// leg is a leg from its admission until LegGone.
type leg struct {
	id      LegID
	side    wire.Side
	partner *leg // nil before it is paired; then for good
	held    []Action
	data    int // bytes held
	text    int
	code    int // of the close frame that was asked for; 0 for none
}

// Stream is one extended stream at a hub. It is not safe for concurrent use.
type Stream struct {
	c        Config
	device   side
	service  side
	legs     map[LegID]*leg // admitted, and not gone
	last     LegID
	instance string    // of the device's side; "" as long as nobody has said
	control  string    // instance whose control connection is up; "" for none that counts
	apart    time.Time // since when no two legs are paired; meaningless while they are
	actions  []Action

	reason   wire.EndReason // "" before the end
	aborter  *leg           // waits for its echo; nil when nobody does
	by       wire.Side      // side that must not take the end for known yet; "" when settled
	onDisk   bool           // Persist is asked for, and not answered
	deadline time.Time      // for Persist
}

// New returns a stream that has no leg yet.
func New(c Config, now time.Time) *Stream {
	return &Stream{c: c, legs: make(map[LegID]*leg), apart: now}
}

// Act returns what is to be done since the last call.
func (s *Stream) Act() []Action {
	actions := s.actions
	s.actions = nil
	return actions
}

func (s *Stream) ask(a Action) { s.actions = append(s.actions, a) }

func (s *Stream) of(which wire.Side) *side {
	if which == wire.SideDevice {
		return &s.device
	}
	return &s.service
}

// Join admits a join or refuses it. An admitted leg is the side's leg from now on.
func (s *Stream) Join(j Join, now time.Time) (LegID, *Refusal) {
	own := s.of(j.Side)
	switch {
	case s.reason != "" && s.by == j.Side:
		return 0, &Refusal{RetryAfter: time.Second}
	case s.reason != "":
		return 0, &Refusal{Ended: s.reason}
	case s.c.Window == 0 && own.highest > 0: // the token was for one use
		return 0, &Refusal{Ended: wire.EndRefused}
	case j.Counter <= own.highest:
		return 0, &Refusal{Highest: own.highest}
	}
	if wait := own.countJoin(now); wait > 0 {
		return 0, &Refusal{RetryAfter: wait}
	}
	if s.unjoined() && s.late(now) {
		s.end(wire.EndExpired)
		return 0, &Refusal{Ended: wire.EndExpired}
	}
	if j.Side == wire.SideDevice {
		s.instance = j.Instance
	} else if j.Peer != "" {
		s.instance = j.Peer
	}
	own.highest = j.Counter
	if own.leg != nil {
		s.part(own.leg, wire.CloseReplaced, textReplaced, now)
	}
	if j.Side == wire.SideService && s.elsewhere() {
		s.end(wire.EndInstance)
		return 0, &Refusal{Ended: wire.EndInstance}
	}
	s.last++
	l := &leg{id: s.last, side: j.Side}
	s.legs[l.id], own.leg = l, l
	if other := s.of(j.Side.Other()).leg; other != nil { // it never had a partner, with whom it would have gone
		s.pair(l, other)
	}
	return l.id, nil
}

// countJoin returns how long the side has to wait if it has joined too often.
func (s *side) countJoin(now time.Time) time.Duration {
	if since := now.Sub(s.minute); since < 0 || since >= time.Minute {
		s.minute, s.joins = now, 0
	}
	if s.joins >= maxJoins {
		return s.minute.Add(time.Minute).Sub(now)
	}
	s.joins++
	return 0
}

func (s *Stream) unjoined() bool { return s.last == 0 }

func (s *Stream) late(now time.Time) bool { return !s.c.JoinBy.IsZero() && now.After(s.c.JoinBy) }

// pair makes partners of two legs that never had one.
func (s *Stream) pair(a, b *leg) {
	a.partner, b.partner = b, a
	s.ask(Action{Kind: Pair, Leg: a.id, To: b.id})
	for _, l := range []*leg{a, b} {
		for _, message := range l.held {
			message.Leg = l.partner.id
			s.ask(message)
		}
		l.held = nil
	}
}

// Hold takes a message of a leg that has no partner, and keeps its own copy. A leg that
// sends more than is held ends the stream; bytes are put together and an empty text
// counts as one byte, as messages take memory, too. It reports false when the leg has a partner,
// to which the message goes at once, or is not used any more.
func (s *Stream) Hold(id LegID, kind Kind, message []byte) bool {
	l := s.legs[id]
	if l == nil || l.partner != nil || l.code != 0 || s.reason != "" {
		return false
	}
	if kind == Text {
		l.text += max(len(message), 1)
	} else {
		l.data += len(message)
	}
	if l.data > wire.EarlyData || l.text > wire.HeldText {
		s.Violation(id, wire.ClosePolicy)
		return true
	}
	if n := len(l.held); n > 0 && kind == Data && l.held[n-1].Kind == Data {
		l.held[n-1].Bytes = append(l.held[n-1].Bytes, message...)
		return true
	}
	l.held = append(l.held, Action{Kind: kind, Bytes: append([]byte(nil), message...)})
	return true
}

// Partner returns the leg that a leg is paired with, 0 for none.
func (s *Stream) Partner(id LegID) LegID {
	if l := s.legs[id]; l != nil && l.partner != nil {
		return l.partner.id
	}
	return 0
}

// Control says which instance of the device has its control connection up, "" for none
// or one that has not offered any (section 6, Instance).
func (s *Stream) Control(instance string) {
	s.control = instance
	s.checkInstance()
}

// elsewhere reports whether the process that had the device's side is known to be gone:
// another one is connected, and no leg proves the old one alive.
func (s *Stream) elsewhere() bool {
	return s.device.leg == nil && s.instance != "" && s.control != "" && s.instance != s.control
}

func (s *Stream) checkInstance() {
	if s.reason == "" && s.elsewhere() {
		s.end(wire.EndInstance)
	}
}

// Restart closes all legs, as the hub stops: the ends join again when it is back.
func (s *Stream) Restart(now time.Time) {
	for _, l := range []*leg{s.device.leg, s.service.leg} {
		if l != nil {
			s.close(l, wire.CloseRestart, "")
		}
	}
	s.apart = now
}

// Next is when Tick has something to do, if nothing happens before; zero: never.
func (s *Stream) Next() time.Time {
	switch {
	case s.reason != "":
		if s.by != "" && !s.onDisk {
			return s.deadline
		}
		return time.Time{}
	case s.unjoined() && !s.c.JoinBy.IsZero():
		return s.c.JoinBy.Add(1)
	case !s.Paired(): // an end that is there has given up before
		return s.apart.Add(s.c.Window + Afterlife)
	}
	return time.Time{}
}

// Tick does what is due.
func (s *Stream) Tick(now time.Time) {
	due := s.Next()
	switch {
	case due.IsZero() || now.Before(due):
	case s.reason != "":
		s.persist()
	case s.unjoined() && !s.c.JoinBy.IsZero():
		s.end(wire.EndExpired)
	default:
		s.end(wire.EndIdle)
	}
}

// Paired reports whether both sides have a leg and these are partners.
func (s *Stream) Paired() bool { return s.device.leg != nil && s.device.leg.partner != nil }
