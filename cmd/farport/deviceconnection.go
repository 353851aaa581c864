package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/credential"
)

func newDeviceConnectionString(a *app) *cobra.Command {
	var o deviceKeyOptions
	cmd := &cobra.Command{
		Use:   "connection-string ID",
		Short: "Print what a device needs to connect",
		Long: `Prints a device's or module's connection string and nothing else: the hub's name, the
ID and key and, for a hub with a private CA, that CA's fingerprint. It is all that
the device needs; treat it like a password.

That of a device with a certificate says x509=true instead and is no secret; the
device-proxy gets the certificate with --cert and --key.`,
		Example: `  farport device connection-string pi-1
  farport device connection-string pi-1 | ssh pi@pi-1.lan 'umask 077; cat >farport.conn'`,
		Args:              arguments("ID"),
		ValidArgsFunction: a.completeDevices,
		Annotations:       exitStatus(exitsOfOperator...),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runDeviceConnectionString(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags(), keyPrimary)
	completeOutput(cmd)
	return cmd
}

func runDeviceConnectionString(ctx context.Context, a *app, o deviceKeyOptions) error {
	if err := oneOf("key", o.key, keyPrimary, keySecondary); err != nil {
		return err
	}
	return a.operate(ctx, &o.deviceOptions, func(hub *hubclient.Service, cs hubclient.ConnectionString) error {
		cs, err := stringOfDevice(ctx, hub, cs, o.id, o.key)
		if err != nil {
			return err
		}
		result := map[string]string{"connectionString": cs.Reveal()}
		return a.term.result(o.outputOptions, result, func() error {
			a.term.println(cs.Reveal())
			return nil
		})
	})
}

// stringOfDevice makes an identity's connection string from the operator's.
func stringOfDevice(ctx context.Context, hub *hubclient.Service, operator hubclient.ConnectionString, id, key string) (hubclient.ConnectionString, error) {
	d, err := hub.GetDevice(ctx, id)
	if err != nil {
		return hubclient.ConnectionString{}, err
	}
	return stringOf(d, operator, key)
}

// stringOf is stringOfDevice for an identity that is known.
func stringOf(d hubclient.Identity, operator hubclient.ConnectionString, key string) (cs hubclient.ConnectionString, err error) {
	cs = hubclient.ConnectionString{
		HostName:        operator.HostName,
		Port:            operator.Port,
		GatewayHostName: operator.GatewayHostName,
		DeviceID:        d.DeviceID,
		ModuleID:        d.ModuleID,
		X509:            hasCertificate(d),
		CAFingerprint:   operator.CAFingerprint,
	}
	if cs.X509 {
		return cs, nil
	}
	if cs.SharedAccessKey, err = credential.ParseKey(keyOf(d, key)); err != nil {
		return cs, fmt.Errorf("%s: %w", named(d.Name()), err)
	}
	return cs, nil
}
