//go:build linux

package sdktest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/farportio/farport/internal/skip"
)

// aTest bounds one test with all its processes. The slowest takes about 20 s alone.
const aTest = 2 * time.Minute

// packages are Debian's for the programs that tests use.
var packages = map[string]string{"node": "nodejs", "mosquitto_sub": "mosquitto-clients", "mosquitto_pub": "mosquitto-clients"}

// require returns the path of a program. A test whose program is missing is skipped, or
// fails where FARPORT_TEST_REQUIRE is "all", as in CI.
func require(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		skip.Test(t, program+" is not installed: apt-get install "+packages[program])
	}
	return path
}

// sdks returns the folder that .ci/sdk has filled: $FARPORT_TEST_SDKS, or
// farport-test-sdks in the user's cache.
func sdks(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("FARPORT_TEST_SDKS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			skip.Test(t, err.Error())
		}
		dir = filepath.Join(cache, "farport-test-sdks")
	}
	for _, folder := range []string{"service", "device", "device-2018", "websocket-stream"} {
		if _, err := os.Stat(filepath.Join(dir, folder, "installed")); err != nil {
			skip.Test(t, "the npm packages are not there ("+err.Error()+"): run .ci/sdk")
		}
	}
	return dir
}

// able skips a test that cannot run here.
func able(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs real programs")
	}
	if unable != "" {
		skip.Test(t, unable)
	}
	if err := look(); err != nil {
		t.Fatal(err)
	}
}

// look opens the folders of farport's sources and of the scripts, none of which is
// compiled into the tests: `go test` notes that, and takes no result from its cache once
// something in them has changed.
var look = sync.OnceValue(func() error {
	const top = "../.."
	return filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && path != top && strings.HasPrefix(e.Name(), ".") {
			return fs.SkipDir
		}
		return err
	})
})

// hub is a running `farport serve` on ports 443 and 8883 of an address of its own.
type hub struct {
	binary string
	host   string   // its name, which the hosts file knows
	dir    string   // HOME of all processes; the data dir is in it
	env    []string // of all processes; nothing of the tester's own reaches them
}

// hubs counts the hubs of this process; each has an address made of its number.
var hubs atomic.Int32

// naming is held while the hosts file is written.
var naming sync.Mutex

// newHub starts a hub. It ends with the test.
func newHub(t *testing.T) *hub {
	t.Helper()
	shared := os.Getenv(inside)
	n := hubs.Add(1)
	h := &hub{binary: filepath.Join(shared, "farport"), host: fmt.Sprintf("hub%d.example.test", n), dir: t.TempDir()}
	h.env = []string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + h.dir, "TMPDIR=" + h.dir, "LANG=C.UTF-8", "NO_PROXY=*",
		"FARPORT_DATA_DIR=" + h.data(), // the operator's default profile
	}
	address := fmt.Sprintf("127.0.%d.%d", 1+n/250, 1+n%250)
	if err := addName(filepath.Join(shared, "hosts"), address, h.host); err != nil {
		t.Fatal(err)
	}
	start(t, aTest, h.env, h.binary, "serve", "--host", h.host, "--listen", address+":443", "--mqtt-listen", address+":8883").
		said(t, `^farport: hub ready`)
	return h
}

// addName adds a line to a hosts file, in place, as it is mounted.
func addName(hosts, address, name string) error {
	naming.Lock()
	defer naming.Unlock()
	f, err := os.OpenFile(hosts, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s %s\n", address, name)
	return err
}

// data is the hub's data dir, or a file in it.
func (h *hub) data(name ...string) string {
	return filepath.Join(append([]string{h.dir, "hub"}, name...)...)
}

// farport runs a command with the operator's rights and returns what it printed.
func (h *hub) farport(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(must(t, h.env, append([]string{h.binary}, args...)...))
}

// deviceProxy registers a device, connects a device-proxy for it and waits until the
// hub has accepted it.
func (h *hub) deviceProxy(t *testing.T, id, target string) {
	t.Helper()
	h.farport(t, "device", "create", id)
	env := slices.Concat(h.env, []string{"IOTHUB_DEVICE_CONNECTION_STRING=" + h.farport(t, "device", "connection-string", id)})
	start(t, aTest, env, h.binary, "device-proxy", "--target", target).said(t, `^farport: device ".*" connected to `)
}

// script runs a script of testdata and makes each line that it prints a subtest.
func (h *hub) script(t *testing.T, name string, env ...string) {
	t.Helper()
	node := require(t, "node")
	script, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	env = append(slices.Concat(h.env, env), "SDKS="+sdks(t), "HUB="+h.host, "HUB_DATA="+h.data(), "NODE_EXTRA_CA_CERTS="+h.data("ca.pem"))
	p := start(t, aTest, env, node, "--no-deprecation", script)
	code := p.exit()
	checks := 0
	for line := range strings.Lines(p.text.String()) {
		bad, isBad := strings.CutPrefix(strings.TrimSpace(line), "not ok ")
		good, isGood := strings.CutPrefix(strings.TrimSpace(line), "ok ")
		switch {
		case isBad:
			check, why, _ := strings.Cut(bad, ": ")
			t.Run(check, func(t *testing.T) { t.Error(why) })
		case isGood:
			t.Run(good, func(*testing.T) {})
		default:
			continue
		}
		checks++
	}
	if checks == 0 || code != 0 && !t.Failed() {
		t.Errorf("%s exited %d after %d checks", name, code, checks)
	}
}
