package rendezvous

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/farportio/farport/internal/wire"
)

var sides = []wire.Side{wire.SideDevice, wire.SideService}

// Either leg may come first, and either may end first.
func TestStream(t *testing.T) {
	for _, firstIn := range sides {
		for _, firstOut := range sides {
			t.Run(string(firstIn+" in, "+firstOut+" out"), func(t *testing.T) {
				w := newWorld(t, Options{})
				w.create("s")
				legs, fars := map[wire.Side]*leg{}, map[wire.Side]*far{}
				legs[firstIn], fars[firstIn] = w.join("s", firstIn)
				if err := fars[firstIn].say("early "); err != nil {
					t.Fatal(err)
				}
				legs[firstIn.Other()], fars[firstIn.Other()] = w.join("s", firstIn.Other())
				var wg sync.WaitGroup
				var heard, last string
				wg.Go(func() {
					_ = fars[firstOut].say("from " + string(firstOut))
					fars[firstOut].finish()
				})
				wg.Go(func() {
					heard = fars[firstOut.Other()].all() // its end comes through
					_ = fars[firstOut.Other()].say("last word")
					fars[firstOut.Other()].finish()
				})
				wg.Go(func() { last = fars[firstOut].all() })
				wg.Wait()
				if firstIn == firstOut {
					heard = strings.TrimPrefix(heard, "early ")
				} else {
					last = strings.TrimPrefix(last, "early ")
				}
				if heard != "from "+string(firstOut) || last != "last word" {
					t.Errorf("heard %q and %q", heard, last)
				}
				sent := map[wire.Side]int{firstOut: len("from ") + len(firstOut), firstOut.Other(): len("last word")}
				sent[firstIn] += len("early ")
				s := w.wantEnd("s", wire.Closed(firstOut), int64(sent[wire.SideService]), int64(sent[wire.SideDevice]))
				if !s.Joined || !w.wasOpened("s") {
					t.Error("not told that both legs have met")
				}
				w.Close()
				for side, l := range legs {
					if l.abortedWith() != "" || l.closed.Load() != 1 {
						t.Errorf("%s's leg: aborted %q, closed %d times", side, l.abortedWith(), l.closed.Load())
					}
				}
			})
		}
	}
}

// A leg that is alone is read until a chunk is held, and no further: after that its
// sender waits. All of it arrives, in order.
func TestEarlyBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.create("s")
		_, device := w.join("s", wire.SideDevice)
		var sent atomic.Int64
		go func() {
			for i := range 300 {
				if err := device.say(fmt.Sprintf("%04d%s", i, strings.Repeat(".", 996))); err != nil {
					t.Error(err)
				}
				sent.Add(1000)
			}
			device.finish()
		}()
		synctest.Wait()
		if n := sent.Load(); n < wire.Chunk-1000 || n > 2*wire.Chunk {
			t.Errorf("%d bytes were taken before the partner came", n)
		}
		_, service := w.join("s", wire.SideService)
		service.finish()
		got := service.all()
		for i := range 300 {
			if !strings.HasPrefix(got[i*1000:], fmt.Sprintf("%04d.", i)) {
				t.Fatalf("block %d: %q", i, got[i*1000:i*1000+10])
			}
		}
		if len(got) != 300_000 {
			t.Errorf("%d bytes arrived", len(got))
		}
		if s := w.summary("s"); !s.Reason.Clean() || s.Down != 300_000 {
			t.Errorf("%+v", s)
		}
	})
}

// A device may have said everything and gone before the service comes.
func TestEarlyEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{})
		w.create("s")
		_, device := w.join("s", wire.SideDevice)
		_ = device.say("banner")
		device.finish()
		synctest.Wait()
		_, service := w.join("s", wire.SideService)
		if got := service.all(); got != "banner" {
			t.Errorf("got %q", got)
		}
		go func() {
			_ = service.say("bye")
			service.finish()
		}()
		if got := device.all(); got != "bye" {
			t.Errorf("device got %q", got)
		}
		w.wantEnd("s", wire.EndDevice, 3, 6)
	})
}

// A leg that breaks while it is alone ends the stream: who comes later is told that
// there is none.
func TestEarlyAbort(t *testing.T) {
	w := newWorld(t, Options{})
	w.create("s")
	_, device := w.join("s", wire.SideDevice)
	device.abort(wire.EndNetwork)
	if s := w.wantEnd("s", wire.EndNetwork, 0, 0); s.Joined || w.wasOpened("s") {
		t.Error("told that both legs had met")
	}
	if _, err := w.claim("s", wire.SideService); err != ErrUnknown {
		t.Errorf("claim: %v", err)
	}
}
