package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hostkey"
	"github.com/farportio/farport/proxy"
)

const (
	// rescan is how long host keys are believed to be the same, over one control
	// connection; each new one looks anew. sshd logs five lines each time.
	rescan = time.Hour
	// rescanSoon is when to look again for an sshd that did not answer, or a hub.
	rescanSoon = time.Minute
)

// hostKeyReporter tells the hub the host keys of the device's sshd. They are asked of the
// sshd itself rather than read from files: so they are those that streams will meet,
// wherever it runs and whatever its configuration, and no right to read files is needed.
type hostKeyReporter struct {
	scan    func(context.Context) (hostkey.Set, error) // ErrNotSSH: there are none
	device  string
	log     *slog.Logger
	working sync.WaitGroup

	mu       sync.Mutex
	withdraw bool // the hub has been told that there are none
	seen     bool // there were some
}

// newHostKeyReporter looks at the target of streams named "ssh"; off tells the hub that
// there are no keys.
func newHostKeyReporter(o proxy.DeviceOptions, off bool) *hostKeyReporter {
	dial := func(ctx context.Context) (net.Conn, error) {
		_, conn, err := o.DialTarget(ctx, serviceSSH)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
	r := &hostKeyReporter{device: o.DeviceID, log: o.Logger}
	r.scan = func(ctx context.Context) (hostkey.Set, error) { return hostkey.Scan(ctx, dial) }
	if _, has := o.Services[serviceSSH]; off || o.Services != nil && !has {
		r.scan = func(context.Context) (hostkey.Set, error) { return nil, hostkey.ErrNotSSH }
	}
	return r
}

// follow reports over a control connection as long as it stands.
func (r *hostKeyReporter) follow(conn *hubclient.Device) {
	ctx, cancel := context.WithCancel(context.Background())
	r.working.Go(func() {
		<-conn.Done()
		cancel()
	})
	r.working.Go(func() { r.run(ctx, conn.ReportHostKeys) })
}

// wait waits until all connections that follow was called with have ended.
func (r *hostKeyReporter) wait() { r.working.Wait() }

// run reports what there is, and again when it has changed.
func (r *hostKeyReporter) run(ctx context.Context, report func(context.Context, []string) error) {
	var reported []string
	for ctx.Err() == nil {
		next := rescan
		keys, err := r.keys(ctx)
		if err == nil && !slices.Equal(keys, reported) || err == nil && keys == nil && r.mustWithdraw() {
			if err = report(ctx, keys); err == nil {
				reported = keys
				r.noteWithdrawn(keys == nil)
			}
		}
		if err != nil && ctx.Err() == nil {
			r.log.Info("host keys not reported", "device", r.device, "err", err)
			next = rescanSoon
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
		}
	}
}

// keys are the lines to report, nil for none. What has once been an SSH server is one that
// does not answer now: whoever can keep it from answering is not to withdraw its keys.
func (r *hostKeyReporter) keys(ctx context.Context) ([]string, error) {
	keys, err := r.scan(ctx)
	none := errors.Is(err, hostkey.ErrNotSSH) || err == nil && len(keys) == 0
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case none && r.seen:
		return nil, hostkey.ErrNotSSH
	case none:
		return nil, nil
	case err == nil:
		r.seen = true
	}
	return keys.Lines(), err
}

func (r *hostKeyReporter) mustWithdraw() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.withdraw
}

func (r *hostKeyReporter) noteWithdrawn(withdrawn bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.withdraw = withdrawn
}
