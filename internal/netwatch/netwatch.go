// Package netwatch notices that the machine's network has changed, or that the machine
// has slept: a connection that stood before may be dead now, and one that could not be
// made may succeed. What to do about it is for the caller.
package netwatch

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// look is how often the clock is looked at, and pollLooks after how many looks the
	// network is, where the system does not tell of changes.
	look      = time.Second
	pollLooks = 3
	// asleep is how far the wall clock has to be ahead of the looks. Source:
	// docs/farport-v1.md, section 3.
	asleep = 5 * time.Second
	// A network that changes does so in many small steps. They count as one change when
	// nothing more has come for calm, and after longest at the latest.
	calm    = 250 * time.Millisecond
	longest = 2 * time.Second
)

// Run calls changed, in its own goroutine and once at a time, whenever addresses,
// routes or the state of interfaces have changed or the machine has slept. It returns
// when ctx has ended and nothing of it is running.
func Run(ctx context.Context, changed func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	hints := make(chan hint)
	told := listen(ctx, &wg, hints) // before the first snapshot: nothing falls between
	w := watch{changed: changed, known: snapshot(), told: told}
	w.run(ctx, hints)
}

// hint is what the system tells: something is different. sure is false for what also
// comes when nothing is, such as an address whose life was prolonged.
type hint struct{ sure bool }

// watch is the state of Run.
type watch struct {
	changed func()
	known   string // the network, as seen last
	told    bool   // the system gives hints

	first time.Time // of the hints not yet dealt with
	sure  bool      // one of them was
}

func (w *watch) run(ctx context.Context, hints <-chan hint) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	settled := time.NewTimer(time.Hour)
	settled.Stop()
	last := time.Now()
	for looks := 1; ; {
		select {
		case <-ctx.Done():
			return
		case h := <-hints:
			now := time.Now()
			if w.first.IsZero() {
				w.first = now
			}
			w.sure = w.sure || h.sure
			settled.Reset(min(calm, longest-now.Sub(w.first)))
		case <-settled.C:
			w.check(w.sure)
			w.first, w.sure = time.Time{}, false
		case <-ticker.C:
			now := time.Now()
			slept := hasSlept(last, now)
			if slept || !w.told && looks%pollLooks == 0 {
				w.check(slept)
			}
			last = now
			looks++
		}
	}
}

// check tells of a change that is sure, or else of one that can be seen.
func (w *watch) check(sure bool) {
	seen := snapshot()
	if sure || seen != w.known {
		w.known = seen
		w.changed()
	}
}

// hasSlept reports whether far more than a look lies between two looks by the wall
// clock, which goes on while a machine sleeps.
func hasSlept(last, now time.Time) bool {
	return now.Round(0).Sub(last.Round(0)) >= look+asleep // without the monotonic clock's reading
}

// snapshot names all interfaces, their states and all addresses, but not the routes.
// It is "" where the system does not say.
func snapshot() string {
	interfaces, err := net.Interfaces()
	addresses, also := net.InterfaceAddrs()
	if cmp.Or(err, also) != nil {
		return ""
	}
	var lines []string
	for _, i := range interfaces {
		lines = append(lines, i.Name+" "+i.Flags.String())
	}
	for _, a := range addresses {
		lines = append(lines, a.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
