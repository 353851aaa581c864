package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/farportio/farport/proxy"
)

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
	return &streamView{term: a.term, host: host, peer: peer, each: !a.term.screen || a.verbose, lost: true}
}

// show draws the live line until the function it returns is called.
func (v *streamView) show() (stop func()) {
	var last rate
	return v.term.live(context.Background(), func(now time.Time, _ time.Duration) string {
		open, up, down := v.traffic.Totals()
		streams := last.text(now, open, up, down, pauses(now, &v.traffic))
		connecting := v.connecting(now)
		switch {
		case connecting == "":
			return streams
		case open == 0:
			return connecting
		}
		return connecting + partGap + streams
	})
}

// connecting says of a device-proxy that has no control connection what it does about
// that; "" when it has one.
func (v *streamView) connecting(now time.Time) string {
	since, next := v.traffic.Connecting()
	switch {
	case since.IsZero():
		return ""
	case next.After(now):
		return "not connected, next try in " + formatShort(next.Sub(now).Truncate(time.Second)+time.Second)
	}
	return "connecting to " + v.host + elapsed(now.Sub(since))
}

// rate remembers the last totals.
type rate struct {
	at       time.Time
	up, down int64
}

// pauses says how many streams are being set up, and how many of the open ones wait to
// resume, and for how long by now; "" when none does.
func pauses(now time.Time, t *proxy.Traffic) (text string) {
	if n := t.SettingUp(); n > 0 {
		text = fmt.Sprintf(", %d being set up", n)
	}
	if waiting, since := t.Waiting(); waiting > 0 {
		text += fmt.Sprintf(", %d waiting for %s", waiting, formatShort(now.Sub(since).Truncate(time.Second)))
	}
	return text
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
