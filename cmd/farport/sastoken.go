package main

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
)

// sasTokenLife is how long a token is good for unless told otherwise, as with the
// Azure CLI.
const sasTokenLife = time.Hour

type sasTokenOptions struct {
	deviceOptions
	key      string
	duration seconds
}

func (o *sasTokenOptions) addFlags(flags *pflag.FlagSet) {
	o.credentialOptions.addFlags(flags, slices.Concat(serviceVariables, deviceVariables)...)
	o.outputOptions.addFlags(flags, formatTable)
	o.duration = seconds(sasTokenLife)
	flags.Var(&o.duration, "duration", "how long the token is good for: `TIME` in seconds, or such as 12h")
	flags.StringVarP(&o.id, "device", "d", "", "make the token of device or module `ID`, with its key from the registry")
	addKeyFlag(flags, &o.key, keyPrimary)
}

// seconds is a duration that may also be written as a number of seconds, as the
// Azure CLI has it.
type seconds time.Duration

func (s *seconds) Set(text string) error {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		*s = seconds(time.Duration(n) * time.Second)
		return nil
	}
	d, err := time.ParseDuration(text)
	*s = seconds(d)
	return err
}

func (s *seconds) String() string { return time.Duration(*s).String() }
func (s *seconds) Type() string   { return "duration" }

func newSASToken(a *app) *cobra.Command {
	var o sasTokenOptions
	cmd := &cobra.Command{
		Use:   "sas-token",
		Short: "Make a SAS token from a connection string",
		Long: `Prints a SAS token signed with the key in a connection string: for the hub and its
policy, or for a device. With --device it is that device's token, signed with its
own key, as "az iot hub generate-sas-token -d" makes it. Only then is the hub asked
anything. Whoever has the token can do what the key's owner can, until it expires.`,
		Example: `  farport sas-token --duration 600
  farport sas-token --device pi-1 --duration 24h
  curl -H "Authorization: $(farport sas-token)" https://hub.example.com/devices/pi-1`,
		Args:        arguments(),
		Annotations: exitStatus(exitsOfOperator...),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runSASToken(cmd.Context(), a, o) },
	}
	o.addFlags(cmd.Flags())
	completeOutput(cmd)
	a.completeDeviceFlag(cmd)
	return cmd
}

func runSASToken(ctx context.Context, a *app, o sasTokenOptions) error {
	life := time.Duration(o.duration)
	if life < time.Second {
		return usage("--duration %s: must be a second at least", life)
	}
	if err := oneOf("key", o.key, keyPrimary, keySecondary); err != nil {
		return err
	}
	cs, err := a.sasSubject(ctx, &o)
	if err != nil {
		return err
	}
	if cs.SharedAccessKey.IsZero() {
		return usage("the connection string has no SharedAccessKey to sign with")
	}
	token, err := cs.SAS(time.Now().Add(life))
	if err != nil {
		return err
	}
	return a.term.result(o.outputOptions, map[string]string{"sas": token.Reveal()}, func() error {
		a.term.println(token.Reveal())
		return nil
	})
}

// sasSubject is the connection string of whom the token is for.
func (a *app) sasSubject(ctx context.Context, o *sasTokenOptions) (cs hubclient.ConnectionString, err error) {
	if o.id == "" {
		return a.anyString(&o.credentialOptions)
	}
	err = a.operate(ctx, &o.deviceOptions, func(hub *hubclient.Service, operator hubclient.ConnectionString) error {
		if cs, err = stringOfDevice(ctx, hub, operator, o.id, o.key); err == nil && cs.X509 {
			return errNoKeys(o.id)
		}
		return err
	})
	return cs, err
}
