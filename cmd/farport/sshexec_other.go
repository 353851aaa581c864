//go:build !unix

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// become runs a program in place of this process, which ends with its exit code. The
// system sends interrupts to both; the program decides what they mean. It returns only if
// that fails.
func become(program string, args, env []string) error {
	cmd := exec.Command(program, args[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		return fmt.Errorf("start %s: %w", program, err)
	}
	os.Exit(cmd.ProcessState.ExitCode())
	return nil
}
