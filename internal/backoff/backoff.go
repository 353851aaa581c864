// Package backoff waits between attempts: longer each time, with jitter, so that
// many clients that lost the same hub do not come back in one moment. When to
// try again and when to stop is for the caller.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// What a zero Base and a zero Cap mean.
const (
	defaultBase = 500 * time.Millisecond
	defaultCap  = time.Minute
)

// Backoff is exponential with full jitter. Its zero value is ready to use. It
// belongs to one goroutine.
type Backoff struct {
	Base time.Duration // longest first wait; zero or less means 500 ms
	Cap  time.Duration // longest wait at all; zero or less means 1 min
	// Told is called at the start of each wait with how long that will be. nil: nobody is.
	Told func(time.Duration)

	ceiling time.Duration // longest next wait; zero after Reset
}

// Wait sleeps for a random time between zero and a ceiling, which is Base at first
// and doubles with every call up to Cap. It returns nil after that time, ctx's
// error as soon as ctx ends.
func (b *Backoff) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	wait := rand.N(b.next())
	if b.Told != nil {
		b.Told(wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reset makes the next Wait as short as the first.
func (b *Backoff) Reset() { b.ceiling = 0 }

// next returns this wait's ceiling, at least 1 ns, and raises it for the next.
func (b *Backoff) next() time.Duration {
	base, most := b.Base, b.Cap
	if base <= 0 {
		base = defaultBase
	}
	if most <= 0 {
		most = defaultCap
	}
	if b.ceiling == 0 {
		b.ceiling = base
	}
	ceiling := min(b.ceiling, most)
	b.ceiling = ceiling + min(ceiling, most-ceiling) // doubled; never overflows
	return ceiling
}
