package main

import (
	"errors"
	"net"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/profile"
)

// Where a stored hub's key is.
const (
	keptInFile    = "file"
	keptInKeyring = "keyring"
)

// httpsPort is not shown.
const httpsPort = 443

func newHub(a *app) *cobra.Command {
	cmd := group("hub", "Store hubs by name, so that commands need no flags")
	cmd.Long = `Stores connection strings by names of your own. Commands that talk to a hub use the
current one, or that of --hub NAME. A connection string that is given by a flag or a
variable wins over all of them; where nothing is stored, the hub on this machine is
used, if there is one.

They are in files of mode 0600 in $XDG_CONFIG_HOME/farport (~/.config/farport), or, with
"hub add --keyring", their keys are in the system's keyring.`
	cmd.Example = `  farport hub add work --connection-string-file service.conn
  farport hub list
  farport hub use work
  farport device list --hub customer-1`
	cmd.AddCommand(newHubAdd(a), newHubList(a), newHubUse(a), newHubRemove(a))
	return cmd
}

func newHubList(a *app) *cobra.Command {
	var o outputOptions
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the stored hubs",
		Long: `Lists the stored hubs: which one is current, where they are, the policy or device that
each signs in as, and whether its key is in a file or in the system's keyring. Keys
are not shown.`,
		Example:     "  farport hub list\n  farport hub list -o json",
		Args:        arguments(),
		Annotations: exitStatus(exitUsage),
		RunE:        func(*cobra.Command, []string) error { return runHubList(a, o) },
	}
	o.addFlags(cmd.Flags(), formatTable)
	completeOutput(cmd)
	return cmd
}

// shownHub is a stored hub as it may be printed.
type shownHub struct {
	Name     string `json:"name"`
	HostName string `json:"hostName"` // with its port, unless that is 443
	Policy   string `json:"policy,omitempty"`
	DeviceID string `json:"deviceId,omitempty"` // a module's is DEVICE/MODULE
	KeptIn   string `json:"keptIn"`
	File     string `json:"file"`
	Current  bool   `json:"current"`
}

func runHubList(a *app, o outputOptions) error {
	store, err := a.hubs()
	if err != nil {
		return err
	}
	names, err := store.Names()
	if err != nil {
		return err
	}
	current, err := store.Current()
	if err != nil {
		return err
	}
	shown := make([]shownHub, 0, len(names)) // never null in JSON
	for _, name := range names {
		h, err := showHub(store, name)
		if err != nil {
			a.term.warn("%v", err)
			continue
		}
		h.Current = name == current
		shown = append(shown, h)
	}
	return a.term.result(o, shown, func() error {
		if len(shown) == 0 {
			a.term.hint(`no hub is stored; "farport hub add NAME" stores one`)
		}
		var rows [][]string
		for _, h := range shown {
			mark := ""
			if h.Current {
				mark = "*"
			}
			rows = append(rows, []string{mark, h.Name, h.HostName, h.signsInAs(), h.KeptIn})
		}
		return a.term.table([]string{"CURRENT", "NAME", "HOST", "SIGNS IN AS", "KEPT IN"}, rows)
	})
}

func showHub(store profile.Store, name string) (shownHub, error) {
	p, err := store.Load(name)
	if err != nil {
		return shownHub{}, err
	}
	cs, err := p.Parse("")
	if err != nil {
		return shownHub{}, err
	}
	h := shownHub{Name: name, HostName: hostOf(cs), Policy: cs.SharedAccessKeyName, KeptIn: keptInFile, File: store.Path(name)}
	if cs.IsDevice() {
		h.DeviceID = hubclient.Target(cs)
	}
	if p.Keyring != "" {
		h.KeptIn = keptInKeyring
	}
	return h, nil
}

func hostOf(cs hubclient.ConnectionString) string {
	if cs.Port == httpsPort {
		return cs.HostName
	}
	return net.JoinHostPort(cs.HostName, strconv.Itoa(cs.Port))
}

func (h shownHub) signsInAs() string {
	switch {
	case h.DeviceID != "":
		return named(h.DeviceID)
	case h.Policy != "":
		return "policy " + h.Policy
	}
	return "SAS token"
}

func newHubUse(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "use NAME",
		Short:             "Make a stored hub the current one",
		Long:              `Makes a stored hub the one that commands use from now on, unless told otherwise.`,
		Example:           "  farport hub use work",
		Args:              arguments("NAME"),
		ValidArgsFunction: a.completeHubs,
		Annotations:       exitStatus(exitUsage),
		RunE:              func(_ *cobra.Command, args []string) error { return runHubUse(a, args[0]) },
	}
}

func runHubUse(a *app, name string) error {
	store, err := a.hubs()
	if err != nil {
		return err
	}
	if err := store.Use(name); err != nil {
		return err
	}
	a.term.notice("hub %s is the current one", quote(name))
	return nil
}

// completeHubs tells the shell the stored hubs' names.
func (a *app) completeHubs(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	store, err := a.hubs()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, _ := store.Names() // without them there is nothing to tell
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeHubFlags teaches the shell the values of every --hub.
func (a *app) completeHubFlags(cmd *cobra.Command) {
	if cmd.Flags().Lookup(flagHub) != nil {
		// It fails only for a flag that the command does not have.
		_ = cmd.RegisterFlagCompletionFunc(flagHub, func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
			return a.completeHubs(cmd, nil, begun)
		})
	}
	for _, sub := range cmd.Commands() {
		a.completeHubFlags(sub)
	}
}

type hubRemoveOptions struct{ force bool }

func (o *hubRemoveOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.force, "force", false, "remove the hub even if its file is damaged, or its key cannot be removed from the system's keyring")
}

func newHubRemove(a *app) *cobra.Command {
	var o hubRemoveOptions
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a stored hub",
		Long: `Removes a stored hub, its key too. The hub itself is not asked anything; a key that
others may have seen has to be replaced there.`,
		Example:           "  farport hub remove work",
		Args:              arguments("NAME"),
		ValidArgsFunction: a.completeHubs,
		Annotations:       exitStatus(exitUsage),
		RunE:              func(cmd *cobra.Command, args []string) error { return runHubRemove(a, o, args[0]) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func runHubRemove(a *app, o hubRemoveOptions, name string) error {
	store, err := a.hubs()
	if err != nil {
		return err
	}
	p, err := store.Load(name)
	if err != nil && !(o.force && errors.Is(err, profile.ErrDamaged)) {
		return err
	}
	if err := removeKeyring(p); err != nil {
		if !o.force {
			return err
		}
		a.term.warn("%v", err)
	}
	wasCurrent, err := store.Remove(name)
	if err != nil {
		return err
	}
	if wasCurrent {
		a.term.notice("hub %s is removed; it was the current one, and now none is", quote(name))
		a.term.hint(`"farport hub use NAME" makes another one the current one`)
		return nil
	}
	a.term.notice("hub %s is removed", quote(name))
	return nil
}
