//go:build linux

package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// typist sits before a pseudo-terminal that farport runs on.
type typist struct {
	t      *testing.T
	screen *os.File
	tty    *os.File
	fd     int // tty's
	env    lookup
	seen   string
}

func newTypist(t *testing.T) *typist {
	screen, tty := openPTY(t)
	return &typist{t: t, screen: screen, tty: tty, fd: int(tty.Fd()), env: environment(map[string]string{"XDG_CONFIG_HOME": t.TempDir()})}
}

// start runs farport on the terminal. The channel gets its exit code.
func (y *typist) start(ctx context.Context, args ...string) <-chan int {
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, streams{y.tty, y.tty, y.tty}, y.env) }()
	return code
}

func (y *typist) read(until string) {
	y.t.Helper()
	p := make([]byte, 4096)
	for !strings.Contains(y.seen, until) {
		n, err := y.screen.Read(p)
		if err != nil {
			y.t.Fatal(err)
		}
		y.seen += string(p[:n])
	}
}

func (y *typist) write(text string) {
	y.t.Helper()
	if _, err := y.screen.WriteString(text); err != nil {
		y.t.Fatal(err)
	}
}

func (y *typist) wait(code <-chan int, want int) {
	y.t.Helper()
	select {
	case got := <-code:
		if got != want {
			y.t.Fatalf("exit code %d, want %d: %q", got, want, y.seen)
		}
	case <-time.After(20 * time.Second):
		y.t.Fatal("farport has not ended")
	}
}

// echoes tells whether the terminal shows what is typed.
func (y *typist) echoes() bool {
	y.t.Helper()
	settings, err := unix.IoctlGetTermios(y.fd, unix.TCGETS)
	if err != nil {
		y.t.Fatal(err)
	}
	return settings.Lflag&unix.ECHO != 0
}

func TestAskOnTerminal(t *testing.T) {
	y := newTypist(t)
	code := y.start(t.Context(), "hub", "add", "work")
	y.read(`connection string of hub "work" (not shown): `)
	for y.echoes() { // the question comes first
		time.Sleep(time.Millisecond)
	}
	y.write("HostName=typed.example.com;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0IG9mIGEgdHlwaXN0\n")
	y.read("is the current one")
	y.wait(code, exitDone)
	if strings.Contains(y.seen, "c2VjcmV0") || !strings.Contains(y.seen, "typed.example.com as policy service") {
		t.Errorf("the screen shows %q", y.seen)
	}
	if !y.echoes() {
		t.Error("what is typed is not shown any more")
	}
}

func TestInterruptedQuestion(t *testing.T) {
	y := newTypist(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	code := y.start(ctx, "hub", "add", "work")
	y.read("(not shown): ")
	for y.echoes() {
		time.Sleep(time.Millisecond)
	}
	interrupt()
	y.read("interrupted: nothing is stored")
	y.wait(code, exitFailed)
	if !y.echoes() {
		t.Error("what is typed is not shown any more")
	}
	y.write("\n") // the end of who still reads
}
