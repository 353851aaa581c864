package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/farportio/farport/hubclient"
)

func newDeviceList(a *app) *cobra.Command {
	var o deviceOptions
	cmd := &cobra.Command{
		Use:   "list [ID]",
		Short: "List the devices, or the modules of one",
		Long: `Lists all devices, whether they may connect, whether they are connected, and when
they were seen last. With a device's ID, its modules.`,
		Example:           "  farport device list\n  farport device list -o json\n  farport device list pi-1",
		Args:              arguments("[ID]"),
		ValidArgsFunction: a.completeDevices,
		Annotations:       exitStatus(exitsOfOperator...),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = argument(args, 0)
			return runDeviceList(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags())
	o.addShowKeys(cmd.Flags())
	completeOutput(cmd)
	return cmd
}

func runDeviceList(ctx context.Context, a *app, o deviceOptions) error {
	if isModule(o.id) {
		return usage("%s is a module: only a device has modules", quote(o.id))
	}
	return a.operate(ctx, &o, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		var identities []hubclient.Identity
		var err error
		if o.id == "" {
			identities, err = hub.ListDevices(ctx)
		} else {
			identities, err = hub.ListModules(ctx, o.id)
		}
		if err != nil {
			return err
		}
		return a.printDevices(o, identities)
	})
}

func newDeviceShow(a *app) *cobra.Command {
	var o deviceOptions
	cmd := &cobra.Command{
		Use:               "show ID",
		Short:             "Show a device or module",
		Long:              `Prints an identity, the keys only with --show-keys, and the host keys that it reports.`,
		Example:           "  farport device show pi-1\n  farport device show pi-1 --show-keys -o json",
		Args:              arguments("ID"),
		ValidArgsFunction: a.completeDevices,
		Annotations:       exitStatus(exitsOfOperator...),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runDeviceShow(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags())
	o.addShowKeys(cmd.Flags())
	completeOutput(cmd)
	return cmd
}

func runDeviceShow(ctx context.Context, a *app, o deviceOptions) error {
	return a.operate(ctx, &o, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		d, err := hub.GetDevice(ctx, o.id)
		if err != nil {
			return err
		}
		if err := a.printDevice(o, d); err != nil || o.format == formatJSON {
			return err
		}
		return a.printReported(ctx, hub, o.id)
	})
}
