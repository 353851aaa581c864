package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

var (
	noon  = time.Date(2026, 3, 4, 12, 0, 0, 123_000_000, time.UTC)
	later = noon.Add(time.Hour)
)

func text(d wire.Device) string {
	data, _ := json.Marshal(d)
	return string(data)
}

func TestActivityShowsAndLasts(t *testing.T) {
	r := open(t)
	created := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	wantSeen(t, r, wire.Disconnected, time.Time{})
	r.SetConnected("pi-1", true, noon)
	wantSeen(t, r, wire.Connected, noon)
	flush(t, r)
	wantSeen(t, r, wire.Connected, noon)
	wantSeen(t, New(r.store), wire.Disconnected, noon) // as after a crash

	r.SetConnected("pi-1", false, later)
	wantSeen(t, r, wire.Disconnected, later)
	flush(t, r)
	wantSeen(t, r, wire.Disconnected, later)
	wantSeen(t, New(r.store), wire.Disconnected, later)
	if n := len(r.presence.devices); n != 0 {
		t.Errorf("%d devices are remembered that are not connected", n)
	}
	d, err := r.Get(t.Context(), "pi-1")
	if err != nil || d.ETag != created.ETag {
		t.Errorf("activity changed the etag, or %v", err)
	}
}

// TestUpdateKeepsActivity checks that a change of the identity neither loses nor
// stores what is known of the connection.
func TestUpdateKeepsActivity(t *testing.T) {
	r := open(t)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	r.SetConnected("pi-1", true, noon)
	d, err := r.Update(t.Context(), wire.Device{DeviceID: "pi-1", ConnectionState: wire.Disconnected}, "*")
	if err != nil || d.ConnectionState != wire.Connected || !d.LastActivityTime.Equal(noon) {
		t.Errorf("update returned %s, %v", text(d), err)
	}
	wantSeen(t, r, wire.Connected, noon)
	wantSeen(t, New(r.store), wire.Disconnected, time.Time{})
}

func TestActivityIsNotInherited(t *testing.T) {
	for name, flushed := range map[string]bool{"in memory": false, "stored": true} {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
			r.SetConnected("pi-1", true, noon)
			if flushed {
				flush(t, r)
			}
			if err := r.Delete(t.Context(), "pi-1", "*"); err != nil {
				t.Fatal(err)
			}
			if _, err := r.store.Get(t.Context(), store.KindActivity, "pi-1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("activity is still stored: %v", err)
			}
			mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
			r.SetConnected("pi-1", false, later) // the old one's connection ends at last
			wantSeen(t, r, wire.Disconnected, time.Time{})
			flush(t, r)
			wantSeen(t, New(r.store), wire.Disconnected, time.Time{})
		})
	}
}

// TestStoredActivityOfAnotherLife has the crash between the two writes of a
// delete leave the activity behind.
func TestStoredActivityOfAnotherLife(t *testing.T) {
	r := open(t)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	r.SetConnected("pi-1", true, noon)
	flush(t, r)
	if err := r.store.Delete(t.Context(), store.KindDevice, "pi-1", 0); err != nil {
		t.Fatal(err)
	}
	r = New(r.store)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	wantSeen(t, r, wire.Disconnected, time.Time{})
}

// TestFlushOfDeletedDevice has a device connect just as it is deleted.
func TestFlushOfDeletedDevice(t *testing.T) {
	r := open(t)
	r.SetConnected("ghost", true, noon)
	r.SetConnected("ghost", false, later)
	flush(t, r)
	if _, err := r.store.Get(t.Context(), store.KindActivity, "ghost"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("activity of no device is stored: %v", err)
	}
	if n := len(r.presence.devices); n != 0 {
		t.Errorf("%d devices are remembered", n)
	}
}

// countingStore counts writes of many records, and can fail them.
type countingStore struct {
	store.Store
	err   error
	sizes []int
}

func (s *countingStore) PutAll(ctx context.Context, kind store.Kind, values map[string][]byte) error {
	if s.err != nil {
		return s.err
	}
	s.sizes = append(s.sizes, len(values))
	return s.Store.PutAll(ctx, kind, values)
}

func TestFlushInBatches(t *testing.T) {
	r := open(t)
	counting := &countingStore{Store: r.store}
	r = New(counting)
	devices := map[string][]byte{}
	for i := range flushBatch + 3 {
		devices[fmt.Sprint(i)] = []byte(`{"generationId":"1","authentication":{}}`)
		r.SetConnected(fmt.Sprint(i), true, noon)
	}
	if err := counting.Store.PutAll(t.Context(), store.KindDevice, devices); err != nil {
		t.Fatal(err)
	}
	counting.err = errors.New("no space left")
	if err := r.FlushActivity(t.Context()); !errors.Is(err, counting.err) {
		t.Fatalf("flush: %v", err)
	}
	counting.err = nil
	flush(t, r) // what failed is tried again
	flush(t, r) // and what was stored is not
	if got := fmt.Sprint(counting.sizes); got != fmt.Sprintf("[%d 3]", flushBatch) {
		t.Errorf("writes of %s records", got)
	}
}

// TestActivityRaces flushes while devices come and go.
func TestActivityRaces(t *testing.T) {
	r := open(t)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 200 {
			r.SetConnected("pi-1", i%2 == 0, noon.Add(time.Duration(i)*time.Second))
		}
	})
	wg.Go(func() {
		for range 10 {
			if err := r.FlushActivity(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	last := noon.Add(199 * time.Second)
	wantSeen(t, r, wire.Disconnected, last)
	flush(t, r)
	wantSeen(t, New(r.store), wire.Disconnected, last)
}

func flush(t *testing.T, r *Registry) {
	t.Helper()
	if err := r.FlushActivity(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wantSeen(t *testing.T, r *Registry, state wire.ConnectionState, at time.Time) {
	t.Helper()
	d, err := r.Get(t.Context(), "pi-1")
	if err != nil {
		t.Fatal(err)
	}
	if d.ConnectionState != state || !d.LastActivityTime.Equal(at) || !d.ConnectionStateUpdatedTime.Equal(at) {
		t.Errorf("%s since %v, last seen %v; want %s, %v", d.ConnectionState, d.ConnectionStateUpdatedTime, d.LastActivityTime, state, at)
	}
}
