package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/wire"
)

func TestExpiry(t *testing.T) {
	for _, came := range [][]wire.Side{{}, {wire.SideDevice}, {wire.SideService}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Options{})
			start := time.Now()
			w.create("s")
			var legs []*leg
			for _, side := range came {
				l, _ := w.join("s", side)
				legs = append(legs, l)
			}
			s := w.wantEnd("s", wire.EndExpired, 0, 0)
			if d := time.Since(start); d != wire.HandshakeTimeout || s.Duration != d {
				t.Errorf("expired after %v, told %v", d, s.Duration)
			}
			for _, l := range legs {
				if l.abortedWith() != wire.EndExpired {
					t.Errorf("the leg was told %q", l.abortedWith())
				}
			}
			if s.Joined || s.Err != nil {
				t.Errorf("%+v", s)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{HandshakeTimeout: time.Second})
		w.create("short")
		<-time.After(time.Second)
		w.wantEnd("short", wire.EndExpired, 0, 0)
	})
}

// Streams whose legs have met live for ever, and one that expires just when its
// second leg comes is one or the other.
func TestMetInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		device, service := w.open("s")
		<-time.After(100 * time.Hour)
		go func() { _ = device.say("x") }()
		if got := service.next(1); got != "x" {
			t.Fatalf("got %q", got)
		}
		w.End("s", wire.EndRevoked)
		w.wantEnd("s", wire.EndRevoked, 0, 1)
	})
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Options{})
			w.create("s")
			_, _ = w.join("s", wire.SideDevice)
			place, err := w.claim("s", wire.SideService)
			if err != nil {
				t.Fatal(err)
			}
			<-time.After(wire.HandshakeTimeout)
			l, _ := newLeg()
			place.Join(l)
			synctest.Wait()
			if expired := l.abortedWith() == wire.EndExpired; expired == w.wasOpened("s") {
				t.Errorf("expired: %v, opened: %v", expired, w.wasOpened("s"))
			}
		})
	}
}

func TestClaim(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("s")
	for _, side := range sides {
		if _, err := w.claim("s", side); err != nil {
			t.Error(side, err)
		}
		_, err := w.Claim("s", side, Guest{Remote: "thief:1"})
		if taken, ok := errors.AsType[*TakenError](err); !ok || taken.By != (Guest{string(side) + ":1", string(side) + "'s key"}) {
			t.Errorf("%s again: %v", side, err)
		}
	}
	if _, err := w.claim("other", wire.SideDevice); err != ErrUnknown {
		t.Errorf("unknown: %v", err)
	}
	w.End("s", wire.EndRejected)
	if _, err := w.claim("s", wire.SideDevice); err != ErrUnknown {
		t.Errorf("ended: %v", err)
	}
}

// One of a hundred holders of a token gets in (security.md T10).
func TestClaimRace(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("s")
	var won atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 100 {
		wg.Go(func() {
			<-start
			_, err := w.claim("s", wire.SideService)
			if _, taken := errors.AsType[*TakenError](err); taken {
				return
			}
			if err != nil {
				t.Error(err)
			}
			won.Add(1)
		})
	}
	close(start)
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d got in", won.Load())
	}
}

// A stream's context tells whoever waits for the stream how that ended. It ends
// with its parent, which does not end the stream.
func TestContext(t *testing.T) {
	w := newWorld(t, Options{})
	for _, reason := range []wire.EndReason{wire.EndRevoked, wire.EndRejected} {
		parent, cancel := context.WithCancelCause(t.Context())
		ctx, err := w.Create(parent, Stream{ID: "s"})
		if err != nil {
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			t.Fatal("ended at once")
		}
		w.End("s", reason)
		<-ctx.Done()
		if ended, ok := errors.AsType[*EndedError](context.Cause(ctx)); !ok || ended.Reason != reason {
			t.Errorf("%v, want %s", context.Cause(ctx), reason)
		}
		w.summary("s")
		w.mu.Lock()
		delete(w.ended, "s")
		w.mu.Unlock()
		cancel(nil)
	}
	parent, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the caller has gone")
	ctx, err := w.Create(parent, Stream{ID: "s"})
	if err != nil {
		t.Fatal(err)
	}
	cancel(gone)
	if <-ctx.Done(); context.Cause(ctx) != gone {
		t.Errorf("%v", context.Cause(ctx))
	}
	if _, err := w.claim("s", wire.SideDevice); err != nil {
		t.Errorf("the stream has ended with its context: %v", err)
	}
}

// What is told of a stream says who was behind it.
func TestGuests(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("s")
	w.Admit("s", "control connection's key")
	if s := w.List()[0]; s.DeviceCredential != "control connection's key" {
		t.Errorf("before its leg: %q", s.DeviceCredential)
	}
	_, device := w.join("s", wire.SideDevice)
	w.Admit("s", "control connection's key")
	if s := w.List()[0]; s.DeviceCredential != "device's key" {
		t.Errorf("with its leg: %q", s.DeviceCredential)
	}
	device.abort(wire.EndAborted)
	s := w.wantEnd("s", wire.EndAborted, 0, 0)
	if s.DeviceRemote != "device:1" || s.ServiceRemote != "" || s.DeviceCredential != "device's key" {
		t.Errorf("%+v", s)
	}
}

func TestAbandon(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("s")
	l, _ := w.join("s", wire.SideDevice)
	place, err := w.claim("s", wire.SideService)
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("no handshake")
	place.Abandon(cause)
	if s := w.wantEnd("s", wire.EndNetwork, 0, 0); s.Err != cause {
		t.Errorf("told %v", s.Err)
	}
	if l.abortedWith() != wire.EndNetwork {
		t.Errorf("the other leg was told %q", l.abortedWith())
	}
}

// A leg that comes when its stream has just ended is told why.
func TestJoinTooLate(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("s")
	place, err := w.claim("s", wire.SideDevice)
	if err != nil {
		t.Fatal(err)
	}
	w.End("s", wire.EndRevoked)
	l, _ := newLeg()
	place.Join(l)
	if l.abortedWith() != wire.EndRevoked || l.closed.Load() != 1 {
		t.Errorf("told %q, closed %d times", l.abortedWith(), l.closed.Load())
	}
}

func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name string
		o    Options
		s    func(i int) Stream
		want error
	}{
		{"hub", Options{MaxStreams: 3}, func(i int) Stream { return Stream{Device: fmt.Sprint(i), Policy: fmt.Sprint(i)} }, ErrHubFull},
		{"device", Options{MaxPerDevice: 3}, func(i int) Stream { return Stream{Device: "d", Policy: fmt.Sprint(i)} }, ErrDeviceFull},
		{"policy", Options{MaxPerPolicy: 3}, func(i int) Stream { return Stream{Device: fmt.Sprint(i), Policy: "p"} }, ErrPolicyFull},
		{"device by default", Options{}, func(i int) Stream { return Stream{Device: "d", Policy: fmt.Sprint(i)} }, ErrDeviceFull},
		{"policy by default", Options{}, func(i int) Stream { return Stream{Device: fmt.Sprint(i), Policy: "p"} }, ErrPolicyFull},
		{"hub by default", Options{}, func(i int) Stream { return Stream{Device: fmt.Sprint(i), Policy: fmt.Sprint(i)} }, ErrHubFull},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, test.o)
			create := func(i int) error {
				s := test.s(i)
				s.ID = fmt.Sprint(i)
				return w.make(s)
			}
			n := 0
			var err error
			for ; err == nil; n++ {
				err = create(n)
			}
			n--
			want := map[error]int{ErrHubFull: DefaultMaxStreams, ErrDeviceFull: DefaultMaxPerDevice, ErrPolicyFull: DefaultMaxPerPolicy}[test.want]
			if !strings.Contains(test.name, "default") {
				want = 3
			}
			if err != test.want || n != want {
				t.Fatalf("%v after %d streams, want %v after %d", err, n, test.want, want)
			}
			for range 3 { // its end makes room for one
				w.End("0", wire.EndRejected)
				w.wantEnd("0", wire.EndRejected, 0, 0)
				w.mu.Lock()
				delete(w.ended, "0")
				w.created = slices.DeleteFunc(w.created, func(id string) bool { return id == "0" })
				w.mu.Unlock()
				if err := create(0); err != nil {
					t.Fatal(err)
				}
				if err := create(n + 1); err != test.want {
					t.Fatalf("one more: %v", err)
				}
			}
		})
	}
}
