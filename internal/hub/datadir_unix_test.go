//go:build unix

package hub_test

import (
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Who may read what was made does not depend on the umask.
func TestFirstStart(t *testing.T) {
	for _, mask := range []int{0o000, 0o077, 0o022} {
		dir := filepath.Join(t.TempDir(), "a", "b")
		before := syscall.Umask(mask)
		h, err := openDir(t, dir)
		syscall.Umask(before)
		if err != nil {
			t.Fatal(err)
		}
		h.Close()
		want := map[string]fs.FileMode{
			"": 0o700, "hub.db": 0o600, "ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o644, "server-key.pem": 0o600, "connection-strings": 0o700,
		}
		for _, p := range policyNames {
			want["connection-strings/"+p] = 0o600
		}
		got := map[string]fs.FileMode{}
		err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			got[strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")] = info.Mode().Perm()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, want) {
			t.Errorf("umask %03o: modes are %v, want %v", mask, got, want)
		}
		for _, p := range policyNames {
			checkString(t, h, dir, p)
		}
	}
}
