package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/proxy"
)

// changes is a Watch that a test fires.
type changes chan struct{}

func (c changes) watch(ctx context.Context, changed func()) {
	for {
		select {
		case <-c:
			changed()
		case <-ctx.Done():
			return
		}
	}
}

// A device-proxy that waits to try again does not wait any longer once the network has
// changed, nor for an attempt that began in the old one.
func TestNetworkChangeEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := make(changes)
		dialled := make(chan time.Time, 1000)
		var hang atomic.Bool // attempts do
		errNo := errors.New("no network")
		var told []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- proxy.RunDevice(ctx, proxy.DeviceOptions{
				Watch: network.watch,
				Dial: func(ctx context.Context) (*hubclient.Device, error) {
					dialled <- time.Now()
					if hang.Load() {
						<-ctx.Done()
						return nil, context.Cause(ctx)
					}
					return nil, errNo
				},
				Events: func(e proxy.Event) { told = append(told, e.Err.Error()) },
			})
		}()
		time.Sleep(time.Hour) // the wait is as long as it gets, a minute
		drain := func() {
			synctest.Wait()
			for len(dialled) > 0 {
				<-dialled
			}
		}
		immediate := 0
		for range 20 {
			drain()
			at := time.Now()
			network <- struct{}{}
			if first := <-dialled; first.Equal(at) {
				immediate++
			}
			// And the backoff has begun anew: some attempts within seconds.
			drain()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if len(dialled) < 2 {
				t.Errorf("%d attempts in the 10 s after the change, want more", len(dialled))
			}
			time.Sleep(time.Hour)
		}
		if immediate != 20 {
			t.Errorf("%d of 20 changes led to an attempt at once", immediate)
		}

		hang.Store(true)
		drain()
		<-dialled // this one hangs
		time.Sleep(time.Hour)
		at := time.Now()
		network <- struct{}{}
		if took := (<-dialled).Sub(at); took != 5*time.Second {
			t.Errorf("an attempt that hangs was given up %v after the change, want 5 s", took)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(told) != 2 || told[0] != errNo.Error() || !strings.Contains(told[1], "network has changed") {
			t.Errorf("told %q", told)
		}
	})
}

// relay passes TCP connections on to a hub until it is frozen: then nothing passes any
// more on those it has, as after a move to another network.
type relay struct {
	port string

	mu     sync.Mutex
	frozen chan struct{} // closed: the connections of this epoch pass nothing
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	r := &relay{frozen: make(chan struct{})}
	_, r.port, _ = net.SplitHostPort(hubtest.Serve(t, func(c *net.TCPConn) {
		r.mu.Lock()
		frozen := r.frozen
		r.mu.Unlock()
		onward, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer onward.Close()
		pass := func(dst, src net.Conn) {
			defer dst.Close()
			p := make([]byte, 32<<10)
			for {
				n, err := src.Read(p)
				select {
				case <-frozen:
					_, _ = io.Copy(io.Discard, src)
					return
				default:
				}
				if err != nil {
					return
				}
				if _, err := dst.Write(p[:n]); err != nil {
					return
				}
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { pass(onward, c) })
		pass(c, onward)
		wg.Wait()
	}))
	return r
}

func (r *relay) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.frozen)
	r.frozen = make(chan struct{})
}

// A control connection that died without a word is replaced within seconds of a change
// of the network, and one that lives is left alone.
func TestNetworkChangeFindsADeadControlConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	network := make(changes)
	r := newRelay(t, w.hub.ConnectionString("iothubowner").Address())
	w.via = r.port
	w.add("pi-1", proxy.DeviceOptions{Target: hubtest.Echo(t), Watch: network.watch}, hubclient.DeviceOptions{})
	<-w.dialled
	c := dial(t, w.forward("pi-1", "default"))
	echo(t, c, "before")

	network <- struct{}{}
	network <- struct{}{} // the first has been dealt with, or waits in the loop
	echo(t, dial(t, w.forward("pi-1", "default")), "over the same control connection")
	if len(w.dialled) > 0 {
		t.Error("a live control connection was replaced")
	}

	r.freeze()
	began := time.Now()
	network <- struct{}{}
	w.expect(w.device, proxy.Retrying)
	w.expect(w.device, proxy.Connected)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %v to replace a dead control connection", took)
	}
	echo(t, c, "a stream is no part of it")
}
