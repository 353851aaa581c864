// Package stream is the byte stream between farport's ends: one WebSocket per
// leg, and the loop that copies between a leg and whatever stands behind it.
//
//	TCP ══ Pipe ══ Conn ───WebSocket─── Conn ══ Copy ══ Conn ───WebSocket─── Conn ══ Pipe ══ TCP
//	   service-proxy                           hub                           device-proxy
//
// A plain Device Stream has no half-close on the wire. So an end that has
// finished sending first lets the other direction drain, then closes with 1000;
// the hub passes that close on and brings back the other end's own closing code.
// Both ends thus learn whether the other one had finished too: 1000 is a clean
// end, anything else a break, and a break becomes a reset. Who may join what is
// the hub's business (package rendezvous).
package stream

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Times of a leg's last moments.
const (
	// closeReply is how long an end that closed waits for the other end's close,
	// from the last byte heard: the hub and a draining peer lie between.
	closeReply = 2*wire.DrainSilence + 2*time.Second
	// lastWords bounds writing a close frame, and then waiting for the other side
	// of this WebSocket to hang up, so that the frame is not overtaken by a reset.
	lastWords = time.Second
	// pingPatience is how long a ping waits for a writer that is stuck.
	pingPatience = 10 * time.Second
)

// Conn is one leg: a byte stream over one WebSocket, owned by whoever got it from
// Dial or Accept, who must Close it. It may be used by one reader and one writer
// at a time; CloseWrite belongs to the writer, Abort and Close may be called by
// anybody at any time, also twice.
type Conn struct {
	ws *frameConn
	// drain is how long CloseWrite lets the other direction be silent before it
	// sends the close frame. The hub's legs have 0: the end has drained already.
	drain time.Duration

	reader  sync.Mutex   // held by whoever reads frames
	readErr error        // first one, kept; guarded by reader
	born    time.Time    // of the Conn
	heard   atomic.Int64 // the peer's last sign of life: a time.Duration since born
	alive   *time.Timer  // pings a leg that is silent

	mu        sync.Mutex
	reading   bool          // somebody waits for bytes
	readBy    time.Time     // when the peer's silence is too much; zero: nobody has waited yet
	patience  time.Duration // what is left of it for the next Read; 0: all
	userBy    time.Time     // SetReadDeadline's; zero: none
	drainTime *time.Timer   // from CloseWrite to our close frame; runs while reading
	replyTime *time.Timer   // from the peer's close frame to ours
	gotClose  bool          // the peer's close frame has come
	sentClose bool          // ours has gone out
	sentLast  bool          // and it was the second of the two: the peer hangs up
	aborted   bool
	closed    bool
}

func newConn(ws *frameConn, drain time.Duration) *Conn {
	c := &Conn{ws: ws, drain: drain, born: time.Now()}
	ws.heard = c.hear
	c.mu.Lock()
	c.alive = time.AfterFunc(wire.PingInterval, c.pingIfSilent)
	c.mu.Unlock()
	return c
}

// hear notes a ping or pong. After our close frame they do not make the time for
// the peer's any longer.
func (c *Conn) hear() {
	c.heard.Store(int64(time.Since(c.born)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.aborted && !c.sentClose {
		c.deadline(wire.DeadAfter)
	}
}

// deadline bounds the silence that Read puts up with, from now. mu is held.
func (c *Conn) deadline(d time.Duration) {
	c.readBy, c.patience = time.Now().Add(d), 0
	c.applyDeadline()
}

// pingIfSilent runs on the timer alive and arms it again. It is the deadline of
// Read that ends a leg which stays silent.
func (c *Conn) pingIfSilent() {
	next := wire.PingInterval - time.Since(c.born) + time.Duration(c.heard.Load())
	if next <= 0 {
		// A failure shows in Read; a time-out means that a writer is at work.
		_ = c.ws.control(opPing, nil, pingPatience, wire.WriteStall)
		next = wire.PingInterval
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.alive.Reset(next)
	}
}

// Read fills p with what has arrived, at least one byte; message boundaries mean
// nothing and empty messages are ignored. io.EOF comes only after the peer's clean
// end; every other error is an *EndError. The first error is kept.
func (c *Conn) Read(p []byte) (int, error) {
	c.reader.Lock()
	defer c.reader.Unlock()
	return c.read(p)
}

func (c *Conn) read(p []byte) (int, error) {
	for c.readErr == nil && len(p) > 0 {
		if !c.startReading() {
			return 0, os.ErrDeadlineExceeded
		}
		n, err := c.ws.read(p)
		wanted := c.stopReading()
		if n > 0 {
			c.heard.Store(int64(time.Since(c.born)))
		}
		if err != nil && !c.interrupted(err) {
			c.fail(err)
		}
		if n > 0 && wanted {
			return n, nil
		}
	}
	return 0, c.readErr
}

// readChunk is Read without a buffer while there is nothing to read.
func (c *Conn) readChunk() (*chunk, int, error) {
	c.reader.Lock()
	defer c.reader.Unlock()
	for waiting := true; c.readErr == nil && waiting; {
		if !c.startReading() {
			return nil, 0, os.ErrDeadlineExceeded
		}
		err := c.ws.wait()
		c.stopReading()
		waiting = err != nil
		if waiting && !c.interrupted(err) {
			c.fail(err)
		}
	}
	if c.readErr != nil {
		return nil, 0, c.readErr
	}
	buf := chunks.Get().(*chunk)
	n, err := c.read(buf[:])
	return buf, n, err
}

// startReading begins to measure the peer's silence. While nobody reads, what it
// sends cannot be heard, however long that takes. It returns false if nothing may be read
// by the application's deadline.
func (c *Conn) startReading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.userPassed() {
		return false
	}
	c.reading = true
	switch {
	case c.aborted: // Abort has set the last deadline
	case c.sentClose:
		c.deadline(closeReply)
	default:
		patience := c.patience
		if patience == 0 {
			patience = wire.DeadAfter
		}
		c.deadline(patience)
		if c.drainTime != nil {
			c.drainTime.Reset(c.drain)
		}
	}
	return true
}

// stopReading reports whether anybody still wants what has come.
func (c *Conn) stopReading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if c.drainTime != nil {
		c.drainTime.Stop()
	}
	return !c.aborted
}

// Write sends p in messages of at most wire.Chunk bytes. It fails when the peer
// takes longer than wire.WriteStall for one. A message that was begun when the write
// deadline passes counts as written: the rest of it goes out behind.
func (c *Conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		chunk := p[done:min(done+wire.Chunk, len(p))]
		if err := c.ws.writeMessages(nil, opBinary, chunk, time.Now().Add(wire.WriteStall)); err != nil {
			if err == os.ErrDeadlineExceeded {
				return done, err
			}
			reason := wire.EndNetwork
			if errors.Is(err, errCloseSent) {
				reason = wire.EndAborted
			}
			return done, &EndError{Reason: reason, Cause: err}
		}
		done += len(chunk)
	}
	return done, nil
}

// LocalAddr is the address of this end of the WebSocket.
func (c *Conn) LocalAddr() net.Addr { return c.ws.LocalAddr() }

// RemoteAddr is the address of the other end of the WebSocket.
func (c *Conn) RemoteAddr() net.Addr { return c.ws.RemoteAddr() }
