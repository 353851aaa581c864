// Package registry is the hub's identity registry: which devices and modules may
// connect and how they prove themselves, which CAs vouch for them, what their twins
// hold, which shared access policies there are and what each allows, and when an
// identity was last seen. It keeps all of that in a store and adds what no store
// keeps: who is connected now. Who may ask is for the hub to decide.
//
// An identity is called by its name, wire.TargetName: DEVICE or DEVICE/MODULE.
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

// Errors that callers branch on. They come wrapped, naming the identity, policy or CA.
var (
	ErrNotFound     = errors.New("not found")
	ErrExists       = errors.New("already exists")
	ErrPrecondition = errors.New("etag does not match")
	// ErrModuleNotFound says that the device is there, and the module is not. It is
	// an ErrNotFound too.
	ErrModuleNotFound = fmt.Errorf("module %w", ErrNotFound)
)

// anyETag is the If-Match of a caller who takes whatever is there.
const anyETag = "*"

// updateTries bounds how often a write starts anew because someone else was faster.
const updateTries = 8

// Registry answers from a store; its methods are safe for concurrent use.
type Registry struct {
	store    store.Store
	presence presence
	adding   sync.Mutex // held while something is counted and one more of it added

	mu             sync.Mutex
	lastGeneration int64 // guarded by mu
	ended          int   // ended streams on disk, at most; guarded by mu
}

// New returns a registry over s, which stays the caller's to close.
func New(s store.Store) *Registry {
	return &Registry{store: s, presence: presence{devices: map[string]seen{}}}
}

// Create adds a device, or a module to a device, and returns it as stored: no
// authentication means sas, missing keys are made, status "" means enabled, etag,
// generation and times are the registry's own. Errors: *InvalidError, also when the
// device has as many modules as it may have; ErrExists; ErrNotFound when the module's
// device is not there; or the store's.
func (r *Registry) Create(ctx context.Context, d wire.Device) (wire.Device, error) {
	created, err := newIdentity(d)
	if err != nil {
		return wire.Device{}, err
	}
	created.GenerationID = r.generation()
	if d.ModuleID == "" {
		created, err = r.createDevice(ctx, created)
	} else {
		created, err = r.createModule(ctx, created)
	}
	if err != nil {
		return wire.Device{}, about("create", d.Name(), err)
	}
	return created, nil
}

func (r *Registry) createDevice(ctx context.Context, d wire.Device) (wire.Device, error) {
	value, err := encode(d, "")
	if err != nil {
		return wire.Device{}, err
	}
	revision, err := r.store.Create(ctx, store.KindDevice, d.DeviceID, value)
	if err != nil {
		return wire.Device{}, err
	}
	d.ETag = etag(revision)
	return d, nil
}

// Get returns a device or module, with its connection as it is now; a module has its
// device's status. Errors: ErrNotFound, ErrModuleNotFound, or the store's.
func (r *Registry) Get(ctx context.Context, name string) (wire.Device, error) {
	s, _, err := r.load(ctx, name)
	var d wire.Device
	if err == nil {
		d, err = r.withActivity(ctx, s.Device)
	}
	if err != nil {
		return wire.Device{}, about("get", name, err)
	}
	return d, nil
}

// Update replaces a device or module whose etag is ifMatch, without quotes, or "*" for
// any. A status, authentication type, key or thumbprint left empty stays as it is;
// with another type the old one's secrets go. Generation and creation facts always
// stay. Errors: *InvalidError, ErrNotFound, ErrModuleNotFound, ErrPrecondition, or the
// store's.
func (r *Registry) Update(ctx context.Context, d wire.Device, ifMatch string) (wire.Device, error) {
	if err := checkIdentity(d); err != nil {
		return wire.Device{}, err
	}
	var updated wire.Device
	err := retry(func() (err error) {
		updated, err = r.update(ctx, d, ifMatch)
		if ifMatch != anyETag && errors.Is(err, store.ErrConflict) {
			err = ErrPrecondition
		}
		return err
	})
	if err != nil {
		return wire.Device{}, about("update", d.Name(), err)
	}
	return updated, nil
}

// update tries once. The write is the last thing that can fail, so an error
// means that nothing was changed.
func (r *Registry) update(ctx context.Context, d wire.Device, ifMatch string) (wire.Device, error) {
	current, revision, err := r.load(ctx, d.Name())
	if err == nil {
		current.Device, err = r.withActivity(ctx, current.Device)
	}
	if err != nil {
		return wire.Device{}, err
	}
	if ifMatch != anyETag && ifMatch != current.ETag {
		return wire.Device{}, ErrPrecondition
	}
	merged, err := merge(current.Device, d, now())
	if err != nil {
		return wire.Device{}, err
	}
	value, err := encode(merged, current.DeviceGenerationID)
	if err != nil {
		return wire.Device{}, err
	}
	if revision, err = r.store.Update(ctx, kindOf(d.Name()), d.Name(), value, revision); err != nil {
		return wire.Device{}, err
	}
	merged.ETag = etag(revision)
	return merged, nil
}

// Delete removes a device or module whose etag is ifMatch, or "*" for any, with its
// twin and what is known of its activity; a device's modules go with it. Errors:
// ErrNotFound, ErrModuleNotFound, ErrPrecondition, or the store's.
func (r *Registry) Delete(ctx context.Context, name, ifMatch string) error {
	revision, err := r.toDelete(ctx, name, ifMatch)
	if err == nil {
		err = r.store.Delete(ctx, kindOf(name), name, revision)
	}
	if errors.Is(err, store.ErrConflict) {
		err = ErrPrecondition
	}
	if err != nil {
		return about("delete", name, err)
	}
	r.forget(context.WithoutCancel(ctx), name)
	return nil
}

// toDelete returns the revision that Delete is to find, 0 for any.
func (r *Registry) toDelete(ctx context.Context, name, ifMatch string) (uint64, error) {
	if ifMatch == anyETag && kindOf(name) == store.KindDevice {
		return 0, nil // even one that cannot be read
	}
	current, revision, err := r.load(ctx, name)
	switch {
	case err != nil:
		return 0, err
	case ifMatch == anyETag:
		return 0, nil
	case ifMatch != current.ETag:
		return 0, ErrPrecondition
	}
	return revision, nil
}

// forget removes what hangs on an identity that is gone. Nothing is there to fail
// any more: what may be left names a generation that will not come again.
func (r *Registry) forget(ctx context.Context, name string) {
	r.presence.forget(name)
	_ = r.store.Delete(ctx, store.KindActivity, name, 0)
	r.forgetTwin(ctx, name)
	if kindOf(name) == store.KindDevice {
		r.forgetModules(ctx, name)
	}
}

// load reads an identity without its activity, and its revision. Errors: ErrNotFound,
// ErrModuleNotFound, or the store's.
func (r *Registry) load(ctx context.Context, name string) (stored, uint64, error) {
	if kindOf(name) == store.KindModule {
		return r.loadModule(ctx, name)
	}
	record, err := r.store.Get(ctx, store.KindDevice, name)
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return stored{}, 0, err
	}
	s, err := decode(record)
	return s, record.Revision, err
}

// write replaces the record that has the given revision, 0 meaning that there is none,
// and returns the new one. Error: store.ErrConflict when it is not so any more.
func (r *Registry) write(ctx context.Context, kind store.Kind, key string, value []byte, revision uint64) (uint64, error) {
	var err error
	if revision == 0 {
		revision, err = r.store.Create(ctx, kind, key, value)
	} else {
		revision, err = r.store.Update(ctx, kind, key, value, revision)
	}
	if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("write %s record %q: %w", kind, key, store.ErrConflict)
	}
	return revision, err
}

// retry calls try until nobody was faster, updateTries times at most.
func retry(try func() error) (err error) {
	for range updateTries {
		if err = try(); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return err
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

// kindOf is where an identity of that name is stored.
func kindOf(name string) store.Kind {
	if _, module := wire.SplitTarget(name); module != "" {
		return store.KindModule
	}
	return store.KindDevice
}

func noun(name string) string { return fmt.Sprintf("%s %q", kindOf(name), name) }

// about adds what was tried on which identity, and puts the registry's own
// sentinels in the place of the store's.
func about(verb, name string, err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound) && kindOf(name) == store.KindModule:
		err = ErrModuleNotFound
	case errors.Is(err, store.ErrNotFound):
		err = ErrNotFound
	case errors.Is(err, store.ErrExists):
		err = ErrExists
	}
	return fmt.Errorf("%s %s: %w", verb, noun(name), err)
}
