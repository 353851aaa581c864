package rendezvous

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/farportio/farport/internal/wire"
)

func TestEndWhere(t *testing.T) {
	w := newWorld(t, Options{})
	for i := range 10 {
		if err := w.make(Stream{ID: fmt.Sprint(i), Device: fmt.Sprint(i % 2)}); err != nil {
			t.Fatal(err)
		}
	}
	l, _ := w.join("1", wire.SideDevice)
	w.Admit("3", "key-1")
	w.Admit("1", "key-1") // its leg has come, with another key
	w.Admit("unknown", "key-1")
	if n := w.EndWhere(func(s Stream) bool { return s.DeviceCredential == "key-1" }, wire.EndRevoked); n != 1 {
		t.Errorf("%d streams of key-1", n)
	}
	w.wantEnd("3", wire.EndRevoked, 0, 0)
	if n := w.EndWhere(func(s Stream) bool { return s.Device == "1" }, wire.EndRevoked); n != 4 {
		t.Errorf("%d streams of device 1", n)
	}
	w.wantEnd("1", wire.EndRevoked, 0, 0)
	if l.abortedWith() != wire.EndRevoked {
		t.Errorf("the leg was told %q", l.abortedWith())
	}
	for _, id := range []string{"5", "7", "9"} {
		w.wantEnd(id, wire.EndRevoked, 0, 0)
	}
	var left []string
	for _, s := range w.List() {
		left = append(left, s.ID)
	}
	if want := []string{"0", "2", "4", "6", "8"}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v, oldest first", left, want)
	}
}

// An end has words of its own only: it cannot have the hub say that it stops, or
// that a right was taken away.
func TestWordsOfAnEnd(t *testing.T) {
	for said, want := range map[wire.EndReason]wire.EndReason{
		wire.EndAborted: wire.EndAborted, wire.EndNetwork: wire.EndNetwork, wire.EndProtocol: wire.EndProtocol,
		wire.EndStopping: wire.EndAborted, wire.EndRevoked: wire.EndAborted, wire.EndExpired: wire.EndAborted,
		wire.EndRejected: wire.EndAborted, wire.EndOffline: wire.EndAborted, "made up": wire.EndAborted,
	} {
		w := newWorld(t, Options{})
		device, service := w.open("s")
		service.abort(said)
		s := w.wantEnd("s", want, 0, 0)
		if got := device.all(); got != fmt.Sprintf(" (%s)", want) {
			t.Errorf("%s: the device was told %s", said, got)
		}
		if s.Err == nil || !strings.HasPrefix(s.Err.Error(), "service's leg: ") {
			t.Errorf("%s: told %v", said, s.Err)
		}
	}
}

// Streams in every state, when the hub stops.
func TestStopAndClose(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("created")
	w.create("claimed")
	place, err := w.claim("claimed", wire.SideService)
	if err != nil {
		t.Fatal(err)
	}
	w.create("one leg")
	_, alone := w.join("one leg", wire.SideDevice)
	_ = alone.say("held")
	device, _ := w.open("open")
	halfDevice, halfService := w.open("half ended")
	halfDevice.finish()
	if got := halfService.all(); got != "" {
		t.Fatal(got)
	}
	_, stuck := w.open("stuck")
	go func() { _ = stuck.say(strings.Repeat("nobody reads this", wire.Chunk)) }()
	goneDevice, goneService := w.open("gone")
	goneDevice.finish()
	_ = goneService.all()
	goneService.finish()
	w.wantEnd("gone", wire.EndDevice, 0, 0)

	empty, again := w.Stop(), w.Stop()
	if ctx, err := w.Create(t.Context(), Stream{ID: "late"}); ctx != nil || err != ErrStopping {
		t.Errorf("create: %v", err)
	}
	select {
	case <-empty:
		t.Fatal("told that no stream is left")
	default:
	}
	w.Close()
	<-empty
	<-again
	for _, id := range []string{"created", "claimed", "one leg", "open", "half ended", "stuck"} {
		if s := w.summary(id); s.Reason != wire.EndStopping || s.Err != nil {
			t.Errorf("%s ended %q, %v", id, s.Reason, s.Err)
		}
	}
	if got := device.all(); got != " (hub stopping)" {
		t.Errorf("the device was told %q", got)
	}
	l, _ := newLeg()
	place.Join(l) // a request that was under way
	if l.abortedWith() != wire.EndStopping || l.closed.Load() != 1 {
		t.Error("a leg that came after Close was left open")
	}
	<-w.Stop() // nothing is left
	w.Close()
}

// Stop waits for streams that end by themselves.
func TestStopWaits(t *testing.T) {
	w := newWorld(t, Options{})
	device, service := w.open("s")
	empty := w.Stop()
	device.finish()
	service.finish()
	<-empty
	if s := w.summary("s"); !s.Reason.Clean() {
		t.Error(s.Reason)
	}
}

// Legs that join while the rendezvous closes are closed, and waited for.
func TestJoinDuringClose(t *testing.T) {
	for range 100 {
		w := newWorld(t, Options{})
		w.create("s")
		var wg sync.WaitGroup
		var legs []*leg
		for _, side := range sides {
			place, err := w.claim("s", side)
			if err != nil {
				t.Fatal(err)
			}
			l, _ := newLeg()
			legs = append(legs, l)
			wg.Go(func() { place.Join(l) })
		}
		wg.Go(w.Close)
		wg.Wait()
		for _, l := range legs {
			if l.closed.Load() != 1 {
				t.Fatalf("closed %d times", l.closed.Load())
			}
		}
	}
}

// The first reason counts, whoever else ends the stream at the same time.
func TestEndsOnce(t *testing.T) {
	for range 20 {
		w := newWorld(t, Options{})
		device, service := w.open("s")
		var wg sync.WaitGroup
		for _, end := range []func(){
			func() { w.End("s", wire.EndRevoked) },
			func() { w.End("s", wire.EndStopping) },
			func() { w.EndWhere(func(Stream) bool { return true }, wire.EndExpired) },
			func() { device.abort(wire.EndAborted) },
			service.finish,
		} {
			wg.Go(end)
		}
		wg.Wait()
		if s := w.summary("s"); s.Reason.Clean() || s.Reason == "" {
			t.Errorf("ended %q", s.Reason)
		}
	}
}

// A leg that takes nothing holds up its own stream only, and lets go when that ends.
func TestStuckLeg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		device, _ := w.open("stuck")
		synctest.Wait() // or the gate would hold it
		go func() { _ = device.say("nobody reads this") }()
		synctest.Wait()
		other, service := w.open("other")
		go func() {
			_ = other.say("hello")
			other.finish()
		}()
		if got := service.all(); got != "hello" {
			t.Errorf("got %q", got)
		}
		service.finish()
		w.wantEnd("other", wire.EndDevice, 0, 5)
		w.End("stuck", wire.EndNetwork)
		w.wantEnd("stuck", wire.EndNetwork, 0, 0)
	})
}

// A panic anywhere in a leg ends its stream, is logged with its stack, and no other
// stream notices (security.md T35).
func TestPanic(t *testing.T) {
	for _, method := range []string{"Read", "Write", "CloseWrite", "Abort", "Close"} {
		t.Run(method, func(t *testing.T) {
			var log lockedBuffer
			w := newWorld(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			device, service := w.open("other")
			w.create("s")
			good, goodFar := w.join("s", wire.SideDevice)
			place, err := w.claim("s", wire.SideService)
			if err != nil {
				t.Fatal(err)
			}
			bad, _ := newLeg()
			bad.panics = method
			place.Join(bad)
			switch method {
			case "Write":
				_ = goodFar.say("x")
			case "CloseWrite":
				goodFar.finish()
			case "Abort", "Close":
				w.End("s", wire.EndRevoked)
			}
			s := w.summary("s")
			if want := wire.EndNetwork; s.Reason != want && method != "Abort" && method != "Close" {
				t.Errorf("ended %q, %v", s.Reason, s.Err)
			}
			if good.abortedWith() != s.Reason {
				t.Errorf("the other leg was told %q", good.abortedWith())
			}
			go func() { _ = device.say("still here") }()
			if got := service.next(10); got != "still here" {
				t.Errorf("got %q", got)
			}
			w.Close()
			if text := log.String(); !strings.Contains(text, "at "+method) || !strings.Contains(text, "stack=") {
				t.Errorf("logged %q", text)
			}
			if good.closed.Load() != 1 || bad.closed.Load() != 1 {
				t.Error("a leg was left open")
			}
			if bad.closedBy != s.Reason {
				t.Errorf("its own leg was closed without a word")
			}
		})
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
