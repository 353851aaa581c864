package hubclient

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hub  func(*deviceSession)
		ends time.Duration // when the connection does; zero: not at all
	}{
		"answered":   {func(s *deviceSession) { s.subscribe(0); s.subscribe(0); s.drain() }, 0},
		"broken":     {func(s *deviceSession) { s.subscribe(0); s.read() }, 1},
		"unanswered": {func(s *deviceSession) { s.subscribe(0); s.drain() }, probeTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := &testHub{device: func(s *deviceSession) { s.ready(); test.hub(s) }}
			hub.start(t)
			d := hub.dial(DeviceOptions{})
			if err := d.Probe(bounded(t)); err != nil {
				t.Fatalf("a connection that stands: %v", err)
			}
			began := time.Now()
			err := d.Probe(bounded(t))
			took := time.Since(began)
			if test.ends == 0 {
				if err != nil || d.Err() != nil {
					t.Errorf("probe: %v, connection: %v", err, d.Err())
				}
				return
			}
			if !errors.Is(err, ErrHubUnreachable) || err != d.Err() {
				t.Errorf("probe: %v, connection: %v, want both the same ErrHubUnreachable", err, d.Err())
			}
			if waited := took >= probeTimeout; waited != (test.ends == probeTimeout) {
				t.Errorf("ended after %v, want %v", took, test.ends)
			}
		})
	}
}

// A caller that gives up has found out nothing, and neither has one that closes.
func TestProbeGivenUp(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 10)
	hub := &testHub{device: func(s *deviceSession) {
		s.ready()
		for {
			switch s.read().(type) {
			case nil:
				return
			case *packets.SubscribePacket:
				asked <- struct{}{}
			}
		}
	}}
	hub.start(t)
	d := hub.dial(DeviceOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if err := d.Probe(ctx); !errors.Is(err, context.Canceled) || d.Err() != nil {
		t.Errorf("given up: probe %v, connection %v", err, d.Err())
	}
	go func() { <-asked; d.Close() }()
	if err := d.Probe(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
