package resume

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Times of joining. farport-v1.md section 2, Dialling; section 5, 1012.
const (
	retryFirst   = 250 * time.Millisecond
	retryMost    = 1500 * time.Millisecond
	retryBusy    = 30 * time.Second
	restartDelay = time.Second
	// firstPairing is how long both ends have for the first one.
	firstPairing = wire.HandshakeTimeout
	// echoTimeout is how long the hub may take to answer a close frame; it may have to
	// tell the other end first, for 5 s (section 6).
	echoTimeout = 10 * time.Second
	byeTimeout  = 2 * time.Second
	// refreshAgain is when to join anew if the moment was not quiet or the attempt has
	// failed, and refreshLater if it has brought no new token.
	refreshAgain = time.Minute
	refreshLater = time.Hour
)

// backoff says when to dial again.
type backoff struct {
	k    int
	at   time.Time // zero: nothing is planned
	busy bool      // the hub has asked for longer pauses
}

// dialNow makes an attempt.
func (e *End) dialNow() {
	if e.join == wire.MaxOffset {
		e.over(wire.EndOverflow)
		return
	}
	e.join++
	e.attempt, e.retry.at = e.join, time.Time{}
	e.do(Action{Kind: ActDial, Join: e.join})
}

// dialIn plans an attempt.
func (e *End) dialIn(d time.Duration) { e.retry.at = e.c.Now().Add(d) }

// dialAgain makes an attempt at once, and the next ones after longer and longer random
// times, until there is a pairing.
func (e *End) dialAgain() {
	e.retry.k++
	if e.retry.k == 1 && !e.retry.busy {
		e.dialNow()
		return
	}
	most := retryMost
	if e.retry.busy {
		most = retryBusy
	}
	e.dialIn(e.random(min(most, retryFirst<<min(e.retry.k-1, 10))))
}

func (e *End) random(most time.Duration) time.Duration {
	return time.Duration(e.c.Rand.Int64N(int64(most) + 1))
}

// Opened says that the attempt of that join has become a leg; renewed, that the hub has
// given a new token with it.
func (e *End) Opened(join uint64, renewed bool) {
	if join != e.attempt {
		e.do(Action{Kind: ActDrop, Join: join})
		return
	}
	e.attempt = 0
	if e.leg != 0 {
		if !e.shutting {
			e.do(Action{Kind: ActDrop, Join: e.leg})
		}
		e.unpair()
	}
	e.leg, e.shutting = join, false
	e.eofSent, e.doneSent, e.abortSent, e.peerDone, e.early = false, false, false, false, false
	e.sent = 0
	e.path.opened(e)
	if now := e.c.Now(); renewed || e.refresh.IsZero() {
		e.planRefresh()
	} else if !now.Before(e.refresh) {
		e.refresh = now.Add(refreshLater)
	}
	recv := e.recv()
	e.ack = acks{recv: recv, limit: e.limit}
	if e.phase != aborting {
		e.hello = e.text(wire.Control{Verb: wire.VerbHello, Join: join, Recv: recv, Limit: e.limit, Check: e.inTail.check(e.in.end)})
	}
}

// planRefresh plans to join anew before the token expires: at a quiet moment between
// 3/4 and 11/12 of its life (section 2).
func (e *End) planRefresh() {
	if e.c.Window == 0 {
		return
	}
	now := e.c.Now()
	e.renewBy = now.Add(wire.ResumeTokenLife / 12 * 11)
	e.refresh = now.Add(wire.ResumeTokenLife/4*3 + e.random(wire.ResumeTokenLife/12))
}

// Failed says that the attempt of that join came to nothing, or that the answer was not
// one of a hub.
func (e *End) Failed(join uint64) {
	if join == e.attempt {
		e.attempt = 0
		e.attemptFailed()
	}
}

func (e *End) attemptFailed() {
	if e.leg != 0 { // which goes on
		e.refresh = e.c.Now().Add(refreshAgain)
		return
	}
	e.dialAgain()
}

// Refusal is a hub's answer to a join other than a leg. farport-v1.md section 2.
type Refusal struct {
	Status     int
	End        wire.EndReason // of the header Farport-End; "" means that it is not final
	Highest    uint64         // with 409: of the header Farport-Join
	RetryAfter time.Duration
}

// Refused says how the hub has refused the attempt of that join.
func (e *End) Refused(join uint64, r Refusal) {
	if join != e.attempt {
		return
	}
	e.attempt = 0
	switch {
	case r.End == wire.EndRefused: // by a hub that does not know the stream as this end's
		e.over(wire.EndLost)
	case r.End != "":
		e.told(r.End)
	case r.Status == 409 && r.Highest > join: // somebody else has the token and the secret
		e.over(wire.EndLost)
	case r.Status == 409 && r.Highest == join && e.leg == 0 && e.retry.k == 0: // repeated on the way
		e.retry.k++
		e.dialNow()
	case r.Status == 429 || r.Status == 503:
		e.retry.busy = e.leg == 0
		e.attemptFailed()
		if r.RetryAfter > 0 && e.leg == 0 {
			e.dialIn(r.RetryAfter)
		}
	default:
		e.attemptFailed()
	}
}

// LegClosed says that the leg of that join is gone: with the hub's close frame, or with
// code 0 without one.
func (e *End) LegClosed(join uint64, code int, reason string) {
	if join != e.leg || join == 0 {
		return
	}
	shutting := e.shutting
	e.unpair()
	switch {
	case code == wire.CloseEnded:
		e.told(wire.ParseReason(reason))
	case e.phase == aborting && shutting && code == wire.CloseBrokenOff, e.phase == closing && shutting:
		e.end() // the other end knows
	case e.c.Window == 0, e.phase == aborting && e.outcome == wire.EndLost: // who is lost does not come back
		e.over(wire.EndLost)
	case code == wire.ClosePolicy, code == wire.CloseTooBig:
		e.over(wire.EndReset)
	case code == wire.CloseReplaced && join == e.join: // by somebody else
		e.over(wire.EndLost)
	case e.attempt != 0:
	case code == wire.CloseRestart:
		e.dialIn(e.random(restartDelay))
	case code == wire.CloseTryLater:
		e.retry.busy = true
		e.dialAgain()
	default:
		e.dialAgain()
	}
}

// unpair lets go of the leg.
func (e *End) unpair() {
	if e.paired {
		e.away = e.c.Now()
	}
	e.leg, e.paired, e.shutting, e.hello = 0, false, false, ""
}

// told takes the hub's word that the stream has ended (section 5).
func (e *End) told(reason wire.EndReason) {
	if reason == wire.EndFinished && !(e.eofEver && e.shown) {
		reason = wire.EndReset // not as far as this end knows
	}
	e.over(reason)
}

// NetworkChanged says that the machine has another address or route, or was asleep: what
// was tried before may work now, and what worked may not.
func (e *End) NetworkChanged() {
	if e.phase == ended {
		return
	}
	e.retry.k, e.retry.busy = 0, false
	switch {
	case e.shutting:
	case e.leg != 0:
		e.path.hurry(e)
	case e.attempt != 0:
		e.do(Action{Kind: ActDrop, Join: e.attempt})
		e.dialNow()
	default:
		e.dialNow()
	}
}

// bye ends the stream in good order.
func (e *End) bye() {
	e.do(Action{Kind: ActClose, Join: e.leg, Code: wire.CloseNormal})
	e.leg = 0
	e.end()
}
