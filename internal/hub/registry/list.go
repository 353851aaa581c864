package registry

import (
	"context"
	"fmt"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// listPage is how many records are read at a time where all are wanted.
const listPage = 500

// List returns at most limit devices in byte order of their IDs, strictly after
// the given one ("" for all), each as Get does. A short list is the last one.
func (r *Registry) List(ctx context.Context, after string, limit int) ([]wire.Device, error) {
	records, err := r.store.List(ctx, store.KindDevice, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	devices := make([]wire.Device, 0, len(records))
	for _, record := range records {
		s, err := decode(record)
		if err == nil {
			s.Device, err = r.withActivity(ctx, s.Device)
		}
		if err != nil {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		devices = append(devices, s.Device)
	}
	return devices, nil
}

// Statistics counts devices; modules are left out.
type Statistics struct {
	Total, Enabled, Disabled, Connected int
}

// Count counts all devices. It reads each of them, page by page: devices that come or
// go meanwhile may be counted or not.
func (r *Registry) Count(ctx context.Context) (Statistics, error) {
	var n Statistics
	for after := ""; ; {
		records, err := r.store.List(ctx, store.KindDevice, after, listPage)
		if err != nil {
			return Statistics{}, fmt.Errorf("count devices: %w", err)
		}
		for _, record := range records {
			s, err := decode(record)
			if err != nil {
				return Statistics{}, fmt.Errorf("count devices: %w", err)
			}
			seen, _ := r.presence.get(record.Key)
			n.add(s.Status, seen.connected)
		}
		if len(records) < listPage {
			return n, nil
		}
		after = records[len(records)-1].Key
	}
}

func (n *Statistics) add(status wire.DeviceStatus, connected bool) {
	n.Total++
	if status == wire.StatusEnabled {
		n.Enabled++
	} else {
		n.Disabled++
	}
	if connected {
		n.Connected++
	}
}
