package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hostkey"
)

type deviceHostKeysOptions struct {
	deviceOptions
	approve bool
}

func newDeviceHostKeys(a *app) *cobra.Command {
	var o deviceHostKeysOptions
	cmd := &cobra.Command{
		Use:   "host-keys ID",
		Short: "Show the SSH host keys of a device, and approve changed ones",
		Long: `Shows the public host keys that a device reports, with their fingerprints as
"ssh-keygen -l" prints them, and whether this user has approved them: what is seen
first is approved by that, and "farport ssh" and ssh with "farport ssh-config" refuse
others. --approve takes the reported ones, and no others, from now on.

Compare the fingerprints with those on the device before you approve.`,
		Example:           "  farport device host-keys pi-1\n  farport device host-keys pi-1 --approve",
		ValidArgsFunction: a.completeDevices,
		Args:              arguments("ID"),
		Annotations:       exitStatus(exitsOfOperator...),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			return runDeviceHostKeys(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.approve, "approve", false, "from now on these are the device's keys")
	completeOutput(cmd)
	return cmd
}

// The states of a host key.
const (
	keyApproved = "approved"
	keyNew      = "not approved"
	keyGone     = "approved, no longer reported"
)

// shownKey is a host key as it is printed.
type shownKey struct {
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
	Key         string `json:"key"` // base64
	State       string `json:"state"`
}

func runDeviceHostKeys(ctx context.Context, a *app, o deviceHostKeysOptions) error {
	return a.operate(ctx, &o.deviceOptions, func(hub *hubclient.Service, cs hubclient.ConnectionString) error {
		reported, err := reportedHostKeys(ctx, hub, o.id)
		if err != nil {
			return err
		}
		memory, err := a.memory()
		if err != nil {
			return err
		}
		if o.approve {
			if len(reported) == 0 {
				return &codedError{
					exitFailed, "its device-proxy may be of another make, not be connected, or run with --no-host-keys",
					fmt.Errorf("%s: %w", named(o.id), errors.New("it reports no host keys that could be approved")),
				}
			}
			if err := memory.Save(cs.Address(), o.id, reported); err != nil {
				return err
			}
		}
		approved, _, err := memory.Load(cs.Address(), o.id)
		if err != nil {
			return err
		}
		return a.printHostKeys(o, reported, approved)
	})
}

func (a *app) printHostKeys(o deviceHostKeysOptions, reported, approved hostkey.Set) error {
	shown := []shownKey{} // never null in JSON
	add := func(keys hostkey.Set, state func(hostkey.Key) string) {
		for _, k := range keys {
			shown = append(shown, shownKey{k.Type, k.Fingerprint(), k.Blob, state(k)})
		}
	}
	add(reported, func(k hostkey.Key) string {
		if slices.Contains(approved, k) {
			return keyApproved
		}
		return keyNew
	})
	add(approved.Without(reported), func(hostkey.Key) string { return keyGone })
	return a.term.result(o.outputOptions, shown, func() error {
		if len(shown) == 0 {
			a.term.notice("%s reports no host keys", named(o.id))
			return nil
		}
		rows := make([][]string, len(shown))
		for i, k := range shown {
			rows[i] = []string{k.Type, k.Fingerprint, k.State}
		}
		return a.term.table([]string{"HOST KEY", "FINGERPRINT", "STATE"}, rows)
	})
}

// printReported adds a device's host keys to what is shown of it. Who may not read twins
// is not shown any.
func (a *app) printReported(ctx context.Context, hub *hubclient.Service, id string) error {
	twin, err := hub.Twin(ctx, id)
	switch {
	case errors.Is(err, hubclient.ErrUnauthorized):
		return nil
	case err != nil:
		return err
	}
	keys, err := hostKeysOf(id, twin)
	if err != nil { // what a device reports does not keep it from being shown
		a.term.warn("%v", err)
	}
	if len(keys) == 0 {
		return nil
	}
	a.term.println("")
	rows := make([][]string, len(keys))
	for i, k := range keys {
		rows[i] = []string{k.Type, k.Fingerprint()}
	}
	return a.term.table([]string{"HOST KEY", "FINGERPRINT"}, rows)
}
