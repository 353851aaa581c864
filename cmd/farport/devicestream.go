package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/farportio/farport/hubclient"
)

func newDeviceStream(a *app) *cobra.Command {
	cmd := group("devicestream", "Show the hub's streaming endpoints")
	cmd.Long = `What "az iot hub devicestream" does for an Azure hub.`
	cmd.Example = "  farport devicestream show"
	cmd.AddCommand(newDeviceStreamShow(a))
	return cmd
}

func newDeviceStreamShow(a *app) *cobra.Command {
	var o deviceOptions
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the hub's streaming endpoints",
		Long: `Prints where the two ends of a stream meet, as JSON of the same form as "az iot hub
devicestream show". Only a farport hub can tell.`,
		Example:     "  farport devicestream show",
		Args:        arguments(),
		Annotations: exitStatus(exitUsage, exitUnauthorized, exitTimeout, exitHub),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runDeviceStreamShow(cmd.Context(), a, o) },
	}
	o.credentialOptions.addFlags(cmd.Flags(), serviceVariables...)
	o.outputOptions.addFlags(cmd.Flags(), formatJSON)
	completeOutput(cmd)
	return cmd
}

func runDeviceStreamShow(ctx context.Context, a *app, o deviceOptions) error {
	return a.operate(ctx, &o, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		endpoints, err := hub.StreamingEndpoints(ctx)
		if err != nil {
			return err
		}
		return a.term.result(o.outputOptions, map[string][]string{"streamingEndpoints": endpoints}, func() error {
			var rows [][]string
			for _, e := range endpoints {
				rows = append(rows, []string{e})
			}
			return a.term.table([]string{"STREAMING ENDPOINT"}, rows)
		})
	})
}
