// Package profile keeps named hubs: connection strings that commands find by a short
// name, and which of the names is the current one. Each is a small JSON file of mode
// 0600 in a folder of mode 0700, written as a whole. A secret that is kept elsewhere,
// in the system's keyring, is for the caller to fetch: this package knows its place
// only.
package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/farportio/farport/internal/atomicfile"
	"github.com/farportio/farport/internal/credential"
)

// Errors that callers ask for.
var (
	ErrNotFound = errors.New("no hub of that name is stored")
	ErrExists   = errors.New("a hub of that name is stored already")
	// ErrDamaged is in the error of Load for a file that is no hub.
	ErrDamaged = errors.New("is damaged")
	ErrBadName = errors.New("is no name for a hub: must be 1 to 64 lower-case letters, digits and -._, the first a letter or digit")
)

// goodName admits no path, no hidden file, and no two names that a file system without
// letter case would take for one.
var goodName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

const (
	prefix = "hub-" // of a profile's file; with it no name is one of Windows' devices
	suffix = ".json"
	// fileCurrent holds the current hub's name.
	fileCurrent = "current-hub"
	// maxFile bounds a file in bytes: a connection string, and a CA's certificates.
	maxFile = 4<<20 + 64<<10
	// noSecret stands in for a key that is in the keyring.
	noSecret credential.Secret = "SharedAccessKey=AAAA"
)

// Profile is a named hub.
type Profile struct {
	Name string `json:"-"`
	// ConnectionString is the whole of it, or what Split has left where Keyring is set.
	// It is written in the clear: that is what the file is for.
	ConnectionString string `json:"connectionString"`
	// Keyring is the name of the secret in the system's keyring, "" for one in the file.
	Keyring string `json:"keyring,omitempty"`
	// CA holds the certificates to trust instead of the system's, in PEM; "" for none.
	CA string `json:"ca,omitempty"`
}

// Parse is the connection string. secret is what the keyring holds, if that is where
// the key is kept; "" is good enough to see all the rest. Errors are a
// *credential.FormatError.
func (p Profile) Parse(secret credential.Secret) (credential.ConnectionString, error) {
	switch {
	case p.Keyring == "":
		return credential.ParseConnectionString(p.ConnectionString)
	case secret == "":
		secret = noSecret
	}
	return credential.Join(p.ConnectionString, secret)
}

// Store is a folder of profiles. It may be missing: then there are none. The zero value
// is of no use. Two processes may use it at once; the last one to write counts.
type Store struct {
	Dir string
	// Check is shown each file before it is read, and may refuse it; nil: all are read.
	Check func(*os.File) error
}

// Path is the file of a profile.
func (s Store) Path(name string) string { return filepath.Join(s.Dir, prefix+name+suffix) }

// CheckName tells whether there can be a profile of that name; if not it is ErrBadName.
func CheckName(name string) error {
	if !goodName.MatchString(name) {
		return fmt.Errorf("%q %w", name, ErrBadName)
	}
	return nil
}

// Load reads a profile. The error is ErrNotFound when there is none.
func (s Store) Load(name string) (Profile, error) {
	if err := CheckName(name); err != nil {
		return Profile{}, err
	}
	text, err := s.read(s.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return Profile{}, fmt.Errorf("hub %q: %w", name, ErrNotFound)
	}
	if err != nil {
		return Profile{}, err
	}
	p := Profile{Name: name}
	if err := json.Unmarshal(text, &p); err != nil || p.ConnectionString == "" {
		return Profile{}, fmt.Errorf("%s: %w", s.Path(name), ErrDamaged) // the JSON error may quote a key
	}
	return p, nil
}

// Save writes a profile. One of that name is replaced if that was asked for, and
// ErrExists if not.
func (s Store) Save(p Profile, replace bool) error {
	if err := CheckName(p.Name); err != nil {
		return err
	}
	if _, err := os.Lstat(s.Path(p.Name)); err == nil && !replace {
		return fmt.Errorf("hub %q: %w", p.Name, ErrExists)
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return s.write(s.Path(p.Name), text)
}

// Remove removes a profile, and tells whether it was the current one. The error is
// ErrNotFound when there is none.
func (s Store) Remove(name string) (wasCurrent bool, err error) {
	if err := CheckName(name); err != nil {
		return false, err
	}
	current, err := s.Current()
	if err != nil {
		return false, err
	}
	if err := os.Remove(s.Path(name)); errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("hub %q: %w", name, ErrNotFound)
	} else if err != nil {
		return false, err
	}
	if current == name {
		err = os.Remove(filepath.Join(s.Dir, fileCurrent))
	}
	return current == name, errors.Join(err, atomicfile.SyncDir(s.Dir))
}

// Names are those of all profiles, in order.
func (s Store) Names() (names []string, err error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		name, ours := strings.CutPrefix(e.Name(), prefix)
		name, file := strings.CutSuffix(name, suffix)
		if ours && file && goodName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, err
}

// Current is the name of the current hub, "" when there is none. Whether it still has
// a profile, Load tells.
func (s Store) Current() (string, error) {
	text, err := s.read(filepath.Join(s.Dir, fileCurrent))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	name := strings.TrimSpace(string(text))
	if err == nil {
		err = CheckName(name)
	}
	if err != nil {
		return "", fmt.Errorf("read which hub is the current one: %w", err)
	}
	return name, nil
}

// Use makes a profile the current one. The error is ErrNotFound when there is none.
func (s Store) Use(name string) error {
	if _, err := s.Load(name); err != nil {
		return err
	}
	return s.write(filepath.Join(s.Dir, fileCurrent), []byte(name))
}

func (s Store) read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if s.Check != nil {
		if err := s.Check(f); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: is longer than %d bytes", path, maxFile)
	}
	return text, err
}

func (s Store) write(path string, text []byte) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, append(text, '\n'), 0o600)
}
