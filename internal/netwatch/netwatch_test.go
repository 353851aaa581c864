package netwatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if inNamespace() {
		return
	}
	goleak.VerifyTestMain(m)
}

func TestHasSlept(t *testing.T) {
	t.Parallel()
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for between, want := range map[time.Duration]bool{
		look:                         false,
		look + asleep - 1:            false,
		look + asleep:                true,
		8 * time.Hour:                true,
		-8 * time.Hour:               false, // somebody has set the clock
		look + 500*time.Millisecond:  false,
		look + 1500*time.Millisecond: false,
	} {
		if got := hasSlept(at, at.Add(between)); got != want {
			t.Errorf("%v between two looks: slept %v, want %v", between, got, want)
		}
	}
}

// A burst of hints is one change, an endless one is told of now and then, and a hint
// that is not sure is none when nothing can be seen.
func TestHints(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hints int
		every time.Duration
		sure  bool
		want  int
	}{
		"one":           {1, 0, true, 1},
		"a burst":       {5, 100 * time.Millisecond, true, 1},
		"two apart":     {2, time.Second, true, 2},
		"endless":       {91, 110 * time.Millisecond, true, 5}, // for 10 s
		"nothing to it": {5, time.Second, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				hints := make(chan hint)
				told := 0
				w := watch{changed: func() { told++ }, known: snapshot(), told: true}
				done := make(chan struct{})
				go func() { defer close(done); w.run(ctx, hints) }()
				for range test.hints {
					hints <- hint{test.sure}
					time.Sleep(test.every)
				}
				time.Sleep(calm)
				synctest.Wait()
				cancel()
				<-done
				if told != test.want {
					t.Errorf("told of %d changes, want %d", told, test.want)
				}
			})
		})
	}
}

// Where the system tells nothing, a difference is found by looking.
func TestPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan time.Time, 10)
		w := watch{changed: func() { told <- time.Now() }, known: "another network"}
		began := time.Now()
		done := make(chan struct{})
		go func() { defer close(done); w.run(ctx, nil) }()
		if took := (<-told).Sub(began); took != pollLooks*look {
			t.Errorf("found after %v, want %v", took, pollLooks*look)
		}
		time.Sleep(time.Minute)
		cancel()
		<-done
		if len(told) > 0 {
			t.Error("told again of what had been told")
		}
	})
}
