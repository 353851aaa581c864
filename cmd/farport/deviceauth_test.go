package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
)

func TestParseThumbprint(t *testing.T) {
	sha1, sha256 := strings.Repeat("A1", 20), strings.Repeat("0F", 32)
	for text, want := range map[string]string{
		sha1: sha1, sha256: sha256,
		strings.ToLower(sha256):          sha256,
		strings.Repeat("a1:", 19) + "a1": sha1,
		strings.Repeat("0f ", 32):        sha256,
		"":                               "", sha1[1:]: "", sha256 + "00": "", "X" + sha1[1:]: "", "sha1=" + sha1: "",
	} {
		got, err := parseThumbprint(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}

// What stands in the files counts when a connection is made.
func TestDeviceCertificate(t *testing.T) {
	cs := hubclient.ConnectionString{HostName: "h", DeviceID: "pi-1", X509: true}
	path, _ := issueIn(t, "device", leafTemplate("old"), nil)
	var said, log bytes.Buffer
	a := &app{term: newTerminal(&said, &said), lookup: environment(nil)}
	c, err := newDeviceCertificate(a, cs, path+".pem", path+".key", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	is := func(cn string) {
		t.Helper()
		if got, err := c.get(); err != nil || got.Leaf.Subject.CommonName != cn {
			t.Fatalf("%+v, %v, want the certificate of %s", got, err, cn)
		}
	}
	is("old")
	write(t, path+".key", []byte("not written yet"))
	if _, err := c.get(); err == nil {
		t.Error("took a broken pair")
	}
	soon := leafTemplate("new")
	soon.NotAfter = time.Now().Add(24 * time.Hour)
	if _, err := issue(path, soon, nil); err != nil {
		t.Fatal(err)
	}
	is("new")
	is("new")
	if n := strings.Count(log.String(), "expires soon"); n != 1 {
		t.Errorf("warned %d times that it expires: %s", n, &log)
	}
	expired := leafTemplate("expired")
	expired.NotAfter = time.Unix(1_000_000_000, 0)
	if _, err := issue(path, expired, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.get(); err == nil || !strings.Contains(err.Error(), "expired on 2001-09-09") {
		t.Errorf("an expired certificate: %v", err)
	}
	if said.Len() > 0 {
		t.Errorf("said %s", &said)
	}
}

// A secret among the arguments is warned of, on a terminal; one that is not used is
// not.
func TestFromArgument(t *testing.T) {
	for _, test := range []struct {
		name, args string
		env        map[string]string
		person     bool
		want       string
		warns      bool
	}{
		{"argument", "", nil, true, "argument", true},
		{"script", "", nil, false, "argument", false},
		{"variable", "", map[string]string{"IOTHUB_CONNECTION_STRING": "variable"}, true, "variable", false},
		{"flag", "--connection-string=flag", map[string]string{"IOTHUB_CONNECTION_STRING": "variable"}, true, "flag", false},
		{"file", "--connection-string-file=f", nil, true, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var said bytes.Buffer
			a := &app{term: newTerminal(&said, &said), lookup: environment(nil)}
			a.term.person = test.person
			var o credentialOptions
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			o.addFlags(flags, serviceVariables...)
			if err := flags.Parse(strings.Fields(test.args)); err != nil {
				t.Fatal(err)
			}
			if err := applyEnvironment(flags, environment(test.env)); err != nil {
				t.Fatal(err)
			}
			if err := a.fromArgument(flags, flagConnectionString, argumentConnectionString, "argument"); err != nil {
				t.Fatal(err)
			}
			if got := o.connectionString; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if warns := strings.Contains(said.String(), "CONNECTION-STRING on the command line can be seen"); warns != test.warns {
				t.Errorf("said %q", &said)
			}
		})
	}
}

func TestPrintableJSON(t *testing.T) {
	for text, want := range map[string]string{
		"{\n  \"a\": \"b ✓\"\n}\n": "{\n  \"a\": \"b ✓\"\n}\n",
		"\"\u009b2J\u202e\"":       `"\u009b2J\u202e"`,
		"\"\U000e0041\"":           `"\udb40\udc41"`,
	} {
		if got := printableJSON(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
