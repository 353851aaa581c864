//go:build unix

package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The places of a site. In a site with network namespaces each has its own.
const (
	atHub     = "hub"
	atDevice  = "device"
	atService = "service"
)

// site is a hub and what connects to it, as real processes of the built binary.
type site struct {
	t       *testing.T
	binary  string
	dir     string // HOME and working directory of all processes
	dataDir string // the hub's
	env     []string
	inside  map[string][]string // by place: what puts a command into its namespace
	hub     *process
}

// newSite makes a site without a hub. Nothing of the tester's own environment or
// home reaches it.
func newSite(t *testing.T, binary string) *site {
	dir := t.TempDir()
	dataDir := filepath.Join(dir, "hub")
	return &site{t: t, binary: binary, dir: dir, dataDir: dataDir, env: []string{
		"PATH=" + filepath.Dir(binary) + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
		"HOME=" + dir, "TMPDIR=" + dir, "LANG=C.UTF-8", "NO_PROXY=*",
		"FARPORT_DATA_DIR=" + dataDir, // the operator's default profile
	}}
}

// command is a program at one of the site's places.
func (s *site) command(place string, args ...string) *exec.Cmd {
	args = append(slices.Clone(s.inside[place]), args...)
	name := args[0]
	if name == "farport" {
		name = s.binary
	}
	cmd := exec.Command(name, args[1:]...)
	cmd.Dir, cmd.Env = s.dir, slices.Clone(s.env)
	if place == atService {
		cmd.Env = append(cmd.Env, "IOTHUB_CONNECTION_STRING="+s.policy("service"))
	}
	return cmd
}

// policy is the connection string of a built-in policy.
func (s *site) policy(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dataDir, "connection-strings", name))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// serve starts the hub, again after it was stopped, and waits until it is ready.
func (s *site) serve(flags ...string) {
	s.t.Helper()
	s.hub = start(s.t, s.command(atHub, append([]string{"farport", "serve"}, flags...)...))
	s.hub.said(s.t, `^farport: hub ready.*https://`, 1, soon)
}

// addDevice registers a device and returns its connection string.
func (s *site) addDevice(id string) string {
	s.t.Helper()
	must(s.t, s.command(atHub, "farport", "device", "create", "--", id))
	return strings.TrimSuffix(must(s.t, s.command(atHub, "farport", "device", "connection-string", "--", id)), "\n")
}

// deviceProxy starts a device-proxy and waits until the hub has accepted it.
func (s *site) deviceProxy(connectionString, id string, flags ...string) *process {
	s.t.Helper()
	cmd := s.command(atDevice, append([]string{"farport", "device-proxy"}, flags...)...)
	cmd.Env = append(cmd.Env, "IOTHUB_DEVICE_CONNECTION_STRING="+connectionString)
	p := start(s.t, cmd)
	p.connected(s.t, id, 1)
	return p
}

// connected waits until a device-proxy says for the n-th time that the hub has
// accepted it.
func (p *process) connected(t *testing.T, id string, n int) {
	t.Helper()
	p.said(t, `^farport: device ".*" connected to `, n, soon)
	if want := fmt.Sprintf("farport: device %q connected to ", id); !strings.Contains(p.stderr.String(), want) {
		t.Errorf("device-proxy did not say %q", want)
	}
}

// serviceProxy starts a listening service-proxy and returns it with its address.
func (s *site) serviceProxy(id string, flags ...string) (*process, string) {
	s.t.Helper()
	p := start(s.t, s.command(atService, append([]string{"farport", "service-proxy", "-d", id, "-L", "127.0.0.1:0"}, flags...)...))
	m := p.said(s.t, `^farport: listening on (127\.0\.0\.1:\d+) -> (.*) \((.*)\)$`, 1, soon)
	if m[2] != id || m[3] != "default" {
		s.t.Errorf("service-proxy says %q", m[0])
	}
	return p, m[1]
}

// freePort is an address on a port below 32768, which nobody is given as a client port, so
// that a hub can come back to it after it was killed.
func freePort(t *testing.T) string {
	t.Helper()
	return freePorts(t, 1)[0]
}

// freePorts are n such addresses.
func freePorts(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for port := 20000 + os.Getpid()%10000; port < 32768; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close()
		if addresses = append(addresses, l.Addr().String()); len(addresses) == n {
			return addresses
		}
	}
	t.Fatal("no free port from 20000 to 32767")
	return nil
}
