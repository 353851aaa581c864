//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecretService keeps a hub's key in gnome-keyring, on a session bus of its own.
func TestSecretService(t *testing.T) {
	bus, keyring, farport := require(t, "dbus-daemon"), require(t, "gnome-keyring-daemon"), require(t, "farport")
	dir := t.TempDir()
	env := []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, "config"), "LANG=C.UTF-8"}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	command := func(stdin, program string, args ...string) *exec.Cmd {
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Env, cmd.Stdin = dir, env, strings.NewReader(stdin)
		return cmd
	}
	address := start(t, command("", bus, "--session", "--nofork", "--print-address=2")).said(t, `^(unix:\S+)$`, 1, soon)
	env = append(env, "DBUS_SESSION_BUS_ADDRESS="+address[1])
	daemon := command("password", keyring, "--unlock", "--components=secrets")
	daemon.Stdout, daemon.Stderr = null, null // which it keeps open
	must(t, daemon)                           // it goes on by itself, and ends with the bus

	const key = "bXkgb3duIGxpdHRsZSBzZWNyZXQ="
	must(t, command("HostName=h.example.com;SharedAccessKeyName=service;SharedAccessKey="+key, farport, "hub", "add", "work", "--keyring"))
	text, err := os.ReadFile(filepath.Join(dir, "config", "farport", "hub-work.json"))
	if err != nil || strings.Contains(string(text), key[:8]) {
		t.Errorf("%v, or the file has the key: %s", err, text)
	}
	if token := must(t, command("", farport, "sas-token")); !strings.Contains(token, "sr=h.example.com&") {
		t.Errorf("token %q", token)
	}
	must(t, command("", farport, "hub", "remove", "work"))
	if r := run(t, command("", farport, "sas-token"), soon); r.code != 2 {
		t.Errorf("after the removal: exit code %d: %s", r.code, r.stderr)
	}
}
