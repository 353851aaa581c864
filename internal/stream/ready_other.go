//go:build !unix

package stream

import (
	"net"
	"sync"
	"syscall"
)

// rawOf says that this platform cannot wait for bytes without a buffer.
func rawOf(net.Conn) syscall.RawConn { return nil }

// readReady is never called: rawOf has nothing for it.
func readReady[B any](syscall.RawConn, *sync.Pool, func(*B) []byte) (*B, int, error) {
	panic("no raw connections here")
}
