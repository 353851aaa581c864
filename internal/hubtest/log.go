package hubtest

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds the wait for something that happens at once on an idle machine.
const patience = 30 * time.Second

// Log collects what a logger writes, a line for each event. It is safe for
// concurrent use.
type Log struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{} // closed at the next write; nil when nobody waits
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
	return l.text.Write(p)
}

// String is everything written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// WaitFor returns the first line that has all the parts, once there is one.
func (l *Log) WaitFor(t testing.TB, parts ...string) string {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		text, grown := l.watch()
		for line := range strings.Lines(text) {
			if hasAll(line, parts) {
				return line
			}
		}
		select {
		case <-grown:
		case <-late.C:
			t.Fatalf("no line of the log has all of %q", parts)
		}
	}
}

// watch is everything written so far, and a channel that the next write closes.
func (l *Log) watch() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return l.text.String(), l.grown
}

func hasAll(line string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(line, p) {
			return false
		}
	}
	return true
}
