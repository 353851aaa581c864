//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/farportio/farport/internal/skip"
)

// systemd is a machine of its own that systemd runs: testdata/systemd/boot says how it is
// kept apart from this one.
type systemd struct {
	*site
	root string // the machine's, seen from here
}

// bootSystemd starts the machine. It goes when the test ends, with all in it.
func bootSystemd(t *testing.T, binary string) *systemd {
	t.Helper()
	nsenter, unshare := require(t, "nsenter"), require(t, "unshare")
	for _, program := range []string{"ip", "pivot_root", "setpriv", "systemd-analyze"} {
		require(t, program)
	}
	if os.Geteuid() != 0 {
		skip.Test(t, "namespaces need root")
	}
	boot, err := filepath.Abs("testdata/systemd/boot")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "/opt/bin/farport")
	var said bytes.Buffer // read after the end
	cmd := exec.Command(unshare, "--cgroup", "--mount", "sh", boot, t.TempDir(), binary, s.dir)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = soon
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Setsid:      true,
		UseCgroupFD: true, CgroupFD: newCgroup(t),
	}
	if err := cmd.Start(); err != nil {
		skip.Test(t, "cannot make namespaces here: "+err.Error())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // what matters of it is in ProcessState
	}()
	pid := fmt.Sprint(cmd.Process.Pid)
	m := &systemd{site: s, root: "/proc/" + pid + "/root"}
	inside := []string{nsenter, "-t", pid, "-m", "-u", "-i", "-n", "-p", "--", "env", "-C", s.dir}
	s.inside = map[string][]string{atHub: inside, atDevice: inside, atService: inside}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.command(atDevice, "journalctl", "--no-pager", "-n", "60", "-o", "short-precise").CombinedOutput()
			t.Logf("journal:\n%s", out)
		}
		_ = cmd.Process.Kill() // and with the first process all of them
		<-done
		if t.Failed() {
			t.Logf("boot: %s", said.String())
		}
	})
	eventually(t, "systemd has started", func() bool {
		select {
		case <-done:
			t.Fatalf("boot: %v", cmd.ProcessState)
		default:
		}
		// Before that, nsenter would be in a half-made machine.
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		return string(name) == "systemd\n" && exists(m.root+"/run/systemd/private")
	})
	return m
}

// leash ends all processes of a cgroup and removes it, once its standard input ends: with
// the test, or with the test's process, however that ends.
const leash = `read -r _
echo 1 >"$1/cgroup.kill"
for try in $(seq 200); do
	grep -q "populated 0" "$1/cgroup.events" && break
	sleep 0.1
done
find "$1" -depth -type d -exec rmdir {} \;
`

// newCgroup makes a cgroup, on a leash, and opens it.
func newCgroup(t *testing.T) (fd int) {
	t.Helper()
	top := "/sys/fs/cgroup"
	if !exists(top + "/cgroup.controllers") {
		top += "/unified"
	}
	if !exists(top + "/cgroup.controllers") {
		skip.Test(t, "there are no cgroups, version 2")
	}
	dir, err := os.MkdirTemp(top, "farport-test-*")
	if err != nil {
		skip.Test(t, "cannot make a cgroup here: "+err.Error())
	}
	holder := exec.Command("sh", "-c", leash, "sh", dir)
	hand, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, holder)
	t.Cleanup(func() {
		_ = hand.Close()
		if code := p.exit(t, 2*soon); code != 0 || exists(dir) {
			t.Errorf("cgroup %s is left (exit code %d)", dir, code)
		}
	})
	fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// farport runs a command at the device, which has to exit with code.
func (m *systemd) farport(code int, stdin string, args ...string) result {
	m.t.Helper()
	cmd := m.command(atDevice, append([]string{"farport"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	r := run(m.t, cmd, 3*soon)
	if r.code != code {
		m.t.Fatalf("farport %q: exit code %d, want %d: %s", args, r.code, code, r.stderr)
	}
	return r
}

// state is what the device-proxy's status says.
func (m *systemd) state() (state, detail string) {
	m.t.Helper()
	r := run(m.t, m.command(atDevice, "farport", "device-proxy", "status", "-o", "json"), soon)
	var s struct{ State, Detail string }
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil {
		m.t.Fatalf("status: %v: %q %q", err, r.stdout, r.stderr)
	}
	if (s.State == "running") != (r.code == 0) {
		m.t.Errorf("status %+v exits %d", s, r.code)
	}
	return s.State, s.Detail
}

func (m *systemd) connected() bool {
	m.t.Helper()
	state, detail := m.state()
	return state == "running" && detail == "connected to localhost"
}

// show is a property of the device-proxy's unit.
func (m *systemd) show(property string) string {
	m.t.Helper()
	return strings.TrimSpace(must(m.t, m.command(atDevice, "systemctl", "show", "--value", "-p", property, "farport-device-proxy.service")))
}

// read is a file of the machine.
func (m *systemd) read(path string) string {
	m.t.Helper()
	text, err := os.ReadFile(m.root + path)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// write makes a file in the machine.
func (m *systemd) write(path, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.root+path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// installed are the files that installing makes.
var installed = []string{
	"/etc/systemd/system/farport-device-proxy.service",
	"/etc/systemd/system/multi-user.target.wants/farport-device-proxy.service",
	"/etc/farport/device.conn", "/etc/farport/device-secrets.yaml", "/run/credentials/farport-device-proxy.service",
}

// nothingLeft fails the test if there is anything of the service.
func (m *systemd) nothingLeft() {
	m.t.Helper()
	for _, path := range installed {
		if exists(m.root + path) {
			m.t.Errorf("%s is left", path)
		}
	}
	if got := m.show("LoadState"); got != "not-found" {
		m.t.Errorf("systemd says the unit is %s", got)
	}
}

// TestSystemd runs hub and device-proxy as services of a real systemd, on a machine of its
// own that nothing else runs on.
func TestSystemd(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	binary := filepath.Join(t.TempDir(), "farport")
	must(t, exec.Command("go", "build", "-o", binary, "."))
	microsocks := require(t, "microsocks")
	m := bootSystemd(t, binary)
	client := newSSH(t, m.site)
	const id = "pi-1"

	unit, err := os.ReadFile("../../docs/systemd/farport-hub.service")
	if err != nil {
		t.Fatal(err)
	}
	m.write("/etc/systemd/system/farport-hub.service", strings.ReplaceAll(string(unit), "/usr/bin/farport", "/opt/bin/farport"))
	m.write("/etc/farport/hub.env", "FARPORT_HOST=localhost\nFARPORT_LISTEN=127.0.0.1:443\n")
	must(t, m.command(atHub, "systemctl", "daemon-reload"))
	must(t, m.command(atHub, "systemctl", "start", "farport-hub.service")) // waits until it is ready
	m.dataDir = m.root + "/var/lib/farport"
	m.env = append(m.env, "FARPORT_DATA_DIR=/var/lib/farport")
	connectionString := m.addDevice(id)
	_, key, _ := strings.Cut(connectionString, ";SharedAccessKey=")
	key, _, _ = strings.Cut(key, ";")

	sshd := start(t, m.command(atDevice, client.daemon, "-D", "-e", "-f", client.config(t, "Port 22\nListenAddress 127.0.0.1\n")))
	sshd.said(t, `^Server listening on 127\.0\.0\.1 port 22\.`, 1, soon)
	start(t, m.command(atDevice, microsocks, "-i", "127.0.0.1", "-p", "1080", "-u", "me", "-P", "s-cret"))
	login := func() {
		t.Helper()
		cmd := m.command(atService, client.byProxy("ssh", client.user+"@"+id, "cat; exit 7")...)
		cmd.Stdin = strings.NewReader("hello")
		if r := run(t, cmd, 3*soon); r.code != 7 || r.stdout != "hello" {
			t.Errorf("ssh: exit code %d, stdout %q, stderr %q; want 7 and hello", r.code, r.stdout, r.stderr)
		}
	}

	// What the hub refuses leaves nothing.
	m.farport(1, "", "device-proxy", "status")
	wrong := strings.Replace(connectionString, key, "d3Jvbmcgd3Jvbmcgd3Jvbmc=", 1)
	if r := m.farport(3, wrong, "device-proxy", "install", "--connection-string-file", "-"); !strings.Contains(r.stderr, "hint: the hub refused the credentials") {
		t.Errorf("install with a wrong key says %q", r.stderr)
	}
	m.nothingLeft()

	// Flags, a file by a relative path and a password come to the service.
	if err := os.WriteFile(filepath.Join(m.dir, "ca.pem"), []byte(m.read("/var/lib/farport/ca.pem")), 0o600); err != nil {
		t.Fatal(err)
	}
	dial := []string{"--ca-file", "ca.pem", "--proxy", "socks5://me:s-cret@127.0.0.1:1080"}
	args := slices.Concat([]string{"device-proxy", "install", "--connection-string-file", "-", "--service", "default=127.0.0.1:22"}, dial)
	if r := m.farport(0, connectionString, args...); r.stderr != "farport: service farport-device-proxy installed and running: connected to localhost\n" {
		t.Errorf("install says %q", r.stderr)
	}
	for _, path := range installed[:4] {
		if !exists(m.root + path) {
			t.Errorf("no %s", path)
		}
	}
	m.confined(key)
	login()

	// It comes back after it was killed.
	before := m.show("MainPID")
	must(t, m.command(atDevice, "kill", "-KILL", before))
	eventually(t, "the killed service is back", func() bool { return m.connected() && m.show("MainPID") != before })
	login()

	// Installing again replaces it, or what fails leaves it.
	again := append(slices.Clone(args), "--max-streams", "7")
	m.farport(3, wrong, again...)
	eventually(t, "the old service is back", m.connected)
	if strings.Contains(m.read(installed[0]), "max-streams") || !strings.Contains(m.read("/etc/farport/device.conn"), key) {
		t.Error("a failed installation has changed the service that was there")
	}
	login()
	m.farport(0, connectionString, slices.DeleteFunc(again, func(arg string) bool { return slices.Contains(dial, arg) })...)
	if exists(m.root+"/etc/farport/device-secrets.yaml") || !strings.Contains(m.read(installed[0]), `"--max-streams=7"`) {
		t.Error("installing again has not replaced the flags")
	}
	login()

	// Only root may.
	anybody := m.command(atDevice, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", m.binary, "device-proxy", "uninstall")
	if r := run(t, anybody, soon); r.code != 1 || !strings.Contains(r.stderr, "only root") {
		t.Errorf("uninstall by a user: exit code %d, %q", r.code, r.stderr)
	}

	pid := m.show("MainPID")
	m.farport(0, "", "device-proxy", "uninstall")
	m.nothingLeft()
	if exists(m.root + "/proc/" + pid) {
		t.Error("the process is left")
	}
	if r := m.farport(0, "", "device-proxy", "uninstall"); r.stderr != "farport: service farport-device-proxy is not installed\n" {
		t.Errorf("uninstall of nothing says %q", r.stderr)
	}
}

// confined looks at the process of the service: no secret is where others see it, and
// systemd has locked it up.
func (m *systemd) confined(key string) {
	m.t.Helper()
	proc := "/proc/" + m.show("MainPID")
	secrets := []string{key, "s-cret"}
	for _, path := range []string{proc + "/cmdline", proc + "/environ", installed[0]} {
		text := m.read(path)
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				m.t.Errorf("a secret is in %s", path)
			}
		}
	}
	status := make(map[string]string)
	for line := range strings.Lines(m.read(proc + "/status")) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.Join(strings.Fields(value), " ")
	}
	if strings.HasPrefix(status["Uid"], "0 ") {
		m.t.Errorf("it runs as root: %s", status["Uid"])
	}
	for name, want := range map[string]string{"CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"} {
		if status[name] != want {
			m.t.Errorf("%s is %q, want %q", name, status[name], want)
		}
	}
	view := m.root + proc + "/root"
	for _, path := range []string{"/etc/made", "/opt/made", "/var/lib/made"} {
		if err := os.WriteFile(view+path, nil, 0o600); !errors.Is(err, unix.EROFS) {
			m.t.Errorf("writing %s: %v, want that the file system is read-only", path, err)
		}
	}
	if names, err := os.ReadDir(view + m.dir); err == nil && strings.HasPrefix(m.dir, "/root/") {
		m.t.Errorf("it sees home folders: %v", names)
	}
}
