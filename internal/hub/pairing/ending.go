package pairing

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// close asks for a close frame on a leg, which is not its side's leg any more.
func (s *Stream) close(l *leg, code int, text wire.EndReason) {
	l.code, l.held = code, nil
	if own := s.of(l.side); own.leg == l {
		own.leg = nil
	}
	s.ask(Action{Kind: Close, Leg: l.id, Code: code, Reason: text})
}

// part closes a leg and its partner, which has nobody to speak to any more.
func (s *Stream) part(l *leg, code int, text wire.EndReason, now time.Time) {
	s.close(l, code, text)
	s.leavePartner(l, now)
}

func (s *Stream) leavePartner(l *leg, now time.Time) {
	if l.partner == nil {
		return
	}
	s.apart = now
	if p := l.partner; s.of(p.side).leg == p {
		s.close(p, wire.ClosePeerAway, textPeerAway)
	}
}

// LegGone says that a leg's connection is closed, for whatever reason. It is called once
// for each leg, the last that is said of it.
func (s *Stream) LegGone(id LegID, now time.Time) {
	l := s.legs[id]
	if l == nil {
		return
	}
	delete(s.legs, id)
	if s.aborter == l {
		s.aborter = nil
	}
	if s.reason != "" {
		if s.by == l.side.Other() && l.code == wire.CloseEnded {
			s.persist() // it went before it had taken note
		}
		return
	}
	s.lose(l, now)
}

// lose is for a leg that has gone, or that its end has let go.
func (s *Stream) lose(l *leg, now time.Time) {
	own := s.of(l.side)
	if own.leg != l {
		return
	}
	own.leg = nil
	if s.c.Window == 0 {
		s.end(wire.EndLost)
		return
	}
	s.leavePartner(l, now)
	s.checkInstance()
}

// Closed says that a leg's close frame has come. What an end says of the stream counts
// on a leg that is being closed, too.
func (s *Stream) Closed(id LegID, code int, text string, now time.Time) {
	l := s.legs[id]
	switch {
	case l == nil:
	case s.reason != "":
		s.closedAfterEnd(l, code)
	case code == wire.CloseNormal:
		s.answer(l, code, "")
		s.end(wire.EndFinished)
	case code == wire.CloseBrokenOff:
		s.abort(l, endsWord(text), now)
	case l.code == 0:
		s.lose(l, now)
		s.answer(l, code, "")
	}
}

// answer echoes a close frame, unless the leg has ours already.
func (s *Stream) answer(l *leg, code int, text wire.EndReason) {
	if l.code == 0 {
		s.close(l, code, text)
	}
}

// endsWord is the reason that an end may give. What the hub does has words that the hub
// alone may use.
func endsWord(text string) wire.EndReason {
	switch reason := wire.ParseReason(text); reason {
	case wire.EndLost, wire.EndProtocol, wire.EndOverflow, wire.EndShutdown:
		return reason
	}
	return wire.EndReset
}

// abort ends the stream in the name of an end, which hears the echo when the end is
// settled: the other end has been told, or the fact is on disk. A stream that is lost
// needs neither, since the other end has its own window, and one that cannot be resumed
// cannot come back.
func (s *Stream) abort(l *leg, reason wire.EndReason, now time.Time) {
	if own := s.of(l.side); own.leg == l {
		own.leg = nil
	}
	other := s.of(l.side.Other()).leg
	if l.code == 0 {
		s.aborter = l
	}
	if reason != wire.EndLost && s.c.Window > 0 {
		s.by, s.deadline = l.side, now.Add(tellTime)
		if newer := s.of(l.side).leg; newer != nil {
			s.close(newer, wire.CloseRestart, "") // it must not learn of the end before it is settled
		}
	}
	s.end(reason)
	switch {
	case s.by == "":
		s.settle()
	case other == nil:
		s.persist()
	}
}

// closedAfterEnd looks for whom the end is no news any more.
func (s *Stream) closedAfterEnd(l *leg, code int) {
	knows := code == wire.CloseEnded || code == wire.CloseBrokenOff || code == wire.CloseNormal
	if s.by == l.side.Other() && l.code == wire.CloseEnded && knows {
		s.settle()
	}
}

// settle lets the aborting end know that it need not repeat itself.
func (s *Stream) settle() {
	s.by = ""
	if l := s.aborter; l != nil {
		s.aborter = nil
		s.answer(l, wire.CloseBrokenOff, s.reason)
	}
}

func (s *Stream) persist() {
	if s.by != "" && !s.onDisk {
		s.onDisk = true
		s.ask(Action{Kind: Persist, Reason: s.reason})
	}
}

// Persisted says what came of a Persist. One that failed is asked for again.
func (s *Stream) Persisted(ok bool, now time.Time) {
	s.onDisk = false
	if ok {
		s.settle()
	} else {
		s.deadline = now.Add(tellTime)
	}
}

// Violation says that a leg has brought what no leg may bring. It ends the stream, and
// the leg with that close code.
func (s *Stream) Violation(id LegID, code int) {
	if l := s.legs[id]; l != nil && l.code == 0 && s.reason == "" {
		s.close(l, code, "")
		s.end(wire.EndProtocol)
	}
}

// End ends the stream with a reason of the hub's.
func (s *Stream) End(reason wire.EndReason) {
	if s.reason == "" {
		s.end(reason)
	}
}

func (s *Stream) end(reason wire.EndReason) {
	s.reason = reason
	s.ask(Action{Kind: Ended, Reason: reason})
	for _, l := range []*leg{s.device.leg, s.service.leg} {
		if l != nil {
			s.close(l, wire.CloseEnded, reason)
		}
	}
}

// Over reports whether the stream has ended, and why. Settled means that nobody has to
// be told any more: Join would say it to both sides.
func (s *Stream) Over() (reason wire.EndReason, settled bool) {
	return s.reason, s.reason != "" && s.by == ""
}

// Legs is the number of legs that are not gone.
func (s *Stream) Legs() int { return len(s.legs) }
