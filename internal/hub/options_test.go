package hub

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNames(t *testing.T) {
	n, err := newNames([]string{"Hub.Example.test", "other.example.test:443", "192.0.2.7:8443", "[2001:db8::1]:444", "2001:db8::2", "localhost:9"}, 10443)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"hub.example.test", "other.example.test", "192.0.2.7", "2001:db8::1", "2001:db8::2", "localhost", "127.0.0.1", "::1"}; !slices.Equal(n.order, want) {
		t.Errorf("names are %q, want %q", n.order, want)
	}
	if got := n.hostName(); got != "hub.example.test:10443" {
		t.Errorf("connection strings have %q", got)
	}
	for used, want := range map[string]string{
		"hub.example.test":         "hub.example.test:10443",
		"HUB.EXAMPLE.TEST:1":       "hub.example.test:10443",
		"other.example.test":       "other.example.test:443",
		"192.0.2.7":                "192.0.2.7:8443",
		"[2001:db8::1]:1":          "[2001:db8::1]:444",
		"[2001:DB8::1]":            "[2001:db8::1]:444",
		"2001:db8::2":              "[2001:db8::2]:10443",
		"localhost:10443":          "localhost:9",
		"[::1]:10443":              "[::1]:10443",
		"":                         "hub.example.test:10443",
		"elsewhere.example.test":   "hub.example.test:10443",
		"hub.example.test.:443":    "hub.example.test:10443",
		"hub.example.test/x":       "hub.example.test:10443",
		"user@other.example.test":  "hub.example.test:10443",
		"other.example.test:1:2":   "hub.example.test:10443",
		"other.example.test\r\n:1": "hub.example.test:10443",
	} {
		if got := n.address(used); got != want {
			t.Errorf("%q becomes %q, want %q", used, got, want)
		}
	}
	for host, want := range map[string]bool{"hub.example.test": true, "HUB.example.test": true, "::1": true, "example.test": false, "": false, "xhub.example.test": false, "hub.example.test:443": false} {
		if n.has(host) != want {
			t.Errorf("%q is the hub's: %t", host, !want)
		}
	}
}

func TestHostNamePort(t *testing.T) {
	for port, want := range map[int]string{443: "hub.example.test", 1443: "hub.example.test:1443", 8443: "hub.example.test:8443"} {
		n, err := newNames([]string{"hub.example.test"}, port)
		if err != nil || n.hostName() != want {
			t.Errorf("port %d: %q, %v; want %q", port, n.hostName(), err, want)
		}
	}
}

func TestNamesRefused(t *testing.T) {
	for _, host := range []string{
		"", ":443", "a b", "a/b", "a;b", "a=b", "a\nb", "*.example.test", "https://a", "a:", "a:x", "a:0", "a:65536", "a:-1", "a:1:2", "[::1]", "[::1", "::1]:5",
		"fe80::1%eth0", "-a", "a-", "a..b", ".a", "a.", "ä", "xn--\u00e4", "a@b", "a#b", "a?b", "a&b", "a%b", "a\x00", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a",
	} {
		if _, err := newNames([]string{host}, 443); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", host, err)
		}
	}
	for _, host := range []string{"a", "a_b", "1", "a-b.c", strings.Repeat("a", 63), strings.Repeat("a.", 126) + "a", "xn--hb-fka.example.test"} {
		if _, err := newNames([]string{host}, 443); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	machine := func() (string, error) { return "machine.example.test", nil }
	for _, c := range []struct {
		listen string
		hosts  []string
		want   string
	}{
		{"", nil, "machine.example.test"},
		{":443", nil, "machine.example.test"},
		{"0.0.0.0:443", nil, "machine.example.test"},
		{"127.0.0.1:0", nil, "localhost"},
		{"127.3.2.1:443", nil, "localhost"},
		{"[::1]:443", nil, "localhost"},
		{"localhost:443", nil, "localhost"},
		{"127.0.0.1:0", []string{"hub.example.test"}, "hub.example.test"},
	} {
		o := Options{Listen: c.listen, Hosts: c.hosts}
		if err := o.setDefaults(machine); err != nil || !slices.Equal(o.Hosts, []string{c.want}) {
			t.Errorf("listen on %q: hosts %q, %v; want %q", c.listen, o.Hosts, err, c.want)
		}
		if o.HandshakeTimeout != time.Minute || o.ShutdownGrace != 10*time.Second || o.Logger == nil || o.Logger.Enabled(t.Context(), slog.LevelError) || o.Listen == "" {
			t.Errorf("defaults are %+v", o)
		}
	}
	for window, want := range map[time.Duration]time.Duration{0: 5 * time.Minute, -1: 0, time.Second: time.Second, time.Hour: time.Hour, time.Hour + 1: -1} {
		o := Options{Listen: ":443", ResumeWindow: window}
		if err := o.setDefaults(machine); (err != nil) != (want < 0) || err == nil && o.ResumeWindow != want {
			t.Errorf("resume window of %s is %s, %v", window, o.ResumeWindow, err)
		}
	}
	o := Options{Listen: ":443"}
	if err := o.setDefaults(func() (string, error) { return "", errors.New("no name") }); err == nil {
		t.Error("without a host name there is none")
	}
}
