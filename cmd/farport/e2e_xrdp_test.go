//go:build linux

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/farportio/farport/internal/skip"
)

// desktopColour is the far desktop's, in a place that no window covers.
const desktopColour = "#2A7F3C"

// startDesktop is the session of the far user: one colour, and a window that keeps the
// last line that is typed into it.
const startDesktop = `#!/bin/sh
xsetroot -solid '` + desktopColour + `'
xterm -geometry 80x10+20+20 -e sh -c 'while read -r line; do echo "$line" >typed; done' &
exec openbox
`

// desktop is an xrdp with one user, in a network namespace of its own, as its session
// manager has a fixed port.
type desktop struct {
	user, password, home, address string
}

// wholeDesktop: a desktop is seen and typed into through farport. What is on the
// client's screen is looked at.
func wholeDesktop(t *testing.T, binary string) {
	s := newSite(t, binary)
	d := newDesktop(t, s)
	s.serve("--listen", "127.0.0.1:0", "--mqtt-listen", "off")
	near := "DISPLAY=" + s.display(atService)
	t.Run("FreeRDP", func(t *testing.T) { desktopInFreeRDP(t, s, d, near) })
	t.Run("Remmina", func(t *testing.T) { desktopInRemmina(t, s, d, near) })
}

func desktopInFreeRDP(t *testing.T, s *site, d *desktop, near string) {
	const id = "kiosk-7"
	client, screenshot, mouse := freeRDP(t), require(t, "import"), require(t, "xdotool")
	s.deviceProxy(s.addDevice(id), id, "--service", "rdp="+d.address)

	onScreen := func(args ...string) *exec.Cmd {
		cmd := s.command(atService, args...)
		cmd.Env = append(cmd.Env, near)
		return cmd
	}
	session := start(t, onScreen("farport", "rdp", "connect", id, "-u", d.user, "--client", client, "--",
		"/p:"+d.password, "/cert:ignore", "/sec:tls", "/size:1024x768", "-decorations"))
	session.said(t, `^farport: stream 1 opened: `+id+` \(rdp\)`, 1, soon)

	var window, seen string
	eventually(t, "the window shows the far desktop", func() bool {
		text, err := onScreen(mouse, "search", "--onlyvisible", "--name", "FreeRDP").Output()
		window = strings.TrimSpace(string(text))
		if err != nil || window == "" {
			return false
		}
		pixel, _ := onScreen(screenshot, "-silent", "-window", window, "-crop", "1x1+900+700", "-depth", "8", "txt:-").Output()
		seen = string(pixel)
		return strings.Contains(seen, desktopColour)
	})
	t.Logf("at 900,700 there is %s", seen)

	// The far window comes after the colour: what is typed too early is lost.
	eventually(t, "the far side has what was typed", func() bool {
		must(t, onScreen(mouse, "mousemove", "--window", window, "200", "100", "click", "1"))
		must(t, onScreen(mouse, "type", "--delay", "50", "hello"))
		must(t, onScreen(mouse, "key", "Return"))
		typed, _ := os.ReadFile(filepath.Join(d.home, "typed"))
		return string(typed) == "hello\n"
	})

	session.signal(t, syscall.SIGTERM)
	if code := session.exit(t, soon); code != 0 {
		t.Errorf("told to end, it exits %d", code)
	}
	if text, err := onScreen(mouse, "search", "--onlyvisible", "--name", "FreeRDP").Output(); err == nil {
		t.Errorf("the client goes on, in window %s", text)
	}
}

// desktopInRemmina: the desktop of an xrdp that signs its user in by itself, as Remmina has
// no option for a password, in a window of which nothing but the far colour is looked for.
// Told to trust all certificates it asks no question.
func desktopInRemmina(t *testing.T, s *site, d *desktop, near string) {
	const id, address = "kiosk-8", "127.0.0.1:23892"
	client, screenshot := require(t, "remmina"), require(t, "import")
	if plugins, _ := filepath.Glob("/usr/lib/*/remmina/plugins/remmina-plugin-rdp.so"); len(plugins) == 0 {
		skip.Test(t, "Remmina has no RDP: apt-get install remmina-plugin-rdp")
	}
	config := d.config(t, s, "signed-in.ini", "xrdp.ini", map[string]string{
		`port=3389`: "port=tcp://" + address, `autorun=`: "autorun=Xorg",
		`username=ask`: "username=" + d.user, `password=ask`: "password=" + d.password,
	})
	start(t, s.command(atDevice, require(t, "xrdp"), "--nodaemon", "--config", config))
	listening(t, s, atDevice, address)
	s.deviceProxy(s.addDevice(id), id, "--service", "rdp="+address)

	cmd := s.command(atService, "farport", "rdp", "connect", id, "-u", d.user, "--client", client)
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".config/remmina"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".config/remmina/remmina.pref"), []byte("[remmina_pref]\ntrust_all=true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, near, "HOME="+home, "XDG_RUNTIME_DIR="+home)
	session := start(t, cmd)
	session.said(t, `^farport: stream 1 opened: `+id+` \(rdp\)`, 1, soon)
	eventually(t, "the screen shows the far desktop", func() bool {
		look := s.command(atService, screenshot, "-silent", "-window", "root", "-depth", "8", "-format", "%c", "histogram:info:-")
		look.Env = append(look.Env, near)
		histogram, _ := look.Output()
		return mostlyDesktop(string(histogram))
	})
	session.signal(t, syscall.SIGTERM)
	if code := session.exit(t, soon); code != 0 {
		t.Errorf("told to end, it exits %d", code)
	}
}

// mostlyDesktop tells whether 10000 pixels of a histogram as ImageMagick writes it have one
// colour that is about desktopColour: Remmina asks for fewer colours.
func mostlyDesktop(histogram string) bool {
	var want [3]int
	_, _ = fmt.Sscanf(desktopColour, "#%02X%02X%02X", &want[0], &want[1], &want[2])
	for line := range strings.Lines(histogram) {
		var count int
		var got [3]int
		if _, err := fmt.Sscanf(line, "%d: (%d,%d,%d", &count, &got[0], &got[1], &got[2]); err != nil || count < 10000 {
			continue
		}
		near := true
		for i := range want {
			near = near && max(got[i]-want[i], want[i]-got[i]) <= 8
		}
		if near {
			return true
		}
	}
	return false
}

// newDesktop makes the namespace, which all places of s are in from now on, the user
// and the servers. All of it goes when the test ends.
func newDesktop(t *testing.T, s *site) *desktop {
	t.Helper()
	ip, useradd, openssl := require(t, "ip"), require(t, "useradd"), require(t, "openssl")
	xrdp, sesman := require(t, "xrdp"), require(t, "xrdp-sesman")
	for _, program := range []string{"Xorg", "xsetroot", "xterm", "openbox"} { // the session's
		require(t, program)
	}
	if os.Geteuid() != 0 {
		skip.Test(t, "xrdp needs root")
	}
	place := fmt.Sprintf("farport-%d-xrdp", os.Getpid())
	if r := run(t, exec.Command(ip, "netns", "add", place), soon); r.code != 0 {
		skip.Test(t, "cannot make a network namespace here: "+r.stderr)
	}
	d := &desktop{user: fmt.Sprintf("farport%d", os.Getpid()), password: "not-a-secret", address: "127.0.0.1:23891"}
	t.Cleanup(func() {
		pids, _ := exec.Command(ip, "netns", "pids", place).Output() // a session has left its parents
		for pid := range strings.FieldsSeq(string(pids)) {
			if n, err := strconv.Atoi(pid); err == nil {
				_ = syscall.Kill(n, syscall.SIGKILL) // most have ended
			}
		}
		_ = exec.Command("userdel", "-r", "-f", d.user).Run()
		_ = exec.Command(ip, "netns", "del", place).Run()
	})
	must(t, exec.Command(ip, "-n", place, "link", "set", "lo", "up"))
	in := []string{ip, "netns", "exec", place}
	s.inside = map[string][]string{atHub: in, atDevice: in, atService: in}

	hash := exec.Command(openssl, "passwd", "-6", "-stdin")
	hash.Stdin = strings.NewReader(d.password)
	must(t, exec.Command(useradd, "-m", "-s", "/bin/sh", "-p", strings.TrimSpace(must(t, hash)), d.user))
	d.home = filepath.Join("/home", d.user)
	if err := os.WriteFile(filepath.Join(d.home, "startwm.sh"), []byte(startDesktop), 0o755); err != nil {
		t.Fatal(err)
	}
	sockets := "/tmp/.X11-unix"
	if err := os.Mkdir(sockets, 0o777); err == nil {
		if err := os.Chmod(sockets, 0o777|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
	}
	// A display that no other sesman of this machine gives out.
	sesmanConfig := d.config(t, s, "sesman.ini", "sesman.ini", map[string]string{`X11DisplayOffset=.*`: fmt.Sprintf("X11DisplayOffset=%d", 100+os.Getpid()%1000)})
	xrdpConfig := d.config(t, s, "xrdp.ini", "xrdp.ini", map[string]string{`port=3389`: "port=tcp://" + d.address})
	start(t, s.command(atDevice, sesman, "--nodaemon", "--config", sesmanConfig))
	start(t, s.command(atDevice, xrdp, "--nodaemon", "--config", xrdpConfig))
	listening(t, s, atDevice, d.address)
	return d
}

// config writes one of xrdp's own configuration files under a name, with some lines changed:
// those that match are replaced.
func (d *desktop) config(t *testing.T, s *site, name, original string, lines map[string]string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/etc/xrdp", original))
	if err != nil {
		t.Fatal(err)
	}
	for line, by := range lines {
		expr := regexp.MustCompile("(?m)^" + line + "$")
		if !expr.Match(text) {
			t.Fatalf("%s has no %s", original, line)
		}
		text = expr.ReplaceAllLiteral(text, []byte(by))
	}
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
