package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/farportio/farport/internal/hub/store"
)

func TestBuiltins(t *testing.T) {
	ctx, r := t.Context(), open(t)
	if err := r.CreateBuiltins(ctx); err != nil {
		t.Fatal(err)
	}
	before, err := r.Policies(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"iothubowner":       "RegistryRead,RegistryWrite,ServiceConnect,DeviceConnect,Owner",
		"service":           "ServiceConnect",
		"device":            "DeviceConnect",
		"registryRead":      "RegistryRead",
		"registryReadWrite": "RegistryRead,RegistryWrite",
	}
	keys := map[string]bool{}
	for _, p := range before {
		if want[p.Name] != p.Rights.String() {
			t.Errorf("policy %s allows %v", p.Name, p.Rights)
		}
		keys[p.Primary.Reveal()], keys[p.Secondary.Reveal()] = true, true
		if one, err := r.Policy(ctx, p.Name); err != nil || one != p {
			t.Errorf("Policy(%q) is another, or %v", p.Name, err)
		}
	}
	if len(before) != len(want) || len(keys) != 2*len(want) {
		t.Errorf("%d policies with %d keys", len(before), len(keys))
	}
	if err := r.CreateBuiltins(ctx); err != nil {
		t.Fatal(err)
	}
	if after, err := r.Policies(ctx); err != nil || !slices.Equal(before, after) {
		t.Errorf("doing it again changed something, or %v", err)
	}
}

// failingStore stops creating after some records, as a crash does.
type failingStore struct {
	store.Store
	left int
}

var errCrash = errors.New("crash")

func (s *failingStore) Create(ctx context.Context, kind store.Kind, key string, value []byte) (uint64, error) {
	if s.left--; s.left < 0 {
		return 0, errCrash
	}
	return s.Store.Create(ctx, kind, key, value)
}

func TestBuiltinsAfterCrash(t *testing.T) {
	ctx, r := t.Context(), open(t)
	if err := New(&failingStore{r.store, 2}).CreateBuiltins(ctx); !errors.Is(err, errCrash) {
		t.Fatalf("first try: %v", err)
	}
	before, err := r.Policies(ctx)
	if err != nil || len(before) != 2 {
		t.Fatalf("%d policies, %v", len(before), err)
	}
	if err := r.CreateBuiltins(ctx); err != nil {
		t.Fatal(err)
	}
	if after, err := r.Policies(ctx); err != nil || len(after) != 5 {
		t.Errorf("%d policies, %v", len(after), err)
	}
	for _, p := range before {
		if now, err := r.Policy(ctx, p.Name); err != nil || now != p {
			t.Errorf("the keys of %s were rolled, or %v", p.Name, err)
		}
	}
}

func TestUnknownPolicy(t *testing.T) {
	r := open(t)
	if err := r.CreateBuiltins(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "Service", "service ", "nobody"} {
		if _, err := r.Policy(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Policy(%q): %v", name, err)
		}
	}
}

func TestRights(t *testing.T) {
	r := RegistryRead | Owner
	if !r.Has(Owner) || !r.Has(RegistryRead|Owner) || r.Has(RegistryWrite) || r.Has(RegistryRead|RegistryWrite) {
		t.Errorf("rights %v", r)
	}
	if text := fmt.Sprint(r, Right(0)); text != "RegistryRead,Owner " {
		t.Errorf("as text %q", text)
	}
}

func TestSecret(t *testing.T) {
	ctx, r := t.Context(), open(t)
	var (
		wg   sync.WaitGroup
		made [8][]byte
	)
	for i := range made {
		wg.Go(func() {
			var err error
			if made[i], err = r.Secret(ctx, "stream-token", 32); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range made {
		if len(s) != 32 || !bytes.Equal(s, made[0]) {
			t.Fatal("not everybody got the same 32 bytes")
		}
	}
	again, err := New(r.store).Secret(ctx, "stream-token", 32)
	if err != nil || !bytes.Equal(again, made[0]) {
		t.Errorf("it is another one later, or %v", err)
	}
	other, err := r.Secret(ctx, "other", 32)
	if err != nil || bytes.Equal(other, made[0]) {
		t.Errorf("two names share a secret, or %v", err)
	}
	if _, err := r.Secret(ctx, "other", 16); err == nil {
		t.Error("a secret of another size was handed out")
	}
}
