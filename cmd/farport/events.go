package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/pflag"

	"github.com/farportio/farport/proxy"
)

// formatText is what a proxy says to people, instead of formatJSON.
const formatText = "text"

// eventOptions say whether a proxy also tells scripts what it does.
type eventOptions struct{ format string }

func (o *eventOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVarP(&o.format, "output", "o", formatText, "`text|json`: json prints each event as a line of JSON on standard output, too")
}

func (o *eventOptions) check() error { return oneOf("output", o.format, formatText, formatJSON) }

// eventLine is one event of a proxy for scripts: a line of JSON on standard output. What
// an event does not have is left out.
type eventLine struct {
	Time     time.Time `json:"time"`
	Event    string    `json:"event"`
	Stream   uint64    `json:"stream,omitempty"` // from 1
	Device   string    `json:"device"`
	Service  string    `json:"service,omitempty"`
	Address  string    `json:"address,omitempty"` // listening: the one that was bound
	Peer     string    `json:"peer,omitempty"`
	Up       *int64    `json:"up,omitempty"`       // ended: bytes, service to device
	Down     *int64    `json:"down,omitempty"`     // ended: bytes, device to service
	Duration float64   `json:"duration,omitempty"` // ended, resumed: seconds
	Window   float64   `json:"window,omitempty"`   // waiting: seconds it may
	Error    string    `json:"error,omitempty"`
}

var eventNames = map[proxy.EventKind]string{
	proxy.Listening: "listening",
	proxy.Connected: "connected",
	proxy.Retrying:  "retrying",
	proxy.Opened:    "opened",
	proxy.Waiting:   "waiting",
	proxy.Resumed:   "resumed",
	proxy.Refused:   "refused",
	proxy.Ended:     "ended",
}

// told is what a proxy is given to call with each event: people are told by view, and with
// --output json scripts are, too.
func (o *eventOptions) told(t *terminal, view func(proxy.Event)) func(proxy.Event) {
	if o.format != formatJSON {
		return view
	}
	return func(e proxy.Event) {
		view(e)
		if text, err := json.Marshal(lineOf(e, time.Now())); err == nil {
			t.println(printableJSON(string(text)))
		}
	}
}

func lineOf(e proxy.Event, now time.Time) eventLine {
	line := eventLine{
		Time: now.UTC(), Event: eventNames[e.Kind], Stream: e.Stream, Device: e.Device, Service: e.Service, Peer: e.Peer,
		Duration: e.Duration.Seconds(), Window: e.Window.Seconds(),
	}
	if e.Local != nil {
		line.Address = e.Local.String()
	}
	if e.Kind == proxy.Ended {
		line.Up, line.Down = &e.Up, &e.Down
	}
	if e.Err != nil {
		line.Error = oneLine(redact(e.Err.Error()))
	}
	return line
}
