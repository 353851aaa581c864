package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/proxy"
)

// defaultService is the stream's name when none is given.
const defaultService = "default"

type serviceProxyOptions struct {
	credentialOptions
	streamOptions
	eventOptions
	device          string
	sshName         string
	listen          []string
	stdio           bool
	service         string
	connectTimeout  time.Duration
	responseTimeout time.Duration
	grace           time.Duration
	maxStreams      int
}

func (o *serviceProxyOptions) addFlags(flags *pflag.FlagSet) {
	o.credentialOptions.addFlags(flags, serviceVariables...)
	flags.StringVarP(&o.device, "device", "d", "", "`ID` of the device to reach, or DEVICE/MODULE")
	flags.StringVar(&o.sshName, "ssh-name", "", "instead of --device: the host `NAME.farport` that ssh knows the device by, as its token %n has it")
	flags.StringArrayVarP(&o.listen, "listen", "L", nil, "`[ADDR:]PORT[=SERVICE]` to listen on; ADDR is 127.0.0.1 unless given, * is every address; port 0 picks one; repeatable")
	flags.BoolVar(&o.stdio, "stdio", false, "carry one stream over standard input and output, as for ssh's ProxyCommand")
	flags.StringVar(&o.service, "service", defaultService, "`NAME` of the service on the device")
	flags.DurationVar(&o.connectTimeout, "connect-timeout", hubclient.DefaultConnectTimeout, "how long the hub waits for a device that is offline; 0: not at all")
	flags.DurationVar(&o.responseTimeout, "response-timeout", hubclient.DefaultResponseTimeout, "how long the hub waits for the device's answer")
	flags.DurationVar(&o.grace, "grace", defaultGrace, "how long open streams may go on once this ends")
	flags.IntVar(&o.maxStreams, "max-streams", proxy.DefaultServiceStreams, "most streams at once")
	o.streamOptions.addFlags(flags)
	o.eventOptions.addFlags(flags)
	addConfigFlag(flags)
	alsoFrom(flags, "device", "STREAMING_TARGET_DEVICE", "DEVICE_ID")
	alsoFrom(flags, "listen", "PROXY_PORT", "LOCAL_PORT")
	exclusive(flags, "listen", "stdio")
	exclusive(flags, "device", "ssh-name")
}

func newServiceProxy(a *app) *cobra.Command {
	var o serviceProxyOptions
	cmd := &cobra.Command{
		Use:   "service-proxy [CONNECTION-STRING] [DEVICE] [PORT]",
		Short: "Reach a device: a local port, or stdio for ProxyCommand",
		Long: `Opens local TCP ports whose connections come out at a device, each over a stream of
its own; or, with --stdio, carries exactly one stream over standard input and output
and says nothing unless it fails or has to wait.

Before it listens it asks the hub for the device once, so that wrong credentials and
unknown devices show at once. A device that is offline is only a warning.

A stream that loses its connection waits for --resume-window and goes on where it was,
if both proxies and the hub are farport's; the TCP connection that it carries only
pauses.

Every user of this machine can connect to a loopback port. --stdio has no port.

The connection string comes best from a file or from $IOTHUB_CONNECTION_STRING. The
Azure quickstarts' $STREAMING_TARGET_DEVICE, $DEVICE_ID, $PROXY_PORT and
$LOCAL_PORT work as they did there, and so do their arguments: a variable wins over
its argument, a flag over both.`,
		Example: `  farport service-proxy -d pi-1 -L 2222
  farport service-proxy -d pi-1 -L 2222=ssh -L 13389=rdp
  ssh -o ProxyCommand='farport service-proxy --stdio -d %n' pi@pi-1`,
		Args: arguments("["+argumentConnectionString+"]", "[DEVICE]", "["+argumentPort+"]"),
		Annotations: exitStatus(exitUsage, exitUnauthorized, exitDevice, exitRefused, exitTimeout,
			exitHub, exitLost),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.take(a, args); err != nil {
				return err
			}
			if err := a.configure(cmd.Flags()); err != nil {
				return err
			}
			return runServiceProxy(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags())
	a.completeDeviceFlag(cmd)
	a.completeServices(cmd)
	a.completeListen(cmd)
	return cmd
}

// take takes over the quickstart's arguments.
func (o *serviceProxyOptions) take(a *app, args []string) error {
	if err := a.fromArgument(o.flags, flagConnectionString, argumentConnectionString, argument(args, 0)); err != nil {
		return err
	}
	if err := a.fromArgument(o.flags, "device", "DEVICE", argument(args, 1)); err != nil {
		return err
	}
	if err := checkPort(argument(args, 2), 0); err != nil { // 0 picks one
		return err
	}
	return a.fromArgument(o.flags, "listen", argumentPort, argument(args, 2))
}

func runServiceProxy(ctx context.Context, a *app, o serviceProxyOptions) error {
	forwards, err := o.forwards()
	if err != nil {
		return err
	}
	hub, cs, err := a.service(&o.credentialOptions, o.streamOptions)
	if err != nil {
		return err
	}
	defer hub.Close()
	options := proxy.ServiceOptions{
		Hub:         hub,
		DeviceID:    o.device,
		Open:        hubclient.OpenOptions{ConnectTimeout: o.connectTimeout, ResponseTimeout: o.responseTimeout},
		MaxStreams:  o.maxStreams,
		GracePeriod: o.grace,
		Logger:      a.logger(slog.LevelWarn),
	}
	if o.stdio {
		return runStdio(ctx, a, options, o.service)
	}
	view := newStreamView(a, cs.Host(), "from")
	options.Traffic, options.Events = &view.traffic, o.told(a.term, view.event)
	err = listen(ctx, a, cs, options, forwards, view)
	if ctx.Err() != nil {
		return nil // told to end
	}
	return err
}

func listen(ctx context.Context, a *app, cs hubclient.ConnectionString, options proxy.ServiceOptions, forwards []proxy.Forward, view *streamView) error {
	done := a.asking(ctx, cs)
	err := checkDevice(ctx, a, options.Hub, options.DeviceID)
	done()
	if err != nil {
		return err
	}
	listeners, err := proxy.Listen(options, forwards)
	if err != nil {
		return err
	}
	defer view.show()()
	return listeners.Run(ctx)
}

// checkDevice makes the one call that shows whether streams can be opened at all.
func checkDevice(ctx context.Context, a *app, hub *hubclient.Service, id string) error {
	twin, err := hub.Twin(ctx, id)
	switch {
	case err != nil:
		return err
	case twin.Status == hubclient.StatusDisabled:
		return errDisabled(id)
	case twin.ConnectionState != hubclient.Connected:
		a.term.warn("%s is not connected (last seen: %s); connections work once it is", named(id), formatAgo(twin.LastActivityTime.Time, time.Now()))
	}
	return nil
}

func errDisabled(id string) error {
	device, _ := hubclient.SplitTarget(id)
	return &codedError{exitDevice, `"farport device update ID --enable" enables it`, errors.New("device " + quote(device) + " is disabled")}
}

// runStdio carries one stream. It says nothing unless it fails or has to wait; what it shows
// while the stream is set up is gone before ssh, which has the same terminal, gets anything
// that it could ask or say something after.
func runStdio(ctx context.Context, a *app, options proxy.ServiceOptions, service string) error {
	// A reader that has gone must end the stream, not the process.
	signal.Ignore(syscall.SIGPIPE)
	opened := false
	done := a.term.settingUp(ctx, options.DeviceID, service)
	defer done()
	a.term.rawErr = a.term.person // ssh has switched the terminal to raw by now
	options.Events = func(e proxy.Event) {
		if e.Kind == proxy.Opened { // nothing has been copied yet
			done()
			opened = true
		}
		a.term.pause(e)
	}
	err := proxy.RunStdio(ctx, options, service, a.in, a.term.out)
	switch {
	case err == nil || ctx.Err() == nil:
		return err
	case opened:
		return &codedError{code: exitFailed, err: errors.New("interrupted: the open stream was cut")}
	}
	return nil // told to end before there was anything to cut
}

// forwards checks the flags; with --stdio there are none.
func (o *serviceProxyOptions) forwards() ([]proxy.Forward, error) {
	if o.sshName != "" {
		var err error
		if o.device, err = deviceOfHost(o.sshName); err != nil {
			return nil, err
		}
	}
	switch {
	case o.device == "":
		return nil, usage("which device? --device is missing")
	case len(o.listen) == 0 && !o.stdio:
		return nil, usage("where to? --listen or --stdio is missing")
	case o.stdio && o.connectionStringFile == standardInput:
		return nil, usage("--stdio needs standard input for the stream: --connection-string-file cannot be -")
	case o.stdio && o.format == formatJSON:
		return nil, usage("--stdio needs standard output for the stream: --output cannot be json")
	case o.connectTimeout < 0 || o.responseTimeout <= 0 || o.grace < 0:
		return nil, usage("--connect-timeout and --grace must not be negative, --response-timeout must be more than 0")
	case o.maxStreams < 1:
		return nil, usage("--max-streams %d: must be 1 or more", o.maxStreams)
	}
	if err := checkService(o.service); err != nil {
		return nil, err
	}
	if err := o.streamOptions.check(); err != nil {
		return nil, err
	}
	if err := o.eventOptions.check(); err != nil {
		return nil, err
	}
	var forwards []proxy.Forward
	for _, text := range o.listen {
		f, ok := parseForward(text, o.service)
		if !ok {
			return nil, usage("--listen %s: must be [ADDR:]PORT[=SERVICE], IPv6 addresses in []", quote(text))
		}
		forwards = append(forwards, f)
	}
	return forwards, nil
}

// checkService checks the name of a service on a device, which its streams have.
func checkService(name string) error {
	if !hubclient.ValidStreamName(name) {
		return usage("--service %s: a name has 1 to 128 letters, digits and -._~", quote(name))
	}
	return nil
}

// parseForward reads [ADDR:]PORT[=SERVICE]. As with ssh, * is every address; an
// address that is left empty is not.
func parseForward(text, service string) (proxy.Forward, bool) {
	address, name, named := strings.Cut(text, "=")
	if named {
		service = name
	}
	host, port := "", address
	if strings.Contains(address, ":") {
		var err error
		if host, port, err = net.SplitHostPort(address); err != nil {
			return proxy.Forward{}, false
		}
	}
	switch host {
	case "":
		host = defaultTargetHost
	case "*":
		host = ""
	}
	_, err := strconv.ParseUint(port, 10, 16)
	return proxy.Forward{Address: net.JoinHostPort(host, port), Service: service}, err == nil && hubclient.ValidStreamName(service)
}

// warnWide warns of an address that others than this machine's users can reach.
func warnWide(t *terminal, bound net.Addr) {
	if tcp, ok := bound.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		t.warn("%s is not a loopback address: everybody who can reach it can connect to the device", bound)
	}
}
