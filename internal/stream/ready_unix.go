//go:build unix

package stream

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// rawOf is what readReady needs of a connection; nil if c has no such thing.
func rawOf(c net.Conn) syscall.RawConn {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// readSpace is readReady for memory that is asked for, and given back, with each attempt.
// Without memory it returns 0 bytes.
func readSpace(raw syscall.RawConn, space func() []byte, filled func(int)) (n int, err error) {
	var failed error
	given := true
	err = raw.Read(func(fd uintptr) bool {
		p := space()
		if given = p != nil; !given { // any more, since an attempt that found nothing to read
			n, failed = 0, nil
			return true
		}
		n, failed = tryRead(fd, p)
		filled(n)
		return failed != syscall.EAGAIN
	})
	switch {
	case err != nil: // closed, or past its deadline
		n = 0
	case failed != nil:
		err = os.NewSyscallError("read", failed)
	case n == 0 && given:
		err = io.EOF
	}
	return n, err
}

// gone is whether there is no connection any more: it was reset, or both directions have
// ended, or it was closed here, as Abort does.
func gone(raw syscall.RawConn) bool {
	var err error
	closed := raw.Control(func(fd uintptr) { _, err = syscall.Getpeername(int(fd)) })
	return closed != nil || err != nil
}

// awaitReset waits until the connection is broken, or for its deadline.
func awaitReset(raw syscall.RawConn) error {
	var broken error
	err := raw.Read(func(fd uintptr) bool {
		n, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		switch no := syscall.Errno(n); {
		case err != nil:
			broken = os.NewSyscallError("getsockopt", err)
		case no == syscall.ECONNRESET, no == syscall.EPIPE, no == syscall.ETIMEDOUT: // others need not last
			broken = os.NewSyscallError("read", no)
		}
		return broken != nil
	})
	if err == nil {
		err = broken
	}
	return err
}

// writeReady writes what can be written without waiting.
func writeReady(raw syscall.RawConn, p []byte) (n int) {
	_ = raw.Write(func(fd uintptr) bool { // a failure shows in the next write
		n, _ = tryWrite(fd, p)
		return true
	})
	return n
}

// writeWhole writes all of p, as net.TCPConn does, by the write deadline.
func writeWhole(raw syscall.RawConn, p []byte) (done int, err error) {
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for done < len(p) && failed == nil {
			var n int
			n, failed = tryWrite(fd, p[done:])
			done += n
		}
		if failed == syscall.EAGAIN {
			failed = nil
			return false
		}
		return true
	})
	if failed != nil {
		err = os.NewSyscallError("write", failed)
	}
	return done, err
}

// readReady reads as net.TCPConn does, but takes the buffer out of the pool for the
// time of each attempt only, so that a connection that waits holds none. The caller
// puts the buffer back, which is nil if there was none to read into.
func readReady[B any](raw syscall.RawConn, pool *sync.Pool, bytes func(*B) []byte) (buf *B, n int, err error) {
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		if buf == nil {
			buf = pool.Get().(*B)
		}
		n, failed = tryRead(fd, bytes(buf))
		if failed == syscall.EAGAIN {
			pool.Put(buf)
			buf = nil
			return false
		}
		return true
	})
	switch {
	case err != nil: // closed, or past its deadline
		n = 0
	case failed != nil:
		n, err = 0, os.NewSyscallError("read", failed)
	case n == 0:
		err = io.EOF
	}
	return buf, n, err
}
