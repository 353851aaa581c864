//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRDP runs the built binary with real RDP servers and FreeRDP.
func TestRDP(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	binary := filepath.Join(t.TempDir(), "farport")
	must(t, exec.Command("go", "build", "-o", binary, "."))
	t.Run("sign in with NLA", func(t *testing.T) { signInWithNLA(t, binary) })
	t.Run("whole desktop", func(t *testing.T) { wholeDesktop(t, binary) })
}

// freeRDP is version 3, which Debian 13 has, or else 2.
func freeRDP(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("xfreerdp3"); err == nil {
		return path
	}
	return require(t, "xfreerdp")
}

// display starts an X server with a window manager, and returns its DISPLAY.
func (s *site) display(place string) string {
	s.t.Helper()
	xvfb, openbox := require(s.t, "Xvfb"), require(s.t, "openbox")
	name := filepath.Join(s.dir, place+".display")
	number, err := os.Create(name)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := s.command(atHub, xvfb, "-displayfd", "3", "-screen", "0", "1280x1024x24", "-nolisten", "tcp", "-noreset")
	cmd.ExtraFiles = []*os.File{number}
	start(s.t, cmd)
	_ = number.Close() // Xvfb has its own
	var text []byte
	eventually(s.t, "Xvfb has a display", func() bool {
		text, _ = os.ReadFile(name)
		return strings.HasSuffix(string(text), "\n")
	})
	display := ":" + strings.TrimSpace(string(text))
	manager := s.command(place, openbox)
	manager.Env = append(manager.Env, "DISPLAY="+display)
	start(s.t, manager)
	return display
}

// signInWithNLA: a server that checks the password before there is a desktop, as
// Windows does. FreeRDP asks about the certificate once, and knows it the next time;
// its exit code becomes farport's.
func signInWithNLA(t *testing.T, binary string) {
	const id, user, password = "kiosk-7", "tester", "right"
	client, hash, server := freeRDP(t), require(t, "winpr-hash"), require(t, "freerdp-shadow-cli")
	s := newSite(t, binary)
	display := s.display(atDevice)

	sam := filepath.Join(s.dir, "sam")
	line := must(t, s.command(atDevice, hash, "-u", user, "-p", password, "-f", "sam"))
	if err := os.WriteFile(sam, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freePort(t)
	_, port, _ := strings.Cut(address, ":")
	shadow := s.command(atDevice, server, "/port:"+port, "/bind-address:127.0.0.1", "/sec:nla", "/sam-file:"+sam)
	shadow.Env = append(shadow.Env, "DISPLAY="+display)
	start(t, shadow)
	listening(t, s, atDevice, address)

	s.serve("--listen", "127.0.0.1:0", "--mqtt-listen", "off")
	s.deviceProxy(s.addDevice(id), id, "--service", "rdp="+address)
	connect := func(answer, password string) result {
		cmd := s.command(atService, "farport", "rdp", "connect", id, "-u", user, "--client", client, "--", "/p:"+password, "/auth-only")
		// A proxy is no way to 127.0.0.1, and not for the client.
		cmd.Env = append(cmd.Env, "DISPLAY="+display, "HTTPS_PROXY=http://me:secret@127.0.0.1:1", "NO_PROXY=localhost")
		cmd.Stdin = strings.NewReader(answer)
		return run(t, cmd, soon)
	}
	if r := connect("", password); r.code != 1 || !strings.Contains(r.stdout, "Certificate details for "+id) {
		t.Errorf("a certificate that nobody trusted: exit code %d, stdout %q", r.code, r.stdout)
	}
	if r := connect("Y\n", password); r.code != 0 {
		t.Errorf("the right password: exit code %d, stderr %q", r.code, r.stderr)
	} else {
		saying(t, "rdp connect", r.stderr, `^farport: listening on 127\.0\.0\.1:\d+ -> `+id+` \(rdp\)$`)
	}
	if r := connect("", password); r.code != 0 || strings.Contains(r.stdout, "Do you trust") {
		t.Errorf("the next time: exit code %d, stdout %q", r.code, r.stdout)
	}
	r := connect("", "wrong")
	if r.code != 1 {
		t.Errorf("a wrong password: exit code %d, want 1", r.code)
	}
	saying(t, "rdp connect", r.stderr, `^farport: error: RDP client xfreerdp3? ended with exit status \d+$`)
}

// listening waits until something listens at a TCP address of a place.
func listening(t *testing.T, s *site, place, address string) {
	t.Helper()
	host, port, _ := strings.Cut(address, ":")
	bash := require(t, "bash")
	eventually(t, "something listens on "+address, func() bool {
		return s.command(place, bash, "-c", "exec 3<>/dev/tcp/"+host+"/"+port).Run() == nil
	})
}
