package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/skip"
)

// TestNoSpace fills a small file system: writes fail with the reason, what was
// written stays readable, and once there is room all is well.
func TestNoSpace(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=2m"); err != nil {
		skip.Test(t, "mount a small file system: "+err.Error())
	}
	defer syscall.Unmount(folder, syscall.MNT_DETACH)
	path := filepath.Join(folder, "farport.db")
	s, err := store.CreateBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(folder, "ballast")
	write(t, ballast, make([]byte, 512<<10))

	written := fill(t, s, 0)
	if _, err := s.Get(t.Context(), store.KindDevice, "0"); err != nil {
		t.Errorf("read while full: %v", err)
	}
	fill(t, s, written) // still an error, no worse
	if n := len(list(t, s)); n != written {
		t.Errorf("%d records while full, %d were acknowledged", n, written)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), store.KindDevice, "after", nil); err != nil {
		t.Errorf("write with room again: %v", err)
	}
	shut(t, s)
	s = reopen(t, path)
	if n := len(list(t, s)); n != written+1 {
		t.Errorf("%d records after all, %d were acknowledged", n, written+1)
	}
	shut(t, s)
}

// fill creates records from number n on until there is no space, and returns
// the number of the one that failed.
func fill(t *testing.T, s *store.Bolt, n int) int {
	t.Helper()
	for ; n < 10_000; n++ {
		_, err := s.Create(t.Context(), store.KindDevice, fmt.Sprint(n), bytes.Repeat([]byte("x"), 3000))
		if errors.Is(err, syscall.ENOSPC) {
			return n
		}
		if err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
	}
	t.Fatal("the file system never got full")
	return n
}
