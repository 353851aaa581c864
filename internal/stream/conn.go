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
	"encoding/binary"
	"errors"
	"io"
	"net"
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
	// pingWrite bounds writing a ping.
	pingWrite = 10 * time.Second
)

// EndError says that a stream ended otherwise than in good order.
type EndError struct {
	Reason wire.EndReason
	Cause  error // what was seen on this leg; nil when the other side said so
}

func (e *EndError) Error() string {
	if e.Cause != nil {
		return "stream ended: " + string(e.Reason) + ": " + e.Cause.Error()
	}
	return "stream ended: " + string(e.Reason)
}

func (e *EndError) Unwrap() error { return e.Cause }

// Lost reports whether the stream was lost, with the network or the hub, rather
// than broken off on purpose.
func (e *EndError) Lost() bool { return e.Reason == wire.EndNetwork || e.Reason == wire.EndStopping }

// Conn is one leg: a byte stream over one WebSocket, owned by whoever got it from
// Dial or Accept, who must Close it. It may be used by one reader and one writer
// at a time; CloseWrite belongs to the writer, Abort and Close may be called by
// anybody at any time, also twice.
type Conn struct {
	ws *frameConn
	// drain is how long CloseWrite lets the other direction be silent before it
	// sends the close frame. The hub's legs have 0: the end has drained already.
	drain time.Duration

	message io.Reader    // being read; nil between two messages
	readErr error        // first one, kept: the library panics if a dead connection is read on and on
	heard   atomic.Int64 // Unix nanoseconds of the peer's last sign of life
	alive   *time.Timer  // pings a leg that is silent

	mu        sync.Mutex
	drainTime *time.Timer // from CloseWrite to our close frame
	replyTime *time.Timer // from the peer's close frame to ours
	gotClose  bool        // the peer's close frame has come
	sentClose bool        // ours has gone out
	sentLast  bool        // and it was the second of the two: the peer hangs up
	aborted   bool
	closed    bool
}

func newConn(ws *frameConn, drain time.Duration) *Conn {
	c := &Conn{ws: ws, drain: drain}
	ws.heard = c.hear
	c.hear()
	c.mu.Lock()
	c.alive = time.AfterFunc(wire.PingInterval, c.pingIfSilent)
	c.mu.Unlock()
	return c
}

// hear notes a sign of life from the peer.
func (c *Conn) hear() {
	now := time.Now()
	c.heard.Store(now.UnixNano())
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.aborted: // Abort has set the last deadline
	case c.sentClose:
		c.deadline(closeReply)
	default:
		c.deadline(wire.DeadAfter)
	}
}

// deadline bounds the silence that Read puts up with, from now. It fails only on
// a closed connection, as the read then does.
func (c *Conn) deadline(d time.Duration) { _ = c.ws.SetReadDeadline(time.Now().Add(d)) }

// pingIfSilent runs on the timer alive and arms it again. It is the deadline of
// Read that ends a leg which stays silent.
func (c *Conn) pingIfSilent() {
	next := wire.PingInterval - time.Since(time.Unix(0, c.heard.Load()))
	if next <= 0 {
		// A failure shows in Read; a time-out means that a writer is at work.
		_ = c.ws.control(opPing, nil, time.Now().Add(pingWrite))
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
	for c.readErr == nil && len(p) > 0 {
		n, err := c.ws.read(p)
		if err != nil {
			c.fail(err)
		}
		if n > 0 && c.take() {
			return n, nil
		}
	}
	return 0, c.readErr
}

// readChunk is Read without a buffer while there is nothing to read.
func (c *Conn) readChunk() (*chunk, int, error) {
	if c.readErr == nil {
		if err := c.ws.wait(); err != nil {
			c.fail(err)
		}
	}
	if c.readErr != nil {
		return nil, 0, c.readErr
	}
	buf := chunks.Get().(*chunk)
	n, err := c.Read(buf[:])
	return buf, n, err
}

// take notes that bytes have come, and reports whether anybody still wants them.
func (c *Conn) take() bool {
	c.hear()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drainTime != nil && !c.sentClose {
		c.drainTime.Reset(c.drain)
	}
	return !c.aborted
}

// fail turns the first read error into what Read returns from then on.
func (c *Conn) fail(err error) {
	closed, ok := errors.AsType[*closeError](err)
	if !ok {
		reason := wire.EndNetwork
		if _, broken := errors.AsType[*protocolError](err); broken {
			reason = wire.EndProtocol
		}
		c.readErr = &EndError{Reason: reason, Cause: err}
		return
	}
	reason, clean := wire.ParseClose(closed.code, closed.text)
	c.readErr = io.EOF
	if !clean {
		c.readErr = &EndError{Reason: reason}
	}
	c.mu.Lock()
	c.gotClose = true
	done := clean && c.drainTime != nil // both have finished
	if clean && !done && !c.sentClose {
		// The peer waits for our close; what we still have to send must come soon.
		c.replyTime = time.AfterFunc(2*wire.DrainSilence, func() { c.Abort(wire.EndAborted) })
	}
	c.mu.Unlock()
	if done {
		c.sendClose(wire.CloseNormal, "")
	}
}

// Write sends p in messages of at most wire.Chunk bytes. It fails when the peer
// takes nothing for wire.WriteStall.
func (c *Conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		chunk := p[done:min(done+wire.Chunk, len(p))]
		if err := c.ws.write(chunk, time.Now().Add(wire.WriteStall)); err != nil {
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

// CloseWrite says that nothing more will be written. The close frame goes out once
// the peer has closed too, or was silent for the leg's drain time; reading goes
// on until the peer's close.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	if c.aborted || c.closed {
		c.mu.Unlock()
		return &EndError{Reason: wire.EndAborted}
	}
	now := c.gotClose || c.drain == 0
	if c.drainTime == nil && !c.sentClose && !now {
		c.drainTime = time.AfterFunc(c.drain, func() { c.sendClose(wire.CloseNormal, "") })
	}
	c.mu.Unlock()
	if now {
		c.sendClose(wire.CloseNormal, "")
	}
	return nil
}

// sendClose sends our close frame, unless one went out before.
func (c *Conn) sendClose(code int, text string) {
	c.mu.Lock()
	if c.sentClose || c.closed {
		c.mu.Unlock()
		return
	}
	c.sentClose, c.sentLast = true, c.gotClose
	if c.replyTime != nil {
		c.replyTime.Stop()
	}
	if !c.aborted {
		c.deadline(closeReply)
	}
	c.mu.Unlock()
	// A failure means that the leg is gone, which Read will say.
	_ = c.ws.control(opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), text...), time.Now().Add(lastWords))
}

// Abort breaks the stream so that the peer sees a break with this reason. Read
// drops what still comes and fails within lastWords.
func (c *Conn) Abort(reason wire.EndReason) {
	c.mu.Lock()
	if c.aborted || c.closed {
		c.mu.Unlock()
		return
	}
	c.aborted = true
	c.deadline(lastWords)
	c.mu.Unlock()
	c.sendClose(reason.CloseFrame())
}

// Close frees the leg, within lastWords. A stream that has not ended in both
// directions is aborted.
func (c *Conn) Close() error {
	c.Abort(wire.EndAborted) // of a leg that ended cleanly, this only drops what still comes
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.alive.Stop()
	if c.drainTime != nil {
		c.drainTime.Stop()
	}
	if c.replyTime != nil {
		c.replyTime.Stop()
	}
	hangUp := c.gotClose && !c.sentLast
	c.mu.Unlock()
	if !hangUp {
		// Closing with bytes unread makes TCP reset the connection, which could
		// overtake our close frame: let the peer hang up first.
		c.deadline(lastWords)
		_, _ = io.Copy(io.Discard, c.ws.Conn)
	}
	return c.ws.Close()
}

// RemoteAddr is the address of the other end of the WebSocket.
func (c *Conn) RemoteAddr() net.Addr { return c.ws.RemoteAddr() }
