package doctor

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/farportio/farport/hubclient"
)

// SignIn is the check of a service's credentials. who says whose they are.
func SignIn(s *hubclient.Service, who string) Check {
	return Check{"credentials", func(ctx context.Context) (Result, error) {
		if err := s.SignIn(ctx); err != nil {
			return Result{}, err
		}
		return Result{Detail: "the hub takes those of " + who}, nil
	}}
}

// Device lists the checks of a device and one of its services. echo says that the service
// sends back all that it gets, so that the rate can be measured.
func Device(s *hubclient.Service, target, service string, echo bool) []Check {
	open := func(ctx context.Context) (hubclient.Stream, error) {
		return s.Open(ctx, target, service, hubclient.OpenOptions{})
	}
	return []Check{
		{"device", func(ctx context.Context) (Result, error) { return device(ctx, s, target) }},
		{"stream", func(ctx context.Context) (Result, error) { return stream(ctx, open, service) }},
		{"rate", func(ctx context.Context) (Result, error) {
			if !echo {
				return Result{Status: Skipped, Detail: "it takes a service that echoes: name one with --service and --echo"}, nil
			}
			return rate(ctx, open)
		}},
	}
}

func device(ctx context.Context, s *hubclient.Service, target string) (Result, error) {
	twin, err := s.Twin(ctx, target)
	if err != nil {
		return Result{}, err
	}
	name := strconv.Quote(target)
	switch {
	case twin.Status == hubclient.StatusDisabled:
		return Result{}, &Problem{name + " is disabled", `"farport device update ID --enable" enables it`, hubclient.ErrDeviceNotFound}
	case twin.ConnectionState != hubclient.Connected:
		seen := "never seen"
		if at := twin.LastActivityTime.Time; !at.IsZero() {
			seen = "last seen " + at.UTC().Format(time.RFC3339)
		}
		return Result{}, fmt.Errorf("%s: %w (%s)", name, hubclient.ErrDeviceOffline, seen)
	}
	since := ""
	// Only an operator may know since when.
	if d, err := s.GetDevice(ctx, target); err == nil && !d.ConnectionStateUpdatedTime.IsZero() {
		since = " since " + d.ConnectionStateUpdatedTime.UTC().Format(time.RFC3339)
	}
	return Result{Detail: name + " is enabled and connected" + since}, nil
}

func stream(ctx context.Context, open Open, service string) (Result, error) {
	t, err := Measure(ctx, open)
	if err != nil {
		return Result{}, err
	}
	r := Result{Detail: "to " + strconv.Quote(service) + ": set up in " + short(t.Setup)}
	if t.RoundTrip > 0 {
		r.Detail += ", " + short(t.RoundTrip) + " to the target and back"
	}
	if t.Greeting != "" {
		r.Detail += "; it says " + strconv.Quote(t.Greeting)
	}
	return r, nil
}

func rate(ctx context.Context, open Open) (Result, error) {
	perSecond, err := Rate(ctx, open)
	if err != nil {
		return Result{}, err
	}
	return Result{Detail: fmt.Sprintf("%.1f MB/s to the target and back", perSecond/1e6)}, nil
}

// Login is the check of a device's credentials: connect signs in as the device and
// disconnects. As there is room for one connection of a device only, that ends the one of a
// device-proxy that runs; so it is only done if asked for.
func Login(connect func(context.Context) error, asked bool) Check {
	return Check{"credentials", func(ctx context.Context) (Result, error) {
		if !asked {
			return Result{
				Status: Skipped, Detail: "a second login would end that of a running device-proxy",
				Hint: "--login tries it anyway; a running device-proxy then connects again",
			}, nil
		}
		if err := connect(ctx); err != nil {
			return Result{}, err
		}
		return Result{Detail: "the hub takes those of the device"}, nil
	}}
}
