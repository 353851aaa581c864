//go:build linux

package sdktest

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// soon bounds every wait for something that takes a moment; reaching it is a failure.
const soon = 20 * time.Second

// process is a running program. It and what it started are killed when the test ends,
// and all it printed is logged if the test has failed, unless it exited 0.
type process struct {
	cmd  *exec.Cmd
	text *output
	done chan struct{} // closed when it has ended and its output is complete
}

// start runs a program for as long as the test runs, at most for the time within.
func start(t *testing.T, within time.Duration, env []string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	p := &process{cmd: cmd, text: newOutput(), done: make(chan struct{})}
	cmd.Env, cmd.Stdout, cmd.Stderr = env, p.text, p.text
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = soon
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatalf("start %q: %v", args, err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // what matters of it is in ProcessState
		cancel()
	}()
	t.Cleanup(func() {
		cancel()
		<-p.done
		if t.Failed() && !cmd.ProcessState.Success() {
			t.Logf("%q: %v\n%s", args, cmd.ProcessState, p.text)
		}
	})
	return p
}

// exit waits until the process has ended and returns its exit code, -1 if a signal
// ended it, as happens when its time is over.
func (p *process) exit() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// said waits until the output matches pattern, and returns the match with its groups.
// ^ and $ match at lines.
func (p *process) said(t *testing.T, pattern string) []string {
	t.Helper()
	expr := regexp.MustCompile("(?m)" + pattern)
	late := time.After(soon)
	for ended := false; ; {
		text, grown := p.text.read()
		if found := expr.FindStringSubmatch(text); found != nil {
			return found
		}
		if ended {
			t.Fatalf("%q ended before it said %q", p.cmd.Args, pattern)
		}
		select {
		case <-grown:
		case <-p.done:
			ended = true
		case <-late:
			t.Fatalf("%q did not say %q within %v", p.cmd.Args, pattern, soon)
		}
	}
}

// ends waits until the process has ended, which has to be with code, and looks for
// pattern in its output. ^ and $ match at lines.
func (p *process) ends(t *testing.T, code int, pattern string) {
	t.Helper()
	if got := p.exit(); got != code {
		t.Errorf("%q exited %d, want %d\n%s", p.cmd.Args, got, code, p.text)
	}
	if !regexp.MustCompile("(?m)" + pattern).MatchString(p.text.String()) {
		t.Errorf("%q did not say %q\n%s", p.cmd.Args, pattern, p.text)
	}
}

// must runs a program, which has to exit 0, and returns what it printed.
func must(t *testing.T, env []string, args ...string) string {
	t.Helper()
	p := start(t, soon, env, args...)
	if code := p.exit(); code != 0 {
		t.Fatalf("%q exited %d", args, code)
	}
	return p.text.String()
}

// output keeps what a process writes and tells when there is more.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{} // closed, and replaced, at each write
}

func newOutput() *output { return &output{grown: make(chan struct{})} }

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.grown)
	o.grown = make(chan struct{})
	return o.text.Write(p)
}

// read returns what there is, and a channel that is closed once there is more.
func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.grown
}

func (o *output) String() string {
	text, _ := o.read()
	return text
}
