package store_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/hub/store/storetest"
)

// childEnv makes a re-run of the test binary one of the children below.
const childEnv = "FARPORT_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		writeForEver(path)
	}
	os.Exit(m.Run())
}

// writeForEver creates records and prints the key of each that was written.
func writeForEver(path string) {
	s, err := store.OpenBolt(path)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		key := fmt.Sprintf("%d-%d", os.Getpid(), i)
		if _, err := s.Create(context.Background(), store.KindDevice, key, []byte(key)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(key)
	}
}

func TestBolt(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, _ := create(t)
		t.Cleanup(func() { s.Close() })
		return s
	})
}

func TestReopenKeepsEverything(t *testing.T) {
	s, path := create(t)
	put(t, s, 300)
	before := list(t, s)
	if err := s.Delete(t.Context(), store.KindDevice, before[7].Key, 0); err != nil {
		t.Fatal(err)
	}
	before = list(t, s)
	for range 3 {
		shut(t, s)
		s = reopen(t, path)
		if after := list(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Fatalf("%d records before, %d after, or others", len(before), len(after))
		}
	}
	revision, err := s.Create(t.Context(), store.KindDevice, "new", nil)
	if err != nil || revision <= 300 {
		t.Errorf("revision %d, %v, where 300 were used before", revision, err)
	}
	shut(t, s)
	shut(t, s) // twice does no harm
}

func TestCreatePrivateAndOnce(t *testing.T) {
	s, path := create(t)
	defer s.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := store.CreateBolt(path); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("create over a store: %v", err)
	}
	other := filepath.Join(t.TempDir(), "notes")
	write(t, other, nil)
	if _, err := store.CreateBolt(other); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create over an empty file: %v", err)
	}
	if data, err := os.ReadFile(other); err != nil || len(data) != 0 {
		t.Errorf("the empty file became %d bytes, %v", len(data), err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	s, path := create(t)
	defer s.Close()
	put(t, s, 1)
	start := time.Now()
	_, err := store.OpenBolt(path)
	if took := time.Since(start); !errors.Is(err, store.ErrInUse) || took > 30*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	if !strings.Contains(err.Error(), path) {
		t.Errorf("%q does not name the file", err)
	}
	put(t, s, 2) // the first goes on
}

// TestKill kills a writing process again and again. What it said was written
// must be there.
func TestKill(t *testing.T) {
	s, path := create(t)
	shut(t, s)
	said := map[string]bool{}
	for round := range 8 {
		killWriter(t, path, 20+37*round, said)
		s := reopen(t, path)
		there := map[string]bool{}
		for _, r := range list(t, s) {
			there[r.Key] = true
		}
		shut(t, s)
		for key := range said {
			if !there[key] {
				t.Fatalf("round %d: acknowledged record %s is lost", round, key)
			}
		}
	}
}

// killWriter lets a child write, notes what it says, and kills it after n records.
func killWriter(t *testing.T, path string, n int, said map[string]bool) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+path)
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		if strings.HasPrefix(lines.Text(), "error:") {
			t.Error(lines.Text())
		}
		said[lines.Text()] = true
		if i == n {
			child.Process.Kill() // and go on reading what it had said
		}
	}
	if err := child.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
}

// BenchmarkOpen opens a store of 100,000 records.
func BenchmarkOpen(b *testing.B) {
	s, path := create(b)
	const records, batch = 100_000, 5000
	for first := 0; first < records; first += batch {
		values := map[string][]byte{}
		for i := first; i < first+batch; i++ {
			values[key(i)] = bytes.Repeat([]byte("x"), 600)
		}
		if err := s.PutAll(b.Context(), store.KindDevice, values); err != nil {
			b.Fatal(err)
		}
	}
	shut(b, s)
	for b.Loop() {
		s = reopen(b, path)
		b.StopTimer()
		shut(b, s)
		b.StartTimer()
	}
}

func create(t testing.TB) (*store.Bolt, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "farport.db")
	s, err := store.CreateBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	return s, path
}

func reopen(t testing.TB, path string) *store.Bolt {
	t.Helper()
	s, err := store.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shut(t testing.TB, s *store.Bolt) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func key(i int) string   { return fmt.Sprintf("device-%04d", i) }
func value(i int) string { return fmt.Sprintf("value %04d %s", i, strings.Repeat(".", 100)) }

// put makes n records, in one write and with updates after it.
func put(t *testing.T, s *store.Bolt, n int) {
	t.Helper()
	values := map[string][]byte{}
	for i := range n {
		values[key(i)] = []byte(value(i))
	}
	if err := s.PutAll(t.Context(), store.KindDevice, values); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, s *store.Bolt) []store.Record {
	t.Helper()
	records, err := s.List(t.Context(), store.KindDevice, "", 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	return records
}
