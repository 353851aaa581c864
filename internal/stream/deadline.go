package stream

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// Deadlines of a plain leg. A frame is never broken off by them: reading goes on where it
// was, and what is left of a frame that is being written goes out behind the caller.

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline bounds Read, also one that is waiting: it fails with
// os.ErrDeadlineExceeded, and may be called again. Zero is no bound but the peer's silence.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.userBy = t
	c.applyDeadline()
	return nil
}

// SetWriteDeadline bounds Write, as SetReadDeadline does Read.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.ws.limitWrites(t)
	return nil
}

// applyDeadline has the read fail in time. That fails only on a closed connection, as the
// read then does. mu is held.
func (c *Conn) applyDeadline() {
	by := c.readBy
	if !c.aborted && !c.userBy.IsZero() && (by.IsZero() || c.userBy.Before(by)) {
		by = c.userBy
	}
	_ = c.ws.Conn.SetReadDeadline(by)
}

// userPassed reports whether the application's deadline lets nothing be read. mu is held.
func (c *Conn) userPassed() bool {
	return !c.aborted && !c.userBy.IsZero() && !time.Now().Before(c.userBy)
}

// interrupted reports whether reading failed by a deadline of the application, which may
// have been moved since, and not for the peer's silence. What that may still take is kept
// for the next Read.
func (c *Conn) interrupted(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !errors.Is(err, os.ErrDeadlineExceeded) || c.aborted || !now.Before(c.readBy) {
		return false
	}
	c.patience = c.readBy.Sub(now)
	return true
}

// limitWrites bounds writing messages, also one that is under way: the rest of that goes
// out behind.
func (f *frameConn) limitWrites(t time.Time) {
	f.user.set(t)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.userBy = t
	if f.cuttable && !f.stuck {
		f.applyWriteDeadline()
	}
}

// applyWriteDeadline has the write that is under way, or comes next, fail in time. That
// fails only on a closed connection, as the write will. mu is held.
func (f *frameConn) applyWriteDeadline() {
	by := f.frameBy
	if f.cuttable && !f.userBy.IsZero() && f.userBy.Before(by) {
		by = f.userBy
	}
	_ = f.Conn.SetWriteDeadline(by)
}

// finishLater has the rest of a frame written behind, if err says that a deadline of the
// application has come before its end; it may have been moved since. The right to write
// goes with it.
func (f *frameConn) finishLater(err error, rest func() error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.cuttable || f.stuck || f.closed || !time.Now().Before(f.frameBy) {
		return false
	}
	f.cuttable = false
	f.applyWriteDeadline()
	f.pongs.Go(func() {
		_ = f.wrote(rest()) // a failure shows in the next write
		f.unlock()
	})
	return true
}

// limit is a deadline that can be waited for, and changed meanwhile.
type limit struct {
	mu     sync.Mutex
	at     time.Time // zero: none
	timer  *time.Timer
	passed chan struct{} // closed when it has passed; nil: it was never set
}

func (l *limit) set(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
	}
	l.at = t
	if l.isPassed() || l.passed == nil {
		l.passed = make(chan struct{})
	}
	switch passed := l.passed; {
	case t.IsZero():
	case !time.Now().Before(t):
		close(passed)
	default:
		l.timer = time.AfterFunc(time.Until(t), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if passed == l.passed && !l.at.IsZero() && !time.Now().Before(l.at) && !l.isPassed() {
				close(passed)
			}
		})
	}
}

// isPassed reports whether the channel is closed. mu is held.
func (l *limit) isPassed() bool {
	select {
	case <-l.passed:
		return l.passed != nil
	default:
		return false
	}
}

// wait returns the channel, nil if there is no limit.
func (l *limit) wait() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passed
}

// has reports whether it has passed.
func (l *limit) has() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.at.IsZero() && !time.Now().Before(l.at)
}
