// Package hostkey knows SSH servers by their public host keys: it reads them from a
// server, from what a device reports, and from what an operator has approved.
package hostkey

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// maxKeys and maxKey, in bytes, bound a set that somebody else names: sshd has three
// keys, and an RSA key of 16384 bits has 2.8 kB.
const (
	maxKeys = 16
	maxKey  = 4 << 10
)

// Key is one public key as known_hosts has it. Its parts are plain ASCII.
type Key struct {
	Type string // such as ssh-ed25519
	Blob string // base64
}

// String returns "TYPE BLOB".
func (k Key) String() string { return k.Type + " " + k.Blob }

// Fingerprint is the key's SHA-256 as ssh-keygen -l prints it.
func (k Key) Fingerprint() string {
	key, err := parseBlob(k.Blob)
	if err != nil {
		return "" // there is no such Key
	}
	return ssh.FingerprintSHA256(key)
}

// Set is the keys of one server, in order.
type Set []Key

// newSet returns the keys in order, each once.
func newSet(keys []Key) Set {
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(keys)
}

// Parse reads lines "TYPE BLOB", to which a comment may be added. They may be
// anybody's: what it returns is made anew from the keys.
func Parse(lines []string) (Set, error) {
	if len(lines) > maxKeys {
		return nil, fmt.Errorf("%d host keys are more than %d", len(lines), maxKeys)
	}
	keys := make([]Key, 0, len(lines))
	for _, line := range lines {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return nil, errors.New("a host key has not the form TYPE BASE64")
		}
		key, err := ParseBlob(fields[1])
		if err != nil {
			return nil, err
		}
		if key.Type != fields[0] {
			return nil, fmt.Errorf("a host key says %.64q, but is of type %s", fields[0], key.Type)
		}
		keys = append(keys, key)
	}
	return newSet(keys), nil
}

// ParseBlob reads a key in base64. Of a host certificate it is the key that is
// certified.
func ParseBlob(blob string) (Key, error) {
	key, err := parseBlob(blob)
	if err != nil {
		return Key{}, err
	}
	return of(key), nil
}

func parseBlob(blob string) (ssh.PublicKey, error) {
	if len(blob) > base64.StdEncoding.EncodedLen(maxKey) {
		return nil, fmt.Errorf("a host key is longer than %d bytes", maxKey)
	}
	raw, err := base64.StdEncoding.DecodeString(blob)
	if err != nil {
		return nil, errors.New("a host key is not base64")
	}
	key, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return nil, errors.New("a host key is not one that farport knows")
	}
	if certificate, ok := key.(*ssh.Certificate); ok {
		return certificate.Key, nil
	}
	return key, nil
}

func of(key ssh.PublicKey) Key {
	return Key{key.Type(), base64.StdEncoding.EncodeToString(key.Marshal())}
}

// Lines are the keys in the form that Parse reads.
func (s Set) Lines() []string {
	lines := make([]string, len(s))
	for i, k := range s {
		lines[i] = k.String()
	}
	return lines
}

// Without returns the keys of s that are not in other.
func (s Set) Without(other Set) Set {
	return slices.DeleteFunc(slices.Clone(s), func(k Key) bool { return slices.Contains(other, k) })
}
