package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/farportio/farport/internal/hub/store"
)

func TestMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.db")
	_, err := store.OpenBolt(path)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file was made: %v", err)
	}
}

func TestDamagedFile(t *testing.T) {
	good := storeFile(t, 300)
	cases := map[string][]byte{
		"empty":            {},
		"one byte":         {1},
		"text":             []byte(strings.Repeat("not a store\n", 5000)),
		"zeros":            make([]byte, len(good)),
		"cut to half":      good[:len(good)/2],
		"cut to two pages": good[:2*os.Getpagesize()],
		"cut by a byte":    good[:len(good)-1],
		"first page gone":  good[os.Getpagesize():],
		"foreign bbolt":    foreignFile(t, false),
		"foreign nested":   foreignFile(t, true),
		"newest meta lost": zeroMeta(good),
		"newest meta old":  oldMeta(t),
		"page lost":        shortFreelist(good),
		"value changed":    replace(t, good, "value 0123", "value 0124"),
		"key changed":      replace(t, good, "device-0123", "device-0122"),
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "farport.db")
			write(t, path, data)
			_, err := store.OpenBolt(path)
			d, ok := errors.AsType[*store.DamagedError](err)
			if !ok || d.Path != path {
				t.Fatalf("error is %v", err)
			}
			if text := err.Error(); !strings.Contains(text, path) || !strings.Contains(text, "backup") || strings.Contains(text, "\n") {
				t.Errorf("message %q", text)
			}
			wantUnchanged(t, path, data)
		})
	}
}

// TestFlippedBytes changes one byte of a store at a time: all that bbolt goes by,
// and others at random. Either that is found and the file left alone, or the
// byte was in no use and everything is there.
func TestFlippedBytes(t *testing.T) {
	const random, headers = 300, 16 + 2*16 // of each page: its header and two elements
	for _, records := range []int{0, 6, 300} {
		t.Run(fmt.Sprint(records), func(t *testing.T) {
			good := storeFile(t, records)
			path := filepath.Join(t.TempDir(), "farport.db")
			dice := rand.New(rand.NewPCG(uint64(records), 1))
			var places []int
			for range random {
				places = append(places, dice.IntN(len(good)))
			}
			for at := range good {
				if at%os.Getpagesize() < headers {
					places = append(places, at)
				}
			}
			for _, at := range places {
				bad := bytes.Clone(good)
				mask := []byte{0x01, 0xff, byte(1 + dice.IntN(255))}[dice.IntN(3)]
				bad[at] ^= mask
				write(t, path, bad)
				wasFound(t, path, bad, records, fmt.Sprintf("byte %d changed by %#x", at, mask))
			}
		})
	}
}

// TestShortPages takes one record off the count of each page. No record is
// damaged then, but some are gone.
func TestShortPages(t *testing.T) {
	good := storeFile(t, 300)
	path := filepath.Join(t.TempDir(), "farport.db")
	const flags, count, leaf = 8, 10, 2 // offsets in a page header, and a value
	var found int
	for at := 0; at < len(good); at += os.Getpagesize() {
		n := binary.NativeEndian.Uint16(good[at+count:])
		if good[at+flags] != leaf || n < 2 {
			continue
		}
		bad := bytes.Clone(good)
		binary.NativeEndian.PutUint16(bad[at+count:], n-1)
		write(t, path, bad)
		if wasFound(t, path, bad, 300, fmt.Sprintf("page at %d", at)) {
			found++
		}
	}
	if found == 0 {
		t.Error("no page was missed")
	}
}

// TestMisledBranches lets each branch lead to each page, itself included.
func TestMisledBranches(t *testing.T) {
	good := storeFile(t, 300)
	path := filepath.Join(t.TempDir(), "farport.db")
	size := os.Getpagesize()
	const flags, child, branch = 8, 16 + 8, 1 // offsets in a page, and a value
	var found int
	for at := 0; at < len(good); at += size {
		if good[at+flags] != branch {
			continue
		}
		for page := range len(good)/size + 2 {
			bad := bytes.Clone(good)
			binary.NativeEndian.PutUint64(bad[at+child:], uint64(page))
			write(t, path, bad)
			if wasFound(t, path, bad, 300, fmt.Sprintf("branch at %d leads to %d", at, page)) {
				found++
			}
		}
	}
	if found == 0 {
		t.Error("nothing was found")
	}
}

// TestScrambledFiles changes many bytes at once.
func TestScrambledFiles(t *testing.T) {
	good := storeFile(t, 300)
	path := filepath.Join(t.TempDir(), "farport.db")
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 150 {
		bad := bytes.Clone(good)
		for range 1 + random.IntN(200) {
			bad[random.IntN(len(bad))] = byte(random.Uint32())
		}
		write(t, path, bad[:random.IntN(len(bad)+1)])
		bad = read(t, path)
		wasFound(t, path, bad, 300, fmt.Sprintf("scramble %d", i))
	}
}

// wasFound opens a file that may be damaged and reports whether that was said.
func wasFound(t *testing.T, path string, data []byte, records int, what string) bool {
	t.Helper()
	s, err := store.OpenBolt(path)
	if err != nil {
		if _, ok := errors.AsType[*store.DamagedError](err); !ok {
			t.Fatalf("%s: %v", what, err)
		}
		wantUnchanged(t, path, data)
		return true
	}
	defer shut(t, s)
	got := list(t, s)
	if len(got) != records {
		t.Fatalf("%s: %d records of %d", what, len(got), records)
	}
	for i, r := range got {
		if r.Key != key(i) || string(r.Value) != value(i) {
			t.Fatalf("%s: record %d is %q, %q", what, i, r.Key, r.Value)
		}
	}
	return false
}

// TestDamageWhileOpen cuts the file under a store in use: reading runs into a
// fault in the mapping, which must come out as an error.
func TestDamageWhileOpen(t *testing.T) {
	s, path := create(t)
	put(t, s, 300)
	if err := os.Truncate(path, int64(2*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := s.List(t.Context(), store.KindDevice, "", 1000)
		if _, ok := errors.AsType[*store.DamagedError](err); !ok {
			t.Errorf("List: %v", err)
		}
	}
	_, err := s.Create(t.Context(), store.KindDevice, "new", nil)
	if _, ok := errors.AsType[*store.DamagedError](err); !ok {
		t.Errorf("Create: %v", err)
	}
	shut(t, s)
}

// storeFile returns the file of a store with n records, some pages of it free.
func storeFile(t *testing.T, n int) []byte {
	t.Helper()
	s, path := create(t)
	put(t, s, n)
	if _, err := s.Create(t.Context(), store.KindPolicy, "service", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	return read(t, path)
}

// foreignFile returns a sound bbolt file that farport did not make.
func foreignFile(t *testing.T, nested bool) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("device"))
		if err == nil && nested {
			_, err = b.CreateBucket([]byte("inner"))
		}
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return read(t, path)
}

// newestMeta returns the offset of the meta page that counts.
func newestMeta(data []byte) int {
	const txid = 16 + 48 // offset in a meta page
	size := os.Getpagesize()
	if binary.NativeEndian.Uint64(data[size+txid:]) > binary.NativeEndian.Uint64(data[txid:]) {
		return size
	}
	return 0
}

// zeroMeta wipes the newer of the two meta pages: with the older one alone,
// bbolt opens the file as it was before the last write.
func zeroMeta(good []byte) []byte {
	bad := bytes.Clone(good)
	clear(bad[newestMeta(bad):][:os.Getpagesize()])
	return bad
}

// oldMeta puts a sound meta page of four writes ago in the place of the newest.
func oldMeta(t *testing.T) []byte {
	t.Helper()
	s, path := create(t)
	defer shut(t, s)
	put(t, s, 300)
	old := read(t, path)
	for i := range 4 {
		if _, err := s.Create(t.Context(), store.KindPolicy, fmt.Sprint(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	bad := read(t, path)
	at := newestMeta(bad)
	copy(bad[at:], old[at:at+os.Getpagesize()])
	return bad
}

// shortFreelist takes one page off the list of free ones.
func shortFreelist(good []byte) []byte {
	const freelist, count = 16 + 32, 10 // offsets in a meta page and a page header
	bad := bytes.Clone(good)
	page := binary.NativeEndian.Uint64(bad[newestMeta(bad)+freelist:])
	bad[int(page)*os.Getpagesize()+count]--
	return bad
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func replace(t *testing.T, good []byte, old, new string) []byte {
	t.Helper()
	if !bytes.Contains(good, []byte(old)) {
		t.Fatalf("no %q in the file", old)
	}
	return bytes.ReplaceAll(good, []byte(old), []byte(new))
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantUnchanged(t *testing.T, path string, data []byte) {
	t.Helper()
	now, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(now, data) {
		t.Fatalf("the file was changed, %d bytes before and %d after, %v", len(data), len(now), err)
	}
}
