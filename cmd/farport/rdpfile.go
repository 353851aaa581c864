package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/farportio/farport/internal/atomicfile"
	"github.com/farportio/farport/internal/rdp"
)

type rdpFileOptions struct {
	rdpTarget
	port int
	file string
}

func newRDPFile(a *app) *cobra.Command {
	var o rdpFileOptions
	cmd := &cobra.Command{
		Use:   "file DEVICE",
		Short: "Write a .rdp file for a device",
		Long: `Prints a .rdp file that connects to a forward on this machine, or writes it with
--file; an older file is replaced. Nothing is asked of the hub, and no password is in
it.

The file names a port of 127.0.0.1: that of --port, else the one that "farport rdp
connect" prefers for the device. It works while a forward listens there; the command
that makes it is said on standard error.`,
		Example: `  farport rdp file kiosk-7 > kiosk-7.rdp
  farport rdp file kiosk-7 -u admin --port 13389 --file kiosk-7.rdp
  farport service-proxy -d kiosk-7 -L 13389=rdp`,
		ValidArgsFunction: a.completeDevices,
		Args:              arguments("DEVICE"),
		Annotations:       exitStatus(exitUsage),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device = args[0]
			if err := o.check(cmd.Flags()); err != nil {
				return err
			}
			switch {
			case !cmd.Flags().Changed("port"):
				o.port = rdp.Port(o.device, o.service)
			case o.port < 1 || o.port > 65535:
				return usage("--port %d: must be 1 to 65535", o.port)
			}
			return runRDPFile(a, o)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().IntVar(&o.port, "port", 0, "local `PORT` of the forward (default: the device's own, from 20000 to 29999)")
	cmd.Flags().StringVar(&o.file, "file", standardInput, "write to `FILE`; - is standard output")
	a.completeServices(cmd)
	return cmd
}

func runRDPFile(a *app, o rdpFileOptions) error {
	text := rdp.File(rdp.Connection{Address: rdp.Address(o.port), User: o.user})
	if o.file == standardInput {
		if _, err := a.term.out.Write(text); err != nil {
			return fmt.Errorf("write the .rdp file: %w", err)
		}
	} else if err := atomicfile.Write(o.file, text, 0o600); err != nil {
		return err
	}
	a.term.hint("it works while this runs: %s", o.forward(o.port))
	return nil
}
