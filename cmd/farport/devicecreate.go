package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
)

type deviceCreateOptions struct {
	deviceOptions
	authenticationOptions
	disabled bool
	install  string // the shell that the line is for, "" for none
}

// flagInstallCommand asks for the line that makes a device of another machine.
const flagInstallCommand = "install-command"

// The values of --install-command.
const (
	shellPOSIX      = "sh"
	shellPowerShell = "powershell"
)

func (o *deviceCreateOptions) addFlags(flags *pflag.FlagSet) {
	o.deviceOptions.addFlags(flags)
	o.authenticationOptions.addFlags(flags)
	flags.BoolVar(&o.disabled, "disabled", false, "do not let the device connect yet")
	flags.StringVar(&o.install, flagInstallCommand, "", "print only the line to paste on the device, for `sh|powershell`; it holds the key")
	flags.Lookup(flagInstallCommand).NoOptDefVal = shellPOSIX
	exclusive(flags, flagInstallCommand, "output")
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
by a CA that the hub knows ("farport ca add").

--install-command prints one line and nothing else: pasted in a shell on the device,
or in an administrator's PowerShell (--install-command=powershell), it makes the
device-proxy there a service of the system. The line holds the key. It begins with a
space, with which most shells do not keep it in their history.`,
		Example: `  farport device create pi-1
  farport device create pi-1/ssh
  farport device create pi-2 --disabled -o json
  farport device create pi-4 --install-command
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
	if o.install != "" {
		if err := oneOf(flagInstallCommand, o.install, shellPOSIX, shellPowerShell); err != nil {
			return err
		}
		if hasCertificate(d) {
			return usage("--%s is for devices with a key: the line cannot hold a certificate", flagInstallCommand)
		}
	}
	return a.operate(ctx, &o.deviceOptions, func(hub *hubclient.Service, operator hubclient.ConnectionString) error {
		created, err := hub.CreateDevice(ctx, d)
		if err != nil {
			return err
		}
		if o.install != "" {
			cs, err := stringOf(created, operator, keyPrimary)
			if err == nil {
				a.term.println(installCommand(o.install, cs.Reveal()))
			}
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
		a.term.hint(`"farport device connection-string %s" prints what it needs to connect%s`, shellArgument(o.id), besides)
		return nil
	})
}

// installCommand is the line that makes a service on the device. The connection string
// goes through a pipe from a word of the shell itself: no process has it as an argument.
func installCommand(shell, text string) string {
	const install = "farport device-proxy install --connection-string-file -"
	if shell == shellPowerShell {
		return " '" + strings.ReplaceAll(text, "'", "''") + "' | " + install
	}
	return " printf '%s\\n' '" + strings.ReplaceAll(text, "'", `'\''`) + "' | sudo " + install
}
