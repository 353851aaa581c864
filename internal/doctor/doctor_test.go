package doctor

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/wire"
)

// What comes after a failure is not tried, and the first failure is the one returned.
func TestRun(t *testing.T) {
	broken := errors.New("broken")
	var tried []string
	check := func(name string, r Result, err error) Check {
		return Check{name, func(context.Context) (Result, error) { tried = append(tried, name); return r, err }}
	}
	checks := []Check{
		check("a", Result{Detail: "fine"}, nil),
		check("b", Result{Status: Warning, Detail: "not for long", Hint: "renew"}, nil),
		check("c", Result{Status: Skipped, Detail: "not asked for"}, nil),
		check("d", Result{}, broken),
		check("e", Result{}, nil),
	}
	var got []Result
	err := Run(t.Context(), checks, func(error) string { return "mend it" }, func(r Result) { r.Took = 0; got = append(got, r) })
	if !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	want := []Result{
		{"a", OK, "fine", "", 0}, {"b", Warning, "not for long", "renew", 0}, {"c", Skipped, "not asked for", "", 0},
		{"d", Failed, "broken", "mend it", 0}, {"e", Skipped, "not tried, as d failed", "", 0},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if want := []string{"a", "b", "c", "d"}; !slices.Equal(tried, want) {
		t.Errorf("tried %v", tried)
	}
}

func TestRunIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	checks := []Check{
		{"a", func(ctx context.Context) (Result, error) { cancel(); return Result{}, context.Cause(ctx) }},
		{"b", func(context.Context) (Result, error) { t.Error("goes on"); return Result{}, nil }},
	}
	if err := Run(ctx, checks, nil, func(r Result) { t.Errorf("reports %v", r) }); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// plain is a stream to a target that a test plays.
type plain struct {
	net.Conn
	target  net.Conn
	closing chan struct{} // the target sees the end of what we send
	aborted bool
}

func newPlain() *plain {
	ours, target := net.Pipe()
	return &plain{Conn: ours, target: target, closing: make(chan struct{})}
}

func (p *plain) CloseWrite() error    { close(p.closing); return nil }
func (p *plain) Abort(wire.EndReason) { p.aborted = true; p.Conn.Close() }

// extended is one with half-close.
type extended struct{ *plain }

func (extended) NetworkChanged() {}

const (
	setup    = 30 * time.Millisecond
	reaction = 12 * time.Millisecond
)

func opening(s hubclient.Stream) Open {
	return func(context.Context) (hubclient.Stream, error) {
		time.Sleep(setup)
		return s, nil
	}
}

func TestMeasure(t *testing.T) {
	greets := func(p *plain) { _, _ = p.target.Write([]byte("SSH-2.0-x\r\nmore")) }
	closes := func(p *plain) { <-p.closing; time.Sleep(reaction); p.target.Close() }
	for _, tt := range []struct {
		name    string
		target  func(*plain)
		plain   bool
		want    Trip
		aborted bool
	}{
		{"speaks first", func(p *plain) { greets(p); closes(p) }, false, Trip{setup, "SSH-2.0-x", reaction}, false},
		{"waits for the client", closes, false, Trip{Setup: setup, RoundTrip: reaction}, false},
		{"says more when we close", func(p *plain) { <-p.closing; time.Sleep(reaction); greets(p); p.target.Close() }, false, Trip{Setup: setup, RoundTrip: reaction}, false},
		{"stays", func(p *plain) { <-p.closing }, false, Trip{Setup: setup}, true},
		{"never stops to speak", func(p *plain) {
			for block := make([]byte, 1<<10); ; {
				if _, err := p.target.Write(block); err != nil {
					return
				}
			}
		}, false, Trip{Setup: setup, Greeting: string(make([]byte, 256))}, true},
		{"hangs up", func(p *plain) { p.target.Close() }, false, Trip{Setup: setup}, false},
		{"has no half-close", greets, true, Trip{Setup: setup, Greeting: "SSH-2.0-x"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlain()
				defer p.target.Close()
				go tt.target(p)
				var s hubclient.Stream = extended{p}
				if tt.plain {
					s = p
				}
				got, err := Measure(t.Context(), opening(s))
				if err != nil || got != tt.want || p.aborted != tt.aborted {
					t.Errorf("got %+v, %v; aborted %v", got, err, p.aborted)
				}
			})
		})
	}
}

func TestMeasureIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlain()
		defer p.target.Close()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(setup+time.Second, cancel) // it waits for the target to close by then
		if _, err := Measure(ctx, opening(extended{p})); !errors.Is(err, context.Canceled) || !p.aborted {
			t.Errorf("error is %v; aborted %v", err, p.aborted)
		}
	})
}

// A service that swallows, or changes the amount, is no echo.
func TestRateWithoutEcho(t *testing.T) {
	for name, target := range map[string]func(*plain){
		"swallows": func(p *plain) {
			go func() { <-p.closing; p.target.Close() }()
			for block := make([]byte, 64<<10); ; {
				if _, err := p.target.Read(block); err != nil {
					return
				}
			}
		},
		"hangs up": func(p *plain) { p.target.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlain()
				defer p.target.Close()
				go target(p)
				if _, err := Rate(t.Context(), opening(extended{p})); !errors.Is(err, errNoEcho) {
					t.Errorf("error is %v", err)
				}
			})
		})
	}
}
