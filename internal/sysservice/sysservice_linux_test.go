package sysservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/skip"
)

// systemctl plays systemd: it notes its arguments in calls, prints what the file show has
// and fails at what the file fail names.
const systemctl = `#!/bin/sh
dir=$(dirname "$0")
echo "$*" >>"$dir/calls"
case $1 in
--version) echo "systemd $(cat "$dir/version") (252-1)" ;;
show) cat "$dir/show" ;;
esac
if [ "$1" = "$(cat "$dir/fail")" ]; then
	echo "Job for it failed." >&2
	exit 1
fi
`

// The states of a service that show prints.
const (
	accepted = "LoadState=loaded\nActiveState=active\nSubState=running\nStatusText=connected to hub.example.com\nActiveEnterTimestamp=Sat 2026-11-28 20:17:32 UTC\nNRestarts=0\nExecMainStatus=0\n"
	retrying = "LoadState=loaded\nActiveState=active\nSubState=running\nStatusText=not connected to hub.example.com: no route\nNRestarts=0\nExecMainStatus=0\n"
	refused  = "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nNRestarts=0\nExecMainCode=1\nExecMainStatus=3\n"
	killed   = "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=signal\nNRestarts=0\nExecMainCode=2\nExecMainStatus=9\n"
	dead     = "LoadState=loaded\nActiveState=inactive\nSubState=dead\nInactiveEnterTimestamp=Sat 2026-11-28 20:17:32 UTC\nNRestarts=0\nExecMainStatus=0\n"
	unknown  = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nActiveEnterTimestamp=\nInactiveEnterTimestamp=\n"
)

const (
	secretPath = secretDir + "/" + connectionFile
	configPath = secretDir + "/" + configFile
)

// machine is a manager with its own root folder, and a systemctl that plays.
func machine(t *testing.T, show string) (m *Manager, bin string) {
	t.Helper()
	root := t.TempDir()
	bin = filepath.Join(root, "bin")
	for _, dir := range []string{bin, root + booted, root + "/etc"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, bin, "systemctl", systemctl)
	put(t, bin, "version", "252")
	put(t, bin, "show", show)
	put(t, bin, "fail", "")
	return &Manager{root: root, systemctl: filepath.Join(bin, "systemctl"), isRoot: true, wait: time.Millisecond}, bin
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// files are the names below a machine's /etc.
func files(t *testing.T, m *Manager) (names []string) {
	t.Helper()
	err := filepath.WalkDir(m.root+"/etc", func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, strings.TrimPrefix(path, m.root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// spec starts a program that is in everybody's reach.
var spec = Spec{Executable: "/bin/sh", Arguments: []string{"--max-streams=5"}, Connection: "HostName=hub.example.com;DeviceId=pi-1;SharedAccessKey=c2VjcmV0"}

func TestInstall(t *testing.T) {
	m, bin := machine(t, accepted)
	status, err := m.Install(t.Context(), spec)
	if err != nil || status.State != Running || status.Detail != "connected to hub.example.com" {
		t.Fatalf("%+v (%v)", status, err)
	}
	if want := time.Date(2026, 11, 28, 20, 17, 32, 0, time.UTC); !status.Since.Equal(want) {
		t.Errorf("since %s, want %s", status.Since, want)
	}
	if got := content(t, m.root+secretPath); got != spec.Connection+"\n" {
		t.Errorf("secret %q", got)
	}
	for path, mode := range map[string]os.FileMode{secretPath: 0o600, unitPath: 0o644} {
		info, err := os.Stat(m.root + path)
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v (%v), want %v", path, info.Mode(), err, mode)
		}
	}
	if strings.Contains(content(t, m.root+unitPath), "c2VjcmV0") {
		t.Error("the key is in the unit")
	}
	want := "--version\ndaemon-reload\nenable farport-device-proxy.service\nrestart farport-device-proxy.service\n"
	if got := content(t, filepath.Join(bin, "calls")); !strings.HasPrefix(got, want) {
		t.Errorf("calls:\n%s", got)
	}

	again := spec
	again.Arguments, again.Config = []string{"--max-streams=6"}, "proxy: http://me:cGFzcw@proxy\n"
	if _, err := m.Install(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	unit := content(t, m.root+unitPath)
	if !strings.Contains(unit, "--max-streams=6") || strings.Contains(unit, "cGFzcw") ||
		!strings.Contains(unit, " --config=${CREDENTIALS_DIRECTORY}/device-secrets.yaml ") ||
		!strings.Contains(unit, "\nLoadCredential=device-secrets.yaml:/etc/farport/device-secrets.yaml\n") {
		t.Errorf("installing again made the unit\n%s", unit)
	}
	if info, err := os.Stat(m.root + configPath); err != nil || info.Mode() != 0o600 || content(t, m.root+configPath) != again.Config {
		t.Errorf("%s: %v (%v)", configPath, info, err)
	}
	if _, err := m.Install(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, m), []string{secretPath, unitPath}; !slices.Equal(got, want) {
		t.Errorf("without a config there is %q, want %q", got, want)
	}

	if was, err := m.Uninstall(t.Context()); !was || err != nil {
		t.Errorf("uninstall: %t, %v", was, err)
	}
	if left := files(t, m); left != nil {
		t.Errorf("uninstall left %q", left)
	}
	if was, err := m.Uninstall(t.Context()); was || err != nil {
		t.Errorf("uninstall of nothing: %t, %v", was, err)
	}
}

// A hub that cannot be reached is no failure.
func TestInstallWithoutHub(t *testing.T) {
	m, _ := machine(t, retrying)
	status, err := m.Install(t.Context(), spec)
	if err != nil || status.State != Running || status.Detail != "not connected to hub.example.com: no route" {
		t.Fatalf("%+v (%v)", status, err)
	}
}

func TestInstallFails(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, m *Manager, bin string, s *Spec)
		want   string
		is     error
	}{
		"not root":      {func(_ *testing.T, m *Manager, _ string, _ *Spec) { m.isRoot = false }, "only root", ErrNotRoot},
		"no systemd":    {func(t *testing.T, m *Manager, _ string, _ *Spec) { removeAll(t, m.root+"/run") }, "systemd does not", ErrNoManager},
		"no systemctl":  {func(t *testing.T, _ *Manager, bin string, _ *Spec) { removeAll(t, bin+"/systemctl") }, "systemctl --version: ", os.ErrNotExist},
		"old systemd":   {func(t *testing.T, _ *Manager, bin string, _ *Spec) { put(t, bin, "version", "245.4") }, "systemd 245 is too old: it has to be 247", nil},
		"home":          {func(_ *testing.T, _ *Manager, _ string, s *Spec) { s.Executable = "/home/pi/farport" }, "it sees nothing of /home/", ErrOutOfReach},
		"private":       {func(t *testing.T, _ *Manager, bin string, s *Spec) { s.Executable = private(t, bin) }, "is not for everybody to open", ErrOutOfReach},
		"daemon-reload": {func(t *testing.T, _ *Manager, bin string, _ *Spec) { put(t, bin, "fail", "daemon-reload") }, "systemctl daemon-reload: exit status 1: Job for it failed.", nil},
		"enable":        {func(t *testing.T, _ *Manager, bin string, _ *Spec) { put(t, bin, "fail", "enable") }, "systemctl enable: exit status 1", nil},
		"restart":       {func(t *testing.T, _ *Manager, bin string, _ *Spec) { put(t, bin, "fail", "restart") }, "systemctl restart: exit status 1", nil},
		"refused":       {func(t *testing.T, _ *Manager, bin string, _ *Spec) { put(t, bin, "show", refused) }, "the service ended by itself with exit code 3", nil},
		"killed":        {func(t *testing.T, _ *Manager, bin string, _ *Spec) { put(t, bin, "show", killed) }, "the service has failed (signal)", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait for the disk
			for _, before := range []string{"nothing", "a file", "a service"} {
				m, bin := machine(t, accepted)
				old := spec
				old.Config = "proxy: http://old\n"
				switch before {
				case "a file": // that somebody has made by hand
					if err := os.MkdirAll(m.root+secretDir, 0o755); err != nil {
						t.Fatal(err)
					}
					put(t, m.root+secretDir, connectionFile, spec.Connection+"\n")
				case "a service":
					if _, err := m.Install(t.Context(), old); err != nil {
						t.Fatal(err)
					}
				}
				was := files(t, m)
				s := spec
				s.Arguments, s.Connection = []string{"--max-streams=7"}, "another"
				tt.change(t, m, bin, &s)
				_, err := m.Install(t.Context(), s)
				if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				if left := files(t, m); !slices.Equal(left, was) {
					t.Fatalf("there was %q, it left %q", was, left)
				}
				if before != "nothing" && content(t, m.root+secretPath) != spec.Connection+"\n" {
					t.Error("the connection string that was there has changed")
				}
				if before == "a service" && (content(t, m.root+configPath) != old.Config || strings.Contains(content(t, m.root+unitPath), "streams=7")) {
					t.Error("the service that was there has changed")
				}
			}
		})
	}
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// private is a program in a folder that only its owner opens.
func private(t *testing.T, bin string) string {
	t.Helper()
	if err := os.Chmod(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	// As seen from a name that is not below /tmp.
	return "/proc/self/root" + bin + "/systemctl"
}

// Ctrl-C while it waits goes back, too.
func TestInstallInterrupted(t *testing.T) {
	m, _ := machine(t, retrying)
	m.wait = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := m.Install(ctx, spec); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if left := files(t, m); left != nil {
		t.Errorf("it left %q", left)
	}
}

func TestStatus(t *testing.T) {
	when := time.Date(2026, 11, 28, 20, 17, 32, 0, time.UTC)
	for show, want := range map[string]Status{
		accepted: {State: Running, Since: when, Detail: "connected to hub.example.com"},
		refused:  {State: Stopped, Detail: "auto-restart, exit code 3"},
		killed:   {State: Stopped, Detail: "failed, killed by signal 9"},
		dead:     {State: Stopped, Since: when, Detail: "dead"},
		unknown:  {State: NotInstalled},
	} {
		m, _ := machine(t, show)
		m.isRoot = false // nobody needs to be
		if got, err := m.Status(t.Context()); err != nil || got != want {
			t.Errorf("%q: got %+v (%v), want %+v", show, got, err, want)
		}
	}
}

// systemd itself reads the unit, with whatever stands in the arguments.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		skip.Test(t, "no systemd-analyze: apt install systemd")
	}
	dir := t.TempDir()
	s := Spec{
		Executable: "/bin/sh",
		Arguments:  []string{`--service=a b"c'd\e$f%g{{h}};i=127.0.0.1:22`, "--streaming-host=ü", "a\tb\nc", ";"},
		Files:      []File{{"ca-file", "/etc/100% mine/ca.pem"}},
	}
	text, err := Definition(s)
	if err != nil {
		t.Fatal(err)
	}
	want := `ExecStart="/bin/sh" device-proxy --connection-string-file=${CREDENTIALS_DIRECTORY}/device.conn --ca-file=${CREDENTIALS_DIRECTORY}/ca-file ` +
		`"--service=a b\"c'd\\e$$f%%g{{h}};i=127.0.0.1:22" "--streaming-host=ü" "a\x09b\x0ac" ";"` + "\n"
	if !strings.Contains(text, want) {
		t.Errorf("no %s in\n%s", want, text)
	}
	path := filepath.Join(dir, Name+".service")
	put(t, dir, Name+".service", text)
	if err := os.Chmod(path, 0o644); err != nil { // systemd complains of programs
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// 2.0 of 10, where 10 is a service without any confinement; it prints tenths.
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--no-pager", "--threshold=20", path).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
}

func TestFileNames(t *testing.T) {
	if _, err := Definition(Spec{Executable: "/bin/sh", Files: []File{{"key", "/a\nUser=root"}}}); !errors.Is(err, ErrOutOfReach) {
		t.Errorf("a line end in a unit: %v", err)
	}
}

func TestPlist(t *testing.T) {
	text := plist("/usr/local/bin/farport", []string{`--service=<a>&"{{b}}=127.0.0.1:22`})
	for _, want := range []string{
		"<string>/usr/local/bin/farport</string>",
		"<string>--service=&lt;a&gt;&amp;&#34;&#123;&#123;b}}=127.0.0.1:22</string>",
		fmt.Sprintf("<string>%s</string>", Name),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
