package stream

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Chunk is the memory that Next reads into: from a pool, to be given back with
// FreeChunk by whoever got it, once.
type Chunk = chunk

// FreeChunk gives a chunk back.
func FreeChunk(c *Chunk) { chunks.Put(c) }

// Leg is one WebSocket of an extended stream (farport-v1.md section 3), owned by
// whoever got it from DialLeg or AcceptLeg, who must Close or Drop it. It may be used
// by one reader (Read, Next) and one writer (WriteData, WriteText) at a time; the other
// methods may be called by anybody at any time, also twice. It keeps no time of its own:
// how long it may be silent is its owner's business.
type Leg struct {
	ws      *frameConn
	born    time.Time
	heard   atomic.Int64 // the last sign of life: a time.Duration since born
	silence atomic.Int64 // that reading puts up with: a time.Duration; 0 for any
	theirs  atomic.Bool  // the peer's close frame has come

	reader  chan struct{} // holds one token: the right to read frames
	readErr error         // first one, kept; guarded by reader

	mu      sync.Mutex
	closing bool   // what comes is dropped
	closed  bool   // hung up
	onHeard func() // told of each ping and pong; nil: nobody
}

func legOver(ws *frameConn) *Leg {
	l := &Leg{ws: ws, born: time.Now(), reader: make(chan struct{}, 1)}
	l.unlockReader()
	ws.extended = new(messages)
	ws.heard = func() {
		l.hear()
		l.mu.Lock()
		told := l.onHeard
		l.mu.Unlock()
		if told != nil {
			told()
		}
	}
	return l
}

func (l *Leg) hear() { l.heard.Store(int64(time.Since(l.born))) }

func (l *Leg) lockReader() { <-l.reader }

func (l *Leg) unlockReader() { l.reader <- struct{}{} }

// Heard is when something has come from the peer last, be it a part of a TLS record.
func (l *Leg) Heard() time.Time {
	heard := l.born.Add(time.Duration(l.heard.Load()))
	if below := l.ws.records.lastHeard(); below.After(heard) {
		return below
	}
	return heard
}

// LimitSilence has Read and Next fail with os.ErrDeadlineExceeded once nothing was heard
// for d while they waited; 0 is no limit.
func (l *Leg) LimitSilence(d time.Duration) { l.silence.Store(int64(d)) }

// Read returns stream bytes that have arrived (n > 0), or one control message (text, not
// nil, good until the next Read or Next). It fills p with what there is, across messages,
// without waiting for more, and stops ahead of a text. Errors are a *CloseFrame; a
// *ProtocolError for what no peer may send; else the network's, of which io.EOF is none.
// The first one is kept.
func (l *Leg) Read(p []byte) (n int, text []byte, err error) {
	l.lockReader()
	defer l.unlockReader()
	return l.read(p)
}

func (l *Leg) read(p []byte) (n int, text []byte, err error) {
	for l.readErr == nil {
		n, err := l.patiently(func() (int, error) { return l.ws.read(p) })
		text := l.ws.extended.text
		if n > 0 {
			text = nil // it comes next
			l.hear()
		} else if text != nil {
			l.ws.extended.text = nil
			l.hear()
		}
		if err != nil {
			l.failed(err)
		}
		if (n > 0 || text != nil) && !l.isClosing() {
			return n, text, nil
		}
	}
	return 0, nil, l.readErr
}

// Next is Read into a chunk of its own, which the caller frees; nil unless n > 0. While
// nothing comes it holds none.
func (l *Leg) Next() (c *Chunk, n int, text []byte, err error) {
	l.lockReader()
	defer l.unlockReader()
	if err := l.await(); err != nil {
		return nil, 0, nil, err
	}
	c = chunks.Get().(*chunk)
	n, text, err = l.read(c[:])
	if n == 0 {
		chunks.Put(c)
		c = nil
	}
	return c, n, text, err
}

// await waits until read has something to return.
func (l *Leg) await() error {
	if l.readErr == nil {
		if _, err := l.patiently(func() (int, error) { return 0, l.ws.wait() }); err != nil {
			l.failed(err)
		}
	}
	return l.readErr
}

func (l *Leg) failed(err error) {
	l.readErr = err
	_, closed := errors.AsType[*CloseFrame](err)
	l.theirs.Store(closed)
}

// patiently reads as long as the peer is not silent for too long.
func (l *Leg) patiently(read func() (int, error)) (n int, err error) {
	for since := time.Now(); ; {
		limit := time.Duration(l.silence.Load())
		if limit == 0 {
			return read()
		}
		l.deadline(since.Add(limit))
		n, err = read()
		heard := l.Heard()
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !heard.After(since) || l.isClosing() {
			return n, err
		}
		since = heard
	}
}

// deadline ends reading at that time, unless Close has set the last one. It fails only
// on a closed connection, as the read then does.
func (l *Leg) deadline(by time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closing {
		_ = l.ws.SetReadDeadline(by)
	}
}

func (l *Leg) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing
}

// WriteData sends stream bytes, 1 to wire.Chunk, as one message, by the deadline. After
// an error nothing more can be written.
func (l *Leg) WriteData(p []byte, deadline time.Time) error {
	return l.ws.write(opBinary, p, deadline)
}

// WriteText sends one control message, of at most wire.MaxControl bytes.
func (l *Leg) WriteText(p []byte, deadline time.Time) error {
	return l.ws.write(opText, p, deadline)
}

// Ping sends a ping as soon as the writer lets it, and does not wait for that. The answer
// shows in Heard, a failure in Read.
func (l *Leg) Ping() { l.ws.sendPing() }

// sendClose sends a close frame, if it can be written within lastWords. It is the last
// thing that is written; reading goes on. It reports whether that was done now; a failure
// means that it was done before, or that the leg is gone or stuck.
func (l *Leg) sendClose(code int, text string) bool {
	return nil == l.ws.control(opClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), text...), lastWords, lastWords)
}

// Close hangs up in good order: it sends a close frame, unless one went out before or
// somebody is stuck in writing, drops what still comes until the peer has answered or
// hung up, and frees the leg. It takes a few lastWords at most.
func (l *Leg) Close(code int, text string) {
	second := l.theirs.Load()
	second = l.sendClose(code, text) && second
	l.ws.silence(time.Now())
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	_ = l.ws.SetReadDeadline(time.Now().Add(lastWords))
	l.closing = true
	l.mu.Unlock()
	if !l.ws.isStuck() {
		l.seeOff(second)
	}
	l.Drop()
}

// seeOff drops what still comes. Hanging up with bytes unread makes TCP reset the
// connection, which could overtake our close frame.
func (l *Leg) seeOff(second bool) {
	l.lockReader()
	defer l.unlockReader()
	l.ws.extended.drops = true
	if second { // ours was the answer: the peer hangs up
		_, _ = io.Copy(io.Discard, l.ws.Conn)
		return
	}
	buf := chunks.Get().(*chunk)
	defer chunks.Put(buf)
	_, _, _ = l.read(buf[:]) // returns errors only
}

// Drop hangs up now, whatever is being read or written.
func (l *Leg) Drop() {
	l.mu.Lock()
	l.closing = true
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if !closed {
		l.ws.drop()
	}
}

// RemoteAddr is the address of the other end of the WebSocket.
func (l *Leg) RemoteAddr() net.Addr { return l.ws.RemoteAddr() }

// LocalAddr is the address of this end of the WebSocket.
func (l *Leg) LocalAddr() net.Addr { return l.ws.LocalAddr() }
