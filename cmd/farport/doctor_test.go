package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
)

// middlebox is a reverse proxy before a hub that ends TLS and meddles.
type middlebox struct {
	strip bool          // does not pass Upgrade on
	date  func() string // what answers say the time is; nil: the truth
}

// doctor runs the command through the middlebox and returns its exit code, and what it
// printed with times and ports taken out.
func (m middlebox) doctor(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	s := hubtest.New(t, hub.Options{})
	target := &url.URL{Scheme: "https", Host: s.Hub.Address().String()}
	proxy := &httputil.ReverseProxy{
		Transport: s.Client().Transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.URL.Host = "localhost" // as the hub's certificate has it
			if m.strip {
				r.Out.Header.Del("Upgrade")
				r.Out.Header.Del("Connection")
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if m.date != nil {
				r.Header.Set("Date", m.date())
			}
			return nil
		},
	}
	front := httptest.NewUnstartedServer(proxy)
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	t.Cleanup(front.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: front.Certificate().Raw}))

	cs := s.ConnectionString("iothubowner")
	address := front.Listener.Addr().String()
	text := "HostName=" + address + ";SharedAccessKeyName=iothubowner;SharedAccessKey=" + cs.SharedAccessKey.Reveal()
	var out, err bytes.Buffer
	code = run(t.Context(), append([]string{"doctor", "--ca-file", ca}, args...), streams{strings.NewReader(""), &out, &err},
		environment(map[string]string{"IOTHUB_CONNECTION_STRING": text}))
	clean := func(text string) string {
		text = strings.ReplaceAll(text, address, "HUB")
		text = regexp.MustCompile(`"took": [0-9.]+`).ReplaceAllString(text, `"took": 1`)
		text = regexp.MustCompile(`until [0-9-]+`).ReplaceAllString(text, "until 2030-01-01")
		return regexp.MustCompile(`took [0-9.]+[mµ]?s`).ReplaceAllString(text, "took 1ms")
	}
	return code, clean(out.String()), clean(err.String())
}

func TestDoctorMiddlebox(t *testing.T) {
	for _, tt := range []struct {
		name   string
		box    middlebox
		code   int
		stdout []string
	}{
		{"passes all on", middlebox{}, exitDone, []string{
			"dns           ok        127.0.0.1 is an address, nothing to look up\n",
			"clock         ok        this machine's clock is in step with the hub's; an HTTPS request took 1ms there and back\n",
			"websocket     ok  ", "credentials   ok  ",
		}},
		{"no WebSockets", middlebox{strip: true}, exitHub, []string{
			"websocket     failed    asked for a WebSocket, got HTTP status 4", "hint: something before the hub", "Upgrade and Connection",
			"credentials   skipped   not tried, as websocket failed\n",
		}},
		{"hub ahead", middlebox{date: dated(10 * time.Minute)}, exitDone, []string{
			"clock         warning   this machine's clock is 10m", " behind the hub's\n", "hint: set the clock", "credentials   ok  ",
		}},
		{"hub behind", middlebox{date: dated(-3 * time.Hour)}, exitDone, []string{
			"clock         warning   this machine's clock is ", " ahead of the hub's\n", "credentials   ok  ",
		}},
		{"hub far ahead", middlebox{date: dated(3 * time.Hour)}, exitUnauthorized, []string{
			"clock         failed    this machine's clock is ", " behind the hub's: every token is expired when it arrives\n", "websocket     skipped ",
		}},
		{"no time", middlebox{date: func() string { return "soon" }}, exitDone, []string{
			"clock         warning   the hub did not say what time it is\n",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, stdout, stderr := tt.box.doctor(t)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if (stderr != "") != (tt.code != exitDone) {
				t.Errorf("standard error: %q", stderr)
			}
			for _, part := range tt.stdout {
				if !strings.Contains(stdout, part) {
					t.Errorf("lacks %q", part)
				}
			}
			if t.Failed() {
				t.Log(stdout)
			}
		})
	}
}

func dated(ahead time.Duration) func() string {
	return func() string { return time.Now().Add(ahead).UTC().Format(http.TimeFormat) }
}

// The form of the JSON is fixed.
func TestDoctorJSON(t *testing.T) {
	code, stdout, stderr := middlebox{strip: true}.doctor(t, "pi-1", "-o", "json")
	if code != exitHub || !strings.Contains(stderr, "farport: hint: something before the hub") {
		t.Errorf("exit code %d, standard error %q", code, stderr)
	}
	golden := filepath.Join("testdata", "doctor.json")
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if stdout != string(want) {
		t.Errorf("got %s\nwant %s", stdout, want)
	}
}

// The port of --transport mqtt is looked at only when it is asked for.
func TestDoctorMQTT(t *testing.T) {
	s := hubtest.New(t, hub.Options{})
	cs := s.AddDevice("pi-1")
	port := strconv.Itoa(s.MQTTPort())
	for _, tt := range []struct {
		name   string
		args   []string
		code   int
		stdout string // "" is no line of it
	}{
		{"not asked for", nil, exitDone, ""},
		{"open", []string{"--transport", "mqtt", "--mqtt-port", port}, exitDone, `(?m)^mqtt +ok +localhost:` + port + ` takes TLS, `},
		{"sign in", []string{"--transport", "mqtt", "--mqtt-port", port, "--login"}, exitDone, `(?m)^mqtt +ok .*\n(.*\n)*credentials +ok `},
		{"closed", []string{"--transport", "mqtt", "--mqtt-port", "1"}, exitHub, // tcpmux's, that nobody listens on
			`(?m)^websocket +ok .*\nmqtt +failed +TCP connection "localhost:1": connection refused\n +hint: .*leave out --transport mqtt`},
		{"no transport", []string{"--transport", "amqp"}, exitUsage, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"doctor"}, tt.args...), streams{strings.NewReader(""), &stdout, &stderr},
				environment(map[string]string{"IOTHUB_DEVICE_CONNECTION_STRING": cs.Reveal()}))
			if code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, stderr.String())
			}
			if tt.stdout == "" == strings.Contains(stdout.String(), "\nmqtt") || !regexp.MustCompile(tt.stdout).MatchString(stdout.String()) {
				t.Errorf("it says %s", stdout.String())
			}
		})
	}
}
