package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hostkey"
)

// memory is where this user's approved host keys are.
func (a *app) memory() (hostkey.Memory, error) {
	dir, err := defaultStateDir(a.lookup, runtime.GOOS)
	return hostkey.Memory{Dir: filepath.Join(dir, "host-keys")}, err
}

// reportedHostKeys are those of a device's twin, nil for none.
func reportedHostKeys(ctx context.Context, hub *hubclient.Service, id string) (hostkey.Set, error) {
	twin, err := hub.Twin(ctx, id)
	if err != nil {
		return nil, err
	}
	return hostKeysOf(id, twin)
}

func hostKeysOf(id string, twin hubclient.Twin) (hostkey.Set, error) {
	keys, err := hostkey.Parse(hubclient.HostKeys(twin))
	if err != nil {
		return nil, fmt.Errorf("host keys that %s reports: %w", named(id), err)
	}
	return keys, nil
}

// askHostKeys returns the keys that a service's server may have, none if nobody has said
// anything. Only those of the service "ssh" are known.
func (a *app) askHostKeys(ctx context.Context, o *credentialOptions, id, service string) (hostkey.Set, error) {
	hub, cs, err := a.service(o, streamOptions{})
	if err != nil {
		return nil, err
	}
	defer hub.Close()
	if service != serviceSSH {
		return nil, nil
	}
	done := a.asking(ctx, cs)
	reported, err := reportedHostKeys(ctx, hub, id)
	done()
	if err != nil {
		return nil, err
	}
	return a.trusted(cs, id, reported)
}

// trusted holds what a device reports against what was approved. What is seen first is
// approved by that.
func (a *app) trusted(cs hubclient.ConnectionString, id string, reported hostkey.Set) (hostkey.Set, error) {
	memory, err := a.memory()
	if err != nil {
		return nil, err
	}
	approved, found, err := memory.Load(cs.Address(), id)
	switch {
	case err != nil:
		return nil, err
	case !found && len(reported) == 0:
		return nil, nil
	case !found:
		if err := memory.Save(cs.Address(), id, reported); err != nil {
			a.term.warn("host keys of %s cannot be remembered, so that a change would not be noticed: %v", named(id), err)
		}
		return reported, nil
	}
	if len(reported) == 0 {
		a.term.warn("%s reports no host keys any more; those approved before count", named(id))
	}
	keys, err := hostkey.Check(approved, reported)
	if err != nil {
		return nil, &codedError{exitFailed, hintChanged(id), fmt.Errorf("%s on %s: %w", named(id), strings.TrimSuffix(cs.Address(), ":443"), err)}
	}
	return keys, nil
}

// hintChanged says what to do about a host key that is not the one it was.
func hintChanged(id string) string {
	return `somebody may be posing as the device; if it is known why its keys are new, "farport device host-keys ` + hostKeysArgument(id) + `" approves them`
}

func hostKeysArgument(id string) string { return "--approve -- " + shellWord(id) }

// unknownHostKeys says that the hub is of no help.
func unknownHostKeys(id string) string {
	return named(id) + " reports no host keys to the hub; ssh goes by its own known_hosts"
}
