package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// flushBatch bounds how many records one flush puts into a single write.
const flushBatch = 500

// seen is what is known of an identity's control connection.
type seen struct {
	connected bool
	changed   wire.Time // when it was set up or lost
	dirty     bool      // not yet stored
}

// presence knows the devices and modules that are connected, and those that were
// since the last flush. It talks to nobody.
type presence struct {
	mu      sync.Mutex
	devices map[string]seen // by name
}

func (p *presence) set(name string, connected bool, at wire.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !connected && !p.devices[name].connected {
		return // forgotten meanwhile: the connection of a device that was deleted
	}
	p.devices[name] = seen{connected, at, true}
}

func (p *presence) get(name string) (seen, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.devices[name]
	return s, ok
}

func (p *presence) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.devices, name)
}

func (p *presence) unsaved() map[string]seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	dirty := map[string]seen{}
	for name, s := range p.devices {
		if s.dirty {
			dirty[name] = s
		}
	}
	return dirty
}

// saved notes that s is stored, unless it has changed since. Of a device that
// is not connected, the store knows enough.
func (p *presence) saved(name string, s seen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.devices[name] != s {
		return
	}
	if s.dirty = false; s.connected {
		p.devices[name] = s
	} else {
		delete(p.devices, name)
	}
}

// activity is what is stored of a seen. It belongs to one life of the identity.
type activity struct {
	GenerationID string    `json:"generationId"`
	Changed      wire.Time `json:"changed"`
}

// SetConnected notes that the control connection of a device or module was set up or
// lost. It is kept in memory, for Get and List, until FlushActivity stores it.
func (r *Registry) SetConnected(name string, connected bool, at time.Time) {
	r.presence.set(name, connected, stamp(at))
}

// FlushActivity stores when identities were last seen, for after a restart. What
// could not be stored stays for the next time. One call at a time.
func (r *Registry) FlushActivity(ctx context.Context) error {
	dirty := r.presence.unsaved()
	for names := range slices.Chunk(slices.Sorted(maps.Keys(dirty)), flushBatch) {
		values := make(map[string][]byte, len(names))
		for _, name := range names {
			d, _, err := r.load(ctx, name)
			if errors.Is(err, ErrNotFound) {
				continue // deleted while it was connecting
			}
			if err != nil {
				return fmt.Errorf("store last activity: %w", err)
			}
			if values[name], err = json.Marshal(activity{d.GenerationID, dirty[name].changed}); err != nil {
				return fmt.Errorf("store last activity: %w", err)
			}
		}
		if err := r.store.PutAll(ctx, store.KindActivity, values); err != nil {
			return fmt.Errorf("store last activity: %w", err)
		}
		for _, name := range names {
			r.presence.saved(name, dirty[name])
		}
	}
	return nil
}

// withActivity adds to a stored identity what is known of its connection.
func (r *Registry) withActivity(ctx context.Context, d wire.Device) (wire.Device, error) {
	s, ok := r.presence.get(d.Name())
	if !ok {
		a, err := r.activity(ctx, d.Name())
		if err != nil {
			return wire.Device{}, err
		}
		if a.GenerationID != d.GenerationID {
			return d, nil
		}
		s.changed = a.Changed
	}
	if s.connected {
		d.ConnectionState = wire.Connected
	}
	d.ConnectionStateUpdatedTime = s.changed
	d.LastActivityTime = s.changed
	return d, nil
}

// activity reads what is stored, nothing being as good as an old life's.
func (r *Registry) activity(ctx context.Context, name string) (a activity, err error) {
	record, err := r.store.Get(ctx, store.KindActivity, name)
	if errors.Is(err, store.ErrNotFound) {
		return activity{}, nil
	}
	if err == nil {
		err = json.Unmarshal(record.Value, &a)
	}
	if err != nil {
		return activity{}, fmt.Errorf("read last activity of %s: %w", noun(name), err)
	}
	return a, nil
}
