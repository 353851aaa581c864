package hub_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// keep is a real end of the stream.
func (e *end) keep(window time.Duration) *stream.Extended {
	e.w.t.Helper()
	x, err := stream.Join(e.w.t.Context(), e.url, e.token, stream.JoinOptions{
		DialOptions: stream.DialOptions{TLS: e.w.trust()}, Secret: e.secret, Window: window,
	})
	if err != nil {
		e.w.t.Fatal(err)
	}
	e.w.t.Cleanup(func() { x.Abort(wire.EndReset) })
	return x
}

// Real ends carry a stream through the restart of the hub in the middle of it, byte for
// byte and to a clean end.
func TestExtendedEnds(t *testing.T) {
	w := newWorld(t, hub.Options{})
	_, device, service := w.extended("pi-1", time.Minute)
	d, s := device.keep(time.Minute), service.keep(time.Minute)
	data := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)

	half := make(chan struct{})
	written := make(chan error, 2)
	for _, x := range []*stream.Extended{d, s} {
		go func() {
			_, err := x.Write(data[:len(data)/2])
			if err == nil {
				<-half
				if _, err = x.Write(data[len(data)/2:]); err == nil {
					err = x.CloseWrite()
				}
			}
			written <- err
		}()
	}
	first := make([]byte, len(data)/4)
	if _, err := io.ReadFull(s, first); err != nil {
		t.Fatal(err)
	}
	address, dir := w.Hub.Address().String(), w.DataDir
	w.Stop()
	again := newWorld(t, hub.Options{DataDir: dir, Listen: address})
	close(half)
	fromDevice := make(chan []byte, 1)
	go func() {
		rest, err := io.ReadAll(s)
		if err != nil {
			t.Error(err)
		}
		fromDevice <- append(first, rest...)
	}()
	fromService, err := io.ReadAll(d)
	if err != nil {
		t.Error(err)
	}
	if !bytes.Equal(fromService, data) || !bytes.Equal(<-fromDevice, data) {
		t.Error("not what was sent")
	}
	for range 2 {
		if err := <-written; err != nil {
			t.Error(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again.Log.WaitFor(t, "stream ended", "reason=finished")
}

// An end that breaks off resets the other one with its reason, and is done with that.
func TestExtendedEndsAbort(t *testing.T) {
	w := newWorld(t, hub.Options{})
	_, device, service := w.extended("pi-1", time.Minute)
	d, s := device.keep(time.Minute), service.keep(time.Minute)
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s.Abort(wire.EndShutdown)
	if _, err := d.Read(make([]byte, 1)); stream.Reason(err) != wire.EndShutdown {
		t.Errorf("the other end hears %v", err)
	}
	w.Log.WaitFor(t, "stream ended", "reason=shutdown")
}
