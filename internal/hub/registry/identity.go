package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// In characters. maxStatusReason is Azure's (docs/protocol.md, Identity registry),
// maxManagedBy farport's.
const (
	maxStatusReason = 128
	maxManagedBy    = 128
)

// InvalidError says which part of what a caller sent cannot be taken, and why. It
// never holds a key.
type InvalidError struct {
	Field   string // as the JSON has it
	Problem string
}

// Error is one line for the caller who sent it.
func (e *InvalidError) Error() string { return e.Field + ": " + e.Problem }

// checkIdentity checks what a caller may set, apart from the authentication. A
// module's status is not looked at, as it has none.
func checkIdentity(d wire.Device) error {
	isDevice := d.ModuleID == ""
	switch {
	case !wire.ValidID(d.DeviceID):
		return &InvalidError{"deviceId", idRule()}
	case !isDevice && !wire.ValidID(d.ModuleID):
		return &InvalidError{"moduleId", idRule()}
	case isDevice && d.Status != "" && d.Status != wire.StatusEnabled && d.Status != wire.StatusDisabled:
		return &InvalidError{"status", "must be enabled or disabled"}
	case isDevice && d.StatusReason != nil && utf8.RuneCountInString(*d.StatusReason) > maxStatusReason:
		return &InvalidError{"statusReason", fmt.Sprintf("must be at most %d characters", maxStatusReason)}
	case !isDevice && !validManagedBy(d.ManagedBy):
		return &InvalidError{"managedBy", fmt.Sprintf("must be at most %d printable characters", maxManagedBy)}
	}
	return nil
}

func idRule() string {
	return fmt.Sprintf("must be 1 to %d characters of A-Z a-z 0-9 and - . + %% _ # * ? ! ( ) , = @ $ ' :", wire.MaxID)
}

func validManagedBy(s string) bool {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= maxManagedBy && !strings.ContainsFunc(s, unprintable)
}

// newIdentity returns what a new device or module starts with. Error: *InvalidError.
func newIdentity(d wire.Device) (wire.Device, error) {
	if err := checkIdentity(d); err != nil {
		return wire.Device{}, err
	}
	blank := wire.Device{DeviceID: d.DeviceID, ModuleID: d.ModuleID, ConnectionState: wire.Disconnected}
	if d.ModuleID == "" {
		blank.Status = wire.StatusEnabled
	}
	return merge(blank, d, wire.Time{}) // nothing was updated yet
}

// merge returns current with what sent, a checked identity, sets. Left empty, a
// key stays: who read the identity without its keys and writes it back must not
// lock the device out. So does a status: who sends new keys alone must not let a
// disabled device in again. Error: *InvalidError.
func merge(current, sent wire.Device, at wire.Time) (wire.Device, error) {
	var err error
	if current.Authentication, err = mergeAuthentication(current.Authentication, sent.Authentication); err != nil {
		return wire.Device{}, err
	}
	if current.ModuleID != "" {
		if sent.ManagedBy != "" {
			current.ManagedBy = sent.ManagedBy
		}
		return current, nil
	}
	if sent.Status != "" && sent.Status != current.Status {
		current.Status = sent.Status
		current.StatusUpdatedTime = at
	}
	if sent.Status != "" || sent.StatusReason != nil {
		current.StatusReason = sent.StatusReason
	}
	return current, nil
}

// stored is what is kept of a device or module.
type stored struct {
	wire.Device
	// DeviceGenerationID is the life of the device that a module belongs to.
	DeviceGenerationID string `json:"deviceGenerationId,omitempty"`
}

// encode returns what is stored of an identity: not the etag, which is the record's
// revision, nor its connection, nor a module's status, which is its device's.
func encode(d wire.Device, deviceGeneration string) ([]byte, error) {
	d.ETag, d.ConnectionState = "", wire.Disconnected
	d.ConnectionStateUpdatedTime, d.LastActivityTime = wire.Time{}, wire.Time{}
	if d.ModuleID != "" {
		d.Status = ""
	}
	return json.Marshal(stored{d, deviceGeneration})
}

// decode reads a stored identity and gives it its etag.
func decode(record store.Record) (stored, error) {
	var s stored
	if err := json.Unmarshal(record.Value, &s); err != nil {
		return stored{}, fmt.Errorf("read stored %s: %w", noun(record.Key), err)
	}
	if s.Authentication == nil {
		return stored{}, fmt.Errorf("read stored %s: it has no authentication", noun(record.Key))
	}
	s.ETag = etag(record.Revision)
	return s, nil
}

// now is the time at the precision that is stored, so that an answer and a
// later reading agree.
func now() wire.Time { return stamp(time.Now()) }

func stamp(t time.Time) wire.Time { return wire.Time{Time: t.UTC().Truncate(time.Millisecond)} }
