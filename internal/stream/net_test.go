package stream

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// What net.Conn promises, over a relay.
func TestConnIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		near, far := plainPair(t)
		near.drain, far.drain = 0, 0 // Close of an open plain stream aborts it; see politely
		c1, c2 = politely{near}, politely{far}
		return c1, c2, func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = c1.Close()
			}()
			_ = c2.Close()
			<-done
		}, nil
	})
}

// politely closes as TCP does, in the tests' time.
type politely struct{ *Conn }

func (p politely) Close() error {
	_ = p.CloseWrite()
	_ = p.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, onlyReader{p.Conn})
	return p.Conn.Close()
}

func TestExtendedIsANetConn(t *testing.T) {
	r := newRelay(t)
	var n atomic.Int64
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		name := string(rune('a' + n.Add(1)))
		o := r.options()
		o.Linger = 2 * time.Second
		service, err := r.open(t.Context(), name, "service", o)
		if err != nil {
			return nil, nil, nil, err
		}
		device, err := r.open(t.Context(), name, "device", o)
		if err != nil {
			return nil, nil, nil, err
		}
		return service, device, func() { wantGone(t, service, device) }, nil
	})
}
