//go:build unix && (!linux || race)

package stream

import "syscall"

// tryRead reads a non-blocking socket once. The race detector takes I/O for synchronization here only.
func tryRead(fd uintptr, p []byte) (int, error) { return try(syscall.Read, fd, p) }

// tryWrite writes to a non-blocking socket once.
func tryWrite(fd uintptr, p []byte) (int, error) { return try(syscall.Write, fd, p) }

func try(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
