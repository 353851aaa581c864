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
)

// TestHostKeyReporter: what is reported, and when, over one connection after another.
func TestHostKeyReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := hostkey.Set{{Type: "ssh-ed25519", Blob: "a"}}, hostkey.Set{{Type: "ssh-ed25519", Blob: "b"}}
		var mu sync.Mutex // of what follows
		var keys hostkey.Set
		var scanErr, reportErr error
		var reports [][]string
		r := &hostKeyReporter{log: slog.New(slog.DiscardHandler), scan: func(context.Context) (hostkey.Set, error) {
			mu.Lock()
			defer mu.Unlock()
			return keys, scanErr
		}}
		report := func(_ context.Context, lines []string) error {
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, lines)
			return reportErr
		}
		answer := func(k hostkey.Set, ofScan, ofReport error) {
			mu.Lock()
			defer mu.Unlock()
			keys, scanErr, reportErr = k, ofScan, ofReport
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

		answer(nil, hostkey.ErrNotSSH, nil)
		connect()
		expect("another server", []string(nil))
		connect()
		expect("another connection, and still no keys")
		after(rescan)
		expect("still another server")
		answer(nil, errors.New("connection refused"), nil)
		connect()
		expect("sshd is down")
		answer(a, nil, errors.New("hub is busy"))
		after(rescanSoon)
		expect("sshd is up", a.Lines())
		answer(a, nil, nil)
		after(rescanSoon)
		expect("hub is ready", a.Lines())
		after(rescan)
		expect("nothing has changed")
		answer(b, nil, nil)
		after(rescan)
		expect("another key", b.Lines())
		connect()
		expect("another connection", b.Lines())
		answer(nil, hostkey.ErrNotSSH, nil)
		after(rescan)
		connect()
		after(rescanSoon)
		expect("sshd does not answer any more")
		answer(a, nil, nil)
		after(rescanSoon)
		expect("sshd again", a.Lines())
	})
}
