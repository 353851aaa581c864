package sysservice

import (
	"os"
	"path/filepath"

	"github.com/kardianos/service"

	"github.com/farportio/farport/internal/atomicfile"
)

const (
	secretDir      = "/Library/Application Support/farport"
	definitionPath = "/Library/LaunchDaemons/" + Name + ".plist"
)

func isRoot() bool { return os.Geteuid() == 0 }

func secretPath(name string) string { return filepath.Join(secretDir, name) }

// Definition is the text of the service's definition. It holds no secret.
func Definition(s Spec) (string, error) { return plist(s.Executable, allArguments(s)), nil }

func options(s Spec) (service.KeyValue, error) {
	text, err := Definition(s)
	return service.KeyValue{"LaunchdConfig": text}, err
}

// user is whom the service runs as: root, who alone reads the connection string.
const user = ""

func makeSecretDir() error { return os.MkdirAll(secretDir, 0o755) }

func writeSecret(path string, text []byte) error { return atomicfile.Write(path, text, 0o600) }

// saveDefinition keeps launchd's file, so that an installation can be undone.
func saveDefinition() (func() error, error) {
	before, err := save(definitionPath, 0o644)
	if err != nil || before.data == nil {
		return nil, err
	}
	return before.restore, nil
}
