package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/proxy"
)

// quickstartDevice is the ID of the quickstart's device.
const quickstartDevice = "quickstart"

// quickstartSetup bounds each step, so that nothing keeps anybody waiting.
const quickstartSetup = 3 * time.Second

type quickstartOptions struct {
	target string
	check  bool
}

func (o *quickstartOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.target, "target", "", "`HOST:PORT` the device forwards to (default: the sshd of this machine, or else a page of farport's own)")
	flags.BoolVar(&o.check, "check", false, "end after the exchange: 0 when it went through, 1 when not")
}

func newQuickstart(a *app) *cobra.Command {
	var o quickstartOptions
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "See the whole of it on this machine, in one command",
		Long: `Runs all the parts on this machine, without root: a hub on a free port of localhost
with a data dir of its own, a device, its device-proxy and a service-proxy. Then it
sends something through the stream and says what came back.

The device forwards to --target, or to this machine's sshd if one answers on port
22, or else to a small page of farport's own. All of it stays up until Ctrl-C and
leaves nothing behind.`,
		Example: `  farport quickstart
  farport quickstart --target 127.0.0.1:3389
  farport quickstart --check`,
		Args:        arguments(),
		Annotations: exitStatus(exitUsage),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runQuickstart(cmd.Context(), a, o) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func runQuickstart(ctx context.Context, a *app, o quickstartOptions) (err error) {
	if o.target != "" {
		if err := checkTarget("--target", o.target); err != nil {
			return err
		}
	}
	q := &quickstart{app: a, began: time.Now()}
	defer func() {
		err = q.end(err)
		if ctx.Err() != nil {
			err = nil // told to end
		}
	}()
	if err := q.start(ctx, o.target); err != nil {
		return err
	}
	if o.check {
		return nil
	}
	q.explain()
	select {
	case <-ctx.Done():
		return nil
	case err := <-q.failed:
		return err
	}
}

// quickstart is all parts of farport in one process.
type quickstart struct {
	app    *app
	began  time.Time
	ends   []func() error // what to do at the end, in reverse
	failed chan error     // of parts that should run on

	hub    *hub.Hub
	client *hubclient.Service
	device hubclient.ConnectionString
	target quickstartGoal
	local  string // the service-proxy's address
}

// start sets up one part after the other and says so.
func (q *quickstart) start(ctx context.Context, target string) error {
	q.failed = make(chan error, 4) // one for each part
	q.say("Everything of farport on this machine, each part as it would run elsewhere:")
	q.say("")
	for _, step := range []struct {
		part string
		do   func(context.Context) (string, error)
	}{
		{"hub", q.startHub},
		{"device", q.createDevice},
		{"target", func(ctx context.Context) (string, error) { return q.chooseTarget(ctx, target) }},
		{"device-proxy", q.startDeviceProxy},
		{"service-proxy", q.startServiceProxy},
		{"exchange", q.exchange},
	} {
		began := time.Now()
		done := q.app.term.during(ctx, "%s", step.part)
		said, err := step.do(ctx)
		done()
		if err != nil {
			return &codedError{code: exitFailed, err: fmt.Errorf("quickstart: %s: %w", step.part, err)}
		}
		line := fmt.Sprintf("  %-14s %6s   %s", step.part, formatShort(time.Since(began)), said)
		if step.part == "exchange" {
			q.app.term.println(oneLine(line)) // the result
		} else {
			q.say("%s", line)
		}
	}
	return nil
}

// say prints a line of the story. A quiet one has only its result.
func (q *quickstart) say(format string, args ...any) {
	if !q.app.quiet {
		fmt.Fprintf(q.app.term, "%s\n", oneLine(fmt.Sprintf(format, args...)))
	}
}

// goOn runs a part until the end, which waits for it.
func (q *quickstart) goOn(part string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := run(ctx); err != nil {
			q.failed <- fmt.Errorf("%s: %w", part, err)
		}
	})
	q.atEnd(func() error {
		cancel()
		wg.Wait()
		return nil
	})
}

func (q *quickstart) atEnd(do func() error) { q.ends = append(q.ends, do) }

// end undoes everything, last things first. The first error counts.
func (q *quickstart) end(err error) error {
	for len(q.ends) > 0 {
		last := q.ends[len(q.ends)-1]
		q.ends = q.ends[:len(q.ends)-1]
		if e := last(); err == nil {
			err = e
		}
	}
	return err
}

// logger is for parts whose story is told by the steps, nil without -v.
func (q *quickstart) logger() *slog.Logger {
	if q.app.verbose {
		return q.app.logger(slog.LevelDebug)
	}
	return nil
}

func (q *quickstart) startHub(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "farport-quickstart-") // mode 0700
	if err != nil {
		return "", err
	}
	q.atEnd(func() error { return os.RemoveAll(dir) })
	q.hub, err = hub.Open(ctx, hub.Options{
		DataDir:       dir,
		Listen:        "127.0.0.1:0",
		Hosts:         []string{"127.0.0.1"}, // needs no look-up
		ShutdownGrace: -1,
		Logger:        q.logger(),
	})
	if err != nil {
		return "", err
	}
	q.goOn("hub", q.hub.Run)
	return q.hub.URL() + "  registry and meeting point, data in " + dir, nil
}

// clientOptions go straight to the hub, whatever HTTP proxy there is for others.
func (q *quickstart) clientOptions() hubclient.Options {
	direct := func(*http.Request) (*url.URL, error) { return nil, nil }
	return hubclient.Options{Proxy: direct, Logger: q.logger()}
}

func (q *quickstart) createDevice(ctx context.Context) (string, error) {
	text, err := q.hub.ConnectionString(ctx, operatorPolicy)
	if err != nil {
		return "", err
	}
	operator, err := hubclient.ParseConnectionString(text.Reveal())
	if err != nil {
		return "", err
	}
	if q.client, err = hubclient.NewService(operator, q.clientOptions()); err != nil {
		return "", err
	}
	q.atEnd(q.client.Close)
	ctx, cancel := context.WithTimeout(ctx, quickstartSetup)
	defer cancel()
	if _, err := q.client.CreateDevice(ctx, hubclient.Identity{DeviceID: quickstartDevice}); err != nil {
		return "", err
	}
	q.device, err = stringOfDevice(ctx, q.client, operator, quickstartDevice, keyPrimary)
	return fmt.Sprintf("%q registered, with keys of its own", quickstartDevice), err
}

func (q *quickstart) startDeviceProxy(ctx context.Context) (string, error) {
	connected := make(chan error, 1)
	dialing := hubclient.DeviceOptions{Options: q.clientOptions(), Instance: hubclient.NewInstance()}
	options := proxy.DeviceOptions{
		DeviceID: quickstartDevice,
		Target:   q.target.address,
		Dial: func(ctx context.Context) (*hubclient.Device, error) {
			return hubclient.DialDevice(ctx, q.device, dialing)
		},
		Events: func(e proxy.Event) {
			switch {
			case e.Kind == proxy.Connected:
				tell(connected, nil)
			case e.Kind == proxy.Retrying:
				tell(connected, e.Err)
			case q.app.verbose:
				q.say("  %s", describe(e))
			}
		},
		Logger: q.logger(),
	}
	q.goOn("device-proxy", func(ctx context.Context) error { return proxy.RunDevice(ctx, options) })
	ctx, cancel := context.WithTimeout(ctx, quickstartSetup)
	defer cancel()
	select {
	case err := <-connected:
		return fmt.Sprintf("%q connected to the hub, forwards to %s", quickstartDevice, q.target.address), err
	case err := <-q.failed:
		return "", err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// tell keeps the first outcome.
func tell(outcome chan<- error, err error) {
	select {
	case outcome <- err:
	default:
	}
}

func describe(e proxy.Event) string {
	if e.Err != nil {
		return fmt.Sprintf("stream %d: %v", e.Stream, e.Err)
	}
	return fmt.Sprintf("stream %d: up %s, down %s", e.Stream, formatBytes(e.Up), formatBytes(e.Down))
}

func (q *quickstart) startServiceProxy(context.Context) (string, error) {
	options := proxy.ServiceOptions{
		Hub:      q.client,
		DeviceID: quickstartDevice,
		Open:     hubclient.OpenOptions{ConnectTimeout: quickstartSetup},
		Events: func(e proxy.Event) {
			if e.Kind == proxy.Refused {
				q.app.term.warn("%v", e.Err)
			}
		},
		Logger: q.logger(),
	}
	listeners, err := proxy.Listen(options, []proxy.Forward{{Address: "127.0.0.1:0", Service: q.target.service}})
	if err != nil {
		return "", err
	}
	q.local = listeners.Addrs()[0].String()
	q.goOn("service-proxy", listeners.Run)
	return fmt.Sprintf("listening on %s, leads to %q", q.local, quickstartDevice), nil
}

// explain says how to go on, here and for real.
func (q *quickstart) explain() {
	host, port, _ := net.SplitHostPort(q.local) // it is a bound address
	q.say("")
	switch q.target.kind {
	case kindSSH:
		q.say("Try it, from another terminal:")
		q.app.term.println("  ssh -p " + port + " " + userName() + host)
	case kindPage:
		q.say("Try it, in a browser:")
		q.app.term.println("  http://" + q.local + "/")
	default:
		q.say("Try it with a client for %s:", q.target.address)
		q.app.term.println("  " + q.local)
	}
	for _, line := range []string{
		"",
		"The same for real:",
		"  on the hub       farport serve --host hub.example.com",
		"                   farport device create pi-1",
		"                   farport device connection-string pi-1 >pi-1.conn",
		"  on the device    farport device-proxy --connection-string-file pi-1.conn",
		"  where you are    farport service-proxy -d pi-1 -L 2222",
		"                   ssh -p 2222 pi@127.0.0.1",
		"",
		"All set up in " + formatShort(time.Since(q.began)) + ". Ctrl-C ends it and leaves nothing behind.",
	} {
		q.say("%s", line)
	}
}

// userName is "NAME@" for the current user, "" when that is not known.
func userName() string {
	u, err := user.Current()
	if err != nil || strings.ContainsAny(u.Username, `\ `) {
		return ""
	}
	return u.Username + "@"
}
