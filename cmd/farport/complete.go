package main

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
)

// completionWait bounds what a press of the tab key waits for a hub.
const completionWait = 2 * time.Second

// conventionalServices are the names that ssh, rdp and their proxies use. What else a
// device offers only its device-proxy knows.
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
	_ = cmd.RegisterFlagCompletionFunc("service", cobra.FixedCompletions(conventionalServices, cobra.ShellCompDirectiveNoFileComp))
}

// identitiesLike asks the hub that flags and variables name, nil when that fails.
func (a *app) identitiesLike(ctx context.Context, flags *pflag.FlagSet, begun string) []hubclient.Identity {
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
	defer hub.Close()
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
