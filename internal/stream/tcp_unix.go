//go:build unix

package stream

import (
	"io"
	"os"
	"syscall"
)

// readChunk reads as net.TCPConn does, but takes the buffer only for the time of
// each attempt, so that an idle connection holds none.
func (t *tcp) readChunk() (*chunk, int, error) {
	if t.raw == nil {
		return nil, 0, os.ErrClosed
	}
	c := chunks.Get().(*chunk)
	var n int
	var failed error
	err := t.raw.Read(func(fd uintptr) bool {
		if c == nil {
			c = chunks.Get().(*chunk)
		}
		for {
			n, failed = syscall.Read(int(fd), c[:])
			if failed != syscall.EINTR {
				break
			}
		}
		if failed == syscall.EAGAIN {
			chunks.Put(c)
			c = nil
			return false
		}
		return true
	})
	switch {
	case err != nil: // closed, or past its deadline
	case failed != nil:
		n, err = 0, os.NewSyscallError("read", failed)
	case n == 0:
		err = io.EOF
	}
	return c, max(n, 0), err
}
