package credential

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

func mustParse(t testing.TB, text string) ConnectionString {
	t.Helper()
	c, err := ParseConnectionString(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The parts that tests put together.
const (
	vectorToken    = "SharedAccessSignature sr=hub.example.test&sig=4HhDJcRRHNLVShXUsGzhK0cjvZ9bg6yOA4VHu6MpzfU%3D&se=1900000000"
	hostPart       = "HostName=hub.example.test"
	keyPart        = "SharedAccessKey=" + vectorKey
	devicePart     = "DeviceId=pi-1"
	fingerprint    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	fingerprintTag = "CaFingerprint=sha256:"
)

func TestParseConnectionString(t *testing.T) {
	key := mustKey(t, vectorKey)
	for _, tc := range []struct {
		text      string
		want      ConnectionString
		canonical string // "" when it is text
	}{
		{ // service
			hostPart + ";SharedAccessKeyName=service;" + keyPart,
			ConnectionString{HostName: "hub.example.test", Port: 443, SharedAccessKeyName: "service", SharedAccessKey: key}, "",
		},
		{ // service with a ready token, as C# has it
			hostPart + ";SharedAccessKeyName=service;SharedAccessSignature=" + vectorToken,
			ConnectionString{HostName: "hub.example.test", Port: 443, SharedAccessKeyName: "service", SharedAccessSignature: vectorToken}, "",
		},
		{ // device
			hostPart + ";" + devicePart + ";" + keyPart,
			ConnectionString{HostName: "hub.example.test", Port: 443, DeviceID: "pi-1", SharedAccessKey: key}, "",
		},
		{ // module
			hostPart + ";" + devicePart + ";ModuleId=m1;" + keyPart,
			ConnectionString{HostName: "hub.example.test", Port: 443, DeviceID: "pi-1", ModuleID: "m1", SharedAccessKey: key}, "",
		},
		{ // certificate
			hostPart + ";" + devicePart + ";x509=true",
			ConnectionString{HostName: "hub.example.test", Port: 443, DeviceID: "pi-1", X509: true}, "",
		},
		{ // device with a ready token
			hostPart + ";" + devicePart + ";SharedAccessSignature=" + vectorToken,
			ConnectionString{HostName: "hub.example.test", Port: 443, DeviceID: "pi-1", SharedAccessSignature: vectorToken}, "",
		},
		{ // ready token alone: it names its policy itself
			hostPart + ";SharedAccessSignature=" + vectorToken,
			ConnectionString{HostName: "hub.example.test", Port: 443, SharedAccessSignature: vectorToken}, "",
		},
		{ // Edge gateway
			hostPart + ";" + devicePart + ";" + keyPart + ";GatewayHostName=edge.example.test",
			ConnectionString{HostName: "hub.example.test", Port: 443, DeviceID: "pi-1", SharedAccessKey: key, GatewayHostName: "edge.example.test"}, "",
		},
		{ // a policy's key for a device
			hostPart + ";" + devicePart + ";SharedAccessKeyName=device;" + keyPart,
			ConnectionString{HostName: "hub.example.test", Port: 443, DeviceID: "pi-1", SharedAccessKeyName: "device", SharedAccessKey: key}, "",
		},
		{ // private CA, port
			"HostName=localhost:8443;" + devicePart + ";" + keyPart + ";" + fingerprintTag + fingerprint,
			ConnectionString{HostName: "localhost", Port: 8443, DeviceID: "pi-1", SharedAccessKey: key, CAFingerprint: fingerprint}, "",
		},
		{ // IPv6
			"HostName=[::1]:8443;" + devicePart + ";" + keyPart,
			ConnectionString{HostName: "::1", Port: 8443, DeviceID: "pi-1", SharedAccessKey: key}, "",
		},
		{
			"HostName=[2001:db8::1];" + devicePart + ";" + keyPart + ";GatewayHostName=[::1]",
			ConnectionString{HostName: "2001:db8::1", Port: 443, DeviceID: "pi-1", SharedAccessKey: key, GatewayHostName: "::1"}, "",
		},
		{ // every odd but allowed way of writing it
			" ; sharedaccesskey = " + vectorKey + " ;HOSTNAME=Hub.Example.test:443; deviceID=a=b;X509=False;Unknown=1;other=;" +
				"GatewayHostName=edge:443;cafingerprint=sha256:" + strings.ToUpper(fingerprint) + ";\r\n",
			ConnectionString{
				HostName: "Hub.Example.test", Port: 443, DeviceID: "a=b", SharedAccessKey: key,
				GatewayHostName: "edge", CAFingerprint: fingerprint,
			},
			"HostName=Hub.Example.test;DeviceId=a=b;" + keyPart + ";GatewayHostName=edge;" + fingerprintTag + fingerprint,
		},
		{ // a wrong name is an unknown part
			hostPart + ";" + devicePart + ";ShareAccessKey=wrong;Device Id=pi-2;" + keyPart,
			ConnectionString{HostName: "hub.example.test", Port: 443, DeviceID: "pi-1", SharedAccessKey: key},
			hostPart + ";" + devicePart + ";" + keyPart,
		},
		{ // a key that no hub would make still gets as far as the hub
			hostPart + ";" + devicePart + ";SharedAccessKey=d3Jvbmc=",
			ConnectionString{HostName: "hub.example.test", Port: 443, DeviceID: "pi-1", SharedAccessKey: keyOf([]byte("wrong"))}, "",
		},
	} {
		got, err := ParseConnectionString(tc.text)
		if err != nil || got != tc.want {
			t.Errorf("%q:\n got %v, %v\nwant %v", tc.text, got, err, tc.want)
			continue
		}
		canonical := tc.canonical
		if canonical == "" {
			canonical = tc.text
		}
		if got.Reveal() != canonical {
			t.Errorf("%q reveals %q, want %q", tc.text, got.Reveal(), canonical)
		}
	}
}

func TestParseConnectionStringRefuses(t *testing.T) {
	const device = hostPart + ";" + devicePart + ";"
	const withKey = device + keyPart
	host := func(name string) string { return "HostName=" + name + ";" + devicePart + ";" + keyPart }
	for _, tc := range []struct{ text, part, problem string }{
		{"", "HostName", "is missing"},
		{"\n", "HostName", "is missing"},
		{devicePart + ";" + keyPart, "HostName", "is missing"},
		{"HostNames=hub;" + devicePart + ";" + keyPart, "HostName", "is missing"},
		{device, "SharedAccessKey", "is missing"},
		{device + "x509=false", "SharedAccessKey", "is missing"},
		{device + "ShareAccessKey=" + vectorKey, "SharedAccessKey", "is missing"},
		{hostPart + ";ModuleId=m1;" + keyPart, "DeviceId", "is missing"},
		{hostPart + ";x509=true", "DeviceId", "is missing"},
		{hostPart + ";" + keyPart, "", "has neither DeviceId nor SharedAccessKeyName"},
		{withKey + ";x509=true", "", "has more than one of"},
		{withKey + ";SharedAccessSignature=" + vectorToken, "", "has more than one of"},
		{device + "x509=true;SharedAccessSignature=" + vectorToken, "", "has more than one of"},

		{withKey + ";" + keyPart, "SharedAccessKey", "is given twice"},
		{withKey + ";sharedaccesskey=" + vectorKey, "SharedAccessKey", "is given twice"},
		{hostPart + ";" + withKey, "HostName", "is given twice"},
		{withKey + ";deviceid=pi-2", "DeviceId", "is given twice"},
		{withKey + ";x509=false;X509=false", "x509", "is given twice"},
		{withKey + ";Other=1;other=2", "part 5", "is given twice"},

		{"garbage", "part 1", "has no \"=\""},
		{device + "SharedAccessKey", "SharedAccessKey", "has no \"=\""},
		{device + strings.TrimSuffix(vectorKey, "="), "part 3", "has no \"=\""},
		{device + "SharedAccessKey=", "SharedAccessKey", "is empty"},
		{device + "SharedAccessKey=====", "SharedAccessKey", "is not base64"},
		{device + "SharedAccessKey=" + strings.TrimSuffix(vectorKey, "="), "SharedAccessKey", "is not base64"},
		{device + "SharedAccessKey=" + vectorKey + "=", "SharedAccessKey", "is not base64"},
		{device + "SharedAccessKey=\"" + vectorKey + "\"", "SharedAccessKey", "is not base64"},
		{device + "SharedAccessKey=" + vectorKey[:8] + "\n" + vectorKey[8:], "SharedAccessKey", "is not base64"},
		{device + "SharedAccessSignature=" + vectorToken[:40], "SharedAccessSignature", "is not valid: SAS token: "},
		{device + "SharedAccessSignature=" + vectorKey, "SharedAccessSignature", "is not valid: SAS token: "},
		{device + "x509=yes", "x509", "is neither true nor false"},
		{hostPart + ";DeviceId=;" + keyPart, "DeviceId", "is empty"},
		{hostPart + ";DeviceId=a/b;" + keyPart, "DeviceId", "cannot stand in a name"},
		{hostPart + ";DeviceId=a\x1b[2Jb;" + keyPart, "DeviceId", "cannot stand in a name"},
		{hostPart + ";" + devicePart + ";ModuleId=a b;" + keyPart, "ModuleId", "cannot stand in a name"},
		{hostPart + ";SharedAccessKeyName=\u202e;" + keyPart, "SharedAccessKeyName", "cannot stand in a name"},

		{host(""), "HostName", "is empty"},
		{host("hub:"), "HostName", "port"},
		{host("hub:0"), "HostName", "port"},
		{host("hub:65536"), "HostName", "port"},
		{host("hub:-1"), "HostName", "port"},
		{host("hub:+443"), "HostName", "port"},
		{host("hub:https"), "HostName", "port"},
		{host("[::1]:x"), "HostName", "port"},
		{host(":443"), "HostName", "is not a host name"},
		{host("::1"), "HostName", "is not a host name"},
		{host("[::1"), "HostName", "is not a host name"},
		{host("[::1]x:1"), "HostName", "is not a host name"},
		{host("[fe80::1%eth0]"), "HostName", "is not a host name"},
		{host("[127.0.0.1]"), "HostName", "is not a host name"},
		{host("https://hub.example.test"), "HostName", "is not a host name"},
		{host("user@hub"), "HostName", "is not a host name"},
		{host("hub/x"), "HostName", "is not a host name"},
		{host("h\u00fcb"), "HostName", "is not a host name"},
		{withKey + ";GatewayHostName=edge:8443", "GatewayHostName", "has a port"},
		{withKey + ";GatewayHostName=ed ge", "GatewayHostName", "is not a host name"},

		{withKey + ";CaFingerprint=" + fingerprint, "CaFingerprint", "is not sha256:"},
		{withKey + ";CaFingerprint=sha1:" + fingerprint[:40], "CaFingerprint", "is not sha256:"},
		{withKey + ";" + fingerprintTag, "CaFingerprint", "is not sha256:"},
		{withKey + ";" + fingerprintTag + fingerprint[1:], "CaFingerprint", "is not sha256:"},
		{withKey + ";" + fingerprintTag + fingerprint + "00", "CaFingerprint", "is not sha256:"},
		{withKey + ";" + fingerprintTag + "x" + fingerprint[1:], "CaFingerprint", "is not sha256:"},
		{withKey + ";x=" + strings.Repeat("a", 1<<20), "", "is longer than 16384 bytes"},
	} {
		c, err := ParseConnectionString(tc.text)
		formatErr, ok := errors.AsType[*FormatError](err)
		if !ok {
			t.Errorf("%.200q: error %v is no FormatError", tc.text, err)
			continue
		}
		if formatErr.Part != tc.part || !strings.Contains(formatErr.Problem, tc.problem) {
			t.Errorf("%.200q: %q %q, want %q %q", tc.text, formatErr.Part, formatErr.Problem, tc.part, tc.problem)
		}
		message := err.Error()
		if !strings.HasPrefix(message, "connection string: "+tc.part) || strings.ContainsAny(message, "\n\x1b") {
			t.Errorf("%.200q: message %q", tc.text, message)
		}
		if strings.Contains(message, vectorKey[:8]) || strings.Contains(message, vectorToken[30:40]) {
			t.Errorf("%.200q: message shows a secret: %s", tc.text, message)
		}
		if c != (ConnectionString{}) {
			t.Errorf("%.200q: a connection string beside the error", tc.text)
		}
	}
}

func TestConnectionStringShown(t *testing.T) {
	for text, want := range map[string]string{
		hostPart + ";" + devicePart + ";" + keyPart:                                       hostPart + ";" + devicePart + ";SharedAccessKey=[redacted]",
		hostPart + ";" + devicePart + ";x509=true":                                        hostPart + ";" + devicePart + ";x509=true",
		"HostName=hub:1;SharedAccessKeyName=service;SharedAccessSignature=" + vectorToken: "HostName=hub:1;SharedAccessKeyName=service;SharedAccessSignature=[redacted]",
	} {
		if got := mustParse(t, text).String(); got != want {
			t.Errorf("%q shows as %q, want %q", text, got, want)
		}
	}
}

func TestAddress(t *testing.T) {
	const rest = ";" + devicePart + ";" + keyPart
	for _, tc := range []struct{ host, gateway, wantHost, wantAddress string }{
		{"hub.example.test", "", "hub.example.test", "hub.example.test:443"},
		{"hub.example.test:8443", "", "hub.example.test", "hub.example.test:8443"},
		{"[::1]:8443", "", "::1", "[::1]:8443"},
		{"127.0.0.1:1", "", "127.0.0.1", "127.0.0.1:1"},
		{"hub.example.test", "edge", "edge", "edge:443"},
		{"hub.example.test:8443", "[::1]", "::1", "[::1]:8443"},
	} {
		text := "HostName=" + tc.host + rest
		if tc.gateway != "" {
			text += ";GatewayHostName=" + tc.gateway
		}
		c := mustParse(t, text)
		if c.Host() != tc.wantHost || c.Address() != tc.wantAddress {
			t.Errorf("%s: %q, %q", text, c.Host(), c.Address())
		}
	}
	if got := (ConnectionString{HostName: "hub"}).Address(); got != "hub:443" {
		t.Errorf("without a port: %q", got)
	}
}

func TestConnectionStringSAS(t *testing.T) {
	for _, tc := range []struct{ parts, resource, policy, covers string }{
		{"HostName=hub.example.test:8443;SharedAccessKeyName=service;" + keyPart, "hub.example.test", "service", ""},
		{"HostName=hub.example.test:8443;DeviceId=pi-1;" + keyPart, "hub.example.test%2Fdevices%2Fpi-1", "", "devices/pi-1"},
		{hostPart + ";DeviceId=a%#b;ModuleId=m1;" + keyPart, "hub.example.test%2Fdevices%2Fa%25%23b%2Fmodules%2Fm1", "", "devices/a%#b/modules/m1"},
		{hostPart + ";DeviceId=pi-1;GatewayHostName=edge;" + keyPart, "hub.example.test%2Fdevices%2Fpi-1", "", "devices/pi-1"},
		{hostPart + ";DeviceId=pi-1;SharedAccessKeyName=device;" + keyPart, "hub.example.test%2Fdevices%2Fpi-1", "device", "devices/pi-1"},
		{"HostName=[::1]:8443;DeviceId=pi-1;" + keyPart, "%5B%3A%3A1%5D%2Fdevices%2Fpi-1", "", "devices/pi-1"},
	} {
		c := mustParse(t, tc.parts)
		token, err := c.SAS(vectorExpiry)
		if err != nil {
			t.Errorf("%s: %v", tc.parts, err)
			continue
		}
		sas, err := ParseSAS(token.Reveal())
		if err != nil || sas.Resource != tc.resource || sas.Policy != tc.policy || !sas.Expires.Equal(vectorExpiry) {
			t.Errorf("%s: %v, %v", tc.parts, sas, err)
			continue
		}
		if !sas.SignedBy(c.SharedAccessKey) || !sas.Covers(ourHost, askedSegments(tc.covers)...) {
			t.Errorf("%s: the token does not open its own resource", tc.parts)
		}
		if isDevice := tc.covers != ""; c.IsDevice() != isDevice || sas.Covers(ourHost, "devices", "other") == isDevice {
			t.Errorf("%s: device %v, and its token covers another: %v", tc.parts, c.IsDevice(), isDevice)
		}
	}
}

func TestConnectionStringSASWithoutKey(t *testing.T) {
	ready := mustParse(t, hostPart+";"+devicePart+";SharedAccessSignature="+vectorToken)
	if token, err := ready.SAS(time.Time{}); err != nil || token.Reveal() != vectorToken {
		t.Errorf("ready token: %q, %v", token.Reveal(), err)
	}
	if token, err := mustParse(t, hostPart+";"+devicePart+";x509=true").SAS(vectorExpiry); err == nil || token != "" {
		t.Error("a token was signed without a key")
	}
}

func FuzzConnectionString(f *testing.F) {
	for _, text := range []string{
		"", ";", "=", ";=;=", hostPart, hostPart + ";" + devicePart + ";" + keyPart,
		hostPart + ";SharedAccessKeyName=service;" + keyPart,
		hostPart + ";SharedAccessKeyName=service;SharedAccessSignature=" + vectorToken,
		hostPart + ";" + devicePart + ";ModuleId=m1;" + keyPart,
		hostPart + ";" + devicePart + ";x509=true",
		hostPart + ";" + devicePart + ";" + keyPart + ";" + keyPart,
		hostPart + ";DeviceId=a=b=;" + keyPart + ";GatewayHostName=edge",
		"hostname=[::1]:1;deviceid=a;sharedaccesskey=AAAB;" + fingerprintTag + fingerprint,
		hostPart + ";" + devicePart + ";" + vectorKey, "SharedAccessKey:" + vectorKey + ";" + hostPart,
		hostPart + ";" + strings.Repeat("x", 1<<20),
	} {
		f.Add(text, []byte("a key of 16 bytes, or so"))
	}
	f.Fuzz(func(t *testing.T, text string, key []byte) {
		secret := base64.StdEncoding.EncodeToString(key)
		for _, text := range []string{text, text + secret, secret + text, text + ";" + keyPart + secret} {
			c, err := ParseConnectionString(text)
			if err != nil {
				if len(key) >= minKeySize && strings.Contains(err.Error(), secret) {
					t.Errorf("%q: error holds the key: %v", text, err)
				}
				continue
			}
			again, err := ParseConnectionString(c.Reveal())
			if err != nil || again != c || again.Reveal() != c.Reveal() {
				t.Errorf("%q -> %q -> %q, %v", text, c.Reveal(), again.Reveal(), err)
			}
			if shown := c.String(); strings.Contains(shown, "SharedAccessKey=") && !strings.Contains(shown, "SharedAccessKey=[redacted]") {
				t.Errorf("%q is shown as %q", text, shown)
			}
		}
	})
}

func TestSplit(t *testing.T) {
	signature := "SharedAccessSignature sr=h&sig=c2VjcmV0" + strings.Repeat("c2Vj", 8) + "cmU%3D&se=1&skn=service"
	for text, want := range map[string]string{
		"HostName=h:8443;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0":      "SharedAccessKey=c2VjcmV0",
		"HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=c2VjcmV0":                 "SharedAccessKey=c2VjcmV0",
		"HostName=h;SharedAccessSignature=" + signature + ";GatewayHostName=g.test": "SharedAccessSignature=" + signature,
		"HostName=h;DeviceId=d;x509=true":                                           "",
	} {
		c, err := ParseConnectionString(text)
		if err != nil {
			t.Fatal(err)
		}
		rest, secret := c.Split()
		if secret.Reveal() != want || strings.Contains(rest, "c2VjcmV0") {
			t.Errorf("%s: %q and %q", text, rest, secret.Reveal())
		}
		if joined, err := Join(rest, secret); err != nil || joined != c {
			t.Errorf("%s: joined %v, %v", text, joined, err)
		}
	}
}
