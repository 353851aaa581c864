package main

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/rdp"
)

type rdpConnectOptions struct {
	credentialOptions
	streamOptions
	rdpTarget
	client          string
	print           bool
	connectTimeout  time.Duration
	responseTimeout time.Duration
	grace           time.Duration
	args            []string // the client's
}

func newRDPConnect(a *app) *cobra.Command {
	var o rdpConnectOptions
	cmd := &cobra.Command{
		Use:   "connect DEVICE [-- CLIENT-ARGS]",
		Short: "Open a device's desktop in this machine's RDP client",
		Long: `Makes a forward on a free port of 127.0.0.1, starts the RDP client of this machine on
it, and ends the forward with the client.

The client is mstsc on Windows, Microsoft's Windows App on macOS, FreeRDP or Remmina on
Linux; --client names another one, or the path of one:
` + strings.Join(rdp.Names(), ", ") + `.
What stands after -- is for the client, in its own words. The client asks for the
password; farport never puts one on a command line.

Each device has a port that is tried first, so that clients which remember
certificates by address know it again. FreeRDP is told the device's ID as the name
that the certificate should have (/cert:name:ID), unless an argument of yours says
what to do about certificates; an unknown certificate is always asked about.

A client that hands over to an app that already runs (Windows App, at times Remmina and
mstsc) ends at once: the forward then stays until Ctrl-C. So it does while something
that a client has left behind still uses it. The client gets no variables that are
farport's or Azure's, and no HTTP proxies.

--print only prints the command, as a shell takes it (on Windows cmd and PowerShell),
with the port that is tried first. It starts nothing and asks the hub nothing; the forward that the command needs is
said on standard error.`,
		Example: `  farport rdp connect kiosk-7
  farport rdp connect kiosk-7 -u admin -- /size:1600x900 /clipboard
  farport rdp connect kiosk-7 --client remmina
  farport rdp connect kiosk-7 -u admin --print`,
		ValidArgsFunction: a.completeDevices,
		Args: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			switch {
			case len(args) == 0:
				return usage("DEVICE is missing")
			case dash > 1 || dash < 0 && len(args) > 1:
				err := usage("unexpected argument %s", quote(args[1]))
				err.hint = "what is meant for the client stands after --"
				return err
			}
			return nil
		},
		Annotations: exitStatus(exitUsage, exitUnauthorized, exitDevice, exitRefused, exitTimeout,
			exitHub, exitLost),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device, o.args = args[0], args[1:]
			if cmd.ArgsLenAtDash() == 0 && len(o.args) > 0 && o.args[0] == "--" { // -- -ID -- ARGS
				o.args = o.args[1:]
			}
			return runRDPConnect(cmd.Context(), a, o)
		},
	}
	flags := cmd.Flags()
	o.credentialOptions.addFlags(flags, serviceVariables...)
	o.rdpTarget.addFlags(flags)
	flags.StringVar(&o.client, "client", "", "`NAME` or path of the client to start")
	flags.BoolVar(&o.print, "print", false, "only print the client's command")
	flags.DurationVar(&o.connectTimeout, "connect-timeout", hubclient.DefaultConnectTimeout, "how long the hub waits for a device that is offline; 0: not at all")
	flags.DurationVar(&o.responseTimeout, "response-timeout", hubclient.DefaultResponseTimeout, "how long the hub waits for the device's answer")
	flags.DurationVar(&o.grace, "grace", defaultGrace, "how long the client and open streams may go on once this ends")
	o.streamOptions.addFlags(flags)
	a.completeServices(cmd)
	// It fails only for a flag that the command does not have.
	_ = cmd.RegisterFlagCompletionFunc("client", cobra.FixedCompletions(rdp.Names(), cobra.ShellCompDirectiveDefault))
	return cmd
}

func (o *rdpConnectOptions) check() error {
	if err := o.rdpTarget.check(o.flags); err != nil {
		return err
	}
	if o.connectTimeout < 0 || o.responseTimeout <= 0 || o.grace < 0 {
		return usage("--connect-timeout and --grace must not be negative, --response-timeout must be more than 0")
	}
	return o.streamOptions.check()
}

func runRDPConnect(ctx context.Context, a *app, o rdpConnectOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	client, err := a.rdpSystem().Find(o.client)
	if err != nil {
		return clientError(err)
	}
	if o.print {
		return printRDP(a, o, client)
	}
	hub, cs, err := a.service(&o.credentialOptions, o.streamOptions)
	if err != nil {
		return err
	}
	defer hub.Close()
	if err := o.reachable(ctx, a, cs, hub); err != nil {
		return endedBy(ctx, err)
	}
	s := &rdpSession{a: a, o: o, client: client, view: newStreamView(a, cs.Host(), "from"), changed: make(chan struct{}, 1)}
	return endedBy(ctx, s.run(ctx, hub))
}

// endedBy is err, unless it came of being told to end.
func endedBy(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// clientError says what to do about a client that is not there.
func clientError(err error) error {
	if missing, ok := errors.AsType[*rdp.MissingError](err); ok {
		hint := "--client names another one: " + strings.Join(rdp.Names(), ", ")
		if missing.Install != "" {
			hint = "install it with: " + missing.Install
		}
		return &codedError{exitFailed, hint, err}
	}
	e := usage("--client: %w", err)
	e.hint = "clients are " + strings.Join(rdp.Names(), ", ")
	return e
}

// printRDP prints what would be started.
func printRDP(a *app, o rdpConnectOptions, client rdp.Client) error {
	port := rdp.Port(o.device, o.service)
	to := rdp.Connection{Device: o.device, Address: rdp.Address(port), User: o.user, File: "device.rdp", Args: o.args}
	a.term.println(shellLine(runtime.GOOS, client.Command(to)))
	a.term.hint("it works while this runs: %s", o.forward(port))
	if client.NeedsFile(o.user) {
		a.term.hint("and its file comes from: farport rdp file -u %s --file %s -- %s", shellWord(o.user), to.File, shellWord(o.device))
	}
	return nil
}

// reachable makes the call that shows whether streams can be opened at all. A device
// that the hub holds for offline is asked for a stream, so that no client is started
// in vain: it may have come back, or come within --connect-timeout.
func (o *rdpConnectOptions) reachable(ctx context.Context, a *app, cs hubclient.ConnectionString, hub *hubclient.Service) error {
	done := a.asking(ctx, cs)
	twin, err := hub.Twin(ctx, o.device)
	done()
	switch {
	case err != nil:
		return err
	case twin.Status == hubclient.StatusDisabled:
		return errDisabled(o.device)
	case twin.ConnectionState == hubclient.Connected:
		return nil
	}
	a.term.notice("%s is not connected (last seen: %s); waiting up to %s for it", named(o.device), formatAgo(twin.LastActivityTime.Time, time.Now()), o.connectTimeout)
	done = a.term.during(ctx, "waiting for %s", word(o.device))
	leg, err := hub.Open(ctx, o.device, o.service, o.open())
	done()
	if err != nil {
		return err
	}
	return leg.Close()
}

func (o *rdpConnectOptions) open() hubclient.OpenOptions {
	return hubclient.OpenOptions{ConnectTimeout: o.connectTimeout, ResponseTimeout: o.responseTimeout}
}
