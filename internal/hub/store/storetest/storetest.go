// Package storetest holds the tests that every store must pass.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/farportio/farport/internal/hub/store"
)

// Run tests a kind of store. open returns a new, empty one that the suite does
// not close.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for name, test := range map[string]func(*testing.T, store.Store){
		"Absent":     testAbsent,
		"Life":       testLife,
		"Stale":      testStale,
		"Revisions":  testRevisions,
		"Kinds":      testKinds,
		"Keys":       testKeys,
		"Values":     testValues,
		"List":       testList,
		"PutAll":     testPutAll,
		"Ended":      testEnded,
		"Contention": testContention,
		"Model":      testModel,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func testAbsent(t *testing.T, s store.Store) {
	ctx := t.Context()
	_, err := s.Get(ctx, store.KindDevice, "a")
	wantErr(t, "Get", err, store.ErrNotFound)
	_, err = s.Update(ctx, store.KindDevice, "a", nil, 1)
	wantErr(t, "Update", err, store.ErrNotFound)
	wantErr(t, "Delete", s.Delete(ctx, store.KindDevice, "a", 0), store.ErrNotFound)
	wantErr(t, "Delete of a revision", s.Delete(ctx, store.KindDevice, "a", 1), store.ErrNotFound)
	wantKeys(t, s, "", 10)
}

func testLife(t *testing.T, s store.Store) {
	ctx := t.Context()
	first := mustCreate(t, s, "a", "one")
	want(t, s, "a", "one", first)
	_, err := s.Create(ctx, store.KindDevice, "a", []byte("two"))
	wantErr(t, "Create", err, store.ErrExists)
	want(t, s, "a", "one", first)

	second, err := s.Update(ctx, store.KindDevice, "a", []byte("two"), first)
	wantErr(t, "Update", err, nil)
	want(t, s, "a", "two", second)
	wantErr(t, "Delete", s.Delete(ctx, store.KindDevice, "a", second), nil)
	_, err = s.Get(ctx, store.KindDevice, "a")
	wantErr(t, "Get", err, store.ErrNotFound)

	third := mustCreate(t, s, "a", "three")
	wantErr(t, "Delete of any revision", s.Delete(ctx, store.KindDevice, "a", 0), nil)
	if first >= second || second >= third {
		t.Errorf("revisions %d, %d, %d do not rise", first, second, third)
	}
}

func testStale(t *testing.T, s store.Store) {
	ctx := t.Context()
	first := mustCreate(t, s, "a", "one")
	second, err := s.Update(ctx, store.KindDevice, "a", []byte("two"), first)
	wantErr(t, "Update", err, nil)
	for _, revision := range []uint64{0, first, second + 1} {
		_, err = s.Update(ctx, store.KindDevice, "a", []byte("three"), revision)
		wantErr(t, "Update", err, store.ErrConflict)
	}
	for _, revision := range []uint64{first, second + 1} {
		wantErr(t, "Delete", s.Delete(ctx, store.KindDevice, "a", revision), store.ErrConflict)
	}
	want(t, s, "a", "two", second)
}

// testRevisions checks that a record made anew is not taken for the old one.
func testRevisions(t *testing.T, s store.Store) {
	ctx := t.Context()
	used := map[uint64]bool{0: true}
	for range 5 {
		revision := mustCreate(t, s, "a", "x")
		if used[revision] {
			t.Fatalf("revision %d was used before", revision)
		}
		used[revision] = true
		wantErr(t, "Delete", s.Delete(ctx, store.KindDevice, "a", revision), nil)
	}
}

func testKinds(t *testing.T, s store.Store) {
	ctx := t.Context()
	kept := []store.Kind{store.KindDevice, store.KindModule, store.KindTwin, store.KindCA, store.KindSecret, store.KindActivity, store.KindEnded}
	for _, kind := range append([]store.Kind{store.KindPolicy}, kept...) {
		_, err := s.Create(ctx, kind, "a", []byte(kind))
		wantErr(t, "Create", err, nil)
	}
	wantErr(t, "Delete", s.Delete(ctx, store.KindPolicy, "a", 0), nil)
	for _, kind := range kept {
		r, err := s.Get(ctx, kind, "a")
		wantErr(t, "Get", err, nil)
		if string(r.Value) != string(kind) {
			t.Errorf("Get of kind %s = %q", kind, r.Value)
		}
	}
}

// testKeys uses every character an ID may have; keys differ by letter case.
func testKeys(t *testing.T, s store.Store) {
	keys := []string{"a", "A", "-.+%_#*?!(),=@$':", "a.b", "a/b", "a%2Fb", "ä", "a:b", string(bytes.Repeat([]byte("k"), 128))}
	for _, key := range keys {
		mustCreate(t, s, key, "value of "+key)
	}
	for _, key := range keys {
		r, err := s.Get(t.Context(), store.KindDevice, key)
		wantErr(t, "Get", err, nil)
		if r.Key != key || string(r.Value) != "value of "+key {
			t.Errorf("Get(%q) = %q, %q", key, r.Key, r.Value)
		}
	}
	slices.Sort(keys)
	wantKeys(t, s, "", 100, keys...)
}

func testValues(t *testing.T, s store.Store) {
	ctx := t.Context()
	value := []byte("kept")
	revision, err := s.Create(ctx, store.KindDevice, "a", value)
	wantErr(t, "Create", err, nil)
	value[0] = 'X' // the store's copy is its own
	r, err := s.Get(ctx, store.KindDevice, "a")
	wantErr(t, "Get", err, nil)
	r.Value[0] = 'X' // and this one ours
	want(t, s, "a", "kept", revision)
	for _, size := range []int{0, 1, 100_000} {
		revision, err = s.Update(ctx, store.KindDevice, "a", make([]byte, size), revision)
		wantErr(t, "Update", err, nil)
		want(t, s, "a", string(make([]byte, size)), revision)
	}
}

func testList(t *testing.T, s store.Store) {
	for _, key := range []string{"d", "b", "a", "e", "c"} {
		mustCreate(t, s, key, "v")
	}
	wantKeys(t, s, "", 10, "a", "b", "c", "d", "e")
	wantKeys(t, s, "", 2, "a", "b")
	wantKeys(t, s, "b", 2, "c", "d")
	wantKeys(t, s, "bb", 2, "c", "d")
	wantKeys(t, s, "d", 2, "e")
	wantKeys(t, s, "e", 2)
	wantKeys(t, s, "z", 2)
	wantKeys(t, s, "", 0)
	wantErr(t, "Delete", s.Delete(t.Context(), store.KindDevice, "c", 0), nil)
	wantKeys(t, s, "c", 10, "d", "e")
}

func testPutAll(t *testing.T, s store.Store) {
	ctx := t.Context()
	old := mustCreate(t, s, "a", "old")
	wantErr(t, "PutAll of nothing", s.PutAll(ctx, store.KindDevice, nil), nil)
	want(t, s, "a", "old", old)
	err := s.PutAll(ctx, store.KindDevice, map[string][]byte{"a": []byte("new"), "b": []byte("new")})
	wantErr(t, "PutAll", err, nil)
	list, err := s.List(ctx, store.KindDevice, "", 10)
	wantErr(t, "List", err, nil)
	if len(list) != 2 || string(list[0].Value) != "new" || string(list[1].Value) != "new" {
		t.Fatalf("List = %v", list)
	}
	if list[0].Revision <= old || list[1].Revision <= old || list[0].Revision == list[1].Revision {
		t.Errorf("revisions %d and %d after %d", list[0].Revision, list[1].Revision, old)
	}
	_, err = s.Update(ctx, store.KindDevice, "a", nil, old)
	wantErr(t, "Update", err, store.ErrConflict)
}

func testEnded(t *testing.T, s store.Store) {
	revision := mustCreate(t, s, "a", "one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, store.KindDevice, "a")
	wantErr(t, "Get", err, context.Canceled)
	_, err = s.Create(ctx, store.KindDevice, "b", nil)
	wantErr(t, "Create", err, context.Canceled)
	_, err = s.Update(ctx, store.KindDevice, "a", nil, revision)
	wantErr(t, "Update", err, context.Canceled)
	_, err = s.List(ctx, store.KindDevice, "", 1)
	wantErr(t, "List", err, context.Canceled)
	wantErr(t, "Delete", s.Delete(ctx, store.KindDevice, "a", 0), context.Canceled)
	wantErr(t, "PutAll", s.PutAll(ctx, store.KindDevice, map[string][]byte{"b": nil}), context.Canceled)
	want(t, s, "a", "one", revision)
	wantKeys(t, s, "", 10, "a")
}

// testContention lets several writers count up one record by compare-and-set.
func testContention(t *testing.T, s store.Store) {
	const writers, each = 4, 25
	mustCreate(t, s, "n", "")
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				r, err := s.Get(t.Context(), store.KindDevice, "n")
				if err == nil {
					_, err = s.Update(t.Context(), store.KindDevice, "n", append(r.Value, 'x'), r.Revision)
				}
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrConflict):
					t.Errorf("count up: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	r, err := s.Get(t.Context(), store.KindDevice, "n")
	wantErr(t, "Get", err, nil)
	if len(r.Value) != writers*each {
		t.Errorf("%d updates were kept of %d", len(r.Value), writers*each)
	}
}

// testModel does random things and compares with a map.
func testModel(t *testing.T, s store.Store) {
	random := rand.New(rand.NewPCG(1, 2))
	model := map[string]store.Record{}
	for i := range 500 {
		key := fmt.Sprint("key-", random.IntN(40))
		r, there := model[key]
		value := bytes.Repeat([]byte{byte(i)}, random.IntN(2000))
		var err error
		switch {
		case !there:
			r.Revision, err = s.Create(t.Context(), store.KindDevice, key, value)
			model[key] = store.Record{Key: key, Value: value, Revision: r.Revision}
		case random.IntN(3) > 0:
			r.Revision, err = s.Update(t.Context(), store.KindDevice, key, value, r.Revision)
			model[key] = store.Record{Key: key, Value: value, Revision: r.Revision}
		default:
			err = s.Delete(t.Context(), store.KindDevice, key, r.Revision)
			delete(model, key)
		}
		wantErr(t, "write "+key, err, nil)
	}
	list, err := s.List(t.Context(), store.KindDevice, "", len(model)+1)
	wantErr(t, "List", err, nil)
	if len(list) != len(model) {
		t.Fatalf("%d records where %d should be", len(list), len(model))
	}
	for _, r := range list {
		if m := model[r.Key]; m.Revision != r.Revision || !bytes.Equal(m.Value, r.Value) {
			t.Errorf("record %q is not what was written last", r.Key)
		}
	}
}

func mustCreate(t *testing.T, s store.Store, key, value string) uint64 {
	t.Helper()
	revision, err := s.Create(t.Context(), store.KindDevice, key, []byte(value))
	wantErr(t, "Create", err, nil)
	return revision
}

func want(t *testing.T, s store.Store, key, value string, revision uint64) {
	t.Helper()
	r, err := s.Get(t.Context(), store.KindDevice, key)
	wantErr(t, "Get", err, nil)
	if r.Key != key || string(r.Value) != value || r.Revision != revision {
		t.Errorf("Get(%q) = %q, %d bytes, revision %d; want %d bytes, revision %d", key, r.Key, len(r.Value), r.Revision, len(value), revision)
	}
}

func wantKeys(t *testing.T, s store.Store, after string, limit int, keys ...string) {
	t.Helper()
	list, err := s.List(t.Context(), store.KindDevice, after, limit)
	wantErr(t, "List", err, nil)
	var got []string
	for _, r := range list {
		got = append(got, r.Key)
	}
	if !slices.Equal(got, keys) {
		t.Errorf("List after %q = %q, want %q", after, got, keys)
	}
}

func wantErr(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("%s: %v, want %v", what, err, target)
	}
}
