package stream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// script is a connection whose peer has sent all it will, and takes anything.
type script struct {
	net.Conn
	in io.Reader
}

func (s script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s script) Write(p []byte) (int, error)      { return len(p), nil }
func (s script) SetReadDeadline(time.Time) error  { return nil }
func (s script) SetWriteDeadline(time.Time) error { return nil }
func (s script) Close() error                     { return nil }

// No bytes make a leg panic, or say more than they hold, and how they come in makes
// no difference.
func FuzzFrames(f *testing.F) {
	p := &rawPeer{masks: true}
	f.Add(append(p.data("hello"), p.close(wire.CloseNormal, "")...), uint16(3))
	f.Add(append(p.frame(opText, []byte("frag")), p.frame(bitFinal|opContinuation, noise(1, 700))...), uint16(1))
	f.Add(append(p.frame(bitFinal|opPing, noise(1, maxControl)), p.close(wire.CloseError, "aborted")...), uint16(600))
	f.Add([]byte{bitFinal | opBinary, bitMask | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5}, uint16(9))
	f.Fuzz(func(t *testing.T, raw []byte, size uint16) {
		read := func(in io.Reader) ([]byte, error) {
			conn := script{in: in}
			c := newConn(newFrameConn(conn, newReader(conn), false), 0)
			defer c.Close()
			var got []byte
			buf := make([]byte, int(size)+1)
			for {
				n, err := c.Read(buf)
				if n == 0 && err == nil {
					t.Fatal("read nothing, without an error")
				}
				if got = append(got, buf[:n]...); err != nil {
					return got, err
				}
			}
		}
		whole, err := read(bytes.NewReader(raw))
		if len(whole) > len(raw) {
			t.Errorf("%d bytes out of %d", len(whole), len(raw))
		}
		if _, ok := errors.AsType[*EndError](err); !ok && err != io.EOF {
			t.Errorf("ended with %v", err)
		}
		pieces, err2 := read(iotest.OneByteReader(bytes.NewReader(raw)))
		if !bytes.Equal(whole, pieces) || err.Error() != err2.Error() {
			t.Errorf("%q, %v in one piece, %q, %v in many", whole, err, pieces, err2)
		}
	})
}
