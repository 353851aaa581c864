package hub_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A damaged file is named, and left as it is.
func TestDamagedFiles(t *testing.T) {
	whole := used(t)
	other := used(t)
	for _, name := range []string{"hub.db", "ca.pem", "ca-key.pem", "server.pem", "server-key.pem"} {
		text, err := os.ReadFile(filepath.Join(whole, name))
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		damage := map[string][]byte{
			"empty":   {},
			"cut":     text[:len(text)/2],
			"flipped": flip(text, map[bool]int{true: 40, false: 100}[name == "hub.db"]), // in a meta page, in a key's secret part
			"zeros":   make([]byte, len(text)),
			"text":    []byte("hello\n"),
		}
		if name != "hub.db" && name != "ca.pem" { // those are whole elsewhere, too
			damage["another hub's"] = foreign
		}
		for what, text := range damage {
			t.Run(name+" "+what, func(t *testing.T) {
				dir := clone(t, whole)
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
					t.Fatal(err)
				}
				refused(t, dir, name, "restore")
			})
		}
	}
	// Any one flipped character of the CA's certificate would change its fingerprint.
	text, err := os.ReadFile(filepath.Join(whole, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	dir := clone(t, whole)
	for i := range text {
		if i%29 != 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, "ca.pem"), flip(text, i), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, "ca.pem", "restore")
	}
	// Swapped files are no better.
	dir = clone(t, whole)
	if err := os.Rename(filepath.Join(dir, "server-key.pem"), filepath.Join(dir, "ca-key.pem")); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "ca-key.pem", "restore")
}

// flip changes one bit.
func flip(text []byte, i int) []byte {
	text = slices.Clone(text)
	text[i] ^= 1
	return text
}
