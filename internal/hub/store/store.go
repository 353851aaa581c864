// Package store keeps what a hub must not lose: device identities, policies,
// secrets and last activity. A Store is a small set of named buckets with
// compare-and-set on each record; what the records mean is the registry's
// business. Bolt keeps them in one file of the data folder. storetest has the
// suite that every implementation must pass.
package store

import (
	"context"
	"errors"
	"fmt"
)

// Kind names one bucket of records.
type Kind string

// The kinds of records a hub keeps. They are part of the file format.
const (
	KindDevice   Kind = "device"   // key: device ID
	KindPolicy   Kind = "policy"   // key: policy name
	KindSecret   Kind = "secret"   // key: secret's name
	KindActivity Kind = "activity" // key: device ID, or DEVICE/MODULE
	KindModule   Kind = "module"   // key: DEVICE/MODULE
	KindTwin     Kind = "twin"     // key: device ID, or DEVICE/MODULE
	KindCA       Kind = "ca"       // key: fingerprint, 64 lower-case hex
	KindEnded    Kind = "ended"    // key: ID of an extended stream
)

// Record is one stored value. The revision changes with every write and is
// never used twice in a store, so a record that was deleted and made anew has
// another one. It is never 0.
type Record struct {
	Key      string
	Value    []byte // the caller's to keep and change
	Revision uint64
}

// Errors that callers branch on. They come wrapped, with kind and key.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrConflict = errors.New("changed by someone else")
	// ErrInUse says that another process has the file open.
	ErrInUse = errors.New("in use by another farport process")
)

// DamagedError says that a store's file is not what farport wrote: empty, cut,
// changed, or somebody else's. Nothing was written to it.
type DamagedError struct {
	Path string // the file
	Err  error  // what is wrong with it
}

// Error names the file, what is wrong and the remedy, in one line.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("store %s is damaged: %v; restore it from a backup", e.Path, e.Err)
}

// Unwrap returns what is wrong with the file.
func (e *DamagedError) Unwrap() error { return e.Err }

// Store keeps records. A write that returned nil survives a crash of the
// process and of the machine. Methods are safe for concurrent use; a context
// that has ended stops a call before it starts, not half-way. Besides the errors
// named, every method may return a *DamagedError or that of a failed write (no
// space left, say), after which the store can still be used.
type Store interface {
	// Get returns one record, or ErrNotFound.
	Get(ctx context.Context, kind Kind, key string) (Record, error)
	// Create adds a record and returns its revision, or ErrExists.
	Create(ctx context.Context, kind Kind, key string, value []byte) (revision uint64, err error)
	// Update replaces the value of the record that still has the given revision
	// and returns the new one: ErrNotFound, ErrConflict otherwise.
	Update(ctx context.Context, kind Kind, key string, value []byte, revision uint64) (uint64, error)
	// Delete removes the record that still has the given revision, 0 meaning
	// any: ErrNotFound, ErrConflict otherwise.
	Delete(ctx context.Context, kind Kind, key string, revision uint64) error
	// List returns at most limit records in byte order of their keys, strictly
	// after the given key ("" for all). A short list is the last one.
	List(ctx context.Context, kind Kind, after string, limit int) ([]Record, error)
	// PutAll writes all values or none, whatever was there: for facts that may
	// be overwritten.
	PutAll(ctx context.Context, kind Kind, values map[string][]byte) error
	// Close gives the store up. A second call does nothing.
	Close() error
}
