package hub_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/wire"
)

// routeCase is a request for one route: what it takes to be let in, and what the
// answer is then.
type routeCase struct {
	route, method, path, body string
	rights                    string // one of these rights; "" for a public path
	status                    int    // for whoever may
}

var routeCases = []routeCase{
	{"GET /healthz", "GET", "/healthz", "", "", 200},
	{"GET /ca.pem", "GET", "/ca.pem", "", "", 200},
	{"GET /$iothub/websocket", "GET", "/$iothub/websocket", "", "", 400}, // no WebSocket
	{"GET /bridges/{id}", "GET", "/bridges/0123456789abcdef0123456789abcdef", "", "leg", 0},
	{"GET /devices", "GET", "/devices?api-version=x", "", "read", 200},
	{"GET /devices/", "GET", "/devices/", "", "read", 200},
	{"POST /devices", "POST", "/devices", `[{"id":"pi-1","importMode":"create"}]`, "write", 400}, // exists
	{"POST /devices/query", "POST", "/devices/query", `{"query":"SELECT * FROM devices"}`, "service", 200},
	{"GET /devices/{id}", "GET", "/devices/pi-1", "", "read", 200},
	{"PUT /devices/{id}", "PUT", "/devices/pi-1", `{"deviceId":"pi-1"}`, "write", 409},
	{"DELETE /devices/{id}", "DELETE", "/devices/pi-2", "", "write", 404},
	{"GET /devices/{id}/modules", "GET", "/devices/pi-1/modules", "", "read", 200},
	{"GET /devices/{id}/modules/{module}", "GET", "/devices/pi-1/modules/m", "", "read", 200},
	{"PUT /devices/{id}/modules/{module}", "PUT", "/devices/pi-1/modules/m", `{"deviceId":"pi-1","moduleId":"m"}`, "write", 409},
	{"DELETE /devices/{id}/modules/{module}", "DELETE", "/devices/pi-1/modules/x", "", "write", 404},
	{"GET /statistics/devices", "GET", "/statistics/devices", "", "read", 200},
	{"GET /statistics/service", "GET", "/statistics/service", "", "service read", 200},
	{"GET /twins/{id}", "GET", "/twins/pi-1", "", "service", 200},
	{"PATCH /twins/{id}", "PATCH", "/twins/pi-1", `{"tags":{"a":1}}`, "service", 200},
	{"PUT /twins/{id}", "PUT", "/twins/pi-1", `{"tags":{"a":1}}`, "service", 200},
	{"GET /twins/{id}/modules/{module}", "GET", "/twins/pi-1/modules/m", "", "service", 200},
	{"PATCH /twins/{id}/modules/{module}", "PATCH", "/twins/pi-1/modules/m", `{}`, "service", 200},
	{"PUT /twins/{id}/modules/{module}", "PUT", "/twins/pi-1/modules/m", `{}`, "service", 200},
	{"POST /twins/{id}/methods", "POST", "/twins/pi-1/methods", `{"methodName":"reboot"}`, "service", 404},
	{"POST /twins/{id}/modules/{module}/methods", "POST", "/twins/pi-1/modules/m/methods", `{"methodName":"reboot"}`, "service", 404},
	{"POST /twins/{id}/streams/{name}", "POST", "/twins/pi-1/streams/shell", "", "service", 404},
	{"POST /twins/{id}/modules/{module}/streams/{name}", "POST", "/twins/pi-1/modules/m/streams/shell", "", "service", 404},
	{"GET /devicestreams", "GET", "/devicestreams", "", "service read", 200},
	{"GET /certificates", "GET", "/certificates", "", "owner", 200},
	{"POST /certificates", "POST", "/certificates", `{"certificate":"x"}`, "owner", 400},
	{"DELETE /certificates/{name}", "DELETE", "/certificates/x", "", "owner", 404},
}

func TestRouteCasesComplete(t *testing.T) {
	var covered []string
	for _, c := range routeCases {
		covered = append(covered, c.route)
	}
	if want := hub.RouteNames(); !slices.Equal(covered, want) {
		t.Errorf("the hub's routes are %q, the test walks %q", want, covered)
	}
}

// caller is somebody who asks, and what that one may do.
type caller struct {
	name, authorization string
	rights              string
}

func callers(w *world, other *hubtest.Server) []caller {
	device := w.AddDevice("pi-1")
	module := w.AddDevice("pi-1/m")
	foreign := other.ConnectionString("iothubowner")
	in, past := unix(time.Hour), unix(-credential.ClockGrace-2*time.Second)
	key := func(policy string) credential.Key { return w.ConnectionString(policy).SharedAccessKey }
	owner := key("iothubowner")
	policy, err := w.Hub.TestPolicy("service")
	if err != nil {
		w.t.Fatal(err)
	}
	const all = "read write service owner"
	skn := "&skn=iothubowner"
	good := sas("localhost", in, owner, skn)
	return []caller{
		{"nobody", "", ""},
		{"garbage", "garbage", ""},
		{"scheme alone", "SharedAccessSignature ", ""},
		{"basic", "Basic aWM6aWM=", ""},
		{"bearer", "Bearer " + strings.TrimPrefix(good, "SharedAccessSignature "), ""},
		{"5 KiB", "SharedAccessSignature " + strings.Repeat("x", 5<<10), ""},
		{"no policy", sas("localhost", in, owner, ""), ""},
		{"unknown policy", sas("localhost", in, owner, "&skn=nobody"), ""},
		{"policy in other letter case", sas("localhost", in, owner, "&skn=IoTHubOwner"), ""},
		{"empty policy", sas("localhost", in, owner, "&skn="), ""},

		{"iothubowner", w.policy("iothubowner"), all},
		{"service", w.policy("service"), "service"},
		{"device", w.policy("device"), ""},
		{"registryRead", w.policy("registryRead"), "read"},
		{"registryReadWrite", w.policy("registryReadWrite"), "read write"},
		{"service, secondary key", sas("localhost", in, policy.Secondary, "&skn=service"), "service"},
		{"another policy's key", sas("localhost", in, key("service"), skn), ""},

		{"device key", sas("localhost%2Fdevices%2Fpi-1", in, device.SharedAccessKey, ""), ""},
		{"device key for the hub", sas("localhost", in, device.SharedAccessKey, ""), ""},
		{"device key as policy", sas("localhost", in, device.SharedAccessKey, skn), ""},
		{"device ID as policy", sas("localhost", in, device.SharedAccessKey, "&skn=pi-1"), ""},
		{"module key", sas("localhost%2Fdevices%2Fpi-1%2Fmodules%2Fm", in, module.SharedAccessKey, ""), ""},
		{"module key for the hub", sas("localhost", in, module.SharedAccessKey, ""), ""},
		{"wrong key", sas("localhost", in, credential.NewKey(), skn), ""},
		{"other hub's key", sas("localhost", in, foreign.SharedAccessKey, skn), ""},
		{"other hub's name", sas("other.example.test", in, owner, skn), ""},
		{"name with more behind", sas("localhost.evil.test", in, owner, skn), ""},
		{"name with more before", sas("xlocalhost", in, owner, skn), ""},
		{"name as part of a path", sas("x%2Flocalhost", in, owner, skn), ""},

		{"expired", sas("localhost", past, owner, skn), ""},
		{"expired within the grace", sas("localhost", unix(-credential.ClockGrace+time.Minute), owner, skn), all},
		{"later expiry than signed", strings.Replace(sas("localhost", past, owner, skn), "se="+past, "se="+in, 1), ""},
		{"expiry twice", good + "&se=" + in, ""},
		{"expiry in hex", sas("localhost", "0x7fffffff", owner, skn), ""},
		{"negative expiry", sas("localhost", "-1", owner, skn), ""},
		{"expiry in 13 digits", sas("localhost", "1000000000000", owner, skn), ""},

		{"raw, upper case, port", sas("LOCALHOST:443", in, owner, skn), all},
		{"escaped port", sas("localhost%3a18883", in, owner, skn), all},
		{"second name", sas("127.0.0.1", in, owner, skn), all},
		{"third name", sas("%5B%3A%3A1%5D", in, owner, skn), all},
		{"own name", sas("hub.example.test", in, owner, skn), all},
		{"name that was signed escaped, sent raw", strings.Replace(sas("localhost%3A1", in, owner, skn), "%3A", ":", 1), ""},
		{"slash at the end", sas("localhost%2F", in, owner, skn), ""},
		{"no resource", sas("", in, owner, skn), ""},
		{"lower-case escapes", lowerEscapes(good), all},
		{"lower-case scheme", strings.Replace(good, "SharedAccessSignature", "sharedaccesssignature", 1), all},
		{"unknown part", good + "&x=y", all},
	}
}

// lowerEscapes writes percent escapes as the C SDK does.
func lowerEscapes(s string) string {
	return regexp.MustCompile(`%[0-9A-F]{2}`).ReplaceAllStringFunc(s, strings.ToLower)
}

// Every route is asked by everybody. Who is not known to have the right gets 401,
// with the error in header and body.
func TestRoutesAndCallers(t *testing.T) {
	w := newWorld(t, hub.Options{Hosts: []string{"localhost", "hub.example.test"}})
	other := hubtest.New(t, hub.Options{})
	for _, who := range callers(w, other) {
		for _, c := range routeCases {
			got := w.call(call{method: c.method, path: c.path, auth: who.authorization, body: c.body})
			may := c.rights == "" || slices.ContainsFunc(strings.Fields(c.rights), func(r string) bool {
				return slices.Contains(strings.Fields(who.rights), r)
			})
			if may {
				if got.status != c.status {
					t.Errorf("%s: %s: %d %s, want %d", who.name, c.route, got.status, got.body, c.status)
				}
				continue
			}
			t.Run(who.name+" "+c.route, func(t *testing.T) {
				if e := got.wants(t, wire.ErrUnauthorizedAccess); e.Number != 401002 {
					t.Errorf("number is %d", e.Number)
				}
			})
		}
	}
	if d := w.get("pi-1"); d.Status != wire.StatusEnabled {
		t.Errorf("the device has changed: %+v", d)
	}
}

// The resource of a token may be narrower than the hub; it covers whole segments.
func TestRoutesAndResources(t *testing.T) {
	w := newWorld(t, hub.Options{})
	for _, id := range []string{"dev1", "dev10", "api-version=1"} {
		w.AddDevice(id)
	}
	owner := w.ConnectionString("iothubowner").SharedAccessKey
	in := unix(time.Hour)
	for _, c := range []struct {
		sr, path string
		ok       bool
	}{
		{"localhost%2Fdevices", "/devices", true},
		{"localhost%2Fdevices", "/devices/", true},
		{"localhost%2Fdevices", "/devices/dev1", true},
		{"localhost/devices/dev1", "/devices/dev1", true},
		{"localhost%2fdevices%2fdev1", "/devices/dev1", true},
		{"localhost:8443/devices/dev1", "/devices/dev1", true},
		{"localhost%2Fdevices%2Fdev1%2Fapi-version%3D2016-11-14", "/devices/dev1", true},
		{"localhost%2Fdevices%2Fdev1", "/%64evices/d%65v1", true},
		{"localhost%2Fdevices%2Fdev1", "/devices/dev10", false},
		{"localhost%2Fdevices%2Fdev10", "/devices/dev1", false},
		{"localhost%2Fdevices%2Fdev1", "/devices", false},
		{"localhost%2Fdevices%2Fdev1", "/devices/", false},
		{"localhost%2Fdevices%2Fdev1", "/twins/dev1", false},
		{"localhost%2Fdevices%2FDEV1", "/devices/dev1", false},
		{"localhost%2Ftwins%2Fdev1", "/twins/dev1", true},
		{"localhost%2Fdevices%2Fdev10%2F..%2Fdev1", "/devices/dev1", false},
		{"localhost%2Fdevices%2F.%2Fdev1", "/devices/dev1", false},
		{"localhost%2F%2Fdevices%2Fdev1", "/devices/dev1", false},
		{"localhost%2Fdevices%2F", "/devices/", false},
		{"localhost%2Fdevices%2Fapi-version%3D1", "/devices/api-version=1", true},
		{"localhost%2Fdevices%2Fapi-version%3D1", "/devices", false},
		{"localhost%2Fdevices%2Fapi-version%3D1", "/devices/", false},
		{"localhost%252Fdevices%252Fdev1", "/devices/dev1", false},
		{"localhost%2Fdevices%2Fdev1%00", "/devices/dev1", false},
		{"localhost%2Fdevices%2Fdev1%2Fmodules%2Fm", "/devices/dev1", false},
	} {
		got := w.call(call{method: "GET", path: c.path, auth: sas(c.sr, in, owner, "&skn=iothubowner")})
		if want := map[bool]int{true: 200, false: 401}[c.ok]; got.status != want {
			t.Errorf("token for %s: %s answers %d, want %d", c.sr, c.path, got.status, want)
		}
	}
}

var variable = regexp.MustCompile(`[0-9a-f]{32}|\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z`)

// Who has no key learns nothing: not which policies there are, nor which devices.
func TestUnauthorizedTellsNothing(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.AddDevice("pi-1")
	in := unix(time.Hour)
	wrong := credential.NewKey()
	var first string
	for _, authorization := range []string{
		"", "garbage",
		sas("localhost", in, wrong, "&skn=iothubowner"),
		sas("localhost", in, wrong, "&skn=nobody"),
		sas("localhost", in, wrong, ""),
		sas("localhost", unix(-time.Hour), wrong, "&skn=iothubowner"),
		sas("elsewhere", in, wrong, "&skn=iothubowner"),
	} {
		for _, path := range []string{"/devices/pi-1", "/devices/pi-9", "/twins/pi-1", "/devices"} {
			got := w.call(call{method: "GET", path: path, auth: authorization})
			got.header.Del("Date")
			var header strings.Builder
			_ = got.header.Write(&header)
			seen := http.StatusText(got.status) + header.String() + variable.ReplaceAllString(got.body, "X")
			if first == "" {
				first = seen
			}
			if seen != first {
				t.Errorf("%q asking %s sees\n%s\nothers see\n%s", authorization, path, seen, first)
			}
		}
	}
	if strings.Contains(first, "localhost") {
		t.Errorf("a stranger is told the hub's names: %s", first)
	}
}

func TestPaths(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.AddDevice("pi-1")
	for _, path := range []string{
		"//devices/pi-1", "//", "/devices//", "/devices//pi-1", "/./devices/pi-1", "/devices/./pi-1", "/devices/.", "/devices/pi-1/.",
		"/devices/../devices/pi-1", "/devices/..", "/..", "/.", "/devices/x/../pi-1", "/devices/%2e%2E/devices", "/devices/%2e", "/%2e/devices",
		"/devices/a%2Fb", "/devices/a%2fb", "/devices/pi-1%2F", "/devices%2Fpi-1", "/%2F", "/twins/pi-1/streams//shell", "/twins/pi-1//streams/shell",
		"/healthz//", "//healthz", "/./healthz", "/x/../healthz", "//ca.pem", "/$iothub//websocket", "/bridges//0", "/bridges/..",
	} {
		got := w.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + w.owner() + "\r\n\r\n")
		got.wants(t, wire.ErrArgumentInvalid)
		if got.header.Get("Location") != "" {
			t.Errorf("%s is redirected to %s", path, got.header.Get("Location"))
		}
	}
	for path, status := range map[string]int{
		"/":                                      404,
		"/devices/pi%2D1":                        200, // decoded once
		"/devices/pi%252D1":                      404,
		"/devices/%252F":                         404,
		"/devices/%00":                           404,
		"/devices/pi-1/":                         404,
		"/devices/pi-1/x":                        404,
		"/healthz/":                              404,
		"/%68ealthz":                             200,
		"/HEALTHZ":                               404,
		"/ca.pem/":                               404,
		"/bridges":                               404,
		"/bridges/":                              404,
		"/debug/pprof/":                          404,
		"/metrics":                               404,
		"/.well-known/acme-challenge/x":          404,
		"/devices/{id}":                          404,
		"/twins/{id}/streams/{name}":             405,
		"https://evil.example.test/devices/pi-1": 200, // absolute form: only the path counts
	} {
		got := w.as("GET", path, "", nil)
		if got.status != status {
			t.Errorf("%s answers %d %s, want %d", path, got.status, got.body, status)
		}
		if got.status >= 400 {
			got.fault(t)
		}
	}
}

func TestPathsTakeTheirMethods(t *testing.T) {
	w := newWorld(t, hub.Options{})
	for _, c := range []struct{ method, path, allow string }{
		{"PUT", "/devices", "GET, POST"},
		{"POST", "/devices/pi-1", "GET, PUT, DELETE"},
		{"PATCH", "/devices/query", "POST, GET, PUT, DELETE"}, // a device may have that ID
		{"PATCH", "/devices/pi-1", "GET, PUT, DELETE"},
		{"OPTIONS", "/devices/pi-1", "GET, PUT, DELETE"},
		{"TRACE", "/healthz", "GET"},
		{"GET", "/twins/pi-1/streams/shell", "POST"},
		{"DELETE", "/twins/pi-1", "GET, PATCH, PUT"},
		{"get", "/healthz", "GET"},
		{"POST", "/bridges/0", "GET"},
	} {
		got := w.call(call{method: c.method, path: c.path})
		if got.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: Allow is %q, want %q", c.method, c.path, got.header.Get("Allow"), c.allow)
		}
		got.wants(t, wire.ErrMethodNotAllowed)
	}
	got := w.call(call{method: "OPTIONS", path: "*"})
	got.wants(t, wire.ErrNotFound)
}

func TestPublicPaths(t *testing.T) {
	w := newWorld(t, hub.Options{})
	if got := w.call(call{method: "GET", path: "/healthz"}); got.status != 200 || got.body != "ok\n" {
		t.Errorf("health is %d %q", got.status, got.body)
	}
	got := w.call(call{method: "GET", path: "/devicestreams", auth: w.policy("service")})
	if want := `{"streamingEndpoints":["` + w.Hub.URL() + `"]}`; got.status != 200 || got.body != want {
		t.Errorf("streaming endpoints are %d %s, want %s", got.status, got.body, want)
	}
}
