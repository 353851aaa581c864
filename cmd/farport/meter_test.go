//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"
	"golang.org/x/sys/unix"

	"github.com/farportio/farport/internal/skip"
)

// openPTY returns both ends of a pseudo-terminal.
func openPTY(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		skip.Test(t, err.Error())
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		skip.Test(t, err.Error())
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		skip.Test(t, err.Error())
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		skip.Test(t, err.Error())
	}
	t.Cleanup(func() { tty.Close() })
	return screen, tty
}

// On a screen the live line stands below what is said, and is gone at the end.
func TestLiveLine(t *testing.T) {
	screen, tty := openPTY(t)
	seen := ""
	read := func(until string) {
		t.Helper()
		p := make([]byte, 4096)
		for began := time.Now(); !strings.Contains(seen, until); {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("the screen shows %q, but not %q", seen, until)
			}
			n, err := screen.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			seen += string(p[:n])
		}
	}
	term := newTerminal(tty, tty)
	if !term.person {
		t.Fatal("a terminal is not taken for one")
	}
	v := newStreamView(&app{term: term}, "hub", "from")
	stop := v.show()
	read("0 streams  up 0 B/s  down 0 B/s  total 0 B up, 0 B down")
	seen = ""
	term.warn("something")
	read("\x1b[2K\rfarport: \x1b[33mwarning: \x1b[0msomething\r\n") // the line is cleared first
	read("0 streams")                                               // and drawn again
	stop()
	term.noColor()
	term.notice("the end")
	read("\x1b[2K\rfarport: the end\r\n")
	if after := seen[strings.Index(seen, "the end"):]; strings.Contains(after, "streams") {
		t.Errorf("after the end: %q", after)
	}
}

// On a narrow screen the live line and tables keep to one line each.
func TestNarrowScreen(t *testing.T) {
	screen, tty := openPTY(t)
	const cells = 30
	if err := unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: cells}); err != nil {
		t.Fatal(err)
	}
	term := newTerminal(tty, tty)
	term.noColor()
	line := newLiveLine(term)
	term.setLine(line, "3 streams  up 1.2 MB/s  down 3.4 MB/s  total 5 MB up, 6 MB down")
	term.setLine(nil, "")
	if err := term.table([]string{"ID", "STATUS"}, [][]string{{strings.Repeat("日本", 20), "enabled"}}); err != nil {
		t.Fatal(err)
	}
	tty.Close()
	var seen []byte
	for p := make([]byte, 4096); ; {
		n, err := screen.Read(p)
		seen = append(seen, p[:n]...)
		if err != nil { // the other end is closed
			break
		}
	}
	text := string(seen)
	if !strings.Contains(text, "3 streams  up") || !strings.Contains(text, "…    enabled") {
		t.Errorf("the screen shows %q", text)
	}
	for _, shown := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		if shown = strings.NewReplacer("\x1b[2K", "", "\x1b[0K", "").Replace(shown); uniseg.StringWidth(shown) > cells {
			t.Errorf("%q takes more than a line", shown)
		}
	}
}
