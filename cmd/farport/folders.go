package main

import (
	"errors"
	"path/filepath"
)

// userFolder is a kind of place for a user's files: the XDG Base Directory specification's
// variable and its default below the home folder, and Windows' variable. macOS has one
// place for all kinds.
type userFolder struct{ xdg, home, windows string }

var (
	dataFolder   = userFolder{"XDG_DATA_HOME", ".local/share", "LocalAppData"}
	configFolder = userFolder{"XDG_CONFIG_HOME", ".config", "AppData"}
	stateFolder  = userFolder{"XDG_STATE_HOME", ".local/state", "LocalAppData"}
)

// folderName is the folder's name in all of them.
const folderName = "farport"

// xdgDir is what the specification's variable says, "" for nothing. Paths that are not
// absolute are to be ignored, it says.
func (f userFolder) xdgDir(env lookup) string {
	if dir, _ := env(f.xdg); filepath.IsAbs(dir) {
		return filepath.Join(dir, folderName)
	}
	return ""
}

// dir is farport's folder of that kind; found is false for a user without a home.
func (f userFolder) dir(env lookup, goos string) (dir string, found bool) {
	if goos == "windows" {
		dir, _ := env(f.windows)
		return filepath.Join(dir, folderName), dir != ""
	}
	if dir := f.xdgDir(env); dir != "" {
		return dir, true
	}
	home, _ := env("HOME")
	if goos == "darwin" {
		return filepath.Join(home, "Library", "Application Support", folderName), home != ""
	}
	return filepath.Join(home, filepath.FromSlash(f.home), folderName), home != ""
}

// defaultDataDir is the platform's place for a program's data: the machine's for
// root, the user's otherwise.
func defaultDataDir(env lookup, goos string, root bool) (string, error) {
	if root && goos != "windows" && dataFolder.xdgDir(env) == "" {
		if goos == "darwin" {
			return filepath.Join("/Library/Application Support", folderName), nil
		}
		return filepath.Join("/var/lib", folderName), nil
	}
	return orNoHome(dataFolder, env, goos, errNoHome)
}

// configDir is the platform's place for what a user has chosen.
func configDir(env lookup, goos string) (string, error) {
	return orNoHome(configFolder, env, goos, errNoConfig)
}

// defaultStateDir is the platform's place for what a program of this user remembers.
// Where that is the same as another of the places, it is a folder in it.
func defaultStateDir(env lookup, goos string) (string, error) {
	dir, err := orNoHome(stateFolder, env, goos, errNoState)
	if err == nil && (goos == "windows" || goos == "darwin" && stateFolder.xdgDir(env) == "") {
		dir = filepath.Join(dir, "state")
	}
	return dir, err
}

func orNoHome(f userFolder, env lookup, goos string, noHome error) (string, error) {
	dir, found := f.dir(env, goos)
	if !found {
		return "", noHome
	}
	return dir, nil
}

var (
	errNoHome   = errors.New("no place for a data dir: this user has no home folder; name one with --data-dir")
	errNoConfig = errors.New("no place for stored hubs: this user has no home folder")
	errNoState  = errors.New("no place for approved host keys: this user has no home folder")
)
