package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/proxy"
)

func environment(variables map[string]string) lookup {
	return func(name string) (string, bool) { value, ok := variables[name]; return value, ok }
}

func TestEnvironment(t *testing.T) {
	for _, test := range []struct {
		name  string
		args  string
		env   map[string]string
		want  string // one|many|a|b
		error string
	}{
		{"default", "", nil, "def|[]|false|", ""},
		{"own variable", "", map[string]string{"FARPORT_ONE_WORD": "x"}, "x|[]|false|", ""},
		{"own before others", "", map[string]string{"FARPORT_ONE_WORD": "x", "OTHER": "y"}, "x|[]|false|", ""},
		{"others in order", "", map[string]string{"OTHER": "y", "ANOTHER": "z"}, "y|[]|false|", ""},
		{"flag before all", "--one-word=f", map[string]string{"FARPORT_ONE_WORD": "x", "OTHER": "y"}, "f|[]|false|", ""},
		{"empty is not set", "", map[string]string{"FARPORT_ONE_WORD": "", "OTHER": "y"}, "y|[]|false|", ""},
		{"several", "", map[string]string{"FARPORT_MANY": "x, y"}, "def|[x y]|false|", ""},
		{"flags replace several", "--many=z", map[string]string{"FARPORT_MANY": "x,y"}, "def|[z]|false|", ""},
		{"flag silences what it excludes", "--a", map[string]string{"FARPORT_B": "x"}, "def|[]|true|", ""},
		{"own variable silences others' of what it excludes", "", map[string]string{"FARPORT_A": "true", "OTHER_B": "x"}, "def|[]|true|", ""},
		{"excluded on the command line", "--a --b=x", nil, "", "--a and --b cannot be used together"},
		{"excluded in the environment", "", map[string]string{"FARPORT_A": "true", "FARPORT_B": "x"}, "", "--a and --b cannot be used together"},
		{"not a value", "", map[string]string{"FARPORT_A": "perhaps"}, "", `FARPORT_A "perhaps": must be true or false`},
	} {
		t.Run(test.name, func(t *testing.T) {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			one := flags.String("one-word", "def", "")
			many := flags.StringArray("many", nil, "")
			a := flags.Bool("a", false, "")
			b := flags.String("b", "", "")
			alsoFrom(flags, "one-word", "OTHER", "ANOTHER")
			alsoFrom(flags, "b", "OTHER_B")
			exclusive(flags, "a", "b")
			if err := flags.Parse(strings.Fields(test.args)); err != nil {
				t.Fatal(err)
			}
			err := applyEnvironment(flags, environment(test.env))
			if test.error != "" {
				if err == nil || err.Error() != test.error {
					t.Fatalf("error %v, want %q", err, test.error)
				}
				return
			}
			if got := fmt.Sprintf("%s|%v|%v|%s", *one, *many, *a, *b); err != nil || got != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	untrusted := &hubclient.UntrustedError{Host: "h", Fingerprint: "sha256:abc", Err: errors.New("unknown")}
	inUse := &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	forbidden := &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EACCES)}
	_, malformed := credential.ParseConnectionString("HostName=h")
	for _, test := range []struct {
		err  error
		code int
		hint string
	}{
		{usage("x"), exitUsage, `run "farport x --help"`},
		{&codedError{exitDevice, "do", errors.New("x")}, exitDevice, "do"},
		{malformed, exitUsage, "HostName=...;DeviceId=..."},
		{untrusted, exitHub, "CaFingerprint=sha256:abc"},
		{hubclient.ErrUnauthorized, exitUnauthorized, "shared access key"},
		{hubclient.ErrDeviceOffline, exitDevice, "device-proxy"},
		{hubclient.ErrDeviceNotFound, exitDevice, "device list"},
		{hubclient.ErrDeviceExists, exitFailed, "device show"},
		{hubclient.ErrPrecondition, exitFailed, "again"},
		{hubclient.ErrStreamRejected, exitRefused, "target"},
		{hubclient.ErrTimeout, exitTimeout, "--response-timeout"},
		{hubclient.ErrThrottled, exitFailed, "wait"},
		{hubclient.ErrHubUnreachable, exitHub, "farport serve"},
		{hubclient.ErrForeignEndpoint, exitFailed, "--streaming-host"},
		{&hubclient.EndError{Reason: "lost"}, exitLost, "--resume-window"},
		{&hubclient.EndError{Reason: "network"}, exitLost, "resume"},
		{&hubclient.EndError{Reason: "hub stopping"}, exitLost, "resume"},
		{&hubclient.EndError{Reason: "reset"}, exitFailed, "broke it off"},
		{&hubclient.EndError{Reason: "revoked"}, exitFailed, "hub's log"},
		{&hubclient.EndError{Reason: "aborted"}, exitFailed, "broke it off"},
		{hub.ErrInUse, exitFailed, "--data-dir"},
		{inUse, exitFailed, "port 0"},
		{forbidden, exitFailed, "--listen :8443"},
		{&fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission}, exitFailed, "owner"},
		{context.Canceled, exitFailed, ""},
		{errors.New("anything"), exitFailed, ""},
	} {
		for _, err := range []error{test.err, fmt.Errorf("step: %w", test.err)} {
			code, hint := judge(err, "farport x")
			if code != test.code || !strings.Contains(hint, test.hint) || (hint == "") != (test.hint == "") {
				t.Errorf("%v: %d %q, want %d %q", err, code, hint, test.code, test.hint)
			}
		}
	}
}

func TestParseForward(t *testing.T) {
	for text, want := range map[string]string{
		"2222":               "127.0.0.1:2222 default",
		"0":                  "127.0.0.1:0 default",
		"2222=ssh":           "127.0.0.1:2222 ssh",
		":2222":              "127.0.0.1:2222 default",
		"*:2222=ssh":         ":2222 ssh",
		"0.0.0.0:22":         "0.0.0.0:22 default",
		"[::1]:0":            "[::1]:0 default",
		"[::1]:0=ssh":        "[::1]:0 ssh",
		"localhost:2222=rdp": "localhost:2222 rdp",
		"":                   "", "=ssh": "", "2222=": "", "x": "", "-1": "", "65536": "", "::1:22": "", "[::1]": "", "a:b": "", "1:2:3": "",
	} {
		f, ok := parseForward(text, defaultService)
		if got := f.Address + " " + f.Service; ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v, want %q", text, got, ok, want)
		}
	}
}

func TestDefaultDataDir(t *testing.T) {
	home := map[string]string{"HOME": "/home/me", "LocalAppData": "/local"}
	for _, test := range []struct {
		env  map[string]string
		goos string
		root bool
		want string
	}{
		{home, "linux", false, "/home/me/.local/share/farport"},
		{home, "linux", true, "/var/lib/farport"},
		{map[string]string{"HOME": "/home/me", "XDG_DATA_HOME": "/xdg"}, "linux", false, "/xdg/farport"},
		{map[string]string{"HOME": "/home/me", "XDG_DATA_HOME": "xdg"}, "linux", false, "/home/me/.local/share/farport"},
		{home, "darwin", false, "/home/me/Library/Application Support/farport"},
		{home, "darwin", true, "/Library/Application Support/farport"},
		{home, "windows", false, "/local/farport"},
		{nil, "linux", false, ""},
		{nil, "windows", false, ""},
	} {
		got, err := defaultDataDir(environment(test.env), test.goos, test.root)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s, root %v, %v: %q, %v, want %q", test.goos, test.root, test.env, got, err, test.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"plain ✓":             "plain ✓",
		"a\nb":                "a; b",
		"\x1b[31mred":         `\x1b[31mred`,
		"reversed \u202etxt":  `reversed \u202etxt`,
		"bell\a, tab\t, \x9b": `bell\a, tab\t, �`,
	} {
		if got := oneLine(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"HostName=h;SharedAccessKey=c2VjcmV0;DeviceId=d":              "HostName=h;SharedAccessKey=[redacted];DeviceId=d",
		"SharedAccessSignature sr=h&sig=abc%3D&se=1":                  "SharedAccessSignature sr=h&sig=[redacted]&se=1",
		"it has the form SharedAccessKey=... (for a service)":         "it has the form SharedAccessKey=... (for a service)",
		`unknown shorthand flag: 'H' in -Hsharedaccesskey=c2VjcmV0==`: `unknown shorthand flag: 'H' in -Hsharedaccesskey=[redacted]`,
	} {
		if got := redact(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1_500_000_000: "1.5 GB", 1 << 62: "4.6 EB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{0: "0 s ago", -time.Hour: "0 s ago", 59 * time.Second: "59 s ago", 90 * time.Minute: "1 h ago", 5 * time.Minute: "5 min ago", 49 * time.Hour: "2 d ago"} {
		if got := formatAgo(now.Add(-d), now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if got := formatAgo(time.Time{}, now); got != "never" {
		t.Errorf("no time: %q", got)
	}
	for d, want := range map[time.Duration]string{1234 * time.Microsecond: "1ms", 12345 * time.Millisecond: "12.3s", 90500 * time.Millisecond: "1m31s"} {
		if got := formatShort(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	var r rate
	at := time.Unix(1000, 0)
	if got, want := r.text(at, 0, 5000, 0, ""), "0 streams  up 0 B/s  down 0 B/s  total 5.0 kB up, 0 B down"; got != want {
		t.Errorf("first: %q, want %q", got, want)
	}
	if got, want := r.text(at.Add(500*time.Millisecond), 1, 6000, 2_000_000, ", 1 waiting for 3s"), "1 stream, 1 waiting for 3s  up 2.0 kB/s  down 4.0 MB/s  total 6.0 kB up, 2.0 MB down"; got != want {
		t.Errorf("second: %q, want %q", got, want)
	}
}

// What the other side names is quoted, and a control connection that is replaced
// while it stands is no news.
func TestEvents(t *testing.T) {
	var out, err bytes.Buffer
	v := newStreamView(&app{term: newTerminal(&out, &err)}, "hub", "to")
	for _, e := range []proxy.Event{
		{Kind: proxy.Connected, Device: "pi-1"},
		{Kind: proxy.Connected, Device: "pi-1"},
		{Kind: proxy.Retrying, Device: "pi-1", Err: hubclient.ErrHubUnreachable},
		{Kind: proxy.Connected, Device: "pi-1"},
		{Kind: proxy.Opened, Device: "pi-1", Stream: 1, Service: "a\x1b[2J", Peer: "127.0.0.1:22"},
		{Kind: proxy.Waiting, Device: "pi-1", Stream: 1, Service: "a b", Window: 5 * time.Minute},
		{Kind: proxy.Resumed, Device: "pi-1", Stream: 1, Service: "a b", Duration: 3210 * time.Millisecond},
		{Kind: proxy.Ended, Device: "pi-1", Stream: 1, Service: "ssh", Up: 12, Down: 3456, Duration: time.Minute, Err: errors.New("reset\n")},
		{Kind: proxy.Listening, Device: "pi-1", Service: "ssh", Local: &net.TCPAddr{IP: net.IPv4zero, Port: 22}},
	} {
		v.event(e)
	}
	want := `farport: device "pi-1" connected to hub
farport: warning: hub is not reachable; trying again
farport: hint: check host name and port in the connection string, the network, and that "farport serve" is running, or run "farport doctor"
farport: device "pi-1" connected to hub
farport: stream 1 opened: pi-1 ("a\x1b[2J") to 127.0.0.1:22
farport: stream 1 waits: pi-1 ("a b"), connection lost, up to 5m0s for it to return
farport: stream 1 resumed: pi-1 ("a b"), after 3.2s
farport: warning: stream 1 broke: pi-1 (ssh), up 12 B, down 3.5 kB, 1m0s: reset; 
farport: listening on 0.0.0.0:22 -> pi-1 (ssh)
farport: warning: 0.0.0.0:22 is not a loopback address: everybody who can reach it can connect to the device
`
	if err.String() != want || out.Len() > 0 {
		t.Errorf("printed %q and\n%s, want\n%s", &out, &err, want)
	}
}

// Every command has what its help and the manual need.
func TestCommandTree(t *testing.T) {
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		if cmd.Short == "" || cmd.Long == "" && !cmd.HasSubCommands() || cmd.Example == "" || cmd.Annotations[annotationExit] == "" || cmd.Args == nil || cmd.RunE == nil {
			t.Errorf("%s: lacks its short or long text, example, exit status, arguments or function", cmd.CommandPath())
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s is not explained", cmd.CommandPath(), f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&app{term: newTerminal(&bytes.Buffer{}, &bytes.Buffer{})}))
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestFullDisk: a result that did not arrive is none.
func TestFullDisk(t *testing.T) {
	var said bytes.Buffer
	code := run(t.Context(), []string{"version"}, streams{strings.NewReader(""), fullDisk{}, &said}, environment(nil))
	if code != exitFailed || !strings.Contains(said.String(), syscall.ENOSPC.Error()) {
		t.Errorf("exit code %d: %s", code, said.String())
	}
}

// TestInterrupted: who told a command to end hears no more than that.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var said bytes.Buffer
	env := environment(map[string]string{
		"IOTHUB_CONNECTION_STRING": "HostName=localhost:1;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0a2V5c2VjcmV0a2V5",
	})
	code := run(ctx, []string{"device", "list"}, streams{strings.NewReader(""), io.Discard, &said}, env)
	if code != exitFailed || said.String() != "farport: error: interrupted\n" {
		t.Errorf("exit code %d: %s", code, said.String())
	}
}
