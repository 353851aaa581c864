package registry

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

const (
	keyA = "ZXhhbXBsZS1rZXktZm9yLXRlc3QtdmVjdG9ycy0wMSE="
	keyB = "ZXhhbXBsZS1rZXktZm9yLXRlc3QtdmVjdG9ycy0wMiE="
)

func TestCreateFillsIn(t *testing.T) {
	ctx, r := t.Context(), open(t)
	d := mustCreate(t, r, wire.Device{DeviceID: "pi-1", GenerationID: "7", ETag: "mine", ConnectionState: wire.Connected})
	if d.Status != wire.StatusEnabled || d.StatusReason != nil || d.ConnectionState != wire.Disconnected || !d.StatusUpdatedTime.IsZero() {
		t.Errorf("status %q, reason %v, connection %q, updated %v", d.Status, d.StatusReason, d.ConnectionState, d.StatusUpdatedTime)
	}
	if len(d.GenerationID) != 18 || strings.Trim(d.GenerationID, "0123456789") != "" {
		t.Errorf("generation %q", d.GenerationID)
	}
	if d.ETag == "" || d.ETag == "mine" {
		t.Errorf("etag %q", d.ETag)
	}
	keys := DeviceKeys(d)
	if len(keys) != 2 || keys[0].Equal(keys[1]) || d.Authentication.Type != wire.AuthSAS {
		t.Errorf("%d keys, type %q", len(keys), d.Authentication.Type)
	}
	if got, err := r.Get(ctx, "pi-1"); err != nil || text(got) != text(d) {
		t.Errorf("Get = %s, %v; created was %s", text(got), err, text(d))
	}
	if _, err := r.Create(ctx, wire.Device{DeviceID: "pi-1"}); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "pi-1") {
		t.Errorf("create again: %v", err)
	}
	mustCreate(t, r, wire.Device{DeviceID: "PI-1"}) // letter case counts
}

func TestCreateKeys(t *testing.T) {
	r := open(t)
	for i, given := range []wire.SymmetricKey{{PrimaryKey: keyA}, {SecondaryKey: keyA}, {PrimaryKey: keyA, SecondaryKey: keyB}} {
		d := mustCreate(t, r, wire.Device{DeviceID: fmt.Sprint("pi-", i), Authentication: &wire.Authentication{SymmetricKey: given}})
		got := d.Authentication.SymmetricKey
		if given.PrimaryKey != "" && got.PrimaryKey != given.PrimaryKey || given.SecondaryKey != "" && got.SecondaryKey != given.SecondaryKey {
			t.Errorf("case %d: a given key was replaced", i)
		}
		if keys := DeviceKeys(d); len(keys) != 2 || keys[0].Equal(keys[1]) {
			t.Errorf("case %d: %d keys, or twice the same", i, len(keys))
		}
	}
}

func TestInvalidIdentities(t *testing.T) {
	reason := strings.Repeat("ä", 129)
	secret := "c2VjcmV0" // base64, too short for a key
	auth := func(kind, primary, secondary string) *wire.Authentication {
		return &wire.Authentication{Type: kind, SymmetricKey: wire.SymmetricKey{PrimaryKey: primary, SecondaryKey: secondary}}
	}
	for name, c := range map[string]struct {
		device wire.Device
		field  string
	}{
		"no id":          {wire.Device{}, "deviceId"},
		"path":           {wire.Device{DeviceID: ".."}, "deviceId"},
		"slash":          {wire.Device{DeviceID: "a/b"}, "deviceId"},
		"long id":        {wire.Device{DeviceID: strings.Repeat("a", 129)}, "deviceId"},
		"status":         {wire.Device{DeviceID: "pi-1", Status: "Enabled"}, "status"},
		"long reason":    {wire.Device{DeviceID: "pi-1", StatusReason: &reason}, "statusReason"},
		"type":           {wire.Device{DeviceID: "pi-1", Authentication: auth("SAS", "", "")}, "authentication.type"},
		"short key":      {wire.Device{DeviceID: "pi-1", Authentication: auth("sas", secret, "")}, "authentication.symmetricKey.primaryKey"},
		"bad second key": {wire.Device{DeviceID: "pi-1", Authentication: auth("sas", keyA, "not base64!")}, "authentication.symmetricKey.secondaryKey"},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
			if err := r.Delete(t.Context(), "pi-1", "*"); err != nil {
				t.Fatal(err)
			}
			_, err := r.Create(t.Context(), c.device)
			wantInvalid(t, err, c.field)
			mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
			_, err = r.Update(t.Context(), c.device, "*")
			wantInvalid(t, err, c.field)
		})
	}
}

func wantInvalid(t *testing.T, err error, field string) {
	t.Helper()
	invalid, ok := errors.AsType[*InvalidError](err)
	if !ok || invalid.Field != field {
		t.Fatalf("error %v, want field %s", err, field)
	}
	if m := err.Error(); strings.ContainsAny(m, "\n") || strings.Contains(m, "c2VjcmV0") || strings.Contains(m, "not base64!") {
		t.Errorf("message %q", m)
	}
}

func TestReasonOf128CharactersIsTaken(t *testing.T) {
	reason := strings.Repeat("ä", 128)
	d := mustCreate(t, open(t), wire.Device{DeviceID: "pi-1", Status: wire.StatusDisabled, StatusReason: &reason})
	if d.Status != wire.StatusDisabled || *d.StatusReason != reason {
		t.Errorf("status %q, reason %q", d.Status, *d.StatusReason)
	}
}

func TestUpdate(t *testing.T) {
	ctx, r := t.Context(), open(t)
	created := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	reason := "stolen"
	sent := wire.Device{DeviceID: "pi-1", GenerationID: "1", Status: wire.StatusDisabled, StatusReason: &reason}
	disabled, err := r.Update(ctx, sent, created.ETag)
	if err != nil {
		t.Fatal(err)
	}
	if disabled.Status != wire.StatusDisabled || *disabled.StatusReason != reason || disabled.StatusUpdatedTime.IsZero() {
		t.Errorf("after disabling: %s", text(disabled))
	}
	if disabled.GenerationID != created.GenerationID || disabled.ETag == created.ETag || keyText(disabled) != keyText(created) {
		t.Errorf("generation, etag or keys are wrong: %s, was %s", text(disabled), text(created))
	}
	if got, err := r.Get(ctx, "pi-1"); err != nil || text(got) != text(disabled) {
		t.Errorf("Get = %s, %v; updated was %s", text(got), err, text(disabled))
	}
	for _, etag := range []string{created.ETag, "", "nonsense"} {
		if _, err := r.Update(ctx, sent, etag); !errors.Is(err, ErrPrecondition) {
			t.Errorf("update with etag %q: %v", etag, err)
		}
	}
	enabled, err := r.Update(ctx, wire.Device{DeviceID: "pi-1", Status: wire.StatusEnabled}, "*")
	if err != nil || enabled.Status != wire.StatusEnabled || enabled.StatusReason != nil {
		t.Errorf("after enabling: %s, %v", text(enabled), err)
	}
	if _, err := r.Update(ctx, wire.Device{DeviceID: "pi-2"}, "*"); !errors.Is(err, ErrNotFound) {
		t.Errorf("update of no device: %v", err)
	}
}

// TestUpdateOfKeysAlone rolls one key; the other stays valid, as does "disabled".
func TestUpdateOfKeysAlone(t *testing.T) {
	ctx, r := t.Context(), open(t)
	reason := "stolen"
	created := mustCreate(t, r, wire.Device{DeviceID: "pi-1", Status: wire.StatusDisabled, StatusReason: &reason})
	sent := wire.Device{DeviceID: "pi-1", Authentication: &wire.Authentication{Type: "sas", SymmetricKey: wire.SymmetricKey{PrimaryKey: keyA}}}
	rolled, err := r.Update(ctx, sent, "*")
	if err != nil {
		t.Fatal(err)
	}
	if k := rolled.Authentication.SymmetricKey; k.PrimaryKey != keyA || k.SecondaryKey != created.Authentication.SymmetricKey.SecondaryKey {
		t.Error("the primary key did not change, or the secondary did")
	}
	if rolled.Status != wire.StatusDisabled || rolled.StatusReason == nil || !rolled.StatusUpdatedTime.IsZero() {
		t.Errorf("status changed: %s", text(rolled))
	}
	sent.Authentication.SymmetricKey.PrimaryKey = ""
	if kept, err := r.Update(ctx, sent, rolled.ETag); err != nil || keyText(kept) != keyText(rolled) {
		t.Errorf("empty keys replaced the ones there were, or %v", err)
	}
}

func TestDelete(t *testing.T) {
	ctx, r := t.Context(), open(t)
	created := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	changed, err := r.Update(ctx, wire.Device{DeviceID: "pi-1", Status: wire.StatusDisabled}, "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, etag := range []string{created.ETag, ""} {
		if err := r.Delete(ctx, "pi-1", etag); !errors.Is(err, ErrPrecondition) {
			t.Errorf("delete with etag %q: %v", etag, err)
		}
	}
	if err := r.Delete(ctx, "pi-1", changed.ETag); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get(ctx, "pi-1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	for _, etag := range []string{changed.ETag, "*"} {
		if err := r.Delete(ctx, "pi-1", etag); !errors.Is(err, ErrNotFound) {
			t.Errorf("delete again with %q: %v", etag, err)
		}
	}
}

// TestGenerations makes one device many times in one instant.
func TestGenerations(t *testing.T) {
	r := open(t)
	synctest.Test(t, func(t *testing.T) {
		generations, etags := map[string]bool{}, map[string]bool{}
		for range 20 {
			d := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
			if generations[d.GenerationID] || etags[d.ETag] {
				t.Fatalf("generation %s or etag %s comes again", d.GenerationID, d.ETag)
			}
			generations[d.GenerationID], etags[d.ETag] = true, true
			if err := r.Delete(t.Context(), "pi-1", "*"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestStatusUpdatedTime(t *testing.T) {
	r := open(t)
	synctest.Test(t, func(t *testing.T) {
		mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
		time.Sleep(time.Hour)
		at := time.Now()
		for _, status := range []wire.DeviceStatus{wire.StatusDisabled, wire.StatusDisabled} {
			d, err := r.Update(t.Context(), wire.Device{DeviceID: "pi-1", Status: status}, "*")
			if err != nil || !d.StatusUpdatedTime.Equal(at) {
				t.Errorf("updated at %v, %v; the status changed at %v", d.StatusUpdatedTime, err, at)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestList(t *testing.T) {
	ctx, r := t.Context(), open(t)
	for _, id := range []string{"c", "a", "b"} {
		mustCreate(t, r, wire.Device{DeviceID: id})
	}
	r.SetConnected("b", true, time.Now())
	got, err := r.List(ctx, "a", 2)
	if err != nil || len(got) != 2 || got[0].DeviceID != "b" || got[1].DeviceID != "c" {
		t.Fatalf("List = %v, %v", got, err)
	}
	for _, d := range got {
		if one, err := r.Get(ctx, d.DeviceID); err != nil || text(one) != text(d) {
			t.Errorf("List has %s, Get %s, %v", text(d), text(one), err)
		}
	}
	if got[0].ConnectionState != wire.Connected || got[1].ConnectionState != wire.Disconnected {
		t.Errorf("connections %q, %q", got[0].ConnectionState, got[1].ConnectionState)
	}
}

// TestConcurrentUpdates has writers of "whatever is there" get in each other's way.
func TestConcurrentUpdates(t *testing.T) {
	r := open(t)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	var wg sync.WaitGroup
	for _, key := range []wire.SymmetricKey{{PrimaryKey: keyA}, {SecondaryKey: keyB}} {
		wg.Go(func() {
			sent := wire.Device{DeviceID: "pi-1", Authentication: &wire.Authentication{Type: "sas", SymmetricKey: key}}
			if _, err := r.Update(t.Context(), sent, "*"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	d, err := r.Get(t.Context(), "pi-1")
	if k := d.Authentication.SymmetricKey; err != nil || k.PrimaryKey != keyA || k.SecondaryKey != keyB {
		t.Errorf("an update was lost, or %v", err)
	}
}

// busyStore is a store in which someone else is always faster.
type busyStore struct{ store.Store }

func (busyStore) Update(context.Context, store.Kind, string, []byte, uint64) (uint64, error) {
	return 0, store.ErrConflict
}

func TestLostRaces(t *testing.T) {
	r := open(t)
	d := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	r = New(busyStore{r.store})
	if _, err := r.Update(t.Context(), d, d.ETag); !errors.Is(err, ErrPrecondition) {
		t.Errorf("with an etag: %v", err)
	}
	if _, err := r.Update(t.Context(), d, "*"); !errors.Is(err, store.ErrConflict) || errors.Is(err, ErrPrecondition) {
		t.Errorf("with any: %v", err)
	}
}

func TestDeviceKeys(t *testing.T) {
	for name, c := range map[string]struct {
		auth *wire.Authentication
		want int
	}{
		"none":       {nil, 0},
		"two":        {&wire.Authentication{Type: "sas", SymmetricKey: wire.SymmetricKey{PrimaryKey: keyA, SecondaryKey: keyB}}, 2},
		"one broken": {&wire.Authentication{Type: "sas", SymmetricKey: wire.SymmetricKey{PrimaryKey: "?", SecondaryKey: keyB}}, 1},
		"empty":      {&wire.Authentication{Type: "sas"}, 0},
		"other type": {&wire.Authentication{Type: "selfSigned", SymmetricKey: wire.SymmetricKey{PrimaryKey: keyA}}, 0},
	} {
		if got := DeviceKeys(wire.Device{Authentication: c.auth}); len(got) != c.want {
			t.Errorf("%s: %d keys, want %d", name, len(got), c.want)
		}
	}
	key, err := credential.ParseKey(keyB)
	got := DeviceKeys(wire.Device{Authentication: &wire.Authentication{Type: "sas", SymmetricKey: wire.SymmetricKey{SecondaryKey: keyB}}})
	if err != nil || len(got) != 1 || !got[0].Equal(key) {
		t.Errorf("not the key that was set, or %v", err)
	}
}

func open(t *testing.T) *Registry {
	t.Helper()
	s, err := store.CreateBolt(filepath.Join(t.TempDir(), "farport.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return New(s)
}

func mustCreate(t *testing.T, r *Registry, d wire.Device) wire.Device {
	t.Helper()
	d, err := r.Create(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func keyText(d wire.Device) string { return fmt.Sprint(d.Authentication.SymmetricKey) }
