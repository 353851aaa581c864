package credential

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unique"
)

// Lengths of a symmetric key in bytes. Source: docs/protocol.md, Identity
// registry; 16 is also the least docs/security.md accepts.
const (
	newKeySize = 32
	minKeySize = 16
	maxKeySize = 64
)

// Key is a symmetric key. Its zero value is no key at all: it signs nothing that
// any hub accepts. It redacts itself as Secret does, and even as an unexported
// field. Two keys are == when their bytes are; use Equal where an attacker could
// measure the time.
type Key struct {
	// The handle hides the bytes from fmt, which prints what it points to only
	// at the top level, and keeps Key comparable.
	bytes unique.Handle[string]
}

// NewKey returns a key of 32 random bytes.
func NewKey() Key {
	raw := make([]byte, newKeySize)
	rand.Read(raw) // never fails since Go 1.24
	return keyOf(raw)
}

// ParseKey reads a key of 16 to 64 bytes from standard base64 with padding. The
// error says what is wrong and never holds the text.
func ParseKey(base64Text string) (Key, error) {
	raw, err := decodeKey(base64Text)
	if err != nil {
		return Key{}, err
	}
	if len(raw) < minKeySize || len(raw) > maxKeySize {
		return Key{}, fmt.Errorf("key has %d bytes, not %d to %d", len(raw), minKeySize, maxKeySize)
	}
	return keyOf(raw), nil
}

// decodeKey decodes base64 as the SDKs do, stray bits at the end included.
func decodeKey(base64Text string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(base64Text)
	if err != nil || strings.ContainsAny(base64Text, "\r\n") { // which Go would skip
		return nil, errors.New("key is not base64")
	}
	return raw, nil
}

func keyOf(raw []byte) Key { return Key{unique.Make(string(raw))} }

// raw returns the key's bytes, none for the zero Key.
func (k Key) raw() []byte {
	if k.IsZero() {
		return nil
	}
	return []byte(k.bytes.Value())
}

// Reveal returns the key as standard base64, "" for the zero Key.
func (k Key) Reveal() string { return base64.StdEncoding.EncodeToString(k.raw()) }

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k == Key{} }

// ID returns a name for the key, 32 hex digits taken from its SHA-256. It is
// safe to log and to store, and says which credential let somebody in. The zero
// Key has none: "".
func (k Key) ID() string {
	if k.IsZero() {
		return ""
	}
	sum := sha256.Sum256(k.raw())
	return hex.EncodeToString(sum[:16])
}

// Equal reports whether both are the same key, in a time that depends on their
// lengths only. A zero Key equals nothing, not even another zero Key.
func (k Key) Equal(other Key) bool {
	return subtle.ConstantTimeCompare(k.raw(), other.raw()) == 1 && !k.IsZero()
}

// String returns "[redacted]", or "" for the zero Key.
func (k Key) String() string {
	if k.IsZero() {
		return ""
	}
	return redacted
}

// Format writes String whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue returns String for log/slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText returns String, in JSON too; it never fails. What stores keys has
// to Reveal them.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }
