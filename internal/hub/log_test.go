package hub_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/wire"
)

// nasty is what somebody might send to make a log say what did not happen.
var nasty = []string{
	"a\nlevel=ERROR msg=\"hub on fire\"", "a\r\nb", "\x00", "\x1b[2J\x1b[31mred", "\u202egnp.exe", "\u2028b", "\u009b31m", "\xff\xfe", "\"", "\\", "a b=c", strings.Repeat("x", 3000),
}

// Whatever anybody sends, the log has one line for each event, in plain characters.
func TestLogInjection(t *testing.T) {
	for format, handler := range map[string]func(*hubtest.Log) slog.Handler{
		"text": func(l *hubtest.Log) slog.Handler { return slog.NewTextHandler(l, debug) },
		"json": func(l *hubtest.Log) slog.Handler { return slog.NewJSONHandler(l, debug) },
	} {
		t.Run(format, func(t *testing.T) {
			log := new(hubtest.Log)
			w := newWorld(t, hub.Options{Logger: slog.New(handler(log))})
			cs := w.AddDevice("pi-1")
			d := w.device(cs)
			for _, text := range nasty {
				for _, c := range []call{
					{method: "GET", path: path(text)},
					{method: "PUT", path: path(text), body: `{"deviceId":` + quoted(text) + `}`},
					{method: "PUT", path: "/devices/pi-1", body: `{"lastActivityTime":` + quoted(text) + `}`},
					{method: "DELETE", path: path(text)},
					{method: "GET", path: strings.Replace(path(text), "/devices", "/twins", 1)},
					{method: "POST", path: "/twins/pi-1/streams/" + strings.TrimPrefix(path(text), "/devices/")},
					{method: "POST", path: strings.Replace(path(text), "/devices", "/twins", 1) + "/streams/shell"},
					{method: "GET", path: "/bridges/" + strings.TrimPrefix(path(text), "/devices/")},
					{method: "GET", path: "/" + strings.TrimPrefix(path(text), "/devices/")},
				} {
					w.call(c)
					c.auth = w.owner()
					w.call(c)
					c.auth = sas("localhost", unix(time.Hour), cs.SharedAccessKey, "&skn="+strings.TrimPrefix(path(text), "/devices/"))
					w.call(c)
				}
				for _, l := range []login{
					{id: text, password: "x"}, {id: "pi-1", password: text}, {id: "pi-1", clientID: text}, {id: "pi-9", password: text}, {host: text, id: "pi-9", password: "x"},
				} {
					if len(l.id) < 3000 {
						_, _, _ = w.connect(l)
					}
				}
			}
			w.call(call{method: strings.Repeat("M", 5000), path: "/healthz"})
			d.ping()
			w.Stop()
			checkLines(t, format, log.String())
		})
	}
}

var debug = &slog.HandlerOptions{Level: slog.LevelDebug}

func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

func checkLines(t *testing.T, format, log string) {
	t.Helper()
	if strings.Contains(log, "\nlevel=ERROR") || strings.Contains(log, "msg=\"hub on fire\"") {
		t.Error("somebody made up a line")
	}
	n := 0
	for line := range strings.Lines(log) {
		n++
		line = strings.TrimSuffix(line, "\n")
		if format == "json" && !json.Valid([]byte(line)) || format == "text" && !strings.HasPrefix(line, "time=20") {
			t.Errorf("line is %.200q", line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("line has characters that do not print: %.200q", line)
		}
		if len(line) > 2500 {
			t.Errorf("line of %d characters: %.200q", len(line), line)
		}
	}
	if n < 100 {
		t.Errorf("only %d lines", n)
	}
}

// No key, token or password stands in the log, at whatever level.
func TestLogHasNoSecrets(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	d := w.get("pi-1")
	l := w.login(cs)
	control := w.connected(l)
	control.subscribe()
	p := w.stream(control)
	secrets := []string{
		d.Authentication.SymmetricKey.PrimaryKey, d.Authentication.SymmetricKey.SecondaryKey,
		p.deviceToken, p.serviceToken, l.password, w.owner(), w.policy("service"),
	}
	for _, name := range policyNames {
		policy, err := w.Hub.TestPolicy(name)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, policy.Primary.Reveal(), policy.Secondary.Reveal())
	}
	// What is refused is no less of a secret, as it may be good elsewhere.
	stolen := sas("elsewhere", unix(time.Hour), cs.SharedAccessKey, "")
	for _, c := range []call{
		{method: "GET", path: "/devices", auth: stolen},
		{method: "GET", path: "/devices", auth: "Bearer " + p.serviceToken},
		{method: "PUT", path: "/devices/pi-1", auth: w.owner(), body: `{"deviceId":"pi-1","authentication":{"symmetricKey":{"primaryKey":"` + secrets[0] + `!"}}}`},
		{method: "PUT", path: "/devices/pi-1", auth: w.owner(), body: `{"deviceId":"pi-1","authentication":"` + secrets[0] + `"}`},
		{method: "PUT", path: "/devices/pi-2", auth: w.owner(), body: `{"deviceId":"pi-1"}`},
	} {
		w.call(c)
	}
	_, _, _ = w.connect(login{id: "pi-1", password: stolen})
	_, _ = w.tryLeg(p.url, "Bearer "+p.deviceToken)
	_, _ = w.tryLeg(p.url, "Bearer "+stolen)
	takeAway(w)["renew"]("pi-1")
	control.ended()
	p.device.Close()
	p.service.Close()
	secrets = append(secrets, stolen, w.get("pi-1").Authentication.SymmetricKey.PrimaryKey)
	key, err := os.ReadFile(w.DataDir + "/ca-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	w.Stop()
	secrets = append(secrets, strings.Split(string(key), "\n")[1])
	log := w.Log.String()
	for _, s := range secrets {
		s = strings.TrimPrefix(s, "SharedAccessSignature ")
		if strings.Contains(log, s) || strings.Contains(log, strings.TrimRight(s, "=")) {
			t.Errorf("the log has %s", s)
		}
		if _, sig, ok := strings.Cut(s, "sig="); ok && strings.Contains(log, sig[:20]) {
			t.Errorf("the log has the signature of %s", s)
		}
	}
}

// Who did what is in the log: device, policy and source.
func TestAudit(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	d := w.device(cs)
	p := w.stream(d)
	_ = p.service.Close()
	w.Log.WaitFor(t, "stream ended") // before the device goes
	_, _, _ = w.connect(login{id: "pi-1", password: sas("localhost%2Fdevices%2Fpi-1", unix(time.Hour), credential.NewKey(), "")})
	w.call(call{method: "GET", path: "/devices", auth: w.policy("service")})
	w.as("DELETE", "/devices/pi-1", "", http.Header{"If-Match": {"*"}})
	for _, parts := range [][]string{
		{"identity written", "device=pi-1", "policy=iothubowner", "remote=127.0.0.1:"},
		{"device connected", "device=pi-1"},
		{"stream opened", "device=pi-1", "name=shell", "policy=service"},
		{"stream ended", "device=pi-1", "name=shell", "policy=service", "reason=network", "up=4", "down=4", "dur="},
		{"level=WARN", "device refused", "device=pi-1", "remote=127.0.0.1:"},
		{"level=WARN", "unauthorized", "path=/devices", "remote=127.0.0.1:", "lacks the right RegistryRead"},
		{"identity deleted", "device=pi-1", "policy=iothubowner", "remote=127.0.0.1:"},
		{"device session ends", "client=pi-1", "reason=" + string(wire.EndRevoked)},
	} {
		w.Log.WaitFor(t, parts...)
	}
}
