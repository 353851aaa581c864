//go:build unix

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/farportio/farport/internal/skip"
)

// TestFaults cuts, stops and kills what streams run over, with the built binary.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	binary := filepath.Join(t.TempDir(), "farport")
	must(t, exec.Command("go", "build", "-o", binary, "."))
	for _, test := range []struct {
		name string
		run  func(t *testing.T, binary string)
	}{
		{"many cuts", manyCuts},
		{"networks", networks},
		{"ssh through restarts", sshThroughRestarts},
		{"scp through cuts", scpThroughCuts},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, binary) })
	}
}

// left is what a process holds: open descriptors, and threads of the system's.
type left struct{ descriptors, threads int }

// leftIn counts for a process.
func leftIn(t *testing.T, p *process) left {
	t.Helper()
	if runtime.GOOS != "linux" {
		skip.Test(t, "descriptors are counted in /proc")
	}
	count := func(what string) int {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, what))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	return left{count("fd"), count("task")}
}

// wait waits until the process holds no more descriptors than it did before. Threads are
// never given back by Go; they are few if nothing blocked them.
func (before left) wait(t *testing.T, p *process, within time.Duration) {
	t.Helper()
	const threads = 32
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(within); ; {
		now := leftIn(t, p)
		if now.descriptors <= before.descriptors && now.threads <= before.threads+threads {
			t.Logf("%s: %d descriptors and %d threads before, %d and %d after", p, before.descriptors, before.threads, now.descriptors, now.threads)
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Errorf("%s: %d descriptors and %d threads before, %d and %d after", p, before.descriptors, before.threads, now.descriptors, now.threads)
			return
		}
	}
}
