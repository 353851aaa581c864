package stream

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// recordConn stands below TLS, which takes one write per record and two reads, of
// 16 KiB at most, where a leg's chunk is 64 KiB. It gathers: the records of one
// chunk go out in one write, and what has arrived comes in with one read. It can
// also be read without waiting, so that a leg fills a chunk with what there is.
// While nothing comes it holds no buffer, whatever a peer has announced.
//
// It has one reader and one writer at a time, which crypto/tls sees to.
type recordConn struct {
	net.Conn
	raw syscall.RawConn // Conn's, where it can be waited for without a buffer; or nil

	in     *recordBuffer      // read ahead; nil when that is nothing
	r, w   int                // in.b[r:w] has not been handed on
	header [recordHeader]byte // of the record being handed on, as far as it has been
	got    int                // bytes of header; 0 while the record's body is handed on
	left   int                // bytes of that body that are still to come
	born   time.Time
	heard  atomic.Int64 // when bytes came last: a time.Duration since born
	eager  atomic.Bool  // Read returns errNothing rather than wait

	mu      sync.Mutex
	gathers bool
	out     *recordBuffer // gathered; nil when that is nothing
	o, n    int           // out.b[o:n] has not been written
}

// recordHeader is the length of a TLS record's header: type, version, length of
// the body (RFC 8446 §5.1).
const recordHeader = 5

// errNothing says that a read would have had to wait. It is temporary, so TLS goes
// on where it was.
var errNothing net.Error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing more has arrived" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// recordBuffer has room for a chunk with its frame header behind some texts, and for what
// TLS adds to the five records that take (RFC 8446 §5.2: 256 bytes each at most).
type recordBuffer struct {
	b [wire.Chunk + maxHeader + textRoom + 5*(recordHeader+256)]byte
}

var recordBuffers = sync.Pool{New: func() any { return new(recordBuffer) }}

// Listener prepares each connection of l for legs over TLS, which goes on top.
func Listener(l net.Listener) net.Listener { return recordListener{l} }

type recordListener struct{ net.Listener }

func (l recordListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newRecordConn(c), nil
}

func newRecordConn(c net.Conn) *recordConn {
	return &recordConn{Conn: c, raw: rawOf(c), born: time.Now()}
}

// recordsOf finds the recordConn below a TLS connection; nil if there is none.
func recordsOf(c net.Conn) *recordConn {
	t, ok := c.(*tls.Conn)
	if !ok {
		return nil
	}
	r, _ := t.NetConn().(*recordConn)
	return r
}

// lastHeard is when bytes came last; zero for a nil recordConn.
func (c *recordConn) lastHeard() time.Time {
	if c == nil {
		return time.Time{}
	}
	return c.born.Add(time.Duration(c.heard.Load()))
}

// wait says whether Read waits for bytes. A nil recordConn always does.
func (c *recordConn) wait(wait bool) {
	if c != nil {
		c.eager.Store(!wait)
	}
}

// Read hands on no more than the rest of one record's header or body, so that it
// knows where records begin, and reads ahead only inside one.
func (c *recordConn) Read(p []byte) (int, error) {
	if limit := c.limit(); len(p) > limit {
		p = p[:limit]
	}
	if c.in == nil && c.eager.Load() {
		return 0, errNothing
	}
	if c.in == nil && c.raw == nil {
		n, err := c.Conn.Read(p)
		c.handOn(p[:n])
		c.heard.Store(int64(time.Since(c.born)))
		return n, err
	}
	if c.in == nil {
		in, n, err := readReady(c.raw, &recordBuffers, func(b *recordBuffer) []byte { return b.b[:] })
		c.in, c.r, c.w = in, 0, n
		if n == 0 {
			c.release()
			return 0, err
		}
		c.heard.Store(int64(time.Since(c.born)))
	}
	n := copy(p, c.in.b[c.r:c.w])
	c.handOn(p[:n])
	if c.r += n; c.r == c.w {
		c.release()
	}
	return n, nil
}

func (c *recordConn) release() {
	if c.in != nil {
		recordBuffers.Put(c.in)
		c.in = nil
	}
}

// limit is how many bytes are left of the header or body being handed on.
func (c *recordConn) limit() int {
	if c.left > 0 {
		return c.left
	}
	return recordHeader - c.got
}

// handOn keeps track of where in a record the reader is. p is within limit.
func (c *recordConn) handOn(p []byte) {
	if c.left > 0 {
		c.left -= len(p)
		return
	}
	c.got += copy(c.header[c.got:], p)
	if c.got == recordHeader {
		c.got, c.left = 0, int(binary.BigEndian.Uint16(c.header[3:]))
	}
}

// gather makes Write collect until flush. A nil recordConn gathers nothing.
func (c *recordConn) gather() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathers = true
}

// flush writes what has been gathered, and ends the gathering.
func (c *recordConn) flush() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathers = false
	return c.writeOut()
}

// writeOut writes what has been gathered. After a deadline it goes on where it was. mu is
// held.
func (c *recordConn) writeOut() error {
	if c.out == nil {
		return nil
	}
	n, err := c.write(c.out.b[c.o:c.n])
	if c.o += n; errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	recordBuffers.Put(c.out)
	c.out, c.o, c.n = nil, 0, 0
	return err
}

func (c *recordConn) write(p []byte) (int, error) {
	if c.raw == nil {
		return c.Conn.Write(p)
	}
	return writeWhole(c.raw, p)
}

// Write writes p, or gathers it if there is room.
func (c *recordConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gathers {
		return c.write(p)
	}
	if c.out == nil {
		c.out = recordBuffers.Get().(*recordBuffer)
	}
	if len(p) > len(c.out.b)-c.n {
		if err := c.writeOut(); err != nil {
			return 0, err
		}
		return c.write(p)
	}
	c.n += copy(c.out.b[c.n:], p)
	return len(p), nil
}
