package registry

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// maxStatusReason is in characters (docs/protocol.md, Identity registry).
const maxStatusReason = 128

// InvalidError says which part of a device identity cannot be taken, and why.
// It never holds a key.
type InvalidError struct {
	Field   string // as the JSON has it
	Problem string
}

// Error is one line for the caller who sent the identity.
func (e *InvalidError) Error() string { return e.Field + ": " + e.Problem }

// DeviceKeys returns the keys d may sign with: none, one or two.
func DeviceKeys(d wire.Device) []credential.Key {
	if d.Authentication == nil || d.Authentication.Type != wire.AuthSAS {
		return nil
	}
	var keys []credential.Key
	for _, text := range []string{d.Authentication.SymmetricKey.PrimaryKey, d.Authentication.SymmetricKey.SecondaryKey} {
		if key, err := credential.ParseKey(text); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// checkIdentity checks what a caller may set.
func checkIdentity(d wire.Device) error {
	switch {
	case !wire.ValidID(d.DeviceID):
		return &InvalidError{"deviceId", fmt.Sprintf("must be 1 to %d characters of A-Z a-z 0-9 and - . + %% _ # * ? ! ( ) , = @ $ ' :", wire.MaxID)}
	case d.Status != "" && d.Status != wire.StatusEnabled && d.Status != wire.StatusDisabled:
		return &InvalidError{"status", "must be enabled or disabled"}
	case d.StatusReason != nil && utf8.RuneCountInString(*d.StatusReason) > maxStatusReason:
		return &InvalidError{"statusReason", fmt.Sprintf("must be at most %d characters", maxStatusReason)}
	}
	return checkAuthentication(d.Authentication)
}

func checkAuthentication(a *wire.Authentication) error {
	if a == nil {
		return nil
	}
	if a.Type != "" && a.Type != wire.AuthSAS {
		return &InvalidError{"authentication.type", "must be " + wire.AuthSAS + ", the only one this hub knows"}
	}
	if err := checkKey("primaryKey", a.SymmetricKey.PrimaryKey); err != nil {
		return err
	}
	return checkKey("secondaryKey", a.SymmetricKey.SecondaryKey)
}

func checkKey(name, text string) error {
	if text == "" {
		return nil
	}
	if _, err := credential.ParseKey(text); err != nil {
		return &InvalidError{"authentication.symmetricKey." + name, err.Error()}
	}
	return nil
}

// newIdentity returns what a new device starts with.
func newIdentity(d wire.Device) (wire.Device, error) {
	if err := checkIdentity(d); err != nil {
		return wire.Device{}, err
	}
	blank := wire.Device{
		DeviceID:        d.DeviceID,
		ConnectionState: wire.Disconnected,
		Status:          wire.StatusEnabled,
		Authentication: &wire.Authentication{
			Type: wire.AuthSAS,
			SymmetricKey: wire.SymmetricKey{
				PrimaryKey:   credential.NewKey().Reveal(),
				SecondaryKey: credential.NewKey().Reveal(),
			},
		},
	}
	started := merge(blank, d, wire.Time{})
	started.StatusUpdatedTime = wire.Time{} // nothing was updated yet
	return started, nil
}

// merge returns current with what sent, a checked identity, sets. Left empty, a
// key stays: who read the identity without its keys and writes it back must not
// lock the device out. So does a status: who sends new keys alone must not let a
// disabled device in again.
func merge(current, sent wire.Device, at wire.Time) wire.Device {
	if sent.Status != "" && sent.Status != current.Status {
		current.Status = sent.Status
		current.StatusUpdatedTime = at
	}
	if sent.Status != "" || sent.StatusReason != nil {
		current.StatusReason = sent.StatusReason
	}
	if sent.Authentication != nil {
		a := *current.Authentication
		a.SymmetricKey = mergeKeys(a.SymmetricKey, sent.Authentication.SymmetricKey)
		current.Authentication = &a
	}
	return current
}

func mergeKeys(current, sent wire.SymmetricKey) wire.SymmetricKey {
	if sent.PrimaryKey != "" {
		current.PrimaryKey = sent.PrimaryKey
	}
	if sent.SecondaryKey != "" {
		current.SecondaryKey = sent.SecondaryKey
	}
	return current
}

// encode returns what is stored of a device: not the etag, which is the record's
// revision, nor its connection.
func encode(d wire.Device) ([]byte, error) {
	d.ETag, d.ConnectionState = "", wire.Disconnected
	d.ConnectionStateUpdatedTime, d.LastActivityTime = wire.Time{}, wire.Time{}
	return json.Marshal(d)
}

// decode reads a stored device and gives it its etag.
func decode(record store.Record) (wire.Device, error) {
	var d wire.Device
	if err := json.Unmarshal(record.Value, &d); err != nil {
		return wire.Device{}, fmt.Errorf("read stored device %q: %w", record.Key, err)
	}
	if d.Authentication == nil {
		return wire.Device{}, fmt.Errorf("read stored device %q: it has no authentication", record.Key)
	}
	return withETag(d, record.Revision), nil
}

func withETag(d wire.Device, revision uint64) wire.Device {
	d.ETag = etag(revision)
	return d
}

// now is the time at the precision that is stored, so that an answer and a
// later reading agree.
func now() wire.Time { return stamp(time.Now()) }

func stamp(t time.Time) wire.Time { return wire.Time{Time: t.UTC().Truncate(time.Millisecond)} }
