package hub_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hub/store"
)

var policyNames = []string{"device", "iothubowner", "registryRead", "registryReadWrite", "service"}

// openDir opens a hub on a data dir without running it, closed at the end of the
// test.
func openDir(t *testing.T, dir string, hosts ...string) (*hub.Hub, error) {
	t.Helper()
	h, err := hub.Open(t.Context(), hub.Options{DataDir: dir, Listen: "127.0.0.1:0", Hosts: hosts})
	if err == nil {
		t.Cleanup(h.Close)
	}
	return h, err
}

// used makes a data dir that has been in use, with one device.
func used(t *testing.T) string {
	t.Helper()
	w := newWorld(t, hub.Options{})
	w.AddDevice("pi-1")
	w.Stop()
	return w.DataDir
}

// files are the contents of a data dir by name.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// refused checks that a start fails with one line that has all the parts, and
// changes nothing.
func refused(t *testing.T, dir string, parts ...string) {
	t.Helper()
	before := files(t, dir)
	_, err := openDir(t, dir)
	if err == nil {
		t.Error("the hub started")
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error is %q, without %q", err, p)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %q", err)
	}
	if after := files(t, dir); !maps.Equal(before, after) {
		t.Errorf("files were %q, are %q, or their contents differ", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
}

// checkString checks a policy's file: its connection string and a newline.
func checkString(t *testing.T, h *hub.Hub, dir, policy string) {
	t.Helper()
	text, err := os.ReadFile(hub.ConnectionStringFile(dir, policy))
	if err != nil {
		t.Fatal(err)
	}
	line, ok := strings.CutSuffix(string(text), "\n")
	cs, err := credential.ParseConnectionString(line)
	if err != nil || !ok {
		t.Fatalf("%s: %q, %v", policy, text, err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(ca)
	if len(rest) > 0 {
		t.Errorf("ca.pem has %q behind the certificate", rest)
	}
	if cs.SharedAccessKeyName != policy || cs.HostName != "localhost" || cs.CAFingerprint != fingerprint(block.Bytes) || !strings.HasSuffix(h.URL(), cs.Address()) {
		t.Errorf("%s of %s has %s", policy, h.URL(), cs)
	}
}

func TestSecondStart(t *testing.T) {
	dir := used(t)
	before := files(t, dir)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(addressIn(t, before), "https://"))
	again := newWorld(t, hub.Options{DataDir: dir, Listen: "127.0.0.1:" + port})
	again.get("pi-1")
	again.Stop()
	after := files(t, dir)
	for name, text := range before {
		if name != "hub.db" && after[name] != text {
			t.Errorf("%s has changed", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("files are %q now", slices.Sorted(maps.Keys(after)))
	}
}

func addressIn(t *testing.T, files map[string]string) string {
	t.Helper()
	cs, err := credential.ParseConnectionString(strings.TrimSpace(files["connection-strings/service"]))
	if err != nil {
		t.Fatal(err)
	}
	return cs.Address()
}

// Another name gets another certificate of the same CA; the keys stay.
func TestHostChange(t *testing.T) {
	dir := used(t)
	before := files(t, dir)
	h, err := openDir(t, dir, "Hub.Example.test", "192.0.2.1", "hub_2.example.test:8443")
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	after := files(t, dir)
	for _, name := range []string{"ca.pem", "ca-key.pem", "server-key.pem"} {
		if before[name] != after[name] {
			t.Errorf("%s has changed", name)
		}
	}
	if _, err := tls.X509KeyPair([]byte(after["server.pem"]), []byte(after["server-key.pem"])); err != nil {
		t.Error(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(after["ca.pem"]))
	block, _ := pem.Decode([]byte(after["server.pem"]))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"hub.example.test", "192.0.2.1", "hub_2.example.test", "localhost", "127.0.0.1", "::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if cs := addressIn(t, after); !strings.HasPrefix(cs, "hub.example.test:") {
		t.Errorf("connection strings are for %s", cs)
	}
	keys := func(files map[string]string) string {
		_, key, _ := strings.Cut(files["connection-strings/service"], ";")
		return key
	}
	if keys(before) != keys(after) {
		t.Error("policy's key has changed")
	}
}

// A data dir that has been in use and lacks what cannot be made again is refused.
func TestMissingFiles(t *testing.T) {
	whole := used(t)
	for _, c := range []struct {
		missing []string
		part    string
	}{
		{[]string{"hub.db"}, "hub.db is missing"},
		{[]string{"hub.db", "connection-strings"}, "hub.db is missing"},
		{[]string{"hub.db", "connection-strings", "server.pem", "server-key.pem", "ca-key.pem"}, "hub.db is missing"},
		{[]string{"ca.pem"}, "ca.pem is missing"},
		{[]string{"ca.pem", "ca-key.pem"}, "ca.pem is missing"},
		{[]string{"ca.pem", "ca-key.pem", "connection-strings"}, "ca.pem is missing"},
	} {
		dir := clone(t, whole, c.missing...)
		refused(t, dir, dir, c.part, "restore")
	}
	// What can be made again is.
	for _, missing := range [][]string{{"server.pem"}, {"server-key.pem"}, {"server.pem", "server-key.pem"}, {"connection-strings"}, {"ca-key.pem"}} {
		dir := clone(t, whole, missing...)
		h, err := openDir(t, dir)
		if err != nil {
			t.Errorf("without %q: %v", missing, err)
			continue
		}
		h.Close()
		before, after := files(t, whole), files(t, dir)
		if before["ca.pem"] != after["ca.pem"] || missing[0] != "ca-key.pem" && len(before) != len(after) {
			t.Errorf("without %q: %q", missing, slices.Sorted(maps.Keys(after)))
		}
	}
	// Without its CA's key the hub runs, but cannot take another name.
	dir := clone(t, whole, "ca-key.pem")
	before := files(t, dir)
	if _, err := openDir(t, dir, "other.example.test"); err == nil || !strings.Contains(err.Error(), "ca-key.pem") {
		t.Errorf("error is %v", err)
	}
	if !maps.Equal(before, files(t, dir)) {
		t.Error("the failed start has changed something")
	}
}

// clone copies a data dir without some of its files.
func clone(t *testing.T, dir string, without ...string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, name := range without {
		if err := os.RemoveAll(filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// A first start that was cut short is taken up by the next one.
func TestCutShort(t *testing.T) {
	whole := used(t)
	steps := []string{"hub.db", "ca-key.pem", "ca.pem", "server-key.pem", "server.pem", "connection-strings"}
	for i := range steps {
		dir := clone(t, whole, steps[i:]...)
		for _, left := range []string{".hub.db.0123", ".ca.pem.77"} { // half-made files
			if err := os.WriteFile(filepath.Join(dir, left), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w := newWorld(t, hub.Options{DataDir: dir})
		w.as("GET", "/devices", "", nil)
		w.Stop()
	}
	// Not even the first file was whole.
	dir := t.TempDir()
	if _, err := openDir(t, dir); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestDataDirInUse(t *testing.T) {
	w := newWorld(t, hub.Options{})
	before := files(t, w.DataDir)
	_, err := openDir(t, w.DataDir)
	if !errors.Is(err, store.ErrInUse) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error is %v", err)
	}
	delete(before, "hub.db") // is written to meanwhile
	after := files(t, w.DataDir)
	delete(after, "hub.db")
	if !maps.Equal(before, after) {
		t.Error("files have changed")
	}
	w.AddDevice("pi-1")
}

// Two first starts at once make one data dir.
func TestFirstStartTwice(t *testing.T) {
	for range 2 {
		dir := t.TempDir()
		type result struct {
			h   *hub.Hub
			err error
		}
		results := make(chan result, 2)
		for range 2 {
			go func() {
				h, err := hub.Open(context.Background(), hub.Options{DataDir: dir, Listen: "127.0.0.1:0"})
				results <- result{h, err}
			}()
		}
		a, b := <-results, <-results
		for _, r := range []result{a, b} {
			if r.err == nil {
				t.Cleanup(r.h.Close)
			} else if !errors.Is(r.err, store.ErrInUse) {
				t.Errorf("error is %v", r.err)
			}
		}
		if (a.err == nil) == (b.err == nil) {
			t.Errorf("errors are %v and %v, want one", a.err, b.err)
		}
	}
}

func TestDataDirUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below"), "", "/proc/farport"} {
		if _, err := openDir(t, dir); err == nil || !strings.Contains(err.Error(), "data dir") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error is %v", dir, err)
		}
	}
}

// Bad options and taken ports leave nothing behind.
func TestNothingHalfMade(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, o := range map[string]hub.Options{
		"HTTPS port":      {Listen: taken.Addr().String()},
		"MQTT port":       {Listen: "127.0.0.1:0", MQTTListen: taken.Addr().String()},
		"address":         {Listen: "127.0.0.1"},
		"host":            {Listen: "127.0.0.1:0", Hosts: []string{"not a name"}},
		"host's port":     {Listen: "127.0.0.1:0", Hosts: []string{"name:x"}},
		"host, a URL":     {Listen: "127.0.0.1:0", Hosts: []string{"https://name"}},
		"host, a star":    {Listen: "127.0.0.1:0", Hosts: []string{"*.example.test"}},
		"host, foreign":   {Listen: "127.0.0.1:0", Hosts: []string{"hüb.example.test"}},
		"host, injection": {Listen: "127.0.0.1:0", Hosts: []string{"a;SharedAccessKey=b"}},
	} {
		o.DataDir = filepath.Join(t.TempDir(), "data")
		h, err := hub.Open(t.Context(), o)
		if err == nil {
			h.Close()
			t.Errorf("%s: the hub started", name)
			continue
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error is %q", name, err)
		}
		if _, err := os.Stat(o.DataDir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the data dir was made", name)
		}
	}
}
