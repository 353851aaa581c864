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

// On a narrow screen the live line keeps to one line, and a table becomes paragraphs, of
// which nothing is cut.
func TestNarrowScreen(t *testing.T) {
	screen, tty := openPTY(t)
	const cells = 30
	resize(t, screen, cells)
	term := newTerminal(tty, tty)
	term.noColor()
	line := newLiveLine(term)
	term.setLine(line, "3 streams  up 1.2 MB/s  down 3.4 MB/s  total 5 MB up, 6 MB down")
	term.setLine(nil, "")
	header := []string{"ID", "KEY"}
	key := strings.Repeat("k", cells+10)
	for _, rows := range [][][]string{{{"日本", "short"}}, {{"日本", key}, {"pi-1", ""}}, nil} {
		if err := term.table(header, rows); err != nil {
			t.Fatal(err)
		}
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
	text := strings.ReplaceAll(string(seen), "\r\n", "\n")
	live, tables, _ := strings.Cut(text, "\x1b[2K\r")
	live = strings.NewReplacer("\x1b[2K", "", "\x1b[0K", "", "\r", "").Replace(live)
	if !strings.Contains(live, "3 streams  up") || uniseg.StringWidth(live) > cells {
		t.Errorf("the live line is %q", live)
	}
	if want := "ID     KEY\n日本   short\nID    日本\nKEY   " + key + "\n\nID    pi-1\nKEY\nID   KEY\n"; tables != want {
		t.Errorf("tables:\n%q\nwant:\n%q", tables, want)
	}
}
