package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/farportio/farport/proxy"
)

const (
	// meterInterval is how often the live line is drawn.
	meterInterval = 500 * time.Millisecond
	// spinnerCells is what stands around the live line's text, with the cursor behind it.
	spinnerCells = 5
)

// liveLine is the line below everything else on a screen.
type liveLine struct {
	bar  *progressbar.ProgressBar
	text string
}

func newLiveLine(t *terminal) *liveLine {
	return &liveLine{bar: progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(t.err),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetSpinnerChangeInterval(0), // drawn when we say so, and by nobody else
		progressbar.OptionSpinnerType(11),
	)}
}

// draw shows the line as it was set last, cut to a screen of that many cells (0: any), as
// what takes two lines is not cleared.
func (l *liveLine) draw(screen int) {
	text := l.text
	if screen > spinnerCells {
		text = cut(text, screen-spinnerCells)
	}
	if text != "" {
		l.bar.Describe(text)
	}
}

func (l *liveLine) clear() { _ = l.bar.Clear() } // a screen that is gone is no error

// streamView shows what a proxy does: on a screen a live line with streams, rate
// and totals, piped a line per stream.
type streamView struct {
	term    *terminal
	traffic proxy.Traffic
	host    string // the hub's
	peer    string // how the other end of a stream's TCP connection is introduced
	each    bool   // a line per stream
	lost    bool   // the device's control connection, as told last
}

func newStreamView(a *app, host, peer string) *streamView {
	return &streamView{term: a.term, host: host, peer: peer, each: !a.term.person || a.verbose, lost: true}
}

// show draws the live line until the function it returns is called.
func (v *streamView) show() (stop func()) {
	if !v.term.person || v.term.quiet {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { v.draw(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

func (v *streamView) draw(ctx context.Context) {
	line := newLiveLine(v.term)
	v.term.setLine(line, "")
	defer v.term.setLine(nil, "")
	ticker := time.NewTicker(meterInterval)
	defer ticker.Stop()
	var last rate
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			open, up, down := v.traffic.Totals()
			v.term.setLine(line, last.text(now, open, up, down, pauses(now, &v.traffic)))
		}
	}
}

// setLine puts a live line below everything, or takes it away.
func (t *terminal) setLine(l *liveLine, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l == nil {
		t.line.clear()
	} else {
		l.text = text
		l.draw(screenWidth(t.err))
	}
	t.line = l
}

// rate remembers the last totals.
type rate struct {
	at       time.Time
	up, down int64
}

// pauses says how many of the open streams wait to resume, and for how long by now; ""
// when none does.
func pauses(now time.Time, t *proxy.Traffic) string {
	waiting, since := t.Waiting()
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf(", %d waiting for %s", waiting, formatShort(now.Sub(since).Truncate(time.Second)))
}

// text is the live line's: what is open, how fast it goes, how much there was. paused
// follows what is open.
func (r *rate) text(now time.Time, open int, up, down int64, paused string) string {
	perSecond := func(bytes int64) string {
		seconds := now.Sub(r.at).Seconds()
		if r.at.IsZero() || seconds <= 0 {
			return formatBytes(0)
		}
		return formatBytes(int64(float64(bytes) / seconds))
	}
	text := fmt.Sprintf("%s%s  up %s/s  down %s/s  total %s up, %s down",
		count(open, "stream"), paused, perSecond(up-r.up), perSecond(down-r.down), formatBytes(up), formatBytes(down))
	*r = rate{now, up, down}
	return text
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// event is the callback of a proxy. Callbacks come one at a time.
func (v *streamView) event(e proxy.Event) {
	switch e.Kind {
	case proxy.Listening:
		v.term.notice("listening on %s -> %s (%s)", e.Local, e.Device, e.Service)
		warnWide(v.term, e.Local)
	case proxy.Connected:
		if v.lost {
			v.term.notice("device %q connected to %s", e.Device, v.host)
		}
		v.lost = false
	case proxy.Retrying:
		v.lost = true
		v.term.warn("%v; trying again", e.Err)
		if _, hint := judge(e.Err, ""); hint != "" {
			v.term.hint("%s", hint)
		}
	case proxy.Opened:
		if v.each {
			v.term.notice("stream %d opened: %s (%s) %s %s", e.Stream, e.Device, word(e.Service), v.peer, e.Peer)
		}
	case proxy.Waiting, proxy.Resumed:
		if v.each {
			v.term.pause(e)
		}
	case proxy.Refused:
		v.term.warn("stream to %s (%s) refused: %v", e.Device, word(e.Service), e.Err)
	case proxy.Ended:
		v.ended(e)
	}
}

func (v *streamView) ended(e proxy.Event) {
	outcome := "closed"
	if e.Err != nil {
		outcome = "broke"
	}
	text := fmt.Sprintf("stream %d %s: %s (%s), up %s, down %s, %s", e.Stream, outcome, e.Device, word(e.Service),
		formatBytes(e.Up), formatBytes(e.Down), formatShort(e.Duration))
	if e.Err != nil {
		v.term.warn("%s: %v", text, e.Err)
	} else if v.each {
		v.term.notice("%s", text)
	}
}

// pause says that a stream waits to resume, or has resumed.
func (t *terminal) pause(e proxy.Event) {
	switch e.Kind {
	case proxy.Waiting:
		t.notice("stream %d waits: %s (%s), connection lost, up to %s for it to return", e.Stream, e.Device, word(e.Service), e.Window)
	case proxy.Resumed:
		t.notice("stream %d resumed: %s (%s), after %s", e.Stream, e.Device, word(e.Service), formatShort(e.Duration))
	}
}

// word shows a stream name, which may be the other side's word: as it is where that
// is plain.
func word(name string) string {
	if shown := quote(name); shown != `"`+name+`"` || strings.ContainsAny(name, " ()") {
		return shown
	}
	return name
}
