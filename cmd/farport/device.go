package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/credential"
)

// An identity's two keys, as --key names them.
const (
	keyPrimary   = "primary"
	keySecondary = "secondary"
)

// exitsOfOperator are the exit codes of commands that make calls about devices.
var exitsOfOperator = []int{exitUsage, exitUnauthorized, exitDevice, exitTimeout, exitHub}

func newDevice(a *app) *cobra.Command {
	cmd := group("device", "Manage the devices that the hub knows")
	cmd.Long = `Manages the hub's identity registry: who may connect, and with which keys.

The connection string comes from a flag, a variable or a file; on the hub's own
machine, from the hub's data dir.`
	cmd.Example = `  farport device create pi-1
  farport device connection-string pi-1
  farport device list`
	cmd.AddCommand(
		newDeviceCreate(a), newDeviceList(a), newDeviceShow(a), newDeviceUpdate(a),
		newDeviceDelete(a), newDeviceRenewKey(a), newDeviceConnectionString(a),
	)
	return cmd
}

// deviceOptions are what all commands about devices have.
type deviceOptions struct {
	credentialOptions
	outputOptions
	id       string
	showKeys bool
}

func (o *deviceOptions) addFlags(flags *pflag.FlagSet) {
	o.credentialOptions.addFlags(flags, serviceVariables...)
	o.outputOptions.addFlags(flags, formatTable)
}

func (o *deviceOptions) addShowKeys(flags *pflag.FlagSet) {
	flags.BoolVar(&o.showKeys, "show-keys", false, "print the keys too")
}

// operate runs do with a client for the hub.
func (a *app) operate(o *deviceOptions, do func(*hubclient.Service, hubclient.ConnectionString) error) error {
	if err := oneOf("output", o.format, formatTable, formatJSON); err != nil {
		return err
	}
	hub, cs, err := a.service(&o.credentialOptions, nil)
	if err != nil {
		return err
	}
	defer hub.Close()
	return do(hub, cs)
}

type deviceCreateOptions struct {
	deviceOptions
	primaryKey, secondaryKey string
	disabled                 bool
}

func (o *deviceCreateOptions) addFlags(flags *pflag.FlagSet) {
	o.deviceOptions.addFlags(flags)
	flags.StringVar(&o.primaryKey, "primary-key", "", "`KEY` in base64, 16 to 64 bytes, instead of a new one")
	flags.StringVar(&o.secondaryKey, "secondary-key", "", "likewise, the second `KEY`")
	flags.BoolVar(&o.disabled, "disabled", false, "do not let the device connect yet")
}

func newDeviceCreate(a *app) *cobra.Command {
	var o deviceCreateOptions
	cmd := &cobra.Command{
		Use:   "create ID",
		Short: "Register a device",
		Long: `Registers a device and prints its identity with the two keys that the hub made.
An ID has up to 128 letters, digits and - . % _ # * ? ! ( ) , = @ $ ' : +, and is
case-sensitive. When the ID is taken nothing is changed.`,
		Example: `  farport device create pi-1
  farport device create pi-1 --disabled -o json`,
		Args:        arguments("ID"),
		Annotations: exitStatus(exitsOfOperator...),
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
	primary, err := parseKey("primary-key", o.primaryKey)
	if err != nil {
		return err
	}
	secondary, err := parseKey("secondary-key", o.secondaryKey)
	if err != nil {
		return err
	}
	d := hubclient.Identity{DeviceID: o.id}
	if o.disabled {
		d.Status = hubclient.StatusDisabled
	}
	if !primary.IsZero() || !secondary.IsZero() {
		for _, flag := range []string{"primary-key", "secondary-key"} {
			if o.flags.Changed(flag) && setBy(o.flags, flag) == "" {
				a.warnVisible(flag)
			}
		}
		d.Authentication = symmetric(primary, secondary)
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
		a.term.hint("%q prints what the device needs to connect", "farport device connection-string "+o.id)
		return nil
	})
}

// symmetric are keys to sign in with; the hub makes those that are not given.
func symmetric(primary, secondary credential.Key) *hubclient.Authentication {
	text := func(k credential.Key) string {
		if k.IsZero() {
			return ""
		}
		return k.Reveal()
	}
	return &hubclient.Authentication{
		Type:         hubclient.AuthSAS,
		SymmetricKey: hubclient.SymmetricKey{PrimaryKey: text(primary), SecondaryKey: text(secondary)},
	}
}

func newDeviceList(a *app) *cobra.Command {
	var o deviceOptions
	cmd := &cobra.Command{
		Use:         "list",
		Short:       "List the devices",
		Long:        `Lists all devices, whether they may connect, whether they are connected, and when they were seen last.`,
		Example:     "  farport device list\n  farport device list -o json",
		Args:        arguments(),
		Annotations: exitStatus(exitUsage, exitUnauthorized, exitTimeout, exitHub),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runDeviceList(cmd.Context(), a, o) },
	}
	o.addFlags(cmd.Flags())
	o.addShowKeys(cmd.Flags())
	completeOutput(cmd)
	return cmd
}

func runDeviceList(ctx context.Context, a *app, o deviceOptions) error {
	return a.operate(&o, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		devices, err := hub.ListDevices(ctx)
		if err != nil {
			return err
		}
		return a.printDevices(o, devices)
	})
}

func newDeviceShow(a *app) *cobra.Command {
	var o deviceOptions
	cmd := &cobra.Command{
		Use:         "show ID",
		Short:       "Show a device",
		Long:        `Prints a device's identity, the keys only with --show-keys.`,
		Example:     "  farport device show pi-1\n  farport device show pi-1 --show-keys -o json",
		Args:        arguments("ID"),
		Annotations: exitStatus(exitsOfOperator...),
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
	return a.operate(&o, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		d, err := hub.GetDevice(ctx, o.id)
		if err != nil {
			return err
		}
		return a.printDevice(o, d)
	})
}

// printDevice prints one identity.
func (a *app) printDevice(o deviceOptions, d hubclient.Identity) error {
	if !o.showKeys {
		d = withoutKeys(d)
	}
	return a.term.result(o.outputOptions, d, func() error { return a.tableOf(o, []hubclient.Identity{d}) })
}

func (a *app) printDevices(o deviceOptions, devices []hubclient.Identity) error {
	shown := make([]hubclient.Identity, len(devices)) // never null in JSON
	for i, d := range devices {
		if !o.showKeys {
			d = withoutKeys(d)
		}
		shown[i] = d
	}
	return a.term.result(o.outputOptions, shown, func() error { return a.tableOf(o, shown) })
}

func (a *app) tableOf(o deviceOptions, devices []hubclient.Identity) error {
	header := []string{"DEVICE", "STATUS", "STATE", "LAST SEEN"}
	if o.showKeys {
		header = append(header, "PRIMARY KEY", "SECONDARY KEY")
	}
	var rows [][]string
	for _, d := range devices {
		state, seen := "offline", formatAgo(d.LastActivityTime.Time, time.Now())
		if d.ConnectionState == hubclient.Connected {
			state, seen = "connected", "now"
		}
		row := []string{d.DeviceID, string(d.Status), state, seen}
		if o.showKeys {
			row = append(row, keyOf(d, keyPrimary), keyOf(d, keySecondary))
		}
		rows = append(rows, row)
	}
	return a.term.table(header, rows)
}

// withoutKeys is d as it may be printed.
func withoutKeys(d hubclient.Identity) hubclient.Identity {
	if d.Authentication != nil {
		authentication := *d.Authentication
		authentication.SymmetricKey.PrimaryKey = ""
		authentication.SymmetricKey.SecondaryKey = ""
		d.Authentication = &authentication
	}
	return d
}

// keyOf is a key of d as base64 text, "" when it has none.
func keyOf(d hubclient.Identity, which string) string {
	switch {
	case d.Authentication == nil:
		return ""
	case which == keySecondary:
		return d.Authentication.SymmetricKey.SecondaryKey
	}
	return d.Authentication.SymmetricKey.PrimaryKey
}
