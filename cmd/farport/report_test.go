package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/hostkey"
	"github.com/farportio/farport/proxy"
)

// TestReporter: what is reported, and when, over one connection after another.
func TestReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := []string{"ssh-ed25519 a"}, []string{"ssh-ed25519 b"}
		var mu sync.Mutex // of what follows
		var keys []string
		var lookErr, reportErr error
		var reports [][]string
		r := &reporter{log: slog.New(slog.DiscardHandler), look: func(context.Context) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			return keys, lookErr
		}}
		report := func(_ context.Context, lines []string) error {
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, lines)
			return reportErr
		}
		answer := func(k []string, ofLook, ofReport error) {
			mu.Lock()
			defer mu.Unlock()
			keys, lookErr, reportErr = k, ofLook, ofReport
		}
		stop := func() {}
		connect := func() {
			stop()
			synctest.Wait()
			var ctx context.Context
			ctx, stop = context.WithCancel(t.Context())
			go r.run(ctx, report)
			synctest.Wait()
		}
		defer func() { stop() }()
		expect := func(when string, want ...[]string) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.EqualFunc(reports, want, func(x, y []string) bool { return slices.Equal(x, y) && (x == nil) == (y == nil) }) {
				t.Errorf("%s: reported %q, want %q", when, reports, want)
			}
			reports = nil
		}
		after := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}

		answer(nil, errors.New("connection refused"), nil)
		connect()
		expect("sshd is down")
		answer(a, nil, errors.New("hub is busy"))
		after(rescanSoon)
		expect("sshd is up", a)
		answer(a, nil, nil)
		after(rescanSoon)
		expect("hub is ready", a)
		after(rescan)
		expect("nothing has changed")
		answer(b, nil, nil)
		after(rescan)
		expect("another key", b)
		connect()
		expect("another connection", b)
		answer(nil, nil, nil)
		after(rescan)
		expect("another server", []string(nil))
		connect()
		expect("another connection, and still no keys")
		answer(a, nil, nil)
		after(rescan)
		expect("sshd again", a)
	})
}

// TestHostKeyLines: what has been an SSH server is not taken for another one, and is not
// kept busy by a flapping connection.
func TestHostKeyLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := func() (hostkey.Set, error) { return hostkey.Set{{Type: "ssh-ed25519", Blob: "AAAA"}}, nil }
		other := func() (hostkey.Set, error) { return nil, hostkey.ErrNotSSH }
		none := func() (hostkey.Set, error) { return nil, nil }
		scan, scans := other, 0
		look := hostKeyLines(func(context.Context) (hostkey.Set, error) {
			scans++
			return scan()
		})
		for _, step := range []struct {
			scan  func() (hostkey.Set, error)
			lines int
			err   error
		}{{other, 0, nil}, {none, 0, nil}, {known, 1, nil}, {other, 0, hostkey.ErrNotSSH}, {none, 0, hostkey.ErrNotSSH}, {known, 1, nil}} {
			scan = step.scan
			if lines, err := look(t.Context()); len(lines) != step.lines || err != step.err {
				t.Errorf("%q, %v; want %d lines, %v", lines, err, step.lines, step.err)
			}
			time.Sleep(rescanSoon)
		}
		_, _ = look(t.Context())
		before := scans
		for range 10 {
			if lines, err := look(t.Context()); len(lines) != 1 || err != nil || scans != before {
				t.Errorf("%q, %v after %d more scans", lines, err, scans-before)
			}
		}
	})
}

// TestServiceReporter: names alone, in order; a device with one target has none.
func TestServiceReporter(t *testing.T) {
	for _, test := range []struct {
		services map[string]string
		want     []string
	}{
		{map[string]string{"ssh": "192.0.2.1:22", "rdp": "192.0.2.1:3389"}, []string{"rdp", "ssh"}},
		{nil, nil},
	} {
		names, err := newServiceReporter(proxy.DeviceOptions{Services: test.services}).look(t.Context())
		if err != nil || !slices.Equal(names, test.want) || (names == nil) != (test.want == nil) {
			t.Errorf("%v: %q, %v", test.services, names, err)
		}
	}
}
