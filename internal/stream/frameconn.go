package stream

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/farportio/farport/internal/wire"
)

var errCloseSent = errors.New("websocket: close frame already sent")

// frameConn reads and writes frames. One reader and one writer of data at a time;
// control may be called by anybody.
type frameConn struct {
	net.Conn
	records *recordConn // below Conn; nil when there is none
	client  bool        // masks what it writes, and takes unmasked frames only

	// heard is told of each ping and pong, by the reader.
	heard func()

	in         *bufio.Reader
	fragmented bool   // the next data frame continues a message
	left       uint64 // payload of the current data frame still to come
	mask       [4]byte
	at         int // position in mask
	empty      emptyRun
	extended   *messages // rules of an extended leg; nil for a plain one

	writing   chan struct{} // holds one token: the right to write a frame
	closeSent bool          // guarded by writing

	pongs sync.WaitGroup // the goroutines that answer pings, or finish a frame, while there are any
	user  limit          // until when messages may be written

	mu       sync.Mutex
	stuck    bool      // nothing can be written any more
	frameBy  time.Time // when the peer takes too long for the frame under way
	userBy   time.Time // the application's deadline for messages; zero: none
	cuttable bool      // and it may interrupt the frame under way
	closed   bool      // pongs takes nothing any more
	ping     bool      // to be sent
	pong     []byte    // to be sent, the answer to the latest ping; nil if there is none
	ponging  bool      // pongs is at it
}

func newFrameConn(c net.Conn, in *bufio.Reader, client bool) *frameConn {
	f := &frameConn{Conn: c, records: recordsOf(c), client: client, in: in, heard: func() {}, writing: make(chan struct{}, 1)}
	f.writing <- struct{}{}
	return f
}

// wait blocks until there is data to read, or a text of an extended leg, answering
// control frames meanwhile. A header that only announces data does not do.
func (f *frameConn) wait() error {
	for f.left == 0 {
		if f.extended.waiting() {
			return nil
		}
		if err := f.next(); err != nil {
			return err
		}
	}
	_, err := f.in.Peek(1)
	return noEOF(err)
}

// read fills p with what has arrived, at least one byte, across frames and
// messages. Together with an error it may return bytes that came before it. A text of
// an extended leg ends it, also without a byte.
func (f *frameConn) read(p []byte) (n int, err error) {
	defer f.records.wait(true)
	for {
		switch {
		case f.extended.waiting():
			return n, nil
		case f.left == 0:
			err = f.next()
		default:
			var m int
			m, err = f.payload(p[n:])
			n += m
		}
		switch {
		case err == errNothing:
			return n, nil
		case err != nil, n == len(p), n > 0 && f.records == nil:
			return n, err
		}
		f.records.wait(n == 0) // what has come must not wait for what has not
	}
}

// payload reads payload of the current data frame.
func (f *frameConn) payload(p []byte) (int, error) {
	if uint64(len(p)) > f.left {
		p = p[:f.left]
	}
	n, err := f.in.Read(p)
	f.left -= uint64(n)
	if !f.client {
		f.at = xor(p[:n], p[:n], f.mask, f.at)
	}
	return n, noEOF(err)
}

// next reads the next frame's header, and all of a control frame. It takes nothing
// off the reader before all of that is there. A peer may not stop without a close
// frame, so there is no io.EOF.
func (f *frameConn) next() error {
	head, err := f.in.Peek(2)
	if err != nil {
		return noEOF(err)
	}
	final, op := head[0]&bitFinal != 0, head[0]&0xf
	masked, short := head[1]&bitMask != 0, head[1]&^bitMask
	if err := f.check(head[0], masked, short); err != nil {
		return err
	}
	size, body := headerSize(short, masked), 0
	if head, err = f.in.Peek(size); err != nil {
		return noEOF(err)
	}
	length, err := payloadLength(head, short)
	if err == nil && f.extended != nil && op < opClose {
		err = f.extended.check(op, final, length)
	}
	if err != nil {
		return err
	}
	isText := f.extended != nil && op == opText
	if isText || op >= opClose {
		body = int(length) // of few bytes, as was checked
	}
	if head, err = f.in.Peek(size + body); err != nil {
		return noEOF(err)
	}
	if masked {
		copy(f.mask[:], head[size-len(f.mask):])
		f.at = 0
	}
	switch {
	case isText:
		if !f.client {
			xor(head[size:], head[size:], f.mask, 0)
		}
		f.extended.keep(head[size:])
	case op >= opClose:
		err = f.takeControl(op, head[size:])
	default:
		f.left, f.fragmented = length, !final
		if f.extended == nil {
			err = f.empty.count(length)
		}
	}
	_, _ = f.in.Discard(size + body) // buffered: cannot fail
	return err
}

// takeControl does what a control frame asks for. It unmasks p.
func (f *frameConn) takeControl(op byte, p []byte) error {
	if !f.client {
		xor(p, p, f.mask, 0)
	}
	switch op {
	case opPing:
		f.heard()
		f.answer(p)
	case opPong:
		f.heard()
	case opClose:
		return parseClose(p)
	}
	return nil
}

// answer sends a pong, without having the reader wait for a peer that takes nothing:
// two such peers would wait for each other. A ping that comes meanwhile replaces the
// one before it, as RFC 6455 §5.5.3 allows.
func (f *frameConn) answer(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pong = append(make([]byte, 0, len(p)), p...) // never nil
	f.startPongs()
}

// startPongs starts the goroutine that sends what is to be sent. mu is held.
func (f *frameConn) startPongs() {
	if !f.ponging && !f.closed {
		f.ponging = true
		f.pongs.Go(f.sendPongs)
	}
}

// sendPing sends a ping as soon as it can be written, without waiting for that.
func (f *frameConn) sendPing() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ping = true
	f.startPongs()
}

func (f *frameConn) sendPongs() {
	for {
		f.mu.Lock()
		ping, p := f.ping, f.pong
		f.ping, f.pong, f.ponging = false, nil, ping || p != nil
		f.mu.Unlock()
		// That it cannot be written will show in reading or writing.
		if p != nil {
			_ = f.control(opPong, p, pingPatience, wire.WriteStall)
		}
		if ping {
			_ = f.control(opPing, nil, pingPatience, wire.WriteStall)
		}
		if !ping && p == nil {
			return
		}
	}
}

// scratch holds frames that are being written: a header and a chunk, behind the texts
// that go with it.
var scratch = sync.Pool{New: func() any { return new(frames) }}

type frames [maxHeader + wire.Chunk + textRoom]byte

// textRoom is what the texts that are written together take.
const textRoom = 4 * (maxHeader + wire.MaxControl)

// write sends p, of at most wire.Chunk bytes, as one message in one write.
func (f *frameConn) write(op byte, p []byte, deadline time.Time) error {
	return f.writeMessages(nil, op, p, deadline)
}

// writeMessages is write behind some texts of textRoom together. p may be nil: no message.
func (f *frameConn) writeMessages(texts []string, op byte, p []byte, deadline time.Time) error {
	if f.user.has() {
		return os.ErrDeadlineExceeded
	}
	if err := f.lock(deadline, f.user.wait()); err != nil {
		return err
	}
	f.writeBy(deadline, f.records != nil || !f.overTLS()) // TLS itself takes no interruption
	f.records.gather()
	buf := scratch.Get().(*frames)
	out := buf[:0]
	for _, text := range texts {
		out = f.frame(out, opText, []byte(text))
	}
	if p != nil {
		out = f.frame(out, op, p)
	}
	n, err := f.Conn.Write(out)
	if f.records == nil && f.finishLater(err, func() error {
		defer scratch.Put(buf)
		_, err := f.Conn.Write(out[n:])
		return err
	}) {
		return nil
	}
	scratch.Put(buf) // before a flush that may take long
	flushErr := f.records.flush()
	if err == nil && f.finishLater(flushErr, f.records.flush) {
		return nil
	}
	defer f.unlock()
	return f.wrote(errors.Join(err, flushErr))
}

func (f *frameConn) overTLS() bool {
	_, ok := f.Conn.(*tls.Conn)
	return ok
}

// control sends a control frame, in a TLS record of its own: the C SDK stalls on
// others (docs/protocol.md, Ping and pong). It waits for other writers for patience,
// and has until limit for writing. A close frame is the last one.
func (f *frameConn) control(op byte, p []byte, patience, limit time.Duration) error {
	if err := f.lock(time.Now().Add(patience), nil); err != nil {
		return err
	}
	defer f.unlock()
	f.closeSent = op == opClose
	f.writeBy(time.Now().Add(limit), false)
	_, err := f.Conn.Write(f.frame(make([]byte, 0, maxHeader+maxControl), op, p))
	return f.wrote(err)
}

// writeBy sets the deadline of the next write, and says whether the application's may come
// before it.
func (f *frameConn) writeBy(deadline time.Time, cuttable bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frameBy, f.cuttable = deadline, cuttable
	if !f.stuck {
		f.applyWriteDeadline()
	}
}

// wrote notes how writing a frame has gone: after a part of one nothing can follow.
func (f *frameConn) wrote(err error) error {
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stuck = true
	}
	return err
}

// silence ends writing. Who is at it has until the deadline.
func (f *frameConn) silence(deadline time.Time) {
	switch f.lock(deadline, nil) {
	case nil:
		f.closeSent = true
		f.unlock()
		return
	case errCloseSent:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stuck = true
	_ = f.SetWriteDeadline(time.Unix(1, 0)) // long ago: wakes the writer
}

func (f *frameConn) isStuck() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stuck
}

// Close closes the connection; without TLS's farewell where it would be stuck too.
func (f *frameConn) Close() error {
	f.mu.Lock()
	f.closed = true
	conn := f.Conn
	if t, ok := conn.(*tls.Conn); ok && f.stuck {
		conn = t.NetConn()
	}
	f.mu.Unlock()
	err := conn.Close()
	f.pongs.Wait() // it cannot be stuck any more
	return err
}

// drop closes the connection without a farewell; whoever reads or writes fails.
func (f *frameConn) drop() {
	f.mu.Lock()
	f.stuck = true
	f.mu.Unlock()
	_ = f.Close()
}

var errWriteTimeout = errors.New("websocket: the peer takes nothing")

// lock waits for the right to write a frame, until the deadline, or the application's.
func (f *frameConn) lock(deadline time.Time, user <-chan struct{}) error {
	select {
	case <-f.writing:
	default:
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		select {
		case <-f.writing:
		case <-timer.C:
			return errWriteTimeout
		case <-user:
			return os.ErrDeadlineExceeded
		}
	}
	if f.closeSent {
		f.unlock()
		return errCloseSent
	}
	return nil
}

func (f *frameConn) unlock() { f.writing <- struct{}{} }
