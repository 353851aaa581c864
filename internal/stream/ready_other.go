//go:build !unix

package stream

import (
	"net"
	"sync"
	"syscall"
)

// rawOf says that this platform cannot wait for bytes without a buffer.
func rawOf(net.Conn) syscall.RawConn { return nil }

// gone is never called: rawOf has nothing for it.
func gone(syscall.RawConn) bool { panic("no raw connections here") }

// readSpace is never called: rawOf has nothing for it.
func readSpace(syscall.RawConn, func() []byte, func(int)) (int, error) {
	panic("no raw connections here")
}

// awaitReset is never called: rawOf has nothing for it.
func awaitReset(syscall.RawConn) error { panic("no raw connections here") }

// writeReady is never called: rawOf has nothing for it.
func writeReady(syscall.RawConn, []byte) int { panic("no raw connections here") }

// readReady is never called: rawOf has nothing for it.
func readReady[B any](syscall.RawConn, *sync.Pool, func(*B) []byte) (*B, int, error) {
	panic("no raw connections here")
}

// writeWhole is never called: rawOf has nothing for it.
func writeWhole(syscall.RawConn, []byte) (int, error) { panic("no raw connections here") }
