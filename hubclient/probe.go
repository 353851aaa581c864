package hubclient

import (
	"context"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// probeTimeout is how long the hub may take to answer a probe.
const probeTimeout = 5 * time.Second

// Probe finds out whether the connection still works, for which the keep-alive takes
// minutes: it subscribes again to what the device is subscribed to. Without an answer
// within 5 s it ends the connection and returns what Err then says. When ctx ends
// first, it returns ctx's error and nothing has been found out.
func (d *Device) Probe(ctx context.Context) error {
	inTime := time.AfterFunc(probeTimeout, func() {
		d.end(d.failed(&timeoutError{"answer to a probe", probeTimeout}))
		d.conn.Close() // a write that is stuck ends
	})
	defer inTime.Stop()
	answered := make(chan error, 1)
	go func() { // the library may wait for a writer that is stuck, controlWrite at most
		probe := d.client.Subscribe(wire.FilterStreamRequests, 0, nil)
		select {
		case <-probe.Done():
			answered <- probe.Error()
		case <-d.gone:
		}
	}()
	select {
	case err := <-answered:
		if err == nil {
			return nil
		}
		d.end(d.failed(err))
		return d.Err()
	case <-d.gone:
		return d.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// NetworkChanged drops idle connections to the hub, which may be dead now, so that the
// next call makes another instead of waiting for an answer in vain.
func (s *Service) NetworkChanged() { s.http.CloseIdleConnections() }
