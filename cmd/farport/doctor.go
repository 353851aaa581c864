package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/doctor"
)

type doctorOptions struct {
	credentialOptions
	outputOptions
	device    string
	service   string
	hosts     []string
	echo      bool
	login     bool
	transport string
	mqttPort  int
	cert      string
	key       string
}

func (o *doctorOptions) addFlags(flags *pflag.FlagSet) {
	o.credentialOptions.addFlags(flags, slices.Concat(serviceVariables, deviceVariables)...)
	o.outputOptions.addFlags(flags, formatTable)
	flags.StringVar(&o.service, "service", defaultService, "`NAME` of the service on the device")
	flags.StringArrayVar(&o.hosts, "streaming-host", nil, "further `HOST` that the hub may send streams to; repeatable")
	flags.BoolVar(&o.echo, "echo", false, "the service sends back what it gets: measure the rate through it")
	flags.BoolVar(&o.login, "login", false, "with a device's connection string: sign in, which ends the connection of a device-proxy that runs")
	flags.StringVar(&o.transport, "transport", transportMQTTWS, "how the device connects: `mqtt-ws|mqtt`; mqtt checks the hub's port for that, too")
	flags.IntVar(&o.mqttPort, "mqtt-port", hubclient.DefaultMQTTPort, "the hub's `PORT` for --transport mqtt")
	flags.StringVar(&o.cert, "cert", "", "with --login: the device's certificate chain in this PEM `FILE`")
	flags.StringVar(&o.key, "key", "", "with --login: the certificate's private key in this PEM `FILE`")
}

func newDoctor(a *app) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor [DEVICE]",
		Short: "Check each step of connectivity, and say what to do",
		Long: `Checks each step to the hub: DNS, TCP, HTTP proxy, TLS and trust, clock, WebSocket
and credentials; with a DEVICE, its state and a stream to one of its services. A line
each says "ok" or what to do; what comes after a failure is not tried. The exit code
is that of the first failure.

Nothing is sent through the stream but its end: what is measured is how long it takes
to set up, and how long until the target has closed in return. An SSH server logs a
connection that was closed. The rate can only be measured through a service that
echoes (--echo).

With a device's connection string, on the device, it checks the device's way to the
hub. A device has one connection only, so signing in would end the one of a
device-proxy that runs: it is only tried with --login.

Port 8883 is only looked at with --transport mqtt: nobody else needs it.`,
		Example:           "  farport doctor\n  farport doctor pi-1 --service ssh\n  farport doctor pi-1 -o json",
		ValidArgsFunction: a.completeDevices,
		Args:              arguments("[DEVICE]"),
		Annotations:       exitStatus(exitUsage, exitUnauthorized, exitDevice, exitRefused, exitTimeout, exitHub, exitLost),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device = argument(args, 0)
			return runDoctor(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags())
	completeOutput(cmd)
	a.completeServices(cmd)
	return cmd
}

func runDoctor(ctx context.Context, a *app, o doctorOptions) error {
	if err := oneOf("output", o.format, formatTable, formatJSON); err != nil {
		return err
	}
	if err := checkTransport(o.transport, o.mqttPort); err != nil {
		return err
	}
	cs, err := a.anyString(&o.credentialOptions)
	if err != nil {
		return err
	}
	options, err := a.clientOptions(&o.credentialOptions, streamOptions{hosts: o.hosts})
	if err != nil {
		return err
	}
	path := hubclient.NewPath(cs, options)
	checks := doctor.Path(path, o.trust(cs))
	if o.transport == transportMQTT {
		checks = append(checks, doctor.MQTT(path, o.mqttPort))
	}
	if cs.IsDevice() {
		check, err := o.deviceLogin(a, cs, options)
		if err != nil {
			return err
		}
		return a.examine(ctx, o, append(checks, check))
	}
	if o.login || o.cert != "" || o.key != "" {
		return usage("--login, --cert and --key are for a device's connection string")
	}
	hub, err := hubclient.NewService(cs, options)
	if err != nil {
		return err
	}
	defer hub.Close()
	who := "policy " + quote(cs.SharedAccessKeyName)
	if cs.SharedAccessKeyName == "" {
		who = "a ready token"
	}
	checks = append(checks, doctor.SignIn(hub, who))
	if o.device != "" {
		checks = append(checks, doctor.Device(hub, o.device, o.service, o.echo)...)
	}
	return a.examine(ctx, o, checks)
}

// trust says whose word counts for the hub's certificate.
func (o *doctorOptions) trust(cs hubclient.ConnectionString) string {
	switch {
	case cs.CAFingerprint != "":
		return "the CA pinned in the connection string"
	case o.caFile != "":
		return "--ca-file"
	}
	return "the system's CAs"
}

// deviceLogin is the last check on the device's side.
func (o *doctorOptions) deviceLogin(a *app, cs hubclient.ConnectionString, options hubclient.Options) (doctor.Check, error) {
	if o.device != "" && o.device != hubclient.Target(cs) {
		return doctor.Check{}, usage("the connection string is for %s, which cannot look at %s", named(hubclient.Target(cs)), named(o.device))
	}
	if !o.login {
		return doctor.Login(nil, false), nil
	}
	device := hubclient.DeviceOptions{Options: options, MQTTPort: o.mqttPort}
	if o.transport == transportMQTT {
		device.Transport = hubclient.MQTT
	}
	certificate, err := newDeviceCertificate(a, cs, o.cert, o.key, a.logger(slog.LevelWarn))
	if err != nil {
		return doctor.Check{}, err
	}
	if certificate != nil {
		device.GetCertificate = certificate.get
	}
	return doctor.Login(func(ctx context.Context) error {
		d, err := hubclient.DialDevice(ctx, cs, device)
		if err != nil {
			return err
		}
		return d.Close()
	}, true), nil
}

// examine makes the checks and prints what came of them: lines as they come, JSON at the
// end.
func (a *app) examine(ctx context.Context, o doctorOptions, checks []doctor.Check) error {
	results := []doctor.Result{}
	hint := func(err error) string {
		_, hint := judgeCheck(err)
		return hint
	}
	if o.format == formatTable {
		a.term.println(paint(a.term.colorOut, colorBold, strings.TrimSpace(checkLine("CHECK", "STATUS", "DETAIL", screenWidth(a.term.out)))))
	}
	failure := doctor.Run(ctx, a.term.shown(checks), hint, func(r doctor.Result) {
		r.Detail, r.Hint = oneLine(redact(r.Detail)), oneLine(redact(r.Hint))
		results = append(results, r)
		if o.format == formatTable {
			a.printCheck(r)
		}
	})
	if o.format == formatJSON {
		if err := a.term.result(o.outputOptions, results, nil); err != nil {
			return err
		}
	}
	if failure == nil || ctx.Err() != nil {
		return failure
	}
	failed := results[slices.IndexFunc(results, func(r doctor.Result) bool { return r.Status == doctor.Failed })]
	code, said := judgeCheck(failure)
	if o.format == formatTable {
		said = "" // it has
	}
	return &codedError{code, said, fmt.Errorf("%s: %s", failed.Check, failed.Detail)}
}

// judgeCheck is judge for a check's error, which may have a hint of its own.
func judgeCheck(err error) (code int, hint string) {
	code, hint = judge(err, "farport doctor")
	if p, ok := errors.AsType[*doctor.Problem](err); ok {
		hint = p.Hint
	}
	return code, strings.TrimSuffix(hint, orDoctor)
}

// printCheck prints a line, and one more with what to do about it.
func (a *app) printCheck(r doctor.Result) {
	colors := map[doctor.Status]string{doctor.Failed: colorRed, doctor.Warning: colorYellow}
	screen := screenWidth(a.term.out)
	text := checkLine(r.Check, string(r.Status), r.Detail, screen)
	if r.Hint != "" {
		text += "\n" + checkLine("", "", "hint: "+r.Hint, screen)
	}
	if color := colors[r.Status]; color != "" {
		text = strings.Replace(text, string(r.Status), paint(a.term.colorOut, color, string(r.Status)), 1)
	}
	a.term.println(text)
}

// What checkLine puts things into, in cells.
const (
	checkColumn  = 11
	statusColumn = 7
	detailAt     = checkColumn + columnGap + statusColumn + columnGap
	detailLeast  = 30 // with less room than that, a detail stands below check and status
	detailBelow  = 2  // from there
)

// checkLine is one check in columns, its detail wrapped at words to a screen of that many
// cells (0: not).
func checkLine(check, status, detail string, screen int) string {
	head := fmt.Sprintf("%-*s%-*s", checkColumn+columnGap, check, statusColumn+columnGap, status)
	if screen == 0 {
		return head + detail
	}
	if screen-detailAt >= detailLeast {
		return head + wrap(detail, screen, detailAt)
	}
	below := strings.Repeat(" ", detailBelow) + wrap(detail, screen, detailBelow)
	if check == "" {
		return below
	}
	return strings.TrimRight(head, " ") + "\n" + below
}
