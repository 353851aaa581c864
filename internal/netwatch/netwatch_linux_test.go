package netwatch

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/farportio/farport/internal/skip"
)

// helper is the variable that makes this test binary watch its network, and say
// "changed" for each change, until its standard input ends.
const helper = "FARPORT_TEST_NETWATCH"

func inNamespace() bool {
	if os.Getenv(helper) == "" {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		cancel()
	}()
	fmt.Println("watching")
	Run(ctx, func() { fmt.Println("changed") })
	fmt.Println("done")
	return true
}

// namespace is a network of its own, with a watch in it.
type namespace struct {
	t     *testing.T
	name  string
	watch *exec.Cmd
	lines chan string
}

// newNamespace makes the network, which is gone when the test ends.
func newNamespace(t *testing.T) *namespace {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		skip.Test(t, "ip is not installed: apt-get install iproute2")
	}
	if os.Geteuid() != 0 {
		skip.Test(t, "network namespaces need root")
	}
	n := &namespace{t: t, name: fmt.Sprintf("farport-watch-%d-%s", os.Getpid(), t.Name()), lines: make(chan string, 100)}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n.name).Run() })
	if out, err := exec.Command("ip", "netns", "add", n.name).CombinedOutput(); err != nil {
		skip.Test(t, "cannot make a network namespace here: "+string(out))
	}
	n.ip("link", "set", "lo", "up")
	n.start()
	return n
}

// start runs the watch until the test ends.
func (n *namespace) start() {
	n.t.Helper()
	n.watch = exec.Command("ip", "netns", "exec", n.name, os.Args[0])
	n.watch.Env = append(os.Environ(), helper+"=1")
	n.watch.Stderr = os.Stderr
	in, err := n.watch.StdinPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := n.watch.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.watch.Start(); err != nil {
		n.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n.lines <- lines.Text()
		}
	}()
	n.t.Cleanup(func() {
		in.Close()
		n.says("done")
		<-read
		if err := n.watch.Wait(); err != nil {
			n.t.Error(err)
		}
	})
	n.says("watching")
}

func (n *namespace) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", append([]string{"-n", n.name}, args...)...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// says waits for a line, past further changes.
func (n *namespace) says(want string) {
	n.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case line := <-n.lines:
			if line == want {
				return
			}
		case <-late:
			n.t.Errorf("the watch did not say %q", want)
			return
		}
	}
}

// quiet checks that nothing is told, for longer than a change takes to settle.
func (n *namespace) quiet() {
	n.t.Helper()
	select {
	case line := <-n.lines:
		n.t.Errorf("the watch said %q", line)
	case <-time.After(3 * calm):
	}
}

func TestRealChanges(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	n.quiet() // an idle network does not change
	for _, change := range [][]string{
		{"link", "add", "uplink", "type", "veth", "peer", "name", "peer"},
		{"link", "set", "peer", "up"},
		{"link", "set", "uplink", "up"},
		{"address", "add", "192.0.2.1/24", "dev", "uplink"}, // TEST-NET-1 (RFC 5737)
		{"route", "add", "default", "via", "192.0.2.254"},
		{"route", "del", "default"},
		{"address", "add", "2001:db8::1/64", "dev", "uplink", "nodad"}, // RFC 3849
		{"address", "del", "192.0.2.1/24", "dev", "uplink"},
		{"link", "set", "uplink", "down"},
	} {
		n.settle()
		n.ip(change...)
		n.says("changed")
		if t.Failed() {
			t.Fatalf("after ip %s", strings.Join(change, " "))
		}
	}
	n.settle()
	n.ip("link", "set", "uplink", "alias", "nothing that matters")
	n.quiet()
}

// settle waits until the consequences of earlier changes have been told: the kernel
// gives itself IPv6 addresses in its own time.
func (n *namespace) settle() {
	n.t.Helper()
	for late := time.After(20 * time.Second); ; {
		select {
		case <-n.lines:
		case <-time.After(2 * calm):
			return
		case <-late:
			n.t.Fatal("the network does not come to rest")
		}
	}
}

// A process that was stopped finds as much time gone as one on a machine that slept.
func TestSleep(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as a sleep")
	}
	t.Parallel()
	n := newNamespace(t)
	n.settle()
	signal := func(s syscall.Signal) {
		if err := n.watch.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	time.Sleep(asleep + 2*look)
	signal(syscall.SIGCONT)
	n.says("changed")
}
