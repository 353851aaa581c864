package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
)

// streamOptions are the flags of both proxies for the streams they open.
type streamOptions struct {
	hosts    []string
	window   time.Duration
	noResume bool
}

func (o *streamOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringArrayVar(&o.hosts, "streaming-host", nil, "further `HOST` that the hub may send streams to; repeatable")
	flags.DurationVar(&o.window, "resume-window", hubclient.DefaultResumeWindow, "how long a stream that lost its connection waits to resume, 1h at most; the shortest of both proxies' and the hub's counts")
	flags.BoolVar(&o.noResume, "no-resume", false, "a stream that loses its connection is lost, as with --resume-window 0")
	exclusive(flags, "resume-window", "no-resume")
}

func (o *streamOptions) check() error {
	switch {
	case o.window < 0 || o.window > hubclient.MaxResumeWindow:
		return usage("--resume-window %s: must be 0 to 1h", o.window)
	case o.window%time.Second != 0:
		return usage("--resume-window %s: must be whole seconds", o.window)
	}
	return nil
}

// resumeWindow is the window as hubclient's options have it.
func (o *streamOptions) resumeWindow() time.Duration {
	if o.noResume || o.window == 0 {
		return -1
	}
	return o.window
}
