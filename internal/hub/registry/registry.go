// Package registry is the hub's identity registry: which devices may connect
// and with which keys, which shared access policies there are and what each
// allows, and when a device was last seen. It keeps all of that in a store and
// adds what no store keeps: who is connected now. Who may ask is for the hub to
// decide.
package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// Errors that callers branch on. They come wrapped, naming the device or policy.
var (
	ErrNotFound     = errors.New("not found")
	ErrExists       = errors.New("already exists")
	ErrPrecondition = errors.New("etag does not match")
)

// anyETag is the If-Match of a caller who takes whatever is there.
const anyETag = "*"

// updateTries bounds how often an update of "whatever is there" starts anew
// because someone else was faster.
const updateTries = 8

// Registry answers from a store; its methods are safe for concurrent use.
type Registry struct {
	store    store.Store
	presence presence

	mu             sync.Mutex
	lastGeneration int64 // guarded by mu
}

// New returns a registry over s, which stays the caller's to close.
func New(s store.Store) *Registry {
	return &Registry{store: s, presence: presence{devices: map[string]seen{}}}
}

// Create adds a device and returns it as stored: missing keys are made, status
// "" means enabled, etag, generation and times are the registry's own. Errors:
// *InvalidError, ErrExists, or the store's.
func (r *Registry) Create(ctx context.Context, d wire.Device) (wire.Device, error) {
	stored, err := newIdentity(d)
	if err != nil {
		return wire.Device{}, err
	}
	stored.GenerationID = r.generation()
	value, err := encode(stored)
	if err != nil {
		return wire.Device{}, about("create", d.DeviceID, err)
	}
	revision, err := r.store.Create(ctx, store.KindDevice, d.DeviceID, value)
	if err != nil {
		return wire.Device{}, about("create", d.DeviceID, err)
	}
	return withETag(stored, revision), nil
}

// Get returns a device, with its connection as it is now. Error: ErrNotFound or
// the store's.
func (r *Registry) Get(ctx context.Context, id string) (wire.Device, error) {
	d, _, err := r.load(ctx, id)
	if err == nil {
		d, err = r.withActivity(ctx, d)
	}
	if err != nil {
		return wire.Device{}, about("get", id, err)
	}
	return d, nil
}

// Update replaces a device whose etag is ifMatch, without quotes, or "*" for
// any. A key or status left empty stays as it is; generation and creation facts
// always do. Errors: *InvalidError, ErrNotFound, ErrPrecondition, or the store's.
func (r *Registry) Update(ctx context.Context, d wire.Device, ifMatch string) (wire.Device, error) {
	if err := checkIdentity(d); err != nil {
		return wire.Device{}, err
	}
	for range updateTries {
		updated, err := r.update(ctx, d, ifMatch)
		switch {
		case err == nil:
			return updated, nil
		case !errors.Is(err, store.ErrConflict):
			return wire.Device{}, about("update", d.DeviceID, err)
		case ifMatch != anyETag:
			return wire.Device{}, about("update", d.DeviceID, ErrPrecondition)
		}
	}
	return wire.Device{}, about("update", d.DeviceID, store.ErrConflict)
}

// update tries once. The write is the last thing that can fail, so an error
// means that nothing was changed.
func (r *Registry) update(ctx context.Context, d wire.Device, ifMatch string) (wire.Device, error) {
	current, revision, err := r.load(ctx, d.DeviceID)
	if err == nil {
		current, err = r.withActivity(ctx, current)
	}
	if err != nil {
		return wire.Device{}, err
	}
	if ifMatch != anyETag && ifMatch != current.ETag {
		return wire.Device{}, ErrPrecondition
	}
	merged := merge(current, d, now())
	value, err := encode(merged)
	if err != nil {
		return wire.Device{}, err
	}
	if revision, err = r.store.Update(ctx, store.KindDevice, d.DeviceID, value, revision); err != nil {
		return wire.Device{}, err
	}
	return withETag(merged, revision), nil
}

// Delete removes a device whose etag is ifMatch, or "*" for any, and what is
// known of its activity. Errors: ErrNotFound, ErrPrecondition, or the store's.
func (r *Registry) Delete(ctx context.Context, id, ifMatch string) error {
	var revision uint64
	if ifMatch != anyETag {
		current, rev, err := r.load(ctx, id)
		if err != nil {
			return about("delete", id, err)
		}
		if current.ETag != ifMatch {
			return about("delete", id, ErrPrecondition)
		}
		revision = rev
	}
	err := r.store.Delete(ctx, store.KindDevice, id, revision)
	if errors.Is(err, store.ErrConflict) {
		err = ErrPrecondition
	}
	if err != nil {
		return about("delete", id, err)
	}
	r.presence.forget(id)
	// The device is gone, so this must not fail any more. What may be left of
	// its activity names a generation that will not come again.
	_ = r.store.Delete(context.WithoutCancel(ctx), store.KindActivity, id, 0)
	return nil
}

// List returns at most limit devices in byte order of their IDs, strictly after
// the given one ("" for all), each as Get does. A short list is the last one.
func (r *Registry) List(ctx context.Context, after string, limit int) ([]wire.Device, error) {
	records, err := r.store.List(ctx, store.KindDevice, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	devices := make([]wire.Device, 0, len(records))
	for _, record := range records {
		d, err := decode(record)
		if err == nil {
			d, err = r.withActivity(ctx, d)
		}
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// load reads a device without its activity, and its revision.
func (r *Registry) load(ctx context.Context, id string) (wire.Device, uint64, error) {
	record, err := r.store.Get(ctx, store.KindDevice, id)
	if err != nil {
		return wire.Device{}, 0, err
	}
	d, err := decode(record)
	return d, record.Revision, err
}

// generation returns a number no other life of a device has: the time in units
// of 100 ns since the year 1, as Azure has it, moved on when that was given out
// already.
func (r *Registry) generation() string {
	const unixEpoch = 621355968000000000 // 1970-01-01 in those units
	ticks := unixEpoch + time.Now().UnixNano()/100
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastGeneration = max(r.lastGeneration+1, ticks)
	return strconv.FormatInt(r.lastGeneration, 10)
}

// etag names a revision in an opaque way.
func etag(revision uint64) string {
	return base64.StdEncoding.EncodeToString(strconv.AppendUint(nil, revision, 10))
}

// about adds what was tried on which device, and puts the registry's own
// sentinels in the place of the store's.
func about(verb, id string, err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		err = ErrNotFound
	case errors.Is(err, store.ErrExists):
		err = ErrExists
	}
	return fmt.Errorf("%s device %q: %w", verb, id, err)
}
