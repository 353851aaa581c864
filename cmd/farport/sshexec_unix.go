//go:build unix

package main

import (
	"fmt"
	"syscall"
)

// become replaces this process by a program, which so has its terminal, signals and exit
// code. It returns only if that fails.
func become(program string, args, env []string) error {
	return fmt.Errorf("start %s: %w", program, syscall.Exec(program, args, env))
}
