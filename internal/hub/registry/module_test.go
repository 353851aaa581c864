package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

func TestModuleLife(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	device := mustCreate(t, r, wire.Device{DeviceID: "pi-1", ManagedBy: "nobody"})
	if device.ManagedBy != "" {
		t.Errorf("a device is managed by %q", device.ManagedBy)
	}
	reason := "x"
	m := mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "camera", ManagedBy: "Ada, née Byron", Status: "gone", StatusReason: &reason, GenerationID: "7", ETag: "mine"})
	if m.Name() != "pi-1/camera" || m.ManagedBy != "Ada, née Byron" || m.Status != wire.StatusEnabled || m.StatusReason != nil ||
		m.GenerationID == device.GenerationID || len(m.GenerationID) != 18 || m.ETag == "" || m.ETag == "mine" || len(DeviceKeys(m)) != 2 {
		t.Errorf("created %s", text(m))
	}
	if keyText(m) == keyText(device) {
		t.Error("the module has its device's keys")
	}
	if got, err := r.Get(ctx, "pi-1/camera"); err != nil || text(got) != text(m) {
		t.Errorf("Get = %s, %v; created was %s", text(got), err, text(m))
	}
	if _, err := r.Create(ctx, wire.Device{DeviceID: "pi-1", ModuleID: "camera"}); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), `module "pi-1/camera"`) {
		t.Errorf("create again: %v", err)
	}
	updated, err := r.Update(ctx, wire.Device{DeviceID: "pi-1", ModuleID: "camera", ManagedBy: "Bob", Status: wire.StatusDisabled}, m.ETag)
	if err != nil || updated.ManagedBy != "Bob" || updated.Status != wire.StatusEnabled || updated.GenerationID != m.GenerationID || updated.ETag == m.ETag || keyText(updated) != keyText(m) {
		t.Errorf("updated %s, %v", text(updated), err)
	}
	if kept, err := r.Update(ctx, wire.Device{DeviceID: "pi-1", ModuleID: "camera"}, "*"); err != nil || kept.ManagedBy != "Bob" {
		t.Errorf("updated by nothing %s, %v", text(kept), err)
	}
	for _, etag := range []string{m.ETag, "", updated.ETag} {
		if err := r.Delete(ctx, "pi-1/camera", etag); !errors.Is(err, ErrPrecondition) {
			t.Errorf("delete with etag %q: %v", etag, err)
		}
		if _, err := r.Update(ctx, m, etag); !errors.Is(err, ErrPrecondition) {
			t.Errorf("update with etag %q: %v", etag, err)
		}
	}
	if err := r.Delete(ctx, "pi-1/camera", "*"); err != nil {
		t.Fatal(err)
	}
	wantNoModule(t, r, "pi-1/camera")
	again := mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "camera"})
	if again.GenerationID == m.GenerationID || again.ETag == m.ETag || keyText(again) == keyText(m) || again.ManagedBy != "" {
		t.Errorf("made anew %s, was %s", text(again), text(m))
	}
	if after, err := r.Get(ctx, "pi-1"); err != nil || text(after) != text(device) {
		t.Errorf("the device is now %s, %v", text(after), err)
	}
}

// wantNoModule checks that a module is not there, whose device is.
func wantNoModule(t *testing.T, r *Registry, name string) {
	t.Helper()
	device, module := wire.SplitTarget(name)
	for what, err := range map[string]error{
		"get":    second(r.Get(t.Context(), name)),
		"update": second(r.Update(t.Context(), wire.Device{DeviceID: device, ModuleID: module}, "*")),
		"delete": r.Delete(t.Context(), name, "*"),
		"etag":   r.Delete(t.Context(), name, "x"),
		"twin":   second(r.Twin(t.Context(), name)),
	} {
		if !errors.Is(err, ErrModuleNotFound) || !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", what, err)
		}
	}
	modules, err := r.Modules(t.Context(), device)
	if err != nil || slices.ContainsFunc(modules, func(m wire.Device) bool { return m.ModuleID == module }) {
		t.Errorf("it is listed, or %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestModuleWithoutDevice(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	for what, err := range map[string]error{
		"create":             second(r.Create(ctx, wire.Device{DeviceID: "pi-1", ModuleID: "m"})),
		"get":                second(r.Get(ctx, "pi-1/m")),
		"update":             second(r.Update(ctx, wire.Device{DeviceID: "pi-1", ModuleID: "m"}, "*")),
		"delete":             r.Delete(ctx, "pi-1/m", "*"),
		"list":               second(r.Modules(ctx, "pi-1")),
		"list of a module":   second(r.Modules(ctx, "pi-1/m")),
		"get of half a name": second(r.Get(ctx, "pi-1/")),
		"get of no name":     second(r.Get(ctx, "")),
		"get of no device":   second(r.Get(ctx, "/m")),
		"twin":               second(r.Twin(ctx, "pi-1/m")),
	} {
		if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrModuleNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "m"})
	for what, err := range map[string]error{
		"list of a module": second(r.Modules(ctx, "pi-1/m")),
		"half a name":      second(r.Get(ctx, "pi-1/")),
		"three parts":      second(r.Get(ctx, "pi-1/m/x")),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestInvalidModules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		module wire.Device
		field  string
	}{
		"device":  {wire.Device{DeviceID: "a/b", ModuleID: "m"}, "deviceId"},
		"slash":   {wire.Device{DeviceID: "pi-1", ModuleID: "a/b"}, "moduleId"},
		"dots":    {wire.Device{DeviceID: "pi-1", ModuleID: ".."}, "moduleId"},
		"long":    {wire.Device{DeviceID: "pi-1", ModuleID: strings.Repeat("a", 129)}, "moduleId"},
		"manager": {wire.Device{DeviceID: "pi-1", ModuleID: "m", ManagedBy: strings.Repeat("ä", 129)}, "managedBy"},
		"control": {wire.Device{DeviceID: "pi-1", ModuleID: "m", ManagedBy: "a\nb"}, "managedBy"},
		"escape":  {wire.Device{DeviceID: "pi-1", ModuleID: "m", ManagedBy: "\x1b[31m"}, "managedBy"},
		"bytes":   {wire.Device{DeviceID: "pi-1", ModuleID: "m", ManagedBy: "\xff"}, "managedBy"},
	} {
		r := open(t)
		mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
		_, err := r.Create(t.Context(), c.module)
		t.Run(name, func(t *testing.T) { wantInvalid(t, err, c.field) })
	}
	r := openFor(t, names["module"])
	longest := strings.Repeat("ä", 128)
	if m := mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "m", ManagedBy: longest}); m.ManagedBy != longest {
		t.Errorf("managed by %q", m.ManagedBy)
	}
}

// TestModulesOfOneDevice has neighbours whose names sort around the device's.
func TestModulesOfOneDevice(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	for _, device := range []string{"pi", "pi-1", "pi-", "pi.", "pi:", "pi0", "pj"} {
		mustCreate(t, r, wire.Device{DeviceID: device})
		for _, module := range []string{"b", "a", "$hub"} {
			mustCreate(t, r, wire.Device{DeviceID: device, ModuleID: module})
		}
	}
	r.SetConnected("pi/b", true, noon)
	modules, err := r.Modules(ctx, "pi")
	if err != nil || len(modules) != 3 || modules[0].Name() != "pi/$hub" || modules[1].Name() != "pi/a" || modules[2].Name() != "pi/b" {
		t.Fatalf("Modules = %v, %v", modules, err)
	}
	for _, m := range modules {
		if one, err := r.Get(ctx, m.Name()); err != nil || text(one) != text(m) {
			t.Errorf("Modules has %s, Get %s, %v", text(m), text(one), err)
		}
	}
	if modules[1].ConnectionState != wire.Disconnected || modules[2].ConnectionState != wire.Connected {
		t.Errorf("connections %q, %q", modules[1].ConnectionState, modules[2].ConnectionState)
	}
	devices, err := r.List(ctx, "", 100)
	if err != nil || len(devices) != 7 || slices.ContainsFunc(devices, func(d wire.Device) bool { return d.ModuleID != "" }) {
		t.Errorf("List = %v, %v", devices, err)
	}
	if d, err := r.Get(ctx, "pi"); err != nil || d.ConnectionState != wire.Disconnected {
		t.Errorf("the device is %s with its module, or %v", d.ConnectionState, err)
	}
	mustCreate(t, r, wire.Device{DeviceID: "bare"})
	if modules, err := r.Modules(ctx, "bare"); err != nil || len(modules) != 0 {
		t.Errorf("Modules = %v, %v", modules, err)
	}
}

func TestFiftyModules(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	mustCreate(t, r, wire.Device{DeviceID: "pi-2"})
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for i := range maxModules + 3 {
		wg.Go(func() {
			if _, err := r.Create(ctx, wire.Device{DeviceID: "pi-1", ModuleID: fmt.Sprint(i)}); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
		})
	}
	wg.Wait()
	if len(failed) != 3 {
		t.Fatalf("%d were refused", len(failed))
	}
	for _, err := range failed {
		wantInvalid(t, err, "moduleId")
	}
	modules, err := r.Modules(ctx, "pi-1")
	if err != nil || len(modules) != maxModules {
		t.Fatalf("%d modules, %v", len(modules), err)
	}
	if _, err := r.Create(ctx, wire.Device{DeviceID: "pi-1", ModuleID: modules[0].ModuleID}); !errors.Is(err, ErrExists) {
		t.Errorf("create one that is there: %v", err)
	}
	mustCreate(t, r, wire.Device{DeviceID: "pi-2", ModuleID: "m"})
	if err := r.Delete(ctx, modules[7].Name(), modules[7].ETag); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "one-more"})
}

func TestDisabledDeviceDisablesModules(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1", Status: wire.StatusDisabled})
	m := mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "m", Status: wire.StatusEnabled})
	check := func(want wire.DeviceStatus) {
		t.Helper()
		got, err := r.Get(ctx, "pi-1/m")
		if err != nil || got.Status != want || got.ETag != m.ETag {
			t.Errorf("Get has %s, %v", text(got), err)
		}
		modules, err := r.Modules(ctx, "pi-1")
		if err != nil || len(modules) != 1 || text(modules[0]) != text(got) {
			t.Errorf("Modules has %v, %v", modules, err)
		}
		if twin, err := r.Twin(ctx, "pi-1/m"); err != nil || twin.Status != want || twin.ModuleID != "m" || twin.DeviceETag != m.ETag {
			t.Errorf("Twin has %+v, %v", twin, err)
		}
	}
	if m.Status != wire.StatusDisabled {
		t.Errorf("created %s", m.Status)
	}
	check(wire.StatusDisabled)
	if _, err := r.Update(ctx, wire.Device{DeviceID: "pi-1", Status: wire.StatusEnabled}, "*"); err != nil {
		t.Fatal(err)
	}
	check(wire.StatusEnabled)
	if _, err := r.Update(ctx, m, "*"); err != nil {
		t.Fatal(err)
	}
	record, err := r.store.Get(ctx, store.KindModule, "pi-1/m")
	if err != nil || strings.Contains(string(record.Value), "abled") {
		t.Errorf("stored is %s, %v", record.Value, err)
	}
}

func TestDeleteDeviceDeletesModules(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	for _, device := range []string{"pi-1", "pi-1-b"} {
		mustCreate(t, r, wire.Device{DeviceID: device})
		for _, module := range []string{"a", "b"} {
			m := mustCreate(t, r, wire.Device{DeviceID: device, ModuleID: module})
			r.SetConnected(m.Name(), true, noon)
			if _, err := r.Report(ctx, m.Name(), m.GenerationID, []byte(`{"x":1}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	flush(t, r)
	if err := r.Delete(ctx, "pi-1", "*"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []store.Kind{store.KindDevice, store.KindModule, store.KindTwin, store.KindActivity} {
		records, err := r.store.List(ctx, kind, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range records {
			if !strings.HasPrefix(record.Key, "pi-1-b") {
				t.Errorf("%s %q is left", kind, record.Key)
			}
		}
	}
	if _, ok := r.presence.get("pi-1/a"); ok {
		t.Error("a module that is gone is still connected")
	}
	if modules, err := r.Modules(ctx, "pi-1-b"); err != nil || len(modules) != 2 || modules[0].ConnectionState != wire.Connected {
		t.Errorf("the neighbour has %v, %v", modules, err)
	}
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	wantNoModule(t, r, "pi-1/a")
}

// TestModuleOfAnotherLife has the crash between the writes of a delete leave modules
// behind, also more than a device may have.
func TestModuleOfAnotherLife(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	var old wire.Device
	for range 2 {
		device := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
		left := map[string][]byte{}
		for i := range maxModules {
			old = wire.Device{DeviceID: "pi-1", ModuleID: device.GenerationID + fmt.Sprint("-", i), Authentication: &wire.Authentication{Type: wire.AuthSAS, SymmetricKey: wire.SymmetricKey{PrimaryKey: keyA, SecondaryKey: keyB}}}
			left[old.Name()], _ = encode(old, device.GenerationID)
		}
		if err := r.store.PutAll(ctx, store.KindModule, left); err != nil {
			t.Fatal(err)
		}
		crashedDelete(t, r, "pi-1")
	}
	if _, err := r.Get(ctx, old.Name()); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrModuleNotFound) {
		t.Errorf("get without the device: %v", err)
	}
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	wantNoModule(t, r, old.Name())
	again := mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: old.ModuleID})
	if again.GenerationID == "" || again.Authentication.SymmetricKey.PrimaryKey == keyA || again.Authentication.SymmetricKey.SecondaryKey == keyB {
		t.Error("old keys have come back")
	}
	if got, err := r.Get(ctx, old.Name()); err != nil || text(got) != text(again) {
		t.Errorf("Get = %s, %v", text(got), err)
	}
	if modules, err := r.Modules(ctx, "pi-1"); err != nil || len(modules) != 1 {
		t.Errorf("%d modules, %v", len(modules), err)
	}
	if err := r.Delete(ctx, "pi-1", "*"); err != nil {
		t.Fatal(err)
	}
	if records, err := r.store.List(ctx, store.KindModule, "", 1000); err != nil || len(records) != 0 {
		t.Errorf("%d modules are left, %v", len(records), err)
	}
}

// crashedDelete deletes a device's record and nothing else.
func crashedDelete(t *testing.T, r *Registry, device string) {
	t.Helper()
	if err := r.store.Delete(t.Context(), store.KindDevice, device, 0); err != nil {
		t.Fatal(err)
	}
}

// revivingStore makes a device and its module anew as soon as the device is deleted,
// before what is left of the old ones is cleared away.
type revivingStore struct {
	store.Store
	revive func()
}

func (s *revivingStore) Delete(ctx context.Context, kind store.Kind, key string, revision uint64) error {
	err := s.Store.Delete(ctx, kind, key, revision)
	if revive := s.revive; revive != nil && kind == store.KindDevice {
		s.revive = nil
		revive()
	}
	return err
}

func TestDeleteSparesNewLife(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	reviving := &revivingStore{Store: r.store}
	r = New(reviving)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "a"})
	mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "b"})
	var revived wire.Device
	reviving.revive = func() {
		mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
		revived = mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "a"})
		for _, name := range []string{"pi-1", "pi-1/a"} {
			if _, _, err := r.UpdateTwin(ctx, name, TwinChange{Tags: map[string]any{"new": true}}, "*"); err != nil {
				t.Error(err)
			}
		}
	}
	if err := r.Delete(ctx, "pi-1", "*"); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Get(ctx, "pi-1/a"); err != nil || text(got) != text(revived) {
		t.Errorf("Get = %s, %v", text(got), err)
	}
	for _, name := range []string{"pi-1", "pi-1/a"} {
		if twin, err := r.Twin(ctx, name); err != nil || twin.Tags["new"] != true {
			t.Errorf("twin of %s: %+v, %v", name, twin, err)
		}
	}
	if records, err := r.store.List(ctx, store.KindModule, "", 10); err != nil || len(records) != 1 {
		t.Errorf("%d modules are stored, %v", len(records), err)
	}
}

func TestModuleActivity(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "m"})
	seen := func(r *Registry, name string, state wire.ConnectionState, at time.Time) {
		t.Helper()
		if d, err := r.Get(ctx, name); err != nil || d.ConnectionState != state || !d.LastActivityTime.Equal(at) {
			t.Errorf("%s is %s since %v, %v", name, d.ConnectionState, d.LastActivityTime, err)
		}
	}
	r.SetConnected("pi-1/m", true, noon)
	r.SetConnected("pi-1/ghost", true, noon)
	r.SetConnected("ghost/m", true, noon)
	seen(r, "pi-1/m", wire.Connected, noon)
	seen(r, "pi-1", wire.Disconnected, time.Time{})
	flush(t, r)
	seen(New(r.store), "pi-1/m", wire.Disconnected, noon)
	if records, err := r.store.List(ctx, store.KindActivity, "", 10); err != nil || len(records) != 1 {
		t.Errorf("%d activities are stored, %v", len(records), err)
	}
	if err := r.Delete(ctx, "pi-1/m", "*"); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "m"})
	r.SetConnected("pi-1/m", false, later) // the old one's connection ends at last
	seen(r, "pi-1/m", wire.Disconnected, time.Time{})
}

func TestCount(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	if n, err := r.Count(ctx); err != nil || n != (Statistics{}) {
		t.Errorf("of nothing: %+v, %v", n, err)
	}
	devices := map[string][]byte{}
	for i := range listPage + 3 {
		status := map[bool]wire.DeviceStatus{true: wire.StatusEnabled, false: wire.StatusDisabled}[i%4 != 0]
		d := wire.Device{DeviceID: fmt.Sprint("pi-", i), Status: status, GenerationID: "1", Authentication: &wire.Authentication{Type: wire.AuthSAS}}
		devices[d.DeviceID], _ = encode(d, "")
	}
	if err := r.store.PutAll(ctx, store.KindDevice, devices); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, r, wire.Device{DeviceID: "pi-1", ModuleID: "m"})
	r.SetConnected("pi-1/m", true, noon)
	r.SetConnected("pi-1", true, noon)
	r.SetConnected("pi-8", true, noon)
	r.SetConnected("pi-9", true, noon)
	r.SetConnected("pi-9", false, noon)
	disabled := (listPage + 3 + 3) / 4
	want := Statistics{Total: listPage + 3, Enabled: listPage + 3 - disabled, Disabled: disabled, Connected: 2}
	if n, err := r.Count(ctx); err != nil || n != want {
		t.Errorf("%+v, %v, want %+v", n, err, want)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if n, err := r.Count(ended); !errors.Is(err, context.Canceled) || n != (Statistics{}) {
		t.Errorf("for a caller who has gone: %+v, %v", n, err)
	}
}
