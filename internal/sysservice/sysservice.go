// Package sysservice makes the device-proxy a service of the system that runs from boot
// on: of systemd, launchd or Windows. It writes the service's definition and keeps its
// secrets in files that only the system and the service can read.
//
//	Install ── checks ── secrets, definition ── start ── wait until it is connected
//	   └── whatever fails: back to what was there before
//
// On systemd it speaks to systemctl itself: an installation can then be replaced, undone,
// and waited for. launchd and Windows are left to github.com/kardianos/service. What the
// service does is cmd/farport's.
package sysservice

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/farportio/farport/internal/atomicfile"
)

// Name is the service's.
const Name = "farport-device-proxy"

const (
	description = "farport device-proxy"
	command     = "device-proxy" // the argument that makes the program one
)

// The files of the service's secrets, in a folder of the system's.
const (
	connectionFile = "device.conn"
	configFile     = "device-secrets.yaml"
)

// Connected begins the status text of a device-proxy that the hub has accepted. Install
// waits for it where the service manager passes it on.
const Connected = "connected to "

// Bounds of what Install waits for.
const (
	connectWait = 20 * time.Second // until the hub has accepted the device
	undoWait    = 30 * time.Second // for going back after a failure
)

// Spec is what is to be installed.
type Spec struct {
	Executable string   // absolute path of the program
	Arguments  []string // of device-proxy, without those of Files
	Files      []File   // further files that the service has to read
	Connection string   // the device's connection string; a secret
	Config     string   // text of a config file with flags that are secrets; "" is none
}

// secret is a file of the service that others must not read; an empty text is no file.
type secret struct{ flag, name, text string }

// secrets are all that there can be, so that an installation takes away what an earlier
// one has left. The connection string always is, also when its text is not known yet.
func (s Spec) secrets() []secret {
	return []secret{
		{"connection-string-file", connectionFile, s.Connection + "\n"},
		{"config", configFile, s.Config},
	}
}

// File is the absolute path of a file that a flag names, such as "ca-file".
type File struct{ Flag, Path string }

// State is how a service is.
type State string

// The states, in the words of cli.md.
const (
	Running      State = "running"
	Stopped      State = "stopped"
	NotInstalled State = "not installed"
)

// Status is what is known of the service. Definition is the file that defines it. Since
// and Detail, the service's own word, are known on systemd only.
type Status struct {
	State      State     `json:"state"`
	Since      time.Time `json:"since,omitzero"`
	Detail     string    `json:"detail,omitempty"`
	Definition string    `json:"definition,omitempty"`
}

// Errors of the system, not of the service.
var (
	ErrNotRoot   = errors.New("only root may change the system's services")
	ErrNoManager = errors.New("no service manager that farport knows runs on this machine")
	// ErrOutOfReach is for programs and files that the service could not open.
	ErrOutOfReach = errors.New("out of the service's reach")
)

// EndedError says that the service ended when it should have stayed. Code is its exit
// code.
type EndedError struct{ Code int }

func (e *EndedError) Error() string {
	return fmt.Sprintf("the service ended by itself with exit code %d", e.Code)
}

// saved is a file as it was before; data is nil when there was none.
type saved struct {
	path string
	mode fs.FileMode
	data []byte
}

func save(path string, mode fs.FileMode) (saved, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return saved{path, mode, nil}, nil
	}
	return saved{path, mode, data}, err
}

// restore puts the file back with the folder it is in, or removes it.
func (s saved) restore() error {
	if s.data == nil {
		return remove(s.path)
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(s.path, s.data, s.mode)
}

// remove takes a file away that need not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
