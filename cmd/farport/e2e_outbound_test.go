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

// throughHTTPProxy: a proxy that only lets CONNECT to the hub's ports pass, with a password.
func throughHTTPProxy(t *testing.T, binary string) {
	tinyproxy := require(t, "tinyproxy")
	throughProxy(t, binary, "http", `answered 40[17] .* to CONNECT `, func(s *sshSite, address string, hub []string) *process {
		host, port, _ := net.SplitHostPort(address)
		config := filepath.Join(s.dir, "tinyproxy.conf")
		text := fmt.Sprintf("Listen %s\nPort %s\nAllow 127.0.0.1\nBasicAuth me s-cret\nLogLevel Connect\n", host, port)
		for _, port := range hub {
			text += "ConnectPort " + port + "\n"
		}
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return start(t, s.command(atHub, tinyproxy, "-d", "-c", config))
	})
}

// throughSOCKSProxy: the same with SOCKS5.
func throughSOCKSProxy(t *testing.T, binary string) {
	microsocks := require(t, "microsocks")
	throughProxy(t, binary, "socks5", `username/password authentication failed`, func(s *sshSite, address string, _ []string) *process {
		host, port, _ := net.SplitHostPort(address)
		return start(t, s.command(atHub, microsocks, "-i", host, "-p", port, "-u", "me", "-P", "s-cret"))
	})
}

// throughProxy: both proxies, with both transports, and ssh reach the hub through a proxy of
// that kind, which logs each connection to the hub's ports; one that refuses is named.
func throughProxy(t *testing.T, binary, kind, refusal string, launch func(s *sshSite, address string, hub []string) *process) {
	const id = "pi-1"
	addresses := freePorts(t, 3)
	proxy := addresses[0]
	s := newSSHSite(t, binary, "direct", "--listen", addresses[1], "--mqtt-listen", addresses[2])
	_, port, _ := net.SplitHostPort(addresses[1])
	_, mqttPort, _ := net.SplitHostPort(addresses[2])
	daemon := launch(s, proxy, []string{port, mqttPort})
	_ = dialSoon(t, proxy).Close()
	good, bad := kind+"://me:s-cret@"+proxy, kind+"://me:mistaken@"+proxy

	s.deviceProxy(s.addDevice(id), id, "--target", s.sshd.address, "--proxy", good)
	s.deviceProxy(s.addDevice("pi-2"), "pi-2", "--target", s.sshd.address, "--proxy", good, "--transport", "mqtt", "--mqtt-port", mqttPort)
	for _, device := range []string{id, "pi-2"} {
		cmd := s.login(device, "cat; exit 7")
		cmd.Env = append(cmd.Env, "FARPORT_PROXY="+good)
		cmd.Stdin = strings.NewReader("hello")
		if r := run(t, cmd, soon); r.code != 7 || r.stdout != "hello" {
			t.Errorf("ssh to %s through the proxy: exit code %d, stdout %q, stderr %q; want 7 and hello", device, r.code, r.stdout, r.stderr)
		}
	}
	// Of both: the device's MQTT connection and its leg, and API and leg of the service.
	log := daemon.stdout.String() + daemon.stderr.String()
	if n, mqtt := strings.Count(log, "localhost:"+port), strings.Count(log, "localhost:"+mqttPort); n < 7 || mqtt < 1 {
		t.Errorf("the proxy says %d and %d times that it connects to the hub, want 7 and 1 at least: %s", n, mqtt, log)
	}

	r := run(t, s.command(atService, "farport", "service-proxy", "--stdio", "-d", id, "--proxy", bad), soon)
	if r.code != 7 || r.stdout != "" || strings.Contains(r.stderr, "mistaken") {
		t.Errorf("wrong password: exit code %d, stdout %q, stderr %q; want 7, nothing, and no password", r.code, r.stdout, r.stderr)
	}
	saying(t, "service-proxy", r.stderr, `^farport: error: .*proxy "`+regexp.QuoteMeta(proxy)+`": `+refusal)
	saying(t, "service-proxy", r.stderr, `^farport: hint: .*USER:PASSWORD`)
}
