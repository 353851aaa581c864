package registry

import (
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// Ended streams are known until their time is over, and then make room.
func TestEndedStreams(t *testing.T) {
	r, ctx, now := open(t), t.Context(), time.Now()
	if reason, err := r.StreamEnd(ctx, "x"); reason != "" || err != nil {
		t.Errorf("unknown: %q, %v", reason, err)
	}
	for id, until := range map[string]time.Time{"x": now.Add(time.Hour), "y": now.Add(2 * time.Hour)} {
		if err := r.EndStream(ctx, id, wire.EndReset, until); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		at   time.Duration
		x, y wire.EndReason
	}{{0, wire.EndReset, wire.EndReset}, {90 * time.Minute, "", wire.EndReset}, {3 * time.Hour, "", ""}} {
		if err := r.SweepStreams(ctx, now.Add(c.at)); err != nil {
			t.Fatal(err)
		}
		x, errX := r.StreamEnd(ctx, "x")
		y, errY := r.StreamEnd(ctx, "y")
		if x != c.x || y != c.y || errX != nil || errY != nil {
			t.Errorf("after %s: %q %q, %v %v", c.at, x, y, errX, errY)
		}
	}
}

// There are never more than maxEnded, and an error says when one could not be kept.
func TestEndedStreamsBounded(t *testing.T) {
	r, ctx, now := open(t), t.Context(), time.Now()
	r.ended = maxEnded
	if err := r.EndStream(ctx, "x", wire.EndReset, now); err == nil {
		t.Error("one more is kept")
	}
	if err := r.SweepStreams(ctx, now); err != nil { // counts what is there
		t.Fatal(err)
	}
	if err := r.EndStream(ctx, "x", wire.EndReset, now.Add(time.Hour)); err != nil || r.ended != 1 {
		t.Errorf("counts %d, %v", r.ended, err)
	}
	if err := r.store.PutAll(ctx, store.KindEnded, map[string][]byte{"000001": []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.StreamEnd(ctx, "000001"); err == nil {
		t.Error("a malformed record is read")
	}
}
