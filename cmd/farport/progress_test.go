//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
)

// onScreen is what is left on a wide screen after text was written to it, but for colours.
func onScreen(text string) string {
	lines, at := []string{""}, 0 // of the last one
	for text = strings.NewReplacer("\x1b[0K", "", "\x1b[0m", "", "\x1b[1m", "", "\x1b[31m", "", "\x1b[33m", "").Replace(text); text != ""; {
		last := &lines[len(lines)-1]
		switch {
		case strings.HasPrefix(text, "\x1b[2K"):
			*last = strings.Repeat(" ", at)
			text = text[len("\x1b[2K"):]
			continue
		case text[0] == '\r':
			at = 0
		case text[0] == '\n':
			*last = strings.TrimRight(*last, " ")
			lines, at = append(lines, ""), 0
		default:
			*last = (*last)[:at] + text[:1] + (*last)[min(at+1, len(*last)):]
			at++
		}
		text = text[1:]
	}
	return strings.TrimRight(strings.Join(lines, "\n"), " ")
}

// resize gives a pseudo-terminal a width.
func resize(t *testing.T, screen *os.File, cells uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: cells}); err != nil {
		t.Fatal(err)
	}
}

// Of what takes a while is said that it does, on a screen only, and nothing of it is left.
func TestDuring(t *testing.T) {
	for _, tt := range []struct {
		name  string
		set   func(*terminal)
		cells uint16
		takes time.Duration
		want  string // the last that was drawn
	}{
		{"short", func(*terminal) {}, 80, meterInterval - 1, ""},
		{"not long", func(*terminal) {}, 80, time.Second - 1, "asking hub.example.com"},
		{"long", func(*terminal) {}, 80, 90*time.Second + 1, "asking hub.example.com  1m30s"},
		{"no width", func(*terminal) {}, 0, 2*time.Second + 1, "asking hub.example.com  2s"},
		{"40 columns", func(*terminal) {}, 40, 2*time.Second + 1, "asking hub.example.com  2s"},
		{"20 columns", func(*terminal) {}, 20, 2*time.Second + 1, "asking hub.exa…"},
		{"5 columns", func(*terminal) {}, 5, 2 * time.Second, ""},
		{"quiet", func(t *terminal) { t.quiet = true }, 80, 2 * time.Second, ""},
		{"dumb", (*terminal).dumb, 80, 2 * time.Second, ""},
		{"no colour", (*terminal).noColor, 80, time.Second + 1, "asking hub.example.com  1s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			screen, tty := openPTY(t)
			resize(t, screen, tt.cells)
			term := newTerminal(tty, tty)
			tt.set(term)
			seen := make(chan string)
			go func() {
				text, _ := io.ReadAll(screen) // ends with an error, as the other end is closed
				seen <- string(text)
			}()
			synctest.Test(t, func(t *testing.T) {
				done := term.during(t.Context(), "asking %s", "hub.example.com")
				time.Sleep(tt.takes)
				synctest.Wait()
				done()
				done()
			})
			term.println("result")
			tty.Close()
			text := <-seen
			drawn := strings.Split(strings.TrimSuffix(text, "\x1b[2K\rresult\r\n"), "\r")
			last := strings.TrimSuffix(drawn[len(drawn)-1], " \x1b[0K")
			switch {
			case tt.want == "" && text != "result\r\n":
				t.Errorf("the screen got %q", text)
			case tt.want != "" && !strings.HasSuffix(strings.TrimRight(last, " "), " "+tt.want):
				t.Errorf("drawn last: %q, want %q", last, tt.want)
			}
			if left := onScreen(text); left != "result\n" {
				t.Errorf("left on the screen: %q", left)
			}
		})
	}
}

// What is drawn is gone before the first byte of the stream reaches ssh.
func TestProgressOfStdio(t *testing.T) {
	s := hubtest.New(t, hub.Options{})
	device := s.AddDevice("pi-1")
	y := newTypist(t)
	y.env = environment(map[string]string{"IOTHUB_CONNECTION_STRING": s.ConnectionString("service").Reveal()})
	out, err := os.OpenFile(y.tty.Name(), os.O_WRONLY|unix.O_NOCTTY, 0) // is closed with the stream
	if err != nil {
		t.Fatal(err)
	}
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"service-proxy", "--stdio", "-d", "pi-1", "--connect-timeout", "5m"}, streams{strings.NewReader("hello\n"), out, y.tty}, y.env)
	}()
	y.read("setting up a stream to pi-1 (default)")
	startDevice(t, device)
	y.read("hello\r\n")
	y.wait(code, exitDone)
	if left := onScreen(y.seen); left != "hello\n" {
		t.Errorf("left on the screen: %q, of %q", left, y.seen)
	}
	if _, after, _ := strings.Cut(y.seen, "hello"); after != "\r\n" {
		t.Errorf("after the stream's first byte: %q", after)
	}
}

// startDevice runs a device-proxy whose target echoes, until the test ends.
func startDevice(t *testing.T, cs credential.ConnectionString) {
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"device-proxy", "--target", hubtest.Echo(t), "--no-host-keys", "--grace", "0"},
			streams{strings.NewReader(""), io.Discard, io.Discard}, environment(map[string]string{"IOTHUB_DEVICE_CONNECTION_STRING": cs.Reveal()}))
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
}

// silentHub accepts connections, and says nothing.
func silentHub(t *testing.T) (env lookup) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return environment(map[string]string{
		"IOTHUB_CONNECTION_STRING":        fmt.Sprintf("HostName=%s;SharedAccessKeyName=service;SharedAccessKey=AAAA", l.Addr()),
		"IOTHUB_DEVICE_CONNECTION_STRING": fmt.Sprintf("HostName=%s;DeviceId=pi-1;SharedAccessKey=AAAA", l.Addr()),
	})
}

// Commands say what they wait for, and take it back when they are interrupted.
func TestProgressOfCommands(t *testing.T) {
	for _, tt := range []struct {
		args  []string
		shown string
		left  string // the last line on the screen
	}{
		{[]string{"ping", "pi-1"}, "setting up a stream to pi-1 (default)", "0 of 0 streams opened"},
		{[]string{"service-proxy", "-d", "pi-1", "-L", "0"}, "asking 127.0.0.1", ""},
		{[]string{"service-proxy", "-d", "pi-1", "--stdio"}, "setting up a stream to pi-1 (default)", ""},
		{[]string{"device", "list"}, "asking 127.0.0.1", "farport: error: "},
		{[]string{"ssh-known-hosts", "--ssh-name", "pi-1.farport"}, "asking 127.0.0.1", "farport: error: "},
		{[]string{"doctor"}, "checking tls", "farport: error: "},
		{[]string{"device-proxy"}, "connecting to 127.0.0.1", ""},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			y := newTypist(t)
			y.env = silentHub(t)
			ctx, interrupt := context.WithCancel(t.Context())
			code := y.start(ctx, tt.args...)
			y.read(tt.shown)
			interrupt()
			<-code
			// Is behind all that has been written to the terminal by now.
			if _, err := y.tty.WriteString("END\n"); err != nil {
				t.Fatal(err)
			}
			y.read("END\r\n")
			screen := onScreen(y.seen)
			lines := strings.Split(strings.TrimSuffix(screen, "END\n"), "\n")
			if strings.Contains(screen, tt.shown) || len(lines) < 2 && tt.left != "" || lines[len(lines)-1] != "" ||
				tt.left != "" && !strings.HasPrefix(lines[len(lines)-2], tt.left) {
				t.Errorf("left on the screen:\n%s\nof %q", screen, y.seen)
			}
		})
	}
}

// A device-proxy says when it will try again.
func TestProgressOfReconnecting(t *testing.T) {
	y := newTypist(t)
	y.env = environment(map[string]string{"IOTHUB_DEVICE_CONNECTION_STRING": "HostName=127.0.0.1:1;DeviceId=pi-1;SharedAccessKey=AAAA"})
	ctx, interrupt := context.WithCancel(t.Context())
	code := y.start(ctx, "device-proxy")
	y.read("not connected, next try in ")
	interrupt()
	y.wait(code, exitDone)
	if _, err := y.tty.WriteString("END\n"); err != nil {
		t.Fatal(err)
	}
	y.read("END\r\n")
	if screen := onScreen(y.seen); strings.Contains(screen, "next try") || !strings.HasSuffix(screen, "\nEND\n") || !strings.Contains(screen, "; trying again\n") {
		t.Errorf("left on the screen:\n%s", screen)
	}
}

func TestFit(t *testing.T) {
	const text = "3 streams  up 1.2 MB/s  down 3.4 MB/s"
	for cells, want := range map[int]string{
		-3: "", 0: "", 1: "…", 5: "3 st…", 9: "3 streams", 21: "3 streams", 22: "3 streams  up 1.2 MB/s", 36: "3 streams  up 1.2 MB/s", 37: text, 80: text,
	} {
		if got := fit(text, cells); got != want {
			t.Errorf("fit to %d cells: %q, want %q", cells, got, want)
		}
	}
}
