//go:build unix

package main_test

import (
	"bytes"
	"cmp"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/farportio/farport/internal/skip"
)

// soon bounds every wait for something that takes a moment; reaching it is a failure.
const soon = 20 * time.Second

// packages are Debian's for the real programs that tests use.
var packages = map[string]string{
	"bash": "bash", "ip": "iproute2", "nft": "nftables", "timeout": "coreutils",
	"ansible": "ansible-core", "rsync": "rsync", "sftp": "openssh-client",
	"dbus-daemon": "dbus", "gnome-keyring-daemon": "gnome-keyring",
	"scp": "openssh-client", "ssh": "openssh-client", "ssh-keygen": "openssh-client", "sshd": "openssh-server",
	"freerdp-shadow-cli": "freerdp2-shadow-x11", "winpr-hash": "winpr-utils", "xfreerdp": "freerdp2-x11", "remmina": "remmina",
	"import": "imagemagick", "openbox": "openbox", "useradd": "passwd", "xdotool": "xdotool",
	"env": "coreutils", "nsenter": "util-linux", "pivot_root": "util-linux", "setpriv": "util-linux", "unshare": "util-linux", "systemd-analyze": "systemd",
	"microsocks": "microsocks", "tinyproxy": "tinyproxy-bin",
	"openssl": "openssl", "xrdp": "xrdp", "xrdp-sesman": "xrdp", "xterm": "xterm", "xsetroot": "x11-xserver-utils", "Xvfb": "xvfb", "Xorg": "xorgxrdp",
}

// require returns the path of a real program. A test whose program is missing is
// skipped, or fails where FARPORT_TEST_REQUIRE is "all", as in CI.
func require(t *testing.T, program string) string {
	t.Helper()
	for _, name := range []string{program, filepath.Join("/usr/sbin", program)} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	skip.Test(t, program+" is not installed: apt-get install "+packages[program])
	return ""
}

// eventually polls for what another program does and does not tell.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v it is not so that %s", soon, what)
		}
	}
}

// dialSoon connects to a port that somebody is about to open.
func dialSoon(t *testing.T, address string) (conn net.Conn) {
	t.Helper()
	eventually(t, "somebody listens on "+address, func() bool {
		var err error
		conn, err = net.Dial("tcp", address)
		return err == nil
	})
	return conn
}

// process is a running program. It and what it started are killed when the test
// ends, and its output is logged if the test has failed.
type process struct {
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	done   chan struct{} // closed when it has ended and its output is complete
}

// start runs cmd. Its standard output and error are kept where they are not set.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, stdout: newOutput(), stderr: newOutput(), done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = p.stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = p.stderr
	}
	cmd.WaitDelay = soon
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %q: %v", cmd.Args, err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // what matters of it is in ProcessState
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && !(cmd.ProcessState.Success() && p.stderr.String() == "") {
			t.Logf("%s: %v\n%s%s", p, cmd.ProcessState, p.stdout, p.stderr)
		}
	})
	return p
}

// String names the process by its program and the arguments that tell it from
// others of the program.
func (p *process) String() string {
	args := p.cmd.Args
	if len(args) > 6 {
		args = slices.Concat(args[:2], []string{"..."}, args[len(args)-3:])
	}
	return strings.Join(args, " ")
}

// kill ends the process with SIGKILL, with all its children, and waits for it.
func (p *process) kill() {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may end by itself meanwhile
		<-p.done
	}
}

// signal sends sig to the process alone.
func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("signal %s: %v", p, err)
	}
}

// stillRuns stands for the exit code of a process that did not end in time.
const stillRuns = -2

// exit waits for the process to end by itself and returns its exit code: -1 if a
// signal ended it, stillRuns if it has not ended, which fails the test.
func (p *process) exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Errorf("%s still runs after %v", p, within)
		return stillRuns
	}
}

// running fails the test if the process has ended.
func (p *process) running(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
		t.Errorf("%s has ended: %v", p, p.cmd.ProcessState)
	default:
	}
}

// said waits until standard error matches pattern for the n-th time, and returns
// that match with its groups. ^ and $ match at lines.
func (p *process) said(t *testing.T, pattern string, n int, within time.Duration) []string {
	t.Helper()
	expr := regexp.MustCompile("(?m)" + pattern)
	timer := time.NewTimer(within)
	defer timer.Stop()
	for ended := false; ; {
		text, grown := p.stderr.read()
		if found := expr.FindAllStringSubmatch(text, n); len(found) == n {
			return found[n-1]
		}
		if ended {
			t.Fatalf("%s ended before it said %q for the %d. time", p, pattern, n)
		}
		select {
		case <-grown:
		case <-p.done:
			ended = true
		case <-timer.C:
			t.Fatalf("%s did not say %q for the %d. time within %v", p, pattern, n, within)
		}
	}
}

// result is what became of a program that was run to its end.
type result struct {
	code           int
	stdout, stderr string
}

// run runs cmd to its end.
func run(t *testing.T, cmd *exec.Cmd, within time.Duration) result {
	t.Helper()
	p := start(t, cmd)
	code := p.exit(t, within)
	return result{code, p.stdout.String(), p.stderr.String()}
}

// must runs cmd, which has to exit 0, and returns its standard output.
func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	r := run(t, cmd, 3*soon)
	if r.code != 0 {
		t.Fatalf("%q exited %d: %s", cmd.Args, r.code, cmp.Or(r.stderr, r.stdout))
	}
	return r.stdout
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
