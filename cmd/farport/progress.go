package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/doctor"
)

const (
	// meterInterval is how often the live line is drawn. What takes less long shows none.
	meterInterval = 500 * time.Millisecond
	// spinnerCells is what stands around the live line's text, with the cursor behind it.
	spinnerCells = 5
	// partGap is between the parts of a live line's text. Those that do not fit are left out,
	// the last first, as half a number is a wrong one.
	partGap = "  "
)

// liveLine is the line below everything else on a screen.
type liveLine struct {
	term  *terminal
	bar   *progressbar.ProgressBar
	text  string
	drawn bool // something of it is on the screen
}

func newLiveLine(t *terminal) *liveLine {
	return &liveLine{term: t, bar: progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(t.err),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetSpinnerChangeInterval(0), // drawn when we say so, and by nobody else
		progressbar.OptionSpinnerType(11),
	)}
}

// draw shows the line as it was set last, as much of it as fits: what takes two lines is
// not cleared. Nothing is drawn while the terminal is another job's.
func (l *liveLine) draw() {
	text := l.text
	if screen := screenWidth(l.term.err); screen > 0 {
		text = fit(text, screen-spinnerCells)
	}
	if text == "" || !foreground(l.term.err) {
		return
	}
	l.bar.Describe(text)
	l.drawn = true
}

// clear takes the line away, unless the terminal is another job's by now: what stands there
// then may be a shell's prompt.
func (l *liveLine) clear() {
	if l.drawn && foreground(l.term.err) {
		_ = l.bar.Clear() // a screen that is gone is no error
	}
	l.drawn = false
}

// fit shortens a live line's text to that many cells, "" where there is no room for it.
func fit(text string, cells int) string {
	if cells < 1 {
		return ""
	}
	for cut(text, cells) != text {
		last := strings.LastIndex(text, partGap)
		if last < 0 {
			return cut(text, cells)
		}
		text = text[:last]
	}
	return text
}

// setLine puts a live line below everything, or takes it away.
func (t *terminal) setLine(l *liveLine, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l == nil {
		t.line.clear()
	} else {
		l.text = text
		l.draw()
	}
	t.line = l
}

// live shows a line below everything else on a screen, and draws it again and again, until
// the function it returns is called or ctx ends: then nothing is left of it. text is asked
// every time, also for how long that has been going on. There is none of it with --quiet,
// and on what is no screen; there is one at a time.
func (t *terminal) live(ctx context.Context, text func(now time.Time, since time.Duration) string) (done func()) {
	if !t.screen || t.quiet {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		line, began := newLiveLine(t), time.Now()
		t.setLine(line, "")
		defer t.setLine(nil, "")
		ticker := time.NewTicker(meterInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				t.setLine(line, text(now, now.Sub(began)))
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// during says on a screen what is going on, and for how long by now, when that takes
// longer than meterInterval; see live.
func (t *terminal) during(ctx context.Context, format string, args ...any) (done func()) {
	what := oneLine(redact(fmt.Sprintf(format, args...)))
	return t.live(ctx, func(_ time.Time, since time.Duration) string { return what + elapsed(since) })
}

// elapsed follows what has been going on for that long.
func elapsed(d time.Duration) string {
	if d < time.Second {
		return ""
	}
	return partGap + formatShort(d.Truncate(time.Second))
}

// asking is during for calls to a hub.
func (a *app) asking(ctx context.Context, cs hubclient.ConnectionString) (done func()) {
	return a.term.during(ctx, "asking %s", cs.Host())
}

// settingUp is during for a stream that is being opened.
func (t *terminal) settingUp(ctx context.Context, device, service string) (done func()) {
	return t.during(ctx, "setting up a stream to %s (%s)", word(device), word(service))
}

// shown are checks that say on a screen which of them is under way.
func (t *terminal) shown(checks []doctor.Check) []doctor.Check {
	all := make([]doctor.Check, len(checks))
	for i, c := range checks {
		all[i] = doctor.Check{Name: c.Name, Run: func(ctx context.Context) (doctor.Result, error) {
			defer t.during(ctx, "checking %s", c.Name)()
			return c.Run(ctx)
		}}
	}
	return all
}
