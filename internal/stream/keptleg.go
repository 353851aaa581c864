package stream

import (
	"errors"
	"time"

	"github.com/farportio/farport/internal/stream/resume"
	"github.com/farportio/farport/internal/wire"
)

// keptLeg is a leg of an Extended.
type keptLeg struct {
	*Leg
	join    uint64
	heard   time.Time // as core was told
	failed  bool      // in writing: nothing more is written to it
	closing bool      // our close frame was asked for
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
		e.wakeWriters()
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
