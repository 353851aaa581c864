//go:build unix

package main_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// ssh is a pair of sshd and ssh that know each other: keys and configuration in a
// folder, nothing of the system's.
type ssh struct {
	keys, user, daemon string
	options            []string // of ssh and scp
}

func newSSH(t *testing.T, s *site) *ssh {
	t.Helper()
	for _, program := range []string{"ssh", "scp"} {
		require(t, program)
	}
	keygen := require(t, "ssh-keygen")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	h := &ssh{keys: filepath.Join(s.dir, "ssh"), user: me.Username, daemon: require(t, "sshd")}
	if err := os.Mkdir(h.keys, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"host", "user"} {
		must(t, exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", h.path(name)))
	}
	h.copy(t, "user.pub", "authorized_keys", "")
	h.copy(t, "host.pub", "known_hosts", "device ")
	h.options = []string{"-F", "none", "-i", h.path("user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile=" + h.path("known_hosts"), "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=device", "-o", "ConnectTimeout=20"}
	return h
}

func (h *ssh) path(name string) string { return filepath.Join(h.keys, name) }

func (h *ssh) copy(t *testing.T, from, to, before string) {
	t.Helper()
	text, err := os.ReadFile(h.path(from))
	if err == nil {
		err = os.WriteFile(h.path(to), append([]byte(before), text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// config writes sshd's configuration and returns its path.
func (h *ssh) config(t *testing.T, more string) string {
	t.Helper()
	if os.Geteuid() == 0 { // where sshd locks up its unprivileged part
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Another HOME, since the tester's shell may do anything at its start.
	text := "HostKey " + h.path("host") + "\nAuthorizedKeysFile " + h.path("authorized_keys") + "\nSetEnv HOME=" + h.keys + `
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
` + more
	path := h.path("sshd_config")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// byProxy are the arguments of an ssh or scp that goes through a ProxyCommand, as
// cli.md shows it.
func (h *ssh) byProxy(program string, more ...string) []string {
	args := append([]string{program, "-o", "ProxyCommand=farport service-proxy --stdio -d %n"}, h.options...)
	return append(args, more...)
}

// sshServer runs `sshd -i` for each connection to address: an sshd that needs no
// port of its own.
type sshServer struct {
	address  string
	listener net.Listener
	log      *output
	sessions sync.WaitGroup
}

// listen starts an sshServer that ends with the test.
func (h *ssh) listen(t *testing.T) *sshServer {
	t.Helper()
	config := h.config(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &sshServer{address: l.Addr().String(), listener: l, log: newOutput()}
	ctx, cancel := context.WithCancel(context.Background())
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			d.sessions.Go(func() { d.session(ctx, conn.(*net.TCPConn), h.daemon, config) })
		}
	})
	t.Cleanup(func() {
		d.stop()
		accepting.Wait()
		cancel()
		d.sessions.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", d.log)
		}
	})
	return d
}

// session is one sshd. It has the connection for itself.
func (d *sshServer) session(ctx context.Context, conn *net.TCPConn, sshd, config string) {
	f, err := conn.File()
	_ = conn.Close() // f is another descriptor of it
	if err != nil {
		fmt.Fprintln(d.log, err)
		return
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, sshd, "-i", "-e", "-f", config)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, d.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = soon
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(d.log, err)
		return
	}
	_ = f.Close() // sshd alone decides when the connection ends
	_ = cmd.Wait()
}

// stop lets no new connection in, as when sshd is stopped.
func (d *sshServer) stop() { _ = d.listener.Close() }

// ended waits until every session has, and fails the test if one goes on. No
// connection may come in meanwhile.
func (d *sshServer) ended(t *testing.T) {
	t.Helper()
	all := make(chan struct{})
	go func() {
		d.sessions.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-time.After(soon):
		t.Error("an sshd session goes on after its stream has ended")
	}
}
