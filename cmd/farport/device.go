package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
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
	cmd.Long = `Manages the hub's identity registry: who may connect, and with which keys or
certificate.

A device may have modules: identities of their own, written DEVICE/MODULE, each with
a connection of its own. They let several programs on one device connect at once,
such as a proxy beside the client that sends telemetry.

The connection string comes from a flag, a variable or a file, from a stored hub
("farport hub"), or on the hub's own machine from the hub's data dir.`
	cmd.Example = `  farport device create pi-1
  farport device connection-string pi-1
  farport device list
  farport device create pi-1/ssh`
	cmd.AddCommand(
		newDeviceCreate(a), newDeviceList(a), newDeviceShow(a), newDeviceUpdate(a),
		newDeviceDelete(a), newDeviceRenewKey(a), newDeviceConnectionString(a), newDeviceHostKeys(a),
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

// isModule reports whether an identity's name is DEVICE/MODULE.
func isModule(name string) bool { return strings.Contains(name, "/") }

// named says what an identity is and its name, as hubclient does.
func named(name string) string {
	if isModule(name) {
		return "module " + quote(name)
	}
	return "device " + quote(name)
}

// refuseStatus is for what only a device has.
func refuseStatus(name string) error {
	if !isModule(name) {
		return nil
	}
	device, _ := hubclient.SplitTarget(name)
	err := usage("%s has no status of its own, but its device's", named(name))
	err.hint = `"farport device update ` + shellWord(device) + ` --disable" disables the device with all its modules`
	return err
}

// operate runs do with a client for the hub.
func (a *app) operate(ctx context.Context, o *deviceOptions, do func(*hubclient.Service, hubclient.ConnectionString) error) error {
	if err := oneOf("output", o.format, formatTable, formatJSON); err != nil {
		return err
	}
	hub, cs, err := a.service(&o.credentialOptions, streamOptions{})
	if err != nil {
		return err
	}
	defer hub.Close()
	defer a.asking(ctx, cs)()
	return do(hub, cs)
}
