//go:build linux

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/skip"
)

// The network of onlyOutbound443: each place is a network namespace, all three on
// one bridge. Addresses are of TEST-NET-1 (RFC 5737).
var addresses = map[string]string{atHub: "192.0.2.1", atDevice: "192.0.2.2", atService: "192.0.2.3"}

// nat is the device's side as the users of farport have it: nobody gets in, and
// nothing gets out but TCP to port 443 of the hub.
const nat = `table inet nat {
	chain input {
		type filter hook input priority 0; policy drop
		iif lo accept
		ct state established,related accept
	}
	chain output {
		type filter hook output priority 0; policy drop
		oif lo accept
		ct state established,related accept
		ip daddr %s tcp dport 443 accept
	}
}
`

// network is the namespaces of one test.
type network struct {
	t                 *testing.T
	ip, bash, timeout string
}

// newNetwork makes the namespaces. They go when the test ends, with all in them.
func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{t: t, ip: require(t, "ip"), bash: require(t, "bash"), timeout: require(t, "timeout")}
	if os.Geteuid() != 0 {
		skip.Test(t, "network namespaces need root")
	}
	for place := range addresses {
		t.Cleanup(func() { _ = exec.Command(n.ip, "netns", "del", n.name(place)).Run() })
		if r := run(t, exec.Command(n.ip, "netns", "add", n.name(place)), soon); r.code != 0 {
			skip.Test(t, "cannot make a network namespace here: "+r.stderr)
		}
		n.do(place, "link", "set", "lo", "up")
	}
	n.do(atHub, "link", "add", "bridge", "type", "bridge")
	n.do(atHub, "link", "set", "bridge", "up")
	for place, address := range addresses {
		port := "to-" + place
		n.do(atHub, "link", "add", port, "type", "veth", "peer", "name", "uplink", "netns", n.name(place))
		n.do(atHub, "link", "set", port, "master", "bridge", "up")
		n.do(place, "address", "add", address+"/24", "dev", "uplink")
		n.do(place, "link", "set", "uplink", "up")
	}
	return n
}

// name is a place's namespace, unique among the test processes of a machine.
func (n *network) name(place string) string { return fmt.Sprintf("farport-%d-%s", os.Getpid(), place) }

// do configures the network of a place.
func (n *network) do(place string, args ...string) {
	n.t.Helper()
	must(n.t, exec.Command(n.ip, append([]string{"-n", n.name(place)}, args...)...))
}

// inside puts a command into a place.
func (n *network) inside(place string) []string {
	return []string{n.ip, "netns", "exec", n.name(place)}
}

// connects reports whether a TCP connection can be made.
func (n *network) connects(from, to string, port int) bool {
	n.t.Helper()
	try := fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", addresses[to], port)
	args := append(n.inside(from), n.timeout, "1", n.bash, "-c", try)
	return run(n.t, exec.Command(args[0], args[1:]...), soon).code == 0
}

// onlyOutbound443: the reason why farport exists. The hub, the device and the
// service are in networks of their own.
func onlyOutbound443(t *testing.T, binary string) {
	const id = "pi-1"
	nft := require(t, "nft")
	n := newNetwork(t)
	s := newSite(t, binary)
	s.inside = map[string][]string{atHub: n.inside(atHub), atDevice: n.inside(atDevice), atService: n.inside(atService)}
	client := newSSH(t, s)

	sshd := start(t, s.command(atDevice, client.daemon, "-D", "-e", "-f", client.config(t, "Port 22\nListenAddress 0.0.0.0\n")))
	sshd.said(t, `^Server listening on 0\.0\.0\.0 port 22\.`, 1, soon)
	s.serve("--listen", ":443", "--mqtt-listen", ":8883", "--host", addresses[atHub])
	connectionString := s.addDevice(id)
	service := start(t, s.command(atService, "farport", "service-proxy", "-d", id, "-L", addresses[atService]+":443"))
	service.said(t, `^farport: listening on 192\.0\.2\.3:443 -> pi-1 `, 1, soon)

	ways := []struct {
		from, to string
		port     int
		stays    bool
	}{
		{atDevice, atHub, 443, true},
		{atDevice, atHub, 8883, false},
		{atDevice, atService, 443, false},
		{atHub, atDevice, 22, false},
		{atService, atDevice, 22, false},
	}
	for _, w := range ways {
		if !n.connects(w.from, w.to, w.port) {
			t.Fatalf("no way from %s to %s, port %d, without a filter: the test would prove nothing", w.from, w.to, w.port)
		}
	}
	filter := s.command(atDevice, nft, "-f", "-")
	filter.Stdin = strings.NewReader(fmt.Sprintf(nat, addresses[atHub]))
	must(t, filter)
	for _, w := range ways {
		if got := n.connects(w.from, w.to, w.port); got != w.stays {
			t.Fatalf("with the filter, a connection from %s to %s, port %d: %v, want %v", w.from, w.to, w.port, got, w.stays)
		}
	}

	s.deviceProxy(connectionString, id) // to the default target, 127.0.0.1:22
	login := s.command(atService, client.byProxy("ssh", client.user+"@"+id, "cat; exit 7")...)
	login.Stdin = strings.NewReader("hello")
	if r := run(t, login, soon); r.code != 7 || r.stdout != "hello" {
		t.Errorf("ssh: exit code %d, stdout %q, stderr %q; want 7 and hello", r.code, r.stdout, r.stderr)
	}
}
