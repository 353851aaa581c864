package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/skip"
)

// notifySocket is systemd's end of sd_notify(3). It sets the variable that names it.
func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "farport") // short: such names have 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		skip.Test(t, "no datagram sockets in files: "+err.Error())
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func notified(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// What systemd hears of a device-proxy: ready at once, then whether the hub has accepted
// it, and that it stops.
func TestDeviceProxyNotifies(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no systemd")
	}
	server := hubtest.New(t, hub.Options{})
	cs := server.AddDevice("pi-1")
	gone := cs
	gone.Port = 1 // tcpmux's, that nobody listens on
	for name, tt := range map[string]struct{ cs, want string }{
		"accepted":      {cs.Reveal(), "STATUS=connected to localhost"},
		"not reachable": {gone.Reveal(), "STATUS=not connected to localhost: "},
	} {
		t.Run(name, func(t *testing.T) {
			conn := notifySocket(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			code := make(chan int, 1)
			var printed bytes.Buffer // read after the end
			go func() {
				code <- run(ctx, []string{"device-proxy", "--grace", "0"}, streams{strings.NewReader(""), &printed, &printed},
					environment(map[string]string{"IOTHUB_DEVICE_CONNECTION_STRING": tt.cs}))
			}()
			if got, want := notified(t, conn), "READY=1\nSTATUS=connecting to localhost"; got != want {
				t.Errorf("first %q, want %q", got, want)
			}
			if got := notified(t, conn); !strings.HasPrefix(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("then %q, want %q", got, tt.want)
			}
			stop()
			for got := ""; got != "STOPPING=1"; {
				if got = notified(t, conn); got != "STOPPING=1" && !strings.HasPrefix(got, "STATUS=") {
					t.Errorf("last %q", got)
				}
			}
			if got := <-code; got != exitDone {
				t.Errorf("exit code %d: %s", got, printed.String())
			}
		})
	}
}

// A POSIX shell passes on the string as it is, whatever the ID holds.
func TestInstallCommand(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		skip.Test(t, "sh is not installed")
	}
	dir := t.TempDir()
	const sudo = "#!/bin/sh\necho \"$*\"\ncat\n"
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte(sudo), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"pi-1", `it's$(id)*#!,@`, "-x", "%s"} {
		text := "HostName=hub.example.com;DeviceId=" + id + ";SharedAccessKey=a+/b="
		line := installCommand(shellPOSIX, text)
		if !strings.HasPrefix(line, " ") || strings.Contains(line, "\n") {
			t.Errorf("not one line after a space: %q", line)
		}
		cmd := exec.CommandContext(t.Context(), sh, "-c", line)
		cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		want := "farport device-proxy install --connection-string-file -\n" + text + "\n"
		if err != nil || string(out) != want {
			t.Errorf("%q: got %q (%v), want %q", id, out, err, want)
		}
	}
	if got, want := installCommand(shellPowerShell, "DeviceId=it's"), " 'DeviceId=it''s' | farport device-proxy install --connection-string-file -"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// systemd lays out credentials with an ACL, which looks like a mode that others may read.
func TestCredentialsOfSystemd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "device.conn")
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	for variable, warns := range map[string]bool{dir: false, dir + "/": false, filepath.Dir(dir): true, "": true} {
		var printed bytes.Buffer
		a := &app{term: newTerminal(&printed, &printed), lookup: environment(map[string]string{"CREDENTIALS_DIRECTORY": variable})}
		if _, err := a.readOwnFile(path); err != nil || (printed.Len() > 0) != warns {
			t.Errorf("$CREDENTIALS_DIRECTORY %q: %q, %v", variable, printed.String(), err)
		}
	}
}
