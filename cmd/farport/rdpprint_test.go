package main

import (
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/rdp"
)

// What --print shows on each system; a POSIX shell reads it here, as somebody's will.
func TestPrintedCommands(t *testing.T) {
	const (
		address = "127.0.0.1:20001"
		odd     = "-a$(b)'c#*,d:e!%f" // an ID
		spaces  = `C:\Program Files\x\xfreerdp.exe`
	)
	own := []string{"/f", "/drive:x,/tmp/a b", `it's "$HOME"`, ""}
	for _, test := range []struct {
		goos, client string
		to           rdp.Connection
		want         string
	}{
		{"linux", "xfreerdp3", rdp.Connection{Device: "pi-1"},
			`/bin/xfreerdp3 /v:127.0.0.1:20001 /cert:name:pi-1`},
		{"linux", "xfreerdp", rdp.Connection{Device: odd, User: `DOM\me`, Args: own},
			`/bin/xfreerdp /v:127.0.0.1:20001 '/u:DOM\me' /cert:name:-a__b__c___d_e__f /f '/drive:x,/tmp/a b' 'it'\''s "$HOME"' ''`},
		{"linux", "wlfreerdp", rdp.Connection{Device: "pi-1/x", User: "me@dom"},
			`/bin/wlfreerdp /v:127.0.0.1:20001 /u:me@dom /cert:name:pi-1`},
		{"linux", "remmina", rdp.Connection{Device: odd, User: `DOM\me`, Args: own},
			`/bin/remmina --connect=rdp://DOM%5Cme@127.0.0.1:20001 /f '/drive:x,/tmp/a b' 'it'\''s "$HOME"' ''`},
		{"linux", "remmina", rdp.Connection{Device: odd, User: "me@dom"},
			`/bin/remmina --connect=rdp://me%40dom@127.0.0.1:20001`},
		{"darwin", "windows-app", rdp.Connection{Device: odd, User: `DOM\me&you`},
			`/bin/open -a '/Applications/Windows App.app' 'rdp://full%20address=s:127.0.0.1:20001&username=s:DOM%5Cme%26you'`},
		{"darwin", "sdl-freerdp", rdp.Connection{Device: "pi-1", User: "a b"},
			`/bin/sdl-freerdp /v:127.0.0.1:20001 '/u:a b' /cert:name:pi-1`},
		{"windows", "mstsc", rdp.Connection{Device: odd, Args: []string{"/f", "/shadow:1 2"}},
			`/bin/mstsc /v:127.0.0.1:20001 /f "/shadow:1 2"`},
		{"windows", "mstsc", rdp.Connection{Device: odd, User: `DOM\me`, File: "device.rdp"},
			`/bin/mstsc device.rdp`},
		{"windows", spaces, rdp.Connection{Device: "pi-1", User: `DOM\me`, Args: []string{"/p:$x", "it's", "me@dom", "-a.b", "100%", `a b\`}},
			`& "` + spaces + `" /v:127.0.0.1:20001 /u:DOM\me /cert:name:pi-1 '/p:$x' "it's" "me@dom" "-a.b" '100%' 'a b\'`},
	} {
		has := rdp.System{
			GOOS: test.goos, Lookup: environment(nil), Exists: func(string) bool { return true },
			LookPath: func(name string) (string, error) {
				if strings.ContainsAny(name, `/\`) {
					return name, nil
				}
				return "/bin/" + name, nil
			},
		}
		client, err := has.Find(test.client)
		if err != nil {
			t.Fatal(err)
		}
		test.to.Address = address
		words := client.Command(test.to)
		line := shellLine(test.goos, words)
		if line != test.want {
			t.Errorf("%s, %s: %s\nwant %s", test.goos, test.client, line, test.want)
		}
		if test.goos == "windows" || runtime.GOOS == "windows" {
			continue
		}
		read, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\0' `+line).Output()
		if got := strings.Split(strings.TrimSuffix(string(read), "\x00"), "\x00"); err != nil || !slices.Equal(got, words) {
			t.Errorf("%s: a shell reads %q (%v)", line, got, err)
		}
	}
}

// The client sees nothing that is farport's, and no proxies.
func TestRDPEnvironment(t *testing.T) {
	got := rdpEnvironment([]string{
		"HOME=/home/me", "FARPORT_CONNECTION_STRING=x", "FARPORT_KEY=x", "IOTHUB_CONNECTION_STRING=x", "IOTHUB_SERVICE_CONNECTION_STRING=x",
		"IOTHUB_DEVICE_CONNECTION_STRING=x", "IOTHUB_DEVICE_CONN_STRING=x", "HTTPS_PROXY=http://me:x@a:1", "https_proxy=x", "all_proxy=x",
		"NO_PROXY=*", "DISPLAY=:0", "=C:=C:\\x", "A=FARPORT_",
	})
	if want := []string{"HOME=/home/me", "NO_PROXY=*", "DISPLAY=:0", "=C:=C:\\x", "A=FARPORT_"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
