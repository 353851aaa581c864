package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
)

type deviceCreateOptions struct {
	deviceOptions
	authenticationOptions
	disabled bool
}

func (o *deviceCreateOptions) addFlags(flags *pflag.FlagSet) {
	o.deviceOptions.addFlags(flags)
	o.authenticationOptions.addFlags(flags)
	flags.BoolVar(&o.disabled, "disabled", false, "do not let the device connect yet")
}

func newDeviceCreate(a *app) *cobra.Command {
	var o deviceCreateOptions
	cmd := &cobra.Command{
		Use:   "create ID",
		Short: "Register a device, or a module of one",
		Long: `Registers a device and prints its identity with the two keys that the hub made. A
module is DEVICE/MODULE; its device has to exist.
An ID has up to 128 letters, digits and - . % _ # * ? ! ( ) , = @ $ ' : +, and is
case-sensitive. When the ID is taken nothing is changed.

Instead of with a key a device can sign in with a certificate: one of its own, which
the hub knows by its thumbprint, or one that names the device as its CN and is signed
by a CA that the hub knows ("farport ca add").`,
		Example: `  farport device create pi-1
  farport device create pi-1/ssh
  farport device create pi-2 --disabled -o json
  farport device create pi-3 --x509-thumbprint "$(openssl x509 -in pi-3.pem -noout -fingerprint -sha256 | cut -d= -f2)"`,
		Args:              arguments("ID"),
		ValidArgsFunction: cobra.NoFileCompletions,
		Annotations:       exitStatus(exitsOfOperator...),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runDeviceCreate(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags())
	completeOutput(cmd)
	return cmd
}

func runDeviceCreate(ctx context.Context, a *app, o deviceCreateOptions) error {
	authentication, err := o.authentication(a)
	if err != nil {
		return err
	}
	d := hubclient.Identity{Authentication: authentication}
	if d.DeviceID, d.ModuleID = hubclient.SplitTarget(o.id); d.Name() != o.id {
		return usage("%s: must be DEVICE or DEVICE/MODULE", quote(o.id))
	}
	if o.disabled {
		if err := refuseStatus(o.id); err != nil {
			return err
		}
		d.Status = hubclient.StatusDisabled
	}
	return a.operate(&o.deviceOptions, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		created, err := hub.CreateDevice(ctx, d)
		if err != nil {
			return err
		}
		o.showKeys = true
		if err := a.printDevice(o.deviceOptions, created); err != nil {
			return err
		}
		besides := ""
		if hasCertificate(created) {
			besides = " besides its certificate"
		}
		a.term.hint("%q prints what it needs to connect%s", "farport device connection-string "+o.id, besides)
		return nil
	})
}
