package hostkey

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/farportio/farport/internal/atomicfile"
)

// Memory is where an operator's machine keeps the keys that were approved, one file of
// mode 0600 for each device of each hub.
type Memory struct{ Dir string }

// file names the file by a hash: IDs may have any case, length and punctuation.
func (m Memory) file(hub, device string) string {
	sum := sha256.Sum256([]byte(hub + "\n" + device))
	return filepath.Join(m.Dir, hex.EncodeToString(sum[:16]))
}

// Load returns the keys approved for a device of a hub. found is false when there were
// never any.
func (m Memory) Load(hub, device string) (approved Set, found bool, err error) {
	path := m.file(hub, device)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, "#")
	})
	if approved, err = Parse(lines); err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	return approved, true, nil
}

// Save keeps the keys as those approved, in place of others. A reader sees the old file or
// the new one.
func (m Memory) Save(hub, device string, approved Set) error {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return err
	}
	text := "# approved for " + strconv.Quote(device) + " on " + hub + "\n"
	for _, line := range approved.Lines() {
		text += line + "\n"
	}
	return atomicfile.Write(m.file(hub, device), []byte(text), 0o600)
}

// ChangedError says that a device reports other keys than were approved.
type ChangedError struct {
	Added Set // reported, not approved
	Gone  Set // approved, no longer reported
}

func (e *ChangedError) Error() string {
	text := "its host keys have changed: now " + list(e.Added)
	if len(e.Gone) > 0 {
		text += ", no longer " + list(e.Gone)
	}
	return text
}

func list(keys Set) string {
	words := make([]string, len(keys))
	for i, k := range keys {
		words[i] = k.Type + " " + k.Fingerprint()
	}
	return strings.Join(words, ", ")
}

// Check returns the keys that a server may have: those reported, if all of them are
// approved. One that is new is a *ChangedError; one that is no longer reported is just not
// good any more. A device that reports nothing is held to what was approved.
func Check(approved, reported Set) (Set, error) {
	if len(reported) == 0 {
		return approved, nil
	}
	if added := reported.Without(approved); len(added) > 0 {
		return nil, &ChangedError{added, approved.Without(reported)}
	}
	return reported, nil
}
