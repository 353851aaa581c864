package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/doctor"
)

const (
	// defaultPings is how many streams ping opens.
	defaultPings = 4
	// leastPingInterval is the shortest time between two of them: sshd refuses a host, and
	// here all come from the device itself, whose clients hang up more than once a second
	// for a while (sshd_config, PerSourcePenalties, noauth).
	leastPingInterval = time.Second
)

type pingOptions struct {
	credentialOptions
	outputOptions
	device   string
	service  string
	hosts    []string
	count    int
	interval time.Duration
}

func (o *pingOptions) addFlags(flags *pflag.FlagSet) {
	o.credentialOptions.addFlags(flags, serviceVariables...)
	o.outputOptions.addFlags(flags, formatTable)
	flags.StringVar(&o.service, "service", defaultService, "`NAME` of the service on the device")
	flags.StringArrayVar(&o.hosts, "streaming-host", nil, "further `HOST` that the hub may send streams to; repeatable")
	flags.IntVarP(&o.count, "count", "c", defaultPings, "how many streams to open; 0: until interrupted")
	flags.DurationVarP(&o.interval, "interval", "i", leastPingInterval, "time from one stream to the next, 1s or more")
}

func newPing(a *app) *cobra.Command {
	var o pingOptions
	cmd := &cobra.Command{
		Use:   "ping DEVICE",
		Short: "Measure set-up and round trip of streams to a device",
		Long: `Opens streams to a service of a device, one after the other, and measures two times
for each. The set-up is the time from asking the hub until the stream is open, with
the device connected to its target. The round trip is the time from closing our
direction of the stream until the target has closed its own: to the hub, the device and
the target, and all the way back. No data is sent, so any service will do; an SSH
server logs a connection that was closed.

The round trip is missing where the target does not close in return within 5 s, and
with Azure's hub, whose streams cannot be closed in one direction.

A device that is offline is not waited for. The exit code is 0 if any stream could be
opened, and after an interrupt; else that of the last failure.`,
		Example:           "  farport ping pi-1\n  farport ping pi-1 --service ssh -c 10\n  farport ping pi-1 -o json",
		ValidArgsFunction: a.completeDevices,
		Args:              arguments("DEVICE"),
		Annotations:       exitStatus(exitUsage, exitUnauthorized, exitDevice, exitRefused, exitTimeout, exitHub, exitLost),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device = args[0]
			return runPing(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags())
	completeOutput(cmd)
	a.completeServices(cmd)
	return cmd
}

func (o *pingOptions) check() error {
	switch {
	case o.count < 0:
		return usage("--count %d: must not be negative", o.count)
	case o.interval < leastPingInterval:
		return usage("--interval %s: must be %s or more", o.interval, leastPingInterval)
	case o.service == "":
		return usage("--service must not be empty")
	}
	return oneOf("output", o.format, formatTable, formatJSON)
}

// pinged is what ping prints as JSON. Times are in milliseconds.
type pinged struct {
	Device    string        `json:"device"`
	Service   string        `json:"service"`
	Streams   []pingResult  `json:"streams"`
	Setup     *pingExtremes `json:"setup"`     // null when there is none
	RoundTrip *pingExtremes `json:"roundTrip"` // null when there is none
}

type pingResult struct {
	Setup     *float64 `json:"setup"`     // null when the stream could not be opened
	RoundTrip *float64 `json:"roundTrip"` // null when there is none
	Error     string   `json:"error"`     // "" when it went well
}

type pingExtremes struct {
	Min float64 `json:"min"`
	Avg float64 `json:"avg"`
	Max float64 `json:"max"`
}

func runPing(ctx context.Context, a *app, o pingOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	hub, _, err := a.service(&o.credentialOptions, streamOptions{hosts: o.hosts})
	if err != nil {
		return err
	}
	defer hub.Close()
	open := func(ctx context.Context) (hubclient.Stream, error) {
		return hub.Open(ctx, o.device, o.service, hubclient.OpenOptions{})
	}
	p := pinged{Device: o.device, Service: o.service, Streams: []pingResult{}}
	last := a.ping(ctx, o, open, &p)
	if err := a.printPinged(o, &p); err != nil {
		return err
	}
	if ctx.Err() != nil || p.Setup != nil {
		return nil
	}
	return last
}

// ping opens the streams and returns the last error.
func (a *app) ping(ctx context.Context, o pingOptions, open doctor.Open, p *pinged) (last error) {
	next := time.NewTicker(o.interval)
	defer next.Stop()
	for i := 0; o.count == 0 || i < o.count; i++ {
		if i > 0 {
			select {
			case <-next.C:
			case <-ctx.Done():
				return last
			}
		}
		done := a.term.settingUp(ctx, o.device, o.service)
		t, err := doctor.Measure(ctx, open)
		done()
		if err != nil && ctx.Err() != nil {
			return last
		}
		p.Streams = append(p.Streams, newPingResult(t, err))
		if o.format == formatTable {
			a.printPing(o, len(p.Streams), t, err)
		}
		if err == nil {
			continue
		}
		last = err
		if errors.Is(err, hubclient.ErrUnauthorized) || errors.Is(err, hubclient.ErrBadName) {
			break // it will not get better
		}
	}
	return last
}

func newPingResult(t doctor.Trip, err error) (r pingResult) {
	if err != nil {
		r.Error = oneLine(redact(err.Error()))
	}
	if t.Setup > 0 {
		r.Setup = new(doctor.Milliseconds(t.Setup))
	}
	if t.RoundTrip > 0 {
		r.RoundTrip = new(doctor.Milliseconds(t.RoundTrip))
	}
	return r
}

func (a *app) printPing(o pingOptions, n int, t doctor.Trip, err error) {
	text := fmt.Sprintf("stream %d to %s (%s): ", n, o.device, o.service)
	if t.Setup > 0 {
		text += fmt.Sprintf("set-up %.1f ms, ", doctor.Milliseconds(t.Setup))
	}
	switch {
	case err != nil:
		text += err.Error()
	case t.RoundTrip > 0:
		text += fmt.Sprintf("round trip %.1f ms", doctor.Milliseconds(t.RoundTrip))
	default:
		text += "no round trip: the target did not close"
	}
	a.term.println(oneLine(redact(text)))
}

// printPinged prints the summary, or all of it as JSON.
func (a *app) printPinged(o pingOptions, p *pinged) error {
	p.Setup = extremes(p.Streams, func(r pingResult) *float64 { return r.Setup })
	p.RoundTrip = extremes(p.Streams, func(r pingResult) *float64 { return r.RoundTrip })
	return a.term.result(o.outputOptions, p, func() error {
		opened := 0
		for _, r := range p.Streams {
			if r.Setup != nil {
				opened++
			}
		}
		a.term.println(fmt.Sprintf("%d of %d streams opened", opened, len(p.Streams)))
		for _, line := range []struct {
			name string
			e    *pingExtremes
		}{{"set-up", p.Setup}, {"round trip", p.RoundTrip}} {
			if line.e != nil {
				a.term.println(fmt.Sprintf("%s min/avg/max %.1f/%.1f/%.1f ms", line.name, line.e.Min, line.e.Avg, line.e.Max))
			}
		}
		return nil
	})
}

// extremes are nil when nothing was measured.
func extremes(streams []pingResult, of func(pingResult) *float64) *pingExtremes {
	var e *pingExtremes
	n := 0.0
	for _, r := range streams {
		v := of(r)
		if v == nil {
			continue
		}
		if e == nil {
			e = &pingExtremes{Min: *v, Max: *v}
		}
		e.Min, e.Max = min(e.Min, *v), max(e.Max, *v)
		e.Avg += *v
		n++
	}
	if e != nil {
		e.Avg = math.Round(e.Avg/n*1000) / 1000
	}
	return e
}
