package main

import (
	"errors"
	"os"
	"runtime"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/profile"
)

// hubs are the stored hubs of this user. What others can write is refused, be it a file
// or the folder. The error is errNoConfig for a user without a home.
func (a *app) hubs() (profile.Store, error) {
	dir, err := configDir(a.lookup, runtime.GOOS)
	store := profile.Store{Dir: dir, Check: a.checkMode}
	if err != nil || runtime.GOOS == "windows" {
		return store, err
	}
	if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o022 != 0 {
		err := usage("the folder %s can be written by others (mode %#o)", dir, info.Mode().Perm())
		err.hint = "check what is in it, then: chmod 700 " + shellWord(dir)
		return store, err
	}
	return store, nil
}

// storedHub is the one that --hub names, or else the current one. It is nil when there
// is none, or when a connection string is given.
func (a *app) storedHub(o *credentialOptions) (*profile.Profile, error) {
	if !o.forService() || o.connectionString != "" || o.connectionStringFile != "" {
		return nil, nil
	}
	store, err := a.hubs()
	switch {
	case o.hub == "" && errors.Is(err, errNoConfig):
		return nil, nil // and so there is no current one
	case err != nil:
		return nil, err
	case o.hub == "":
		return currentHub(store)
	}
	p, err := store.Load(o.hub)
	if errors.Is(err, profile.ErrNotFound) {
		_, hint := judge(err, "")
		return nil, &codedError{exitUsage, hint, err}
	}
	return &p, err
}

func currentHub(store profile.Store) (*profile.Profile, error) {
	name, err := store.Current()
	if err != nil || name == "" {
		return nil, err
	}
	p, err := store.Load(name)
	if errors.Is(err, profile.ErrNotFound) {
		err = &codedError{exitFailed, `choose another one with "farport hub use NAME"`, errors.New("the current hub " + quote(name) + " is not stored any more")}
	}
	return &p, err
}

// openHub is a stored hub's connection string, its key fetched from where it is. It
// passes on the error of whoever found the hub.
func (a *app) openHub(p *profile.Profile, err error) (cs hubclient.ConnectionString, _ error) {
	if err != nil {
		return cs, err
	}
	var secret credential.Secret
	if p.Keyring != "" {
		if secret, err = readKeyring(*p); err != nil {
			return cs, err
		}
	}
	if cs, err = p.Parse(secret); err != nil {
		return cs, errors.New("hub " + quote(p.Name) + ": " + err.Error())
	}
	return cs, nil
}
