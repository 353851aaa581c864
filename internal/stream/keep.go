package stream

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/farportio/farport/internal/stream/resume"
	"github.com/farportio/farport/internal/wire"
)

const (
	// tellAfter is how long a stream waits for its peer before anybody is told.
	tellAfter = time.Second
	// sleepDrift is how far wall clock and monotonic clock are apart after a sleep.
	// farport-v1.md section 3, Dead paths.
	sleepDrift = 5 * time.Second
	// echoWait bounds waiting for the answer to a close frame: more than resume allows.
	echoWait = 12 * time.Second
)

// pursue does what core asks for after something has happened. mu is held, as it is in all
// that follows.
func (e *Extended) pursue() {
	if e.closed {
		e.pursueClosed()
	}
	for {
		a, ok := e.core.Act()
		if !ok {
			break
		}
		e.act(a)
	}
	if !e.over && e.core.Outcome() != "" {
		e.over = true
		e.readable.Broadcast()
		e.wakeWriters()
	}
	if e.core.Done() {
		e.timer.Stop()
		e.openFirst()
		e.work.Broadcast()
		return
	}
	e.tell()
	e.arm()
	if e.mayWrite() {
		e.work.Signal()
	}
}

// pursueClosed stands in for the application that has gone.
func (e *Extended) pursueClosed() {
	switch {
	case e.over:
	case e.unread():
		e.core.Abort(wire.EndReset)
	case e.core.AppEOF():
		e.core.ShutdownDone()
	}
}

// unread reports whether there are bytes for the application.
func (e *Extended) unread() bool {
	if e.delivering {
		return true
	}
	some := e.core.App() != nil
	e.core.Delivered(0)
	return some
}

func (e *Extended) act(a resume.Action) {
	l := e.legs[a.Join]
	switch a.Kind {
	case resume.ActDial:
		e.startDial(a.Join)
	case resume.ActReset:
		if e.broken != nil {
			e.broken(&EndError{Reason: a.Reason})
			e.broken = nil
		}
	case resume.ActDrop:
		if a.Join == e.attempt && e.cancel != nil {
			e.cancel()
		}
		if l != nil {
			l.Drop()
		}
	case resume.ActPing:
		if l != nil {
			l.Ping()
		}
	case resume.ActClose:
		if l != nil && !l.closing {
			l.closing = true
			e.spawn(func() {
				l.sendClose(a.Code, string(a.Reason))
				l.deadline(time.Now().Add(echoWait))
			})
		}
	}
}

// spawn runs f beside; the stream has not ended before f has.
func (e *Extended) spawn(f func()) {
	e.running++
	go func() {
		f()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.running--
		e.work.Broadcast()
	}()
}

// arm sets the timer, if it would fire too late.
func (e *Extended) arm() {
	at := e.core.Deadline()
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if !e.over {
		sooner(e.closeBy)
	}
	if away := e.core.Away(); e.o.Changed != nil && e.met && !e.told && !e.telling && !away.IsZero() {
		sooner(away.Add(tellAfter))
	}
	if !at.IsZero() && (e.due.IsZero() || at.Before(e.due)) {
		e.due = at
		e.timer.Reset(max(time.Until(at), time.Millisecond))
	}
}

// tick runs on the timer.
func (e *Extended) tick() {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	elapsed := now.Sub(e.clock)                // by the monotonic clock, which sleeps too
	wall := now.Round(0).Sub(e.clock.Round(0)) // by the other one
	slept := (wall - elapsed).Abs() >= sleepDrift
	e.clock, e.due = now, time.Time{}
	if slept {
		e.core.NetworkChanged()
	}
	if l := e.leg; l != nil && l.Heard().After(l.heard) { // a part of a message
		e.hear(l)
	}
	if e.closed && !e.over && !now.Before(e.closeBy) {
		e.core.Abort(wire.EndReset)
	}
	e.core.Tick()
	e.pursue()
}

// hear tells core that something has come from the leg.
func (e *Extended) hear(l *keptLeg) {
	l.heard = l.Heard()
	e.core.Heard(l.join)
}

// tell tells who wants to know that the stream waits, or has resumed.
func (e *Extended) tell() {
	e.met = e.met || e.core.State() == resume.Open
	if e.o.Changed == nil || !e.met || e.telling {
		return
	}
	away := e.core.Away()
	waits := !away.IsZero() && time.Since(away) >= tellAfter
	if e.over || waits == e.told || e.told && !away.IsZero() {
		return
	}
	e.told, e.telling = waits, true
	e.spawn(func() {
		e.o.Changed(Change{Waiting: waits, Since: away})
		e.mu.Lock()
		defer e.mu.Unlock()
		e.telling = false
		e.pursue()
	})
}

// openFirst lets Join go on.
func (e *Extended) openFirst() {
	if !e.first {
		e.first = true
		close(e.joined)
	}
}

// startDial makes an attempt; an older one is given up.
func (e *Extended) startDial(join uint64) {
	if e.cancel != nil {
		e.cancel()
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.attempt, e.cancel = join, cancel
	token := e.token
	e.spawn(func() {
		defer cancel()
		l, newToken, err := DialLeg(ctx, e.url, token, LegJoin{Join: join, Secret: e.o.Secret}, e.dialOptions())
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.attempt != join {
			if err == nil {
				l.Drop()
			}
			return
		}
		e.cancel = nil
		e.dialled(join, l, newToken, err)
		e.pursue()
	})
}

func (e *Extended) dialOptions() DialOptions {
	o := e.o.DialOptions
	if o.Timeout == 0 || o.Timeout > resume.DialTimeout {
		o.Timeout = resume.DialTimeout
	}
	dial := o.DialTCP
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	o.DialTCP = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, resume.DialTCPTimeout)
		defer cancel()
		return dial(ctx, network, address)
	}
	return o
}

// dialled tells core what came of its newest attempt.
func (e *Extended) dialled(join uint64, leg *Leg, newToken string, err error) {
	if err != nil {
		e.failure = err
		if refused, ok := errors.AsType[*JoinError](err); ok {
			e.core.Refused(join, resume.Refusal(*refused))
		} else {
			e.core.Failed(join)
		}
		return
	}
	if newToken != "" {
		e.token = newToken
	}
	l := &keptLeg{Leg: leg, join: join, heard: time.Now()}
	l.onHeard = func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.hear(l)
		e.pursue()
	}
	e.legs[join], e.leg = l, l
	e.spawn(func() { e.reader(l) })
	e.core.Opened(join, newToken != "")
	e.openFirst()
}
