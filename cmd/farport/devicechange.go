package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/credential"
)

type deviceUpdateOptions struct {
	deviceOptions
	enable, disable bool
}

func (o *deviceUpdateOptions) addFlags(flags *pflag.FlagSet) {
	o.deviceOptions.addFlags(flags)
	flags.BoolVar(&o.enable, "enable", false, "let the device connect")
	flags.BoolVar(&o.disable, "disable", false, "do not, and end its connection and streams now")
	exclusive(flags, "enable", "disable")
}

func newDeviceUpdate(a *app) *cobra.Command {
	var o deviceUpdateOptions
	cmd := &cobra.Command{
		Use:   "update ID",
		Short: "Enable or disable a device",
		Long: `Lets a device connect, or no longer. Disabling ends its connection and its streams
at once, and those of its modules.`,
		Example:           "  farport device update pi-1 --disable\n  farport device update pi-1 --enable",
		Args:              arguments("ID"),
		ValidArgsFunction: a.completeDevices,
		Annotations:       exitStatus(exitsOfOperator...),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runDeviceUpdate(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags())
	completeOutput(cmd)
	return cmd
}

func runDeviceUpdate(ctx context.Context, a *app, o deviceUpdateOptions) error {
	if o.enable == o.disable {
		return usage("say what to change: --enable or --disable")
	}
	if err := refuseStatus(o.id); err != nil {
		return err
	}
	return a.change(ctx, &o.deviceOptions, func(d *hubclient.Identity) (string, error) {
		d.Status = hubclient.StatusEnabled
		if o.disable {
			d.Status = hubclient.StatusDisabled
		}
		return string(d.Status), nil
	})
}

// change reads an identity, has it changed, and writes it unless somebody else has
// done so meanwhile. what says in a word what was done.
func (a *app) change(ctx context.Context, o *deviceOptions, with func(*hubclient.Identity) (what string, err error)) error {
	return a.operate(ctx, o, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		d, err := hub.GetDevice(ctx, o.id)
		if err != nil {
			return err
		}
		what, err := with(&d)
		if err != nil {
			return err
		}
		if d, err = hub.UpdateDevice(ctx, d, d.ETag); err != nil {
			return err
		}
		a.term.notice("%s: %s", named(o.id), what)
		return a.printDevice(*o, d)
	})
}

func newDeviceDelete(a *app) *cobra.Command {
	var o deviceOptions
	cmd := &cobra.Command{
		Use:   "delete ID",
		Short: "Remove a device or module",
		Long: `Removes an identity and ends its connection and its streams at once. Its keys are
gone for good, and so are a device's modules.`,
		Example:           "  farport device delete pi-1/ssh\n  farport device delete pi-1",
		Args:              arguments("ID"),
		ValidArgsFunction: a.completeDevices,
		Annotations:       exitStatus(exitsOfOperator...),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runDeviceDelete(cmd.Context(), a, o)
		},
	}
	o.credentialOptions.addFlags(cmd.Flags(), serviceVariables...)
	o.format = formatTable
	return cmd
}

func runDeviceDelete(ctx context.Context, a *app, o deviceOptions) error {
	return a.operate(ctx, &o, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		if err := hub.DeleteDevice(ctx, o.id, ""); err != nil {
			return err
		}
		a.term.notice("%s: deleted", named(o.id))
		return nil
	})
}

// deviceKeyOptions are those of commands about one of a device's keys.
type deviceKeyOptions struct {
	deviceOptions
	key string
}

func (o *deviceKeyOptions) addFlags(flags *pflag.FlagSet, key string) {
	o.deviceOptions.addFlags(flags)
	addKeyFlag(flags, &o.key, key)
}

func addKeyFlag(flags *pflag.FlagSet, key *string, value string) {
	flags.StringVar(key, "key", value, "which of the device's two keys: `primary|secondary`")
}

func newDeviceRenewKey(a *app) *cobra.Command {
	var o deviceKeyOptions
	cmd := &cobra.Command{
		Use:   "renew-key ID",
		Short: "Give a device or module a new key",
		Long: `Replaces one of an identity's two keys by a new one. A connection made with the old
key ends. With two keys a device need not go without: renew the one it does not
use, give it that one, then renew the other.`,
		Example: `  farport device renew-key pi-1 --key secondary
  farport device connection-string pi-1 --key secondary`,
		Args:              arguments("ID"),
		ValidArgsFunction: a.completeDevices,
		Annotations:       exitStatus(exitsOfOperator...),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runDeviceRenewKey(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags(), "")
	o.addShowKeys(cmd.Flags())
	completeOutput(cmd)
	return cmd
}

func runDeviceRenewKey(ctx context.Context, a *app, o deviceKeyOptions) error {
	if o.key == "" {
		return usage("say which key to renew: --key primary or --key secondary")
	}
	if err := oneOf("key", o.key, keyPrimary, keySecondary); err != nil {
		return err
	}
	return a.change(ctx, &o.deviceOptions, func(d *hubclient.Identity) (string, error) {
		if hasCertificate(*d) || d.Authentication == nil {
			return "", errNoKeys(o.id)
		}
		keys := &d.Authentication.SymmetricKey
		if o.key == keySecondary {
			keys.SecondaryKey = credential.NewKey().Reveal()
		} else {
			keys.PrimaryKey = credential.NewKey().Reveal()
		}
		return "new " + o.key + " key", nil
	})
}

// errNoKeys is for a device that signs in with a certificate.
func errNoKeys(id string) error {
	return &codedError{
		exitFailed, "one with --x509-ca just takes a new certificate of that CA; one with --x509-thumbprint has to be deleted and created anew",
		fmt.Errorf("%s has no keys: it signs in with a certificate", named(id)),
	}
}
