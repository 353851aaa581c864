package backoff

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestCeiling(t *testing.T) {
	for _, tc := range []struct {
		name    string
		backoff Backoff
		waits   int // done before
		want    time.Duration
	}{
		{"zero value, first", Backoff{}, 0, 500 * time.Millisecond},
		{"zero value, second", Backoff{}, 1, time.Second},
		{"zero value, seventh", Backoff{}, 6, 32 * time.Second},
		{"zero value, eighth", Backoff{}, 7, time.Minute},
		{"zero value, thousandth", Backoff{}, 999, time.Minute},
		{"own values", Backoff{Base: time.Second, Cap: 3 * time.Second}, 1, 2 * time.Second},
		{"own values, capped", Backoff{Base: time.Second, Cap: 3 * time.Second}, 2, 3 * time.Second},
		{"base above cap", Backoff{Base: time.Hour}, 0, time.Minute},
		{"negative", Backoff{Base: -1, Cap: -1}, 0, 500 * time.Millisecond},
		{"longest there is", Backoff{Base: math.MaxInt64 - 1, Cap: math.MaxInt64}, 2, math.MaxInt64},
	} {
		for range tc.waits {
			tc.backoff.next()
		}
		if got := tc.backoff.next(); got != tc.want {
			t.Errorf("%s: at most %v, want %v", tc.name, got, tc.want)
		}
		tc.backoff.Reset()
		first := Backoff{Base: tc.backoff.Base, Cap: tc.backoff.Cap}
		if got, want := tc.backoff.next(), first.next(); got != want {
			t.Errorf("%s: after Reset at most %v, want %v", tc.name, got, want)
		}
	}
}

// TestWait waits often enough that a uniform spread between zero and the ceiling
// fails here less than once in 10^40 runs.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{Base: time.Second, Cap: time.Second}
		const waits = 1000
		var short, long int
		for range waits {
			start := time.Now()
			if err := b.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			switch took := time.Since(start); {
			case took > time.Second:
				t.Fatalf("waited %v", took)
			case took < time.Second/10:
				short++
			case took > time.Second*9/10:
				long++
			}
		}
		if short == 0 || long == 0 {
			t.Errorf("%d of %d waits in the first tenth, %d in the last", short, waits, long)
		}
	})
}

func TestWaitEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		b := Backoff{Base: 1000 * time.Hour, Cap: 1000 * time.Hour} // shorter than patience once in 10^9
		start := time.Now()
		if err := b.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cut short: %v", err)
		}
		if took := time.Since(start); took != patience {
			t.Errorf("cut short after %v", took)
		}
		for range 100 { // a wait of 1 ns must not win against a context that has ended
			if err := (&Backoff{Base: 1, Cap: 1}).Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("context ended before: %v", err)
			}
		}
	})
}
