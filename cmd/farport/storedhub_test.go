package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"
)

func TestConfigDir(t *testing.T) {
	home := map[string]string{"HOME": "/home/me", "AppData": "/roaming"}
	for _, test := range []struct {
		env  map[string]string
		goos string
		want string
	}{
		{home, "linux", "/home/me/.config/farport"},
		{map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": "/xdg"}, "linux", "/xdg/farport"},
		{map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": "xdg"}, "linux", "/home/me/.config/farport"},
		{map[string]string{"XDG_CONFIG_HOME": "/xdg"}, "freebsd", "/xdg/farport"},
		{home, "darwin", "/home/me/Library/Application Support/farport"},
		{home, "windows", "/roaming/farport"},
		{nil, "linux", ""},
		{map[string]string{"HOME": "/home/me"}, "windows", ""},
	} {
		got, err := configDir(environment(test.env), test.goos)
		if got != filepath.FromSlash(test.want) || (err == nil) != (test.want != "") {
			t.Errorf("%s, %v: %q, %v, want %q", test.goos, test.env, got, err, test.want)
		}
	}
}

// withKeyring runs farport in a config folder of its own; the system's keyring is one
// in memory.
type withKeyring struct {
	t   *testing.T
	dir string
}

func (k withKeyring) run(want int, stdin string, args ...string) (stdout, stderr string) {
	k.t.Helper()
	var out, errs bytes.Buffer
	env := environment(map[string]string{"XDG_CONFIG_HOME": k.dir, "AppData": k.dir})
	if code := run(context.Background(), args, streams{strings.NewReader(stdin), &out, &errs}, env); code != want {
		k.t.Fatalf("farport %s: exit code %d, want %d: %s", strings.Join(args, " "), code, want, &errs)
	}
	return out.String(), errs.String()
}

func (k withKeyring) file() string {
	k.t.Helper()
	text, err := os.ReadFile(filepath.Join(k.dir, "farport", "hub-work.json"))
	if err != nil {
		k.t.Fatal(err)
	}
	return string(text)
}

// entry is what the keyring holds for the hub.
func (k withKeyring) entry() (name, secret string) {
	k.t.Helper()
	_, rest, ok := strings.Cut(k.file(), `"keyring": "`)
	name, _, _ = strings.Cut(rest, `"`)
	if !ok {
		return "", ""
	}
	secret, err := keyring.Get(keyringService, name)
	if err != nil {
		k.t.Fatal(err)
	}
	return name, secret
}

func TestKeyring(t *testing.T) {
	keyring.MockInit()
	const key = "bXkgb3duIGxpdHRsZSBzZWNyZXQ="
	k := withKeyring{t, t.TempDir()}
	const text = "HostName=h.example.com;SharedAccessKeyName=service;SharedAccessKey=" + key + ";CaFingerprint=sha256:"
	pin := strings.Repeat("0a", 32)
	_, said := k.run(exitDone, text+pin, "hub", "add", "work", "--keyring")
	if !strings.Contains(said, "key in the system's keyring") {
		t.Errorf("said %q", said)
	}
	if strings.Contains(k.file(), key[:8]) || !strings.Contains(k.file(), pin) {
		t.Errorf("the file has the key, or not all the rest: %s", k.file())
	}
	first, secret := k.entry()
	if secret != "SharedAccessKey="+key || !strings.HasPrefix(first, "work-") {
		t.Errorf("in the keyring: %q, %q", first, secret)
	}
	if list, _ := k.run(exitDone, "", "hub", "list", "-o", "json"); !strings.Contains(list, `"keptIn": "keyring"`) || strings.Contains(list, key[:8]) {
		t.Errorf("list: %s", list)
	}
	if token, _ := k.run(exitDone, "", "sas-token"); !strings.Contains(token, "sr=h.example.com&") {
		t.Errorf("token %q", token)
	}

	// Replaced, it has another entry, and the first one is gone.
	k.run(exitDone, text+pin, "hub", "add", "work", "--keyring", "--force")
	if second, _ := k.entry(); second == first {
		t.Error("the entry was overwritten")
	}
	if _, err := keyring.Get(keyringService, first); !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("the replaced entry: %v", err)
	}
	second, _ := k.entry()
	k.run(exitDone, "", "hub", "remove", "work")
	if _, err := keyring.Get(keyringService, second); !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("the removed entry: %v", err)
	}

	// Gone from the keyring, and from a keyring that fails.
	k.run(exitDone, text+pin, "hub", "add", "work", "--keyring")
	third, _ := k.entry()
	if err := keyring.Delete(keyringService, third); err != nil {
		t.Fatal(err)
	}
	if _, said := k.run(exitFailed, "", "sas-token"); !strings.Contains(said, `farport hub add work --force`) {
		t.Errorf("said %q", said)
	}
	keyring.MockInitWithError(errors.New("locked"))
	if _, said := k.run(exitFailed, "", "sas-token"); !strings.Contains(said, "system's keyring: locked") {
		t.Errorf("said %q", said)
	}
	if _, said := k.run(exitDone, text+pin, "hub", "add", "work", "--force"); !strings.Contains(said, "warning: the replaced hub") {
		t.Errorf("said %q", said)
	}
	if token, _ := k.run(exitDone, "", "sas-token"); !strings.Contains(token, "sr=h.example.com&") {
		t.Errorf("token %q", token)
	}
}
