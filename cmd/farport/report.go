package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hostkey"
	"github.com/farportio/farport/proxy"
)

const (
	// rescan is how long what was reported is believed to be so, over one control
	// connection; each new one looks anew. sshd logs five lines each time.
	rescan = time.Hour
	// rescanSoon is when to look again for an sshd that did not answer, or a hub, and how
	// long new connections do not look: a flapping one would soon have sshd refuse all
	// streams, which come from the same address (sshd_config, PerSourcePenalties, noauth).
	rescanSoon = time.Minute
)

// reporter tells the hub one thing of the device, in its twin.
type reporter struct {
	what    string                                                   // for the log
	look    func(context.Context) ([]string, error)                  // what there is, nil for nothing
	report  func(*hubclient.Device, context.Context, []string) error // tells the hub
	device  string
	log     *slog.Logger
	working sync.WaitGroup

	mu       sync.Mutex
	withdraw bool // the hub has been told that there is nothing
}

// newHostKeyReporter reports the host keys of the target of streams named "ssh"; off tells
// the hub that there are none. They are asked of the sshd itself rather than read from
// files: so they are those that streams will meet, wherever it runs and whatever its
// configuration, and no right to read files is needed.
func newHostKeyReporter(o proxy.DeviceOptions, off bool) *reporter {
	dial := func(ctx context.Context) (net.Conn, error) {
		_, conn, err := o.DialTarget(ctx, serviceSSH)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
	r := &reporter{what: "host keys", report: (*hubclient.Device).ReportHostKeys, device: o.DeviceID, log: o.Logger}
	r.look = hostKeyLines(func(ctx context.Context) (hostkey.Set, error) { return hostkey.Scan(ctx, dial) })
	if _, has := o.Services[serviceSSH]; off || o.Services != nil && !has {
		r.look = func(context.Context) ([]string, error) { return nil, nil }
	}
	return r
}

// hostKeyLines turns scan into lines to report, nil for none. What has once been an SSH
// server is one that does not answer now: whoever can keep it from answering is not to
// withdraw its keys. They are scanned once a minute at most.
func hostKeyLines(scan func(context.Context) (hostkey.Set, error)) func(context.Context) ([]string, error) {
	var mu sync.Mutex // of what follows
	var last []string // nil for never any
	var seen time.Time
	return func(ctx context.Context) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		if last != nil && time.Since(seen) < rescanSoon {
			return last, nil
		}
		keys, err := scan(ctx)
		switch none := errors.Is(err, hostkey.ErrNotSSH) || err == nil && len(keys) == 0; {
		case none && last != nil:
			return nil, hostkey.ErrNotSSH
		case none:
			return nil, nil
		case err != nil:
			return nil, err
		}
		last, seen = keys.Lines(), time.Now()
		return last, nil
	}
}

// newServiceReporter reports the names of the services, never where they are, so that a
// shell can complete them. A device with one target for all names has none to tell.
func newServiceReporter(o proxy.DeviceOptions) *reporter {
	names := slices.Sorted(maps.Keys(o.Services))
	return &reporter{
		what: "services", report: (*hubclient.Device).ReportServices, device: o.DeviceID, log: o.Logger,
		look: func(context.Context) ([]string, error) { return names, nil },
	}
}

// follow reports over a control connection as long as it stands.
func (r *reporter) follow(conn *hubclient.Device) {
	ctx, cancel := context.WithCancel(context.Background())
	r.working.Go(func() {
		<-conn.Done()
		cancel()
	})
	r.working.Go(func() {
		r.run(ctx, func(ctx context.Context, list []string) error { return r.report(conn, ctx, list) })
	})
}

// wait waits until all connections that follow was called with have ended.
func (r *reporter) wait() { r.working.Wait() }

// run reports what there is, and again when it has changed.
func (r *reporter) run(ctx context.Context, report func(context.Context, []string) error) {
	var reported []string
	for ctx.Err() == nil {
		next := rescan
		list, err := r.look(ctx)
		if err == nil && !slices.Equal(list, reported) || err == nil && list == nil && r.mustWithdraw() {
			if err = report(ctx, list); err == nil {
				reported = list
				r.noteWithdrawn(list == nil)
			}
		}
		if err != nil && ctx.Err() == nil {
			r.log.Info(r.what+" not reported", "device", r.device, "err", err)
			next = rescanSoon
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
		}
	}
}

func (r *reporter) mustWithdraw() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.withdraw
}

func (r *reporter) noteWithdrawn(withdrawn bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.withdraw = withdrawn
}
