//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

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
