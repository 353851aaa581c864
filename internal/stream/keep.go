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

// keptLeg is a leg of an Extended.
type keptLeg struct {
	*Leg
	join    uint64
	heard   time.Time // as core was told
	failed  bool      // in writing: nothing more is written to it
	closing bool      // our close frame was asked for
}

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
		e.writable.Broadcast()
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
	if away := e.core.Away(); e.met && !e.told && !away.IsZero() {
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

// reader reads the leg to its end.
func (e *Extended) reader(l *keptLeg) {
	var err error
	for err == nil {
		err = e.readLeg(l)
	}
	closed, ok := errors.AsType[*CloseFrame](err)
	e.mu.Lock()
	answer := ok && !l.closing
	e.mu.Unlock()
	switch {
	case !answer:
		l.Drop()
	case closed.Code == wire.CloseNoStatus:
		l.Close(wire.CloseNormal, "")
	default:
		l.Close(closed.Code, "")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.legs, l.join)
}

// readLeg waits for something on the leg and takes it. While nothing comes it holds no
// memory.
func (e *Extended) readLeg(l *keptLeg) error {
	l.Leg.reader.Lock()
	err := l.await()
	l.Leg.reader.Unlock()
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.lost(l, err)
		e.pursue()
		return err
	}
	e.reading.Lock() // not for long: something is there
	defer e.reading.Unlock()
	e.mu.Lock()
	space := e.core.LegSpace()
	e.mu.Unlock()
	n, text, err := l.Read(space)
	e.mu.Lock()
	defer e.mu.Unlock()
	l.heard = l.Heard()
	e.core.Data(l.join, n)
	if text != nil {
		e.core.Message(l.join, text)
	}
	if err != nil {
		e.lost(l, err)
	}
	e.pursue()
	e.deliver()
	if text != nil && e.core.Room() > 0 {
		e.writable.Broadcast()
	}
	return err
}

// lost tells core why nothing more comes from a leg.
func (e *Extended) lost(l *keptLeg, err error) {
	if closed, ok := errors.AsType[*CloseFrame](err); ok {
		e.core.LegClosed(l.join, closed.Code, closed.Text)
	} else if _, ok := errors.AsType[*ProtocolError](err); ok {
		e.core.Violation(l.join)
	} else {
		e.core.LegClosed(l.join, 0, "")
	}
}

// mayWrite reports whether there is something to write, and nobody at it.
func (e *Extended) mayWrite() bool {
	return !e.writing && e.leg != nil && !e.leg.failed && e.core.Pending()
}

// writer writes what there is to write, until the stream and all that is part of it has
// ended.
func (e *Extended) writer() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for !e.core.Done() || e.running > 0 || e.writing {
		if e.mayWrite() {
			e.flush()
		} else {
			e.work.Wait()
		}
	}
	e.readBy.stop()
	e.writeBy.stop()
	close(e.ended)
}

// mostTexts is how many control messages are written together.
const mostTexts = 3

// flush writes until there is nothing more to write, or somebody else is at it.
func (e *Extended) flush() {
	if e.writing {
		return
	}
	e.writing = true
	for l := e.leg; l != nil && !l.failed; l = e.leg {
		var texts []string
		var data []byte
		for data == nil && len(texts) < mostTexts {
			f, ok := e.core.Next()
			if !ok {
				break
			}
			if data = f.Data; data == nil {
				texts = append(texts, f.Text)
				e.core.Sent() // it holds no memory
			}
		}
		if data == nil && texts == nil {
			break
		}
		var after []resume.Action // closing the leg, behind what is written now
		for a, ok := e.core.Act(); ok; a, ok = e.core.Act() {
			after = append(after, a)
		}
		e.mu.Unlock()
		err := l.ws.writeMessages(texts, opBinary, data, time.Now().Add(wire.WriteStall))
		e.mu.Lock()
		e.core.Sent()
		if err != nil { // the peer's last words may be on their way
			l.failed = true
			l.deadline(time.Now().Add(lastWords))
		}
		for _, a := range after {
			e.act(a)
		}
		e.pursue()
	}
	e.writing = false
	e.pursue()
}
