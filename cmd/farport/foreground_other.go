//go:build !unix

package main

import "io"

// foreground reports whether the terminal w is this process's to write on in place. There
// are no jobs in the background.
func foreground(io.Writer) bool { return true }
