//go:build unix

package main_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// throughHTTPProxy: a proxy that only lets CONNECT to the hub's port pass, with a password.
func throughHTTPProxy(t *testing.T, binary string) {
	tinyproxy := require(t, "tinyproxy")
	throughProxy(t, binary, "http", `answered 40[17] .* to CONNECT `, func(s *sshSite, address, hub string) *process {
		host, port, _ := net.SplitHostPort(address)
		_, hubPort, _ := net.SplitHostPort(hub)
		config := filepath.Join(s.dir, "tinyproxy.conf")
		text := fmt.Sprintf("Listen %s\nPort %s\nAllow 127.0.0.1\nBasicAuth me s-cret\nConnectPort %s\nLogLevel Connect\n", host, port, hubPort)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return start(t, s.command(atHub, tinyproxy, "-d", "-c", config))
	})
}

// throughSOCKSProxy: the same with SOCKS5.
func throughSOCKSProxy(t *testing.T, binary string) {
	microsocks := require(t, "microsocks")
	throughProxy(t, binary, "socks5", `username/password authentication failed`, func(s *sshSite, address, _ string) *process {
		host, port, _ := net.SplitHostPort(address)
		return start(t, s.command(atHub, microsocks, "-i", host, "-p", port, "-u", "me", "-P", "s-cret"))
	})
}

// throughProxy: both proxies and ssh reach the hub through a proxy of that kind, which logs
// each connection to the hub; one that refuses is named.
func throughProxy(t *testing.T, binary, kind, refusal string, launch func(s *sshSite, address, hub string) *process) {
	const id = "pi-1"
	addresses := freePorts(t, 2)
	proxy, hub := addresses[0], addresses[1]
	s := &sshSite{site: newSite(t, binary)}
	s.ssh = newSSH(t, s.site)
	s.sshd = s.listen(t)
	s.serve("--listen", hub, "--mqtt-listen", "off")
	s.connectionString = s.addDevice(id)
	daemon := launch(s, proxy, hub)
	_ = dialSoon(t, proxy).Close()
	good, bad := kind+"://me:s-cret@"+proxy, kind+"://me:mistaken@"+proxy

	s.deviceProxy(s.connectionString, id, "--target", s.sshd.address, "--proxy", good)
	cmd := s.login(id, "cat; exit 7")
	cmd.Env = append(cmd.Env, "FARPORT_PROXY="+good)
	cmd.Stdin = strings.NewReader("hello")
	if r := run(t, cmd, soon); r.code != 7 || r.stdout != "hello" {
		t.Errorf("ssh through the proxy: exit code %d, stdout %q, stderr %q; want 7 and hello", r.code, r.stdout, r.stderr)
	}
	// The device's MQTT connection and its leg, and API and leg of the service.
	log := daemon.stdout.String() + daemon.stderr.String()
	_, port, _ := net.SplitHostPort(hub)
	if n := strings.Count(log, "localhost:"+port); n < 4 {
		t.Errorf("the proxy says %d times that it connects to the hub, want 4 at least: %s", n, log)
	}

	r := run(t, s.command(atService, "farport", "service-proxy", "--stdio", "-d", id, "--proxy", bad), soon)
	if r.code != 7 || r.stdout != "" || strings.Contains(r.stderr, "mistaken") {
		t.Errorf("wrong password: exit code %d, stdout %q, stderr %q; want 7, nothing, and no password", r.code, r.stdout, r.stderr)
	}
	saying(t, "service-proxy", r.stderr, `^farport: error: .*proxy "`+regexp.QuoteMeta(proxy)+`": `+refusal)
	saying(t, "service-proxy", r.stderr, `^farport: hint: .*USER:PASSWORD`)
}
