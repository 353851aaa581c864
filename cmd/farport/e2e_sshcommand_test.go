//go:build unix

package main_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hubtest"
)

// TestSSHCommand runs farport ssh, and ssh, scp, sftp and rsync with farport ssh-config,
// with the real programs.
func TestSSHCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	binary := filepath.Join(t.TempDir(), "farport")
	must(t, exec.Command("go", "build", "-o", binary, "."))
	for _, test := range []struct {
		name string
		run  func(t *testing.T, binary string)
	}{
		{"exit code and streams", sshExitCode},
		{"forward", sshForward},
		{"ssh-config", sshByConfig},
		{"ansible", sshByAnsible},
		{"odd IDs", sshOddIDs},
		{"changed host key", sshChangedKey},
		{"impostor", sshImpostor},
		{"no host keys", sshNoHostKeys},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, binary) })
	}
}

// own are ssh's options that keep it from the tester's own files; of host keys they say
// nothing.
func (h *ssh) own(t *testing.T, more string) []string {
	t.Helper()
	text := more + "\nHost *\n    IdentityFile " + h.path("user") + "\n    IdentitiesOnly yes\n    BatchMode yes\n    User " + h.user +
		"\n    UserKnownHostsFile " + h.path("known") + "\n    GlobalKnownHostsFile /dev/null\n    ConnectTimeout 20\n"
	if err := os.WriteFile(h.path("config"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-F", h.path("config")}
}

// farportSSH is farport ssh to a device, with what stands behind --.
func (s *sshSite) farportSSH(t *testing.T, id string, more ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"farport", "ssh", "--", s.user + "@" + id, "--"}, s.own(t, "")...)
	return s.command(atService, append(args, more...)...)
}

// reports waits until a device has reported n host keys.
func (s *sshSite) reports(t *testing.T, id string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q has reported %d host keys", id, n), func() bool {
		var keys []struct{ State string }
		text := must(t, s.command(atService, "farport", "device", "host-keys", "-o", "json", "--", id))
		if err := json.Unmarshal([]byte(text), &keys); err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, k := range keys {
			if !strings.Contains(k.State, "no longer") {
				count++
			}
		}
		return count == n
	})
}

func sshExitCode(t *testing.T, binary string) {
	const id = "Pi-1"
	s := newSSHSite(t, binary, id)
	s.reports(t, id, 1)
	cmd := s.farportSSH(t, id, "cat; echo to stderr >&2; exit 7")
	cmd.Stdin = strings.NewReader("hello")
	if r := run(t, cmd, soon); r.code != 7 || r.stdout != "hello" || r.stderr != "to stderr\n" {
		t.Errorf("got exit code %d, stdout %q, stderr %q; want 7, hello, and nothing but the command's own line", r.code, r.stdout, r.stderr)
	}
	if _, err := os.Stat(s.path("known")); err == nil {
		t.Error("ssh wrote to its own known_hosts")
	}
	if r := run(t, s.farportSSH(t, "nobody", "true"), soon); r.code != 4 || !strings.Contains(r.stderr, `device "nobody"`) {
		t.Errorf("unknown device: exit code %d, %s", r.code, r.stderr)
	}
	fingerprint := strings.Fields(must(t, exec.Command("ssh-keygen", "-lf", s.path("host.pub"))))[1]
	if text := must(t, s.command(atHub, "farport", "device", "show", id)); !strings.Contains(text, "ssh-ed25519   "+fingerprint) {
		t.Errorf("device show does not have %s: %s", fingerprint, text)
	}
}

// sshForward: -L, -R and -D, each with a byte stream through it.
func sshForward(t *testing.T, binary string) {
	const id = "pi-1"
	s := newSSHSite(t, binary, id)
	s.reports(t, id, 1)
	ports, echo := freePorts(t, 3), hubtest.Echo(t)
	start(t, s.farportSSH(t, id, "-N", "-o", "ExitOnForwardFailure=yes", "-L", ports[0]+":"+echo, "-R", ports[1]+":"+echo, "-D", ports[2]))
	for i, way := range []string{"-L", "-R", "-D"} {
		conn := dialSoon(t, ports[i])
		_ = conn.SetDeadline(time.Now().Add(soon))
		if way == "-D" {
			socks(t, conn, echo)
		}
		back := make([]byte, 5)
		if _, err := io.WriteString(conn, "hello"); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		if _, err := io.ReadFull(conn, back); err != nil || string(back) != "hello" {
			t.Errorf("%s: came %q, %v", way, back, err)
		}
		conn.Close()
	}
}

// socks asks a SOCKS 5 server for an IPv4 address (RFC 1928).
func socks(t *testing.T, conn net.Conn, address string) {
	t.Helper()
	to := netip.MustParseAddrPort(address)
	ask := append([]byte{5, 1, 0, 5, 1, 0, 1}, to.Addr().AsSlice()...)
	ask = binary.BigEndian.AppendUint16(ask, to.Port())
	answer := make([]byte, 2+10)
	if _, err := conn.Write(ask); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, answer); err != nil || answer[3] != 0 {
		t.Fatalf("SOCKS answers % x, %v", answer, err)
	}
}

// sshByConfig: plain ssh, scp, sftp and rsync to DEVICE.farport.
func sshByConfig(t *testing.T, binary string) {
	const id = "Pi_4"
	s := newSSHSite(t, binary, id)
	rsync, sftp := require(t, "rsync"), require(t, "sftp")
	s.reports(t, id, 1)
	file := s.path("farport conf")
	must(t, s.command(atService, "farport", "ssh-config", "--file", file))
	options := s.own(t, fmt.Sprintf("Include %q", file))
	host := id + ".farport"
	ssh := func(more ...string) result {
		args := append(append([]string{"ssh"}, options...), more...)
		return run(t, s.command(atService, args...), soon)
	}
	if r := ssh(host, "exit 7"); r.code != 7 || r.stderr != "" {
		t.Errorf("ssh exited %d: %s", r.code, r.stderr)
	}
	if r := ssh("nobody.farport", "true"); r.code != 255 || !strings.Contains(r.stderr, `device "nobody"`) {
		t.Errorf("ssh to an unknown device exited %d: %s", r.code, r.stderr)
	}
	near, far := s.path("near"), s.path("far")
	want := randomFile(t, near, 1, 3_000_000)
	batch := s.path("batch")
	if err := os.WriteFile(batch, fmt.Appendf(nil, "put %s %s\n", near, far), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"scp":   append(append([]string{"scp", "-q"}, options...), near, host+":"+far),
		"sftp":  append(append([]string{sftp, "-q", "-b", batch}, options...), host),
		"rsync": {rsync, "-e", "ssh -F " + s.path("config"), near, host + ":" + far},
	} {
		_ = os.Remove(far)
		must(t, s.command(atService, args...))
		if got := sum(t, far); got != want {
			t.Errorf("%s: SHA-256 of the copy is %s, want %s", name, got, want)
		}
	}
}

// sshByAnsible: a program that starts ssh and sftp itself.
func sshByAnsible(t *testing.T, binary string) {
	const id = "pi-1"
	ansible := require(t, "ansible")
	s := newSSHSite(t, binary, id)
	s.reports(t, id, 1)
	file := s.path("farport.conf")
	must(t, s.command(atService, "farport", "ssh-config", "--file", file))
	s.own(t, "Include "+file)
	cmd := s.command(atService, ansible, "all", "-i", id+".farport,", "-m", "ping", "--ssh-common-args", "-F "+s.path("config"))
	// A master would outlive the test.
	cmd.Env = append(cmd.Env, "ANSIBLE_SSH_ARGS=-o ControlMaster=no", "ANSIBLE_REMOTE_TEMP="+s.path("remote"), "ANSIBLE_DEPRECATION_WARNINGS=False")
	if text := must(t, cmd); !strings.Contains(text, `"ping": "pong"`) {
		t.Errorf("ansible says %s", text)
	}
}

// sshOddIDs: what ssh or a shell would take for something else.
func sshOddIDs(t *testing.T, binary string) {
	const first = `-oProxyCommand=x`
	s := newSSHSite(t, binary, first)
	ids := []string{first, `a$(pwned)'d,e`, `%h%n`, `#*?!:=+`, `pi/$m'`}
	file := s.path("farport.conf")
	must(t, s.command(atService, "farport", "ssh-config", "--file", file))
	for i, id := range ids {
		if i > 0 {
			if device, _, isModule := strings.Cut(id, "/"); isModule {
				s.addDevice(device)
			}
			s.deviceProxy(s.addDevice(id), id, "--service", "ssh="+s.sshd.address)
		}
		s.reports(t, id, 1)
		if r := run(t, s.farportSSH(t, id, "exit 7"), soon); r.code != 7 || r.stderr != "" {
			t.Errorf("farport ssh %q exited %d: %s", id, r.code, r.stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "pwned")); err == nil {
		t.Error("a shell has run what was in an ID")
	}
	// Through the block a name comes to the shell as it is.
	options := s.own(t, "Include "+file)
	for _, name := range []string{`x'$(touch pwned)'.farport`, `x;touch pwned;.farport`, "x`touch pwned`.farport", `%h#*.farport`} {
		r := run(t, s.command(atService, append(append([]string{"ssh"}, options...), "--", name, "true")...), soon)
		if r.code != 255 {
			t.Errorf("ssh to %q exited %d: %s", name, r.code, r.stderr)
		}
	}
	if r := run(t, s.command(atService, append(append([]string{"ssh"}, options...), "~23~2a~3f~21~3a~3d+.farport", "exit 7")...), soon); r.code != 7 {
		t.Errorf("ssh to an escaped ID exited %d: %s", r.code, r.stderr)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "pwned")); err == nil {
		t.Error("a shell has run what was in a host name")
	}
}

// newHostKey gives sshd another host key; its sessions read it anew.
func (h *ssh) newHostKey(t *testing.T) {
	t.Helper()
	_ = os.Remove(h.path("host"))
	must(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "host", "-f", h.path("host")))
}

// sshChangedKey: refused by both ways, until it is approved.
func sshChangedKey(t *testing.T, binary string) {
	const id = "pi-1"
	s := newSSHSite(t, binary, id)
	file := s.path("farport.conf")
	must(t, s.command(atService, "farport", "ssh-config", "--file", file))
	s.reports(t, id, 1)
	must(t, s.farportSSH(t, id, "true"))
	s.newHostKey(t)
	byConfig := func() *exec.Cmd {
		return s.command(atService, append(append([]string{"ssh"}, s.own(t, "Include "+file)...), id+".farport", "exit 7")...)
	}
	// Not reported yet: the server shows another key than the hub says.
	for _, cmd := range []*exec.Cmd{s.farportSSH(t, id, "exit 7"), byConfig()} {
		if r := run(t, cmd, soon); r.code != 255 || !strings.Contains(r.stderr, "the server shows a host key that the device has not reported: ssh-ed25519 SHA256:") {
			t.Errorf("%q to a server with another key exited %d: %s", cmd.Args[0], r.code, r.stderr)
		}
	}
	s.device.kill()
	s.device = s.deviceProxy(s.connectionString, id, "--target", s.sshd.address)
	shown := func() string { return must(t, s.command(atService, "farport", "device", "host-keys", id)) }
	eventually(t, "the new key is reported", func() bool { return strings.Contains(shown(), "not approved") })
	for cmd, code := range map[*exec.Cmd]int{s.farportSSH(t, id, "exit 7"): 1, byConfig(): 255} {
		r := run(t, cmd, soon)
		if r.code != code || !strings.Contains(r.stderr, `its host keys have changed: now ssh-ed25519 SHA256:`) ||
			!strings.Contains(r.stderr, `"farport device host-keys --approve -- pi-1"`) {
			t.Errorf("%q to a device with another key exited %d, want %d: %s", cmd.Args[0], r.code, code, r.stderr)
		}
	}
	must(t, s.command(atService, "farport", "device", "host-keys", "--approve", "--", id))
	for _, cmd := range []*exec.Cmd{s.farportSSH(t, id, "exit 7"), byConfig()} {
		if r := run(t, cmd, soon); r.code != 7 || r.stderr != "" {
			t.Errorf("%q after the approval exited %d: %s", cmd.Args[0], r.code, r.stderr)
		}
	}
}

// sshImpostor: another sshd answers in the device's place, with a key of a type that the
// device has not.
func sshImpostor(t *testing.T, binary string) {
	const id = "pi-1"
	s := newSSHSite(t, binary, id)
	s.reports(t, id, 1)
	_ = os.Remove(s.path("host"))
	must(t, exec.Command("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", "host", "-f", s.path("host")))
	cmd := s.farportSSH(t, id, "exit 7")
	if r := run(t, cmd, soon); r.code != 255 || !strings.Contains(r.stderr, "has not reported: ecdsa-sha2-nistp256 SHA256:") {
		t.Errorf("ssh to an impostor at the first connection exited %d: %s", r.code, r.stderr)
	}
}

// sshNoHostKeys: ssh goes by its own known_hosts, until the device reports keys; once it
// has, its silence changes nothing.
func sshNoHostKeys(t *testing.T, binary string) {
	const id = "Pi-1"
	s := newSSHSite(t, binary, id)
	s.reports(t, id, 1)
	s.device.kill()
	proxy := func(more ...string) {
		s.device = s.deviceProxy(s.connectionString, id, append([]string{"--target", s.sshd.address}, more...)...)
	}
	proxy("--no-host-keys")
	s.reports(t, id, 0)
	const said = "reports no host keys to the hub; ssh goes by its own known_hosts"
	if r := run(t, s.farportSSH(t, id, "exit 7"), soon); r.code != 255 || !strings.Contains(r.stderr, said) {
		t.Errorf("ssh without a known host key exited %d: %s", r.code, r.stderr)
	}
	s.copy(t, "host.pub", "known", "~50i-1.farport ")
	if r := run(t, s.farportSSH(t, id, "exit 7"), soon); r.code != 7 || !strings.Contains(r.stderr, said) {
		t.Errorf("ssh with a host key of its own exited %d: %s", r.code, r.stderr)
	}
	s.device.kill()
	proxy()
	s.reports(t, id, 1)
	must(t, s.farportSSH(t, id, "true"))
	s.device.kill()
	proxy("--no-host-keys")
	s.reports(t, id, 0)
	s.newHostKey(t)
	s.copy(t, "host.pub", "known", "~50i-1.farport ")
	if r := run(t, s.farportSSH(t, id, "exit 7"), soon); r.code != 255 || !strings.Contains(r.stderr, "reports no host keys any more") {
		t.Errorf("ssh to a device that no longer reports keys exited %d: %s", r.code, r.stderr)
	}
}
