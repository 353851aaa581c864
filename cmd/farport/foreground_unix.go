//go:build unix

package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// foreground reports whether the terminal w is this process's to write on in place: a shell
// has not put the process in the background, or taken the terminal back. One that does not
// say, as it is not the process's own, is.
func foreground(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return true
	}
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}
