package hubclient

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/wire"
)

func endpointHub(t testing.TB, host, more string, allowed ...string) *hub {
	t.Helper()
	cs, err := ParseConnectionString("HostName=" + host + ";DeviceId=pi-1;SharedAccessKey=" + testKey + more)
	if err != nil {
		t.Fatal(err)
	}
	return newHub(cs, Options{StreamingHosts: allowed, Proxy: noProxy}, NewInstance())
}

func TestCheckEndpoint(t *testing.T) {
	own := endpointHub(t, "hub.example.test:8443", "", "streams.example.test")
	azure := endpointHub(t, "lab-hub.azure-devices.net", "")
	pinned := endpointHub(t, "hub.example.test", ";CaFingerprint=sha256:"+strings.Repeat("ab", 32))
	gateway := endpointHub(t, "hub.example.test", ";GatewayHostName=edge.example.test")
	tests := []struct {
		name string
		hub  *hub
		url  string
		good bool
	}{
		{"hub's host", own, "wss://hub.example.test:443/bridges/1", true},
		{"letter case", own, "wss://HUB.example.TEST:443/bridges/1", true},
		{"no port", own, "wss://hub.example.test/bridges/1", true},
		{"listed host", own, "wss://streams.example.test:443/b", true},
		{"gateway", gateway, "wss://edge.example.test:443/b", true},
		{"hub behind a gateway", gateway, "wss://hub.example.test:443/b", true},
		{"Azure's", azure, "wss://northeurope.001.streams.azure-devices.net:443/bridges/h/pi-1/0", true},
		{"vouched for by the pinned CA", pinned, "wss://node2.example.test:443/b", true},

		{"other host", own, "wss://other.example.test:443/b", false},
		{"Azure's, for another hub", own, "wss://northeurope.001.streams.azure-devices.net:443/b", false},
		{"looks like Azure's", azure, "wss://streams.azure-devices.net.example.test:443/b", false},
		{"another hub of Azure's", azure, "wss://other-hub.azure-devices.net:443/b", false},
		{"ends like Azure's", azure, "wss://evilstreams.azure-devices.net:443/b", false},
		{"subdomain", own, "wss://a.hub.example.test:443/b", false},
		{"prefix", own, "wss://hub.example.test.evil.test:443/b", false},
		{"user name", own, "wss://hub.example.test:443@evil.test/b", false},
		{"user name on the right host", own, "wss://a:b@hub.example.test/b", false},
		{"ws", own, "ws://hub.example.test:443/b", false},
		{"https", own, "https://hub.example.test:443/b", false},
		{"ws, pinned", pinned, "ws://hub.example.test:443/b", false},
		{"no scheme", own, "//hub.example.test:443/b", false},
		{"opaque", own, "wss:hub.example.test", false},
		{"no host", own, "wss:///b", false},
		{"no host, pinned", pinned, "wss://:443/b", false},
		{"fragment", own, "wss://hub.example.test/b#c", false},
		{"backslash", own, `wss://hub.example.test\@evil.test/b`, false},
		{"control character", own, "wss://hub.example.test/\x00", false},
		{"letter that folds to ASCII", endpointHub(t, "kilo.example.test", ""), "wss://\u212Ailo.example.test/b", false},
		{"letter outside ASCII, pinned", pinned, "wss://h\u00fcb.example.test/b", false},
		{"empty", own, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.hub.checkEndpoint(tt.url, testToken)
			if (err == nil) != tt.good || err != nil && !errors.Is(err, ErrForeignEndpoint) {
				t.Errorf("%q: %v", tt.url, err)
			}
		})
	}
	for _, token := range []string{"", "a b", "a\r\nHost: evil", "a\u00e9", strings.Repeat("x", 5000)} {
		if _, err := own.checkEndpoint("wss://hub.example.test/b", token); err == nil || errors.Is(err, ErrForeignEndpoint) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

// Whatever the hub sends, a device dials at most one URL, and that one is wss and
// on the hub's own host.
func FuzzStreamRequestTopic(f *testing.F) {
	good := wire.StreamRequest{RID: "1", Name: "ssh", URL: "wss://hub.example.test:443/bridges/1", Token: "k3J.x_9-"}
	f.Add(good.Topic())
	f.Add("$iothub/streams/POST/TestStream/?$rid=1&$url=wss%3A%2F%2Feu.001.streams.azure-devices.net%3A443%2Fbridges%2Fh%2Fd%2F0&$auth=a.b.c")
	f.Add("$iothub/streams/POST/a/b/c/?$auth=t&$url=wss%3A%2F%2Fhub.example.test&$rid=x")
	f.Add(good.Topic() + "&$url=wss%3A%2F%2Fevil.test")
	f.Add(good.Topic() + "&$ip=127.0.0.1")
	f.Add("$iothub/streams/POST/ssh/?$rid=1&$url=ws%3A%2F%2Fhub.example.test&$auth=t")
	f.Add("$iothub/streams/POST/ssh/?$rid=1&$url=wss%3A%2F%2Fhub.example.test%40evil.test&$auth=t")
	f.Add("$iothub/streams/POST/ssh/?$rid=1&$url=%zz&$auth=t")
	f.Add("$iothub/streams/POST/?")
	h := endpointHub(f, "hub.example.test", "")
	f.Fuzz(func(t *testing.T, topic string) {
		asked, ok := wire.ParseStreamRequest(topic)
		if !ok {
			return
		}
		if strings.Count(topic, "?$url=")+strings.Count(topic, "&$url=") != 1 {
			t.Fatalf("not exactly one URL in %q", topic)
		}
		u, err := h.checkEndpoint(asked.URL, asked.Token)
		if err != nil {
			return
		}
		// As a WebSocket library reads it: a scheme, an authority, a path.
		again, err := url.Parse(u.String())
		if err != nil {
			t.Fatal(err)
		}
		rest, secure := strings.CutPrefix(again.String(), "wss://")
		authority, _, _ := strings.Cut(strings.ReplaceAll(rest, "?", "/"), "/")
		host, _, _ := strings.Cut(strings.ToLower(authority), ":")
		if !secure || host != "hub.example.test" || strings.ContainsAny(asked.Token, " \r\n") {
			t.Fatalf("%q is dialled as %s", topic, again)
		}
	})
}
