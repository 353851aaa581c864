package hub

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// says is an Answerer that always says the same.
func says(credential string, err error) Answerer {
	return func(context.Context, Request) (Answer, error) {
		return Answer{Accepted: true, Credential: credential}, err
	}
}

func TestBusAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLocalBus(nil)
		ask := func(wait time.Duration) (credential string, took time.Duration, err error) {
			start := time.Now()
			a, err := b.Ask(t.Context(), "pi", wait, Request{})
			return a.Credential, time.Since(start), err
		}
		for _, wait := range []time.Duration{0, time.Second} {
			if _, took, err := ask(wait); err != errNotConnected || took != wait {
				t.Errorf("nobody holds it: %v after %s, want %s", err, took, wait)
			}
		}
		b.Hold("other", says("x", nil))
		release := b.Hold("pi", says("a", nil))
		if c, took, err := ask(0); c != "a" || err != nil || took != 0 {
			t.Errorf("held: %q, %v after %s", c, err, took)
		}
		// A later holder takes over, and the earlier one's release does not touch it.
		releaseB := b.Hold("pi", says("b", nil))
		release()
		if c, _, err := ask(0); c != "b" || err != nil {
			t.Errorf("held by another: %q, %v", c, err)
		}
		releaseB()
		releaseB()
		if _, _, err := ask(0); err != errNotConnected {
			t.Errorf("released: %v", err)
		}
		refused := errors.New("refused")
		b.Hold("pi", says("", refused))
		if _, _, err := ask(time.Hour); err != refused {
			t.Errorf("an error of the holder's becomes %v", err)
		}
	})
}

// All who wait are told when the device comes, and nothing is left of them.
func TestBusWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLocalBus(nil)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				_, err := b.Ask(t.Context(), "pi", time.Duration(i+1)*time.Minute, Request{})
				if (err == nil) != (i >= 5) {
					t.Errorf("who waits %d min: %v", i+1, err)
				}
			})
		}
		time.Sleep(5*time.Minute + time.Second)
		b.Hold("pi", says("a", nil))
		wg.Wait()
		if len(b.waiting) > 0 {
			t.Errorf("%d devices are waited for", len(b.waiting))
		}
	})
}

// A holder that has just lost the device is not asked again; the next one is.
func TestBusHolderGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newLocalBus(nil)
		asked := 0
		b.Hold("pi", func(context.Context, Request) (Answer, error) { asked++; return Answer{}, errNotConnected })
		if _, err := b.Ask(t.Context(), "pi", 0, Request{}); err != errNotConnected || asked != 1 {
			t.Errorf("%v after %d questions", err, asked)
		}
		time.AfterFunc(time.Second, func() { b.Hold("pi", says("new", nil)) })
		a, err := b.Ask(t.Context(), "pi", time.Minute, Request{})
		if err != nil || a.Credential != "new" || asked != 2 {
			t.Errorf("%+v, %v; the old holder was asked %d times", a, err, asked)
		}
	})
}

func TestBusContext(t *testing.T) {
	cause := errors.New("why")
	for _, c := range []struct{ cause, want error }{{cause, cause}, {nil, context.Canceled}} {
		synctest.Test(t, func(t *testing.T) {
			b := newLocalBus(nil)
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(c.cause) })
			if _, err := b.Ask(ctx, "pi", time.Minute, Request{}); !errors.Is(err, c.want) || !errors.Is(err, errNotConnected) {
				t.Errorf("ended with %v: %v, want %v and that nobody was asked", c.cause, err, c.want)
			}
			if len(b.waiting) > 0 {
				t.Error("somebody waits")
			}
		})
	}
	// Whoever has been asked is another matter.
	synctest.Test(t, func(t *testing.T) {
		b := newLocalBus(nil)
		b.Hold("pi", func(ctx context.Context, _ Request) (Answer, error) {
			<-ctx.Done()
			return Answer{}, context.Cause(ctx)
		})
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancel()
		if _, err := b.Ask(ctx, "pi", time.Minute, Request{}); err != cause {
			t.Errorf("asked when the time was over: %v", err)
		}
	})
}

func TestBusTell(t *testing.T) {
	var told []string
	b := newLocalBus(func(device string) { told = append(told, device) })
	b.Tell("pi")
	if len(told) != 1 || told[0] != "pi" {
		t.Errorf("told %q", told)
	}
}
