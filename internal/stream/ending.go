package stream

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/farportio/farport/internal/wire"
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
func (e *EndError) Lost() bool {
	return e.Reason == wire.EndNetwork || e.Reason == wire.EndStopping || e.Reason == wire.EndLost
}

// fail turns the first read error into what Read returns from then on.
func (c *Conn) fail(err error) {
	closed, ok := errors.AsType[*CloseFrame](err)
	if !ok {
		reason := wire.EndNetwork
		if _, broken := errors.AsType[*ProtocolError](err); broken {
			reason = wire.EndProtocol
		}
		c.readErr = &EndError{Reason: reason, Cause: err}
		return
	}
	reason, clean := wire.ParseClose(closed.Code, closed.Text)
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

// CloseWrite says that nothing more will be written. The close frame goes out once
// the peer has closed too, or was silent for the leg's drain time while somebody
// was reading; reading goes on until the peer's close.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	if c.aborted || c.closed {
		c.mu.Unlock()
		return &EndError{Reason: wire.EndAborted}
	}
	now := c.gotClose || c.drain == 0
	if c.drainTime == nil && !c.sentClose && !now {
		c.drainTime = time.AfterFunc(c.drain, func() { c.sendClose(wire.CloseNormal, "") })
		if !c.reading {
			c.drainTime.Stop()
		}
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
	_ = c.ws.control(opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), text...), lastWords, lastWords)
}

// Abort breaks the stream so that the peer sees a break with this reason. Read
// drops what still comes and fails within lastWords, as does a Write that is stuck.
func (c *Conn) Abort(reason wire.EndReason) {
	by := time.Now().Add(lastWords)
	c.mu.Lock()
	if c.aborted || c.closed {
		c.mu.Unlock()
		return
	}
	c.aborted = true
	c.deadline(lastWords)
	c.mu.Unlock()
	c.sendClose(reason.CloseFrame())
	c.ws.silence(by)
}

// Close frees the leg, within a few lastWords. A stream that has not ended in both
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
	hangUp := c.gotClose && !c.sentLast || c.ws.isStuck()
	c.mu.Unlock()
	if !hangUp {
		c.mu.Lock()
		c.deadline(lastWords)
		c.mu.Unlock()
		c.seeOff()
	}
	return c.ws.Close()
}

// seeOff drops what still comes, until the peer has answered our close frame or has
// hung up, or the deadline. Closing with bytes unread makes TCP reset the connection,
// which could overtake that frame.
func (c *Conn) seeOff() {
	if !c.reader.TryLock() { // somebody is still dropping frames
		_, _ = io.Copy(io.Discard, c.ws.Conn)
		return
	}
	defer c.reader.Unlock()
	if c.readErr != nil { // the peer has closed; ours was the answer
		_, _ = io.Copy(io.Discard, c.ws.Conn)
		return
	}
	buf := chunks.Get().(*chunk)
	defer chunks.Put(buf)
	for c.readErr == nil {
		if _, err := c.ws.read(buf[:]); err != nil {
			c.fail(err)
		}
	}
}
