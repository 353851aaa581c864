package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/internal/hostkey"
)

type knownHostsOptions struct {
	credentialOptions
	name, host, reason, key string
	known                   []string
}

func (o *knownHostsOptions) addFlags(flags *pflag.FlagSet) {
	o.credentialOptions.addFlags(flags, serviceVariables...)
	flags.StringVar(&o.name, "ssh-name", "", "the host `NAME.farport`, ssh's token %n")
	flags.StringVar(&o.host, "host", "", "`NAME` that the lines are to begin with, ssh's %H")
	flags.StringVar(&o.reason, "reason", "", "why ssh asks: `ORDER|HOSTNAME|ADDRESS`, its %I")
	flags.StringVar(&o.key, "key", "", "the server's host key in `BASE64`, ssh's %K; NONE as long as it is not known")
	flags.StringArrayVar(&o.known, "known", nil, "a host key, `TYPE BASE64`, that the server may have, instead of asking the hub; repeatable")
}

// newSSHKnownHosts is for ssh alone.
func newSSHKnownHosts(a *app) *cobra.Command {
	var o knownHostsOptions
	cmd := &cobra.Command{
		Use:    "ssh-known-hosts",
		Short:  "Print known_hosts lines for ssh's KnownHostsCommand",
		Hidden: true,
		Long: `Prints the host keys that a device may have, for ssh's KnownHostsCommand. If they have
changed, or the server shows another one, it fails, and ssh ends the connection.`,
		Example:     "  farport ssh-known-hosts --ssh-name=pi-1.farport --host=pi-1.farport --reason=HOSTNAME --key=NONE",
		Args:        arguments(),
		Annotations: exitStatus(exitsOfOperator...),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runSSHKnownHosts(cmd.Context(), a, o) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func runSSHKnownHosts(ctx context.Context, a *app, o knownHostsOptions) error {
	id, err := deviceOfHost(o.name)
	if err != nil {
		return err
	}
	keys, err := o.allowed(ctx, a, id)
	if err != nil {
		return err
	}
	const noKey, order = "NONE", "ORDER"
	switch {
	case len(keys) == 0 && o.reason != order: // ssh asks twice
		a.term.notice("%s", unknownHostKeys(id))
	case len(keys) == 0 || o.key == "" || o.key == noKey:
	default:
		shown, err := hostkey.ParseBlob(o.key)
		if err != nil {
			return fmt.Errorf("%s: the server's host key: %w", named(id), err)
		}
		if !slices.Contains(keys, shown) {
			return &codedError{
				exitFailed, hintChanged(id) + " once the device-proxy has reported them",
				fmt.Errorf("%s: the server shows a host key that the device has not reported: %s %s", named(id), shown.Type, shown.Fingerprint()),
			}
		}
	}
	for _, line := range keys.Lines() {
		a.term.println(o.host + " " + line)
	}
	return nil
}

// allowed are the keys that the server may have.
func (o *knownHostsOptions) allowed(ctx context.Context, a *app, id string) (hostkey.Set, error) {
	if len(o.known) > 0 {
		return hostkey.Parse(o.known)
	}
	return a.askHostKeys(ctx, &o.credentialOptions, id, serviceSSH)
}
