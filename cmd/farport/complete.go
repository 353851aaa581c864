package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
)

// completionWait bounds what a press of the tab key waits for a hub.
const completionWait = 2 * time.Second

// conventionalServices are the names that ssh, rdp and their proxies use, for a device that
// takes all names or does not report its own.
var conventionalServices = []string{"ssh", "rdp", defaultService}

// completeDevices offers a command's first argument: the hub's devices and, once a
// device and a slash are there, its modules. USER@ before it stays. Whatever fails, it
// offers nothing and says nothing.
func (a *app) completeDevices(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	user, begun := begun[:strings.LastIndexByte(begun, '@')+1], begun[strings.LastIndexByte(begun, '@')+1:]
	ctx, cancel := context.WithTimeout(cmd.Context(), completionWait)
	defer cancel()
	var offered []cobra.Completion
	for _, d := range a.identitiesLike(ctx, cmd.Flags(), begun) {
		if name := d.Name(); strings.HasPrefix(name, begun) && safeInShells(name) {
			offered = append(offered, cobra.CompletionWithDesc(user+name, connectionOf(d)))
		}
	}
	return offered, cobra.ShellCompDirectiveNoFileComp
}

// completeDeviceFlag teaches the shell the values of --device.
func (a *app) completeDeviceFlag(cmd *cobra.Command) {
	// It fails only for a flag that the command does not have.
	_ = cmd.RegisterFlagCompletionFunc("device", func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return a.completeDevices(cmd, nil, begun)
	})
}

// completeServices teaches the shell the values of --service.
func (a *app) completeServices(cmd *cobra.Command) {
	// It fails only for a flag that the command does not have.
	_ = cmd.RegisterFlagCompletionFunc("service", func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return a.servicesOf(cmd, args), cobra.ShellCompDirectiveNoFileComp
	})
}

// completeListen teaches the shell the SERVICE of --listen [ADDR:]PORT[=SERVICE].
func (a *app) completeListen(cmd *cobra.Command) {
	// It fails only for a flag that the command does not have.
	_ = cmd.RegisterFlagCompletionFunc("listen", func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		address, _, named := strings.Cut(begun, "=")
		if !named {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var offered []cobra.Completion
		for _, name := range a.servicesOf(cmd, args) {
			offered = append(offered, address+"="+name)
		}
		return offered, cobra.ShellCompDirectiveNoFileComp
	})
}

// servicesOf are those that the command's device has reported to the hub. Where it has not,
// or cannot be asked for, they are the conventional ones.
func (a *app) servicesOf(cmd *cobra.Command, args []string) []string {
	device := a.deviceOf(cmd, args)
	if !hubclient.ValidTarget(device) {
		return conventionalServices
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionWait)
	defer cancel()
	hub := a.silentService(cmd.Flags())
	if hub == nil {
		return conventionalServices
	}
	defer hub.Close()
	twin, err := hub.Twin(ctx, device)
	if err != nil {
		return conventionalServices
	}
	names := slices.DeleteFunc(hubclient.Services(twin), func(name string) bool { return !safeInShells(name) })
	if len(names) == 0 {
		return conventionalServices
	}
	return names
}

// deviceOf is the device that a command line names so far, "" for none: with --device or
// its variables, else as first argument, for ssh with USER@ before it.
func (a *app) deviceOf(cmd *cobra.Command, args []string) string {
	if f := cmd.Flags().Lookup("device"); f != nil {
		if f.Changed {
			return f.Value.String()
		}
		for _, name := range append([]string{variable(f.Name)}, f.Annotations[annotationAlso]...) {
			if value, _ := a.lookup(name); value != "" {
				return value
			}
		}
		return ""
	}
	device := argument(args, 0)
	if login := cmd.Flags().Lookup("login"); login != nil && !login.Changed {
		device = device[strings.LastIndexByte(device, '@')+1:]
	}
	return device
}

// silentService is a client for the hub that flags and variables name, which says nothing;
// nil when there is none. The caller closes it.
func (a *app) silentService(flags *pflag.FlagSet) *hubclient.Service {
	silent := *a
	silent.in, silent.term = strings.NewReader(""), newTerminal(io.Discard, io.Discard)
	o, err := silent.credentialsOf(flags)
	if err != nil {
		return nil
	}
	hub, _, err := silent.service(o, streamOptions{})
	if err != nil {
		return nil
	}
	return hub
}

// identitiesLike asks the hub that flags and variables name, nil when that fails.
func (a *app) identitiesLike(ctx context.Context, flags *pflag.FlagSet, begun string) []hubclient.Identity {
	hub := a.silentService(flags)
	if hub == nil {
		return nil
	}
	defer hub.Close()
	var err error
	var identities []hubclient.Identity
	if device, _, ok := strings.Cut(begun, "/"); ok {
		identities, err = hub.ListModules(ctx, device)
	} else {
		identities, err = hub.ListDevices(ctx)
	}
	if err != nil {
		return nil
	}
	return identities
}

// credentialsOf are the credentials that a command would use: it is not run while its
// arguments are completed, and so has not looked at its flags and variables yet.
func (a *app) credentialsOf(flags *pflag.FlagSet) (*credentialOptions, error) {
	var o credentialOptions
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.addFlags(own, serviceVariables...)
	var err error
	own.VisitAll(func(f *pflag.Flag) {
		if given := flags.Lookup(f.Name); err == nil && given != nil && given.Changed {
			err = own.Set(f.Name, given.Value.String())
		}
	})
	if err != nil {
		return nil, err
	}
	return &o, applyEnvironment(own, a.lookup)
}

// safeInShells reports whether every shell takes name for that word and nothing else.
// Other IDs are not offered: a shell puts the part that several have in common on the
// command line without quotes, and may run what is in it (docs/security.md, T19).
func safeInShells(name string) bool {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:+/"
	return name != "" && name[0] != '-' && strings.Trim(name, safe) == ""
}
