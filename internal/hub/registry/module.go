package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// maxModules is how many modules a device may have, as on Azure.
const maxModules = 50

// Modules returns the modules of a device in byte order of their IDs, each as Get does.
// Errors: ErrNotFound when the device is not there, or the store's.
func (r *Registry) Modules(ctx context.Context, device string) ([]wire.Device, error) {
	modules, err := r.modules(ctx, device)
	for i := 0; i < len(modules) && err == nil; i++ {
		modules[i], err = r.withActivity(ctx, modules[i])
	}
	if err != nil {
		return nil, about("list the modules of", device, err)
	}
	return modules, nil
}

// modules returns a device's modules without their activity.
func (r *Registry) modules(ctx context.Context, device string) ([]wire.Device, error) {
	d, err := r.loadDevice(ctx, device)
	if err != nil {
		return nil, err
	}
	records, err := r.moduleRecords(ctx, device)
	if err != nil {
		return nil, err
	}
	modules := make([]wire.Device, 0, len(records))
	for _, record := range records {
		s, err := decode(record)
		if err != nil {
			return nil, err
		}
		if s.of(d) {
			s.Status = d.Status
			modules = append(modules, s.Device)
		}
	}
	return modules, nil
}

// moduleRecords returns all modules that are stored of a device, those of its other
// lives too, which only a crash leaves behind.
func (r *Registry) moduleRecords(ctx context.Context, device string) (all []store.Record, err error) {
	prefix := device + "/" // see wire.TargetName
	for after := prefix; ; {
		records, err := r.store.List(ctx, store.KindModule, after, maxModules+1)
		if err != nil {
			return nil, err
		}
		for _, record := range records {
			if !strings.HasPrefix(record.Key, prefix) {
				return all, nil
			}
			all = append(all, record)
		}
		if len(records) <= maxModules {
			return all, nil
		}
		after = records[maxModules].Key
	}
}

// of reports whether a module belongs to this life of its device.
func (s stored) of(d wire.Device) bool { return s.DeviceGenerationID == d.GenerationID }

func (r *Registry) loadDevice(ctx context.Context, id string) (wire.Device, error) {
	if kindOf(id) != store.KindDevice {
		return wire.Device{}, ErrNotFound
	}
	s, _, err := r.load(ctx, id)
	return s.Device, err
}

// loadModule is load for modules.
func (r *Registry) loadModule(ctx context.Context, name string) (stored, uint64, error) {
	device, _ := wire.SplitTarget(name)
	d, err := r.loadDevice(ctx, device)
	if err != nil {
		return stored{}, 0, err
	}
	s, revision, err := r.findModule(ctx, name)
	switch {
	case err != nil:
		return stored{}, 0, err
	case revision == 0 || !s.of(d):
		return stored{}, 0, ErrModuleNotFound
	}
	s.Status = d.Status
	return s, revision, nil
}

// findModule reads a module of whatever life; the revision is 0 when there is none.
func (r *Registry) findModule(ctx context.Context, name string) (stored, uint64, error) {
	record, err := r.store.Get(ctx, store.KindModule, name)
	if errors.Is(err, store.ErrNotFound) {
		return stored{}, 0, nil
	}
	if err != nil {
		return stored{}, 0, err
	}
	s, err := decode(record)
	return s, record.Revision, err
}

// createModule adds m to its device, in the place of a module of another life.
func (r *Registry) createModule(ctx context.Context, m wire.Device) (wire.Device, error) {
	r.adding.Lock()
	defer r.adding.Unlock()
	err := retry(func() error {
		device, err := r.loadDevice(ctx, m.DeviceID)
		if err != nil {
			return err
		}
		old, revision, err := r.findModule(ctx, m.Name())
		if err != nil {
			return err
		}
		if revision != 0 && old.of(device) {
			return ErrExists
		}
		if err := r.checkRoom(ctx, m.DeviceID); err != nil {
			return err
		}
		value, err := encode(m, device.GenerationID)
		if err != nil {
			return err
		}
		if revision, err = r.write(ctx, store.KindModule, m.Name(), value, revision); err != nil {
			return err
		}
		m.Status, m.ETag = device.Status, etag(revision)
		return nil
	})
	return m, err
}

// checkRoom returns an error when a device may not have one more module.
func (r *Registry) checkRoom(ctx context.Context, device string) error {
	modules, err := r.modules(ctx, device)
	if err == nil && len(modules) >= maxModules {
		err = &InvalidError{"moduleId", fmt.Sprintf("the device has %d modules already, the most it may have", maxModules)}
	}
	return err
}

// forgetModules removes the modules that belong to no device or to another life of it,
// and what hangs on them. A device that has come back meanwhile keeps its own.
func (r *Registry) forgetModules(ctx context.Context, device string) {
	records, _ := r.moduleRecords(ctx, device)
	for _, record := range records {
		_, _, err := r.load(ctx, record.Key)
		if !errors.Is(err, ErrNotFound) {
			continue
		}
		if err := r.store.Delete(ctx, store.KindModule, record.Key, record.Revision); err == nil {
			r.forget(ctx, record.Key)
		}
	}
}
