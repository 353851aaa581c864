//go:build linux

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/hubtest"
)

// proxyPort is where tinyproxy listens in the hub's network.
const proxyPort = 3128

// toProxy lets nothing out of a network but connections to the hub's proxy; what is not let
// out hears so at once.
const toProxy = `table inet proxy {
	chain output {
		type filter hook output priority 0; policy drop
		oif lo accept
		ct state established,related accept
		ip daddr %s tcp dport %d accept
		ip protocol tcp reject with tcp reset
	}
}
`

// onlyThroughProxy: device and service are in networks with no way out but an HTTP proxy that
// wants a password, and lets pass CONNECT to port 443 alone. They know it from $HTTPS_PROXY.
func onlyThroughProxy(t *testing.T, binary string) {
	const id = "pi-1"
	nft, tinyproxy := require(t, "nft"), require(t, "tinyproxy")
	n := newNetwork(t)
	s := newSite(t, binary)
	s.inside = map[string][]string{atHub: n.inside(atHub), atDevice: n.inside(atDevice), atService: n.inside(atService)}
	client := newSSH(t, s)
	s.serve("--listen", ":443", "--mqtt-listen", "off", "--host", addresses[atHub])
	connectionString := s.addDevice(id)

	config := filepath.Join(s.dir, "tinyproxy.conf")
	text := fmt.Sprintf("Listen %s\nPort %d\nAllow 192.0.2.0/24\nBasicAuth me s-cret\nConnectPort 443\nLogLevel Connect\n", addresses[atHub], proxyPort)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	launch := func() *process {
		p := start(t, s.command(atHub, tinyproxy, "-d", "-c", config))
		eventually(t, "the proxy listens", func() bool { return n.connects(atService, atHub, proxyPort) })
		return p
	}
	daemon := launch()
	for _, place := range []string{atDevice, atService} {
		filter := s.command(place, nft, "-f", "-")
		filter.Stdin = strings.NewReader(fmt.Sprintf(toProxy, addresses[atHub], proxyPort))
		must(t, filter)
		if n.connects(place, atHub, 443) || !n.connects(place, atHub, proxyPort) {
			t.Fatalf("the %s has a way around the proxy, or none to it", place)
		}
	}
	proxy := fmt.Sprintf("%s:%d", addresses[atHub], proxyPort)
	s.env = append(s.env, "NO_PROXY=", "HTTPS_PROXY=http://me:s-cret@"+proxy)

	sshd := start(t, s.command(atDevice, client.daemon, "-D", "-e", "-f", client.config(t, "Port 22\nListenAddress 127.0.0.1\n")))
	sshd.said(t, `^Server listening on 127\.0\.0\.1 port 22\.`, 1, soon)
	var target string
	n.within(atDevice, func() { target = hubtest.Echo(t) })
	s.deviceProxy(connectionString, id, "--service", "default=127.0.0.1:22", "--service", "echo="+target)

	login := s.command(atService, client.byProxy("ssh", client.user+"@"+id, "cat; exit 7")...)
	login.Stdin = strings.NewReader("hello")
	if r := run(t, login, soon); r.code != 7 || r.stdout != "hello" {
		t.Errorf("ssh: exit code %d, stdout %q, stderr %q; want 7 and hello", r.code, r.stdout, r.stderr)
	}
	must(t, s.command(atService, "farport", "ping", id, "-c", "1", "--service", "echo"))
	saying(t, "doctor", must(t, s.command(atService, "farport", "doctor", id, "--service", "echo")), `^proxy +ok .*`+regexp.QuoteMeta(proxy))

	// What the proxy is not for goes around it, and so nowhere.
	around := s.command(atService, "farport", "ping", id, "-c", "1")
	around.Env = append(around.Env, "NO_PROXY=example.com,192.0.2.0/24")
	if r := run(t, around, soon); r.code != 7 || strings.Contains(r.stderr, proxy) {
		t.Errorf("around the proxy: exit code %d, stderr %q; want 7, and nothing of the proxy", r.code, r.stderr)
	}

	// A stream outlives its proxy: it is resumed through the next one.
	session := startEcho(t, s.command(atService, "farport", "service-proxy", "--stdio", "-d", id, "--service", "echo"))
	if err := echo(session, []byte("before")); err != nil {
		t.Fatal(err)
	}
	daemon.kill()
	session.said(t, `^farport: stream 1 waits: `, 1, soon)
	daemon = launch()
	if err := echo(session, []byte("after")); err != nil {
		t.Error(err)
	}
	// The device's control connection and leg, and the service's leg, whose stream needs no API.
	eventually(t, "all three have come back through the proxy", func() bool {
		return strings.Count(daemon.stdout.String()+daemon.stderr.String(), addresses[atHub]+":443") >= 3
	})
}
