package main

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/sysservice"
	"github.com/farportio/farport/proxy"
)

// defaultTarget is the local sshd.
const (
	defaultTargetHost = "127.0.0.1"
	defaultTargetPort = "22"
)

// defaultGrace is how long a proxy lets open streams go on once it is told to stop.
const defaultGrace = 5 * time.Second

// The values of --transport.
const (
	transportMQTTWS = "mqtt-ws"
	transportMQTT   = "mqtt"
)

type deviceProxyOptions struct {
	credentialOptions
	streamOptions
	eventOptions
	target     string
	services   []string
	maxStreams int
	transport  string
	mqttPort   int
	cert, key  string
	grace      time.Duration
	noHostKeys bool
}

func (o *deviceProxyOptions) addFlags(flags *pflag.FlagSet) {
	o.credentialOptions.addFlags(flags, deviceVariables...)
	flags.StringVar(&o.target, "target", "", "`HOST:PORT` that every stream goes to (default 127.0.0.1:22)")
	flags.StringArrayVar(&o.services, "service", nil, "`NAME=HOST:PORT` that streams of that name go to; repeatable; other names are rejected")
	flags.StringVar(&o.cert, "cert", "", "with x509=true in the connection string: certificate chain in PEM `FILE`, read again when it changes")
	flags.StringVar(&o.key, "key", "", "its key in PEM `FILE`")
	flags.IntVar(&o.maxStreams, "max-streams", proxy.DefaultDeviceStreams, "most streams at once")
	flags.StringVar(&o.transport, "transport", transportMQTTWS, "control connection: `mqtt-ws|mqtt`; mqtt-ws needs no port but that of HTTPS")
	flags.IntVar(&o.mqttPort, "mqtt-port", hubclient.DefaultMQTTPort, "the hub's `PORT` for --transport mqtt")
	flags.DurationVar(&o.grace, "grace", defaultGrace, "how long open streams may go on once this ends")
	flags.BoolVar(&o.noHostKeys, "no-host-keys", false, "do not tell the hub the public host keys of this device's sshd; forget those told before")
	o.streamOptions.addFlags(flags)
	o.eventOptions.addFlags(flags)
	addConfigFlag(flags)
	exclusive(flags, "target", "service")
}

func newDeviceProxy(a *app) *cobra.Command {
	var o deviceProxyOptions
	cmd := &cobra.Command{
		Use:   "device-proxy [CONNECTION-STRING] [HOST] [PORT]",
		Short: "Run beside sshd or an RDP server, on the device",
		Long: `Connects out to the hub and forwards the streams that arrive to a local TCP server:
all of them to --target, or each --service by its name. Nothing that comes in can
name another address.

A device that was created with --x509-thumbprint or --x509-ca signs in with --cert
and --key; a renewed certificate is taken for the next connection.

It reconnects for ever, at once when this machine's network has changed. Only when the
hub refuses its credentials at the very first connect does it give up. A stream that
loses its connection waits for --resume-window and goes on where it was, if both
proxies and the hub are farport's; the TCP connection that it carries only pauses.

The public host keys of the sshd that streams go to are told to the hub, so that
"farport ssh" can tell this device from an impostor at its first connection. The names
that --service gives are told too, for completion in shells; where they lead to is not.

"install" makes it a service of the system. It tells systemd that it is ready as soon
as it has started, whether the hub can be reached or not, and in its status whether
the hub has accepted it.

The connection string comes best from a file or from
$IOTHUB_DEVICE_CONNECTION_STRING. $REMOTE_HOST_NAME and $REMOTE_PORT work as in
the Azure quickstarts, and so do their arguments: a variable wins over its argument,
a flag over both.`,
		Example: `  farport device-proxy --connection-string-file /etc/farport/device.conn
  farport device-proxy --service ssh=127.0.0.1:22 --service rdp=127.0.0.1:3389
  farport device-proxy --config /etc/farport/device.yaml
  farport device-proxy --connection-string-file device.conn --cert device.pem --key device.key`,
		Args:        arguments("["+argumentConnectionString+"]", "[HOST]", "["+argumentPort+"]"),
		Annotations: exitStatus(exitUsage, exitUnauthorized),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.take(a, args); err != nil {
				return err
			}
			if err := a.configure(cmd.Flags()); err != nil {
				return err
			}
			return sysservice.Run(cmd.Context(), func(ctx context.Context, log io.Writer) error {
				if log != nil {
					a.term.err = log // nobody reads a service's standard error
				}
				return runDeviceProxy(ctx, a, o)
			})
		},
	}
	o.addFlags(cmd.Flags())
	cmd.AddCommand(newDeviceInstall(a), newDeviceUninstall(a), newDeviceServiceStatus(a))
	return cmd
}

// take takes over the quickstart's variables and arguments.
func (o *deviceProxyOptions) take(a *app, args []string) error {
	if err := checkPort(argument(args, 2), 1); err != nil {
		return err
	}
	host, _ := a.lookup("REMOTE_HOST_NAME")
	port, _ := a.lookup("REMOTE_PORT")
	host, port = cmp.Or(host, argument(args, 1)), cmp.Or(port, argument(args, 2))
	if host != "" || port != "" {
		target := net.JoinHostPort(cmp.Or(host, defaultTargetHost), cmp.Or(port, defaultTargetPort))
		if err := a.fromArgument(o.flags, "target", "target", target); err != nil {
			return err
		}
	}
	return a.fromArgument(o.flags, flagConnectionString, argumentConnectionString, argument(args, 0))
}

func runDeviceProxy(ctx context.Context, a *app, o deviceProxyOptions) error {
	options, err := o.proxyOptions(a)
	if err != nil {
		return err
	}
	cs, err := a.deviceString(&o.credentialOptions)
	if err != nil {
		return err
	}
	client, err := a.clientOptions(&o.credentialOptions, o.streamOptions)
	if err != nil {
		return err
	}
	certificate, err := newDeviceCertificate(a, cs, o.cert, o.key, client.Logger)
	if err != nil {
		return err
	}
	dialing := hubclient.DeviceOptions{Options: client, MQTTPort: o.mqttPort, Instance: hubclient.NewInstance()}
	if certificate != nil {
		dialing.GetCertificate = certificate.get
	}
	if o.transport == transportMQTT {
		dialing.Transport = hubclient.MQTT
	}
	view := newStreamView(a, cs.Host(), "to")
	options.DeviceID = hubclient.Target(cs)
	keys, services := newHostKeyReporter(options, o.noHostKeys), newServiceReporter(options)
	defer keys.wait()
	defer services.wait()
	options.Dial = func(ctx context.Context) (*hubclient.Device, error) {
		conn, err := hubclient.DialDevice(ctx, cs, dialing)
		if err == nil {
			keys.follow(conn)
			services.follow(conn)
		}
		return conn, err
	}
	options.Traffic = &view.traffic
	told := o.told(a.term, view.event)
	options.Events = func(e proxy.Event) {
		told(e)
		if status := systemdStatus(e, cs.Host()); status != "" {
			tellSystemd(client.Logger, status)
		}
	}
	defer view.show()()
	// Ready means started: a hub that cannot be reached at boot is no reason for systemd to
	// start it again, or to hold up others.
	tellSystemd(client.Logger, daemon.SdNotifyReady+"\nSTATUS=connecting to "+cs.Host())
	defer context.AfterFunc(ctx, func() { tellSystemd(client.Logger, daemon.SdNotifyStopping) })()
	return proxy.RunDevice(ctx, options)
}

// systemdStatus is what systemd shows after an event, "" for no change.
func systemdStatus(e proxy.Event, host string) string {
	switch e.Kind {
	case proxy.Connected:
		return "STATUS=" + sysservice.Connected + host
	case proxy.Retrying:
		return "STATUS=" + oneLine(redact("not connected to "+host+": "+e.Err.Error()))
	}
	return ""
}

// checkTransport checks --transport and --mqtt-port.
func checkTransport(transport string, port int) error {
	if port < 1 || port > 65535 {
		return usage("--mqtt-port %d: must be 1 to 65535", port)
	}
	return oneOf("transport", transport, transportMQTTWS, transportMQTT)
}

// proxyOptions checks the flags.
func (o *deviceProxyOptions) proxyOptions(a *app) (proxy.DeviceOptions, error) {
	options := proxy.DeviceOptions{MaxStreams: o.maxStreams, GracePeriod: o.grace, Logger: a.logger(slog.LevelWarn)}
	if err := checkTransport(o.transport, o.mqttPort); err != nil {
		return options, err
	}
	switch {
	case o.maxStreams < 1:
		return options, usage("--max-streams %d: must be 1 or more", o.maxStreams)
	case o.grace < 0:
		return options, usage("--grace must not be negative")
	}
	if err := o.streamOptions.check(); err != nil {
		return options, err
	}
	if err := o.eventOptions.check(); err != nil {
		return options, err
	}
	if len(o.services) == 0 {
		options.Target = cmp.Or(o.target, net.JoinHostPort(defaultTargetHost, defaultTargetPort))
		return options, checkTarget(cmp.Or(setBy(o.flags, "target"), "--target"), options.Target)
	}
	options.Services = make(map[string]string)
	for _, s := range o.services {
		name, target, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return options, usage("--service %s: must be NAME=HOST:PORT", quote(s))
		}
		if err := checkService(name); err != nil {
			return options, err
		}
		if err := checkTarget("--service", target); err != nil {
			return options, err
		}
		if _, twice := options.Services[name]; twice {
			return options, usage("--service %s is given twice", quote(name))
		}
		options.Services[name] = target
	}
	return options, nil
}
