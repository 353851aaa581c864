package hub

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/wire"
)

func TestPathSegments(t *testing.T) {
	for path, want := range map[string][]string{
		"":                       {""},
		"/":                      {""},
		"*":                      {"*"},
		"/devices":               {"devices"},
		"/devices/":              {"devices", ""},
		"/devices/a%20b":         {"devices", "a b"},
		"/devices/a%2520b":       {"devices", "a%20b"},
		"/devices/a+b":           {"devices", "a+b"},
		"/devices/%C3%A4":        {"devices", "ä"},
		"/$iothub/websocket":     {"$iothub", "websocket"},
		"/%24iothub/websocket":   {"$iothub", "websocket"},
		"/devices/...":           {"devices", "..."},
		"//":                     nil,
		"//devices":              nil,
		"/devices//":             nil,
		"/devices//pi":           nil,
		"/./devices":             nil,
		"/devices/..":            nil,
		"/devices/%2e%2E":        nil,
		"/devices/%2E/x":         nil,
		"/devices/a%2Fb":         nil,
		"/devices/a%2fb":         nil,
		"/devices/%":             nil,
		"/devices/%2":            nil,
		"/devices/%zz":           nil,
		"/devices/%2F":           nil,
		"/devices/%252F":         {"devices", "%2F"},
		"/devices/%252e%252e":    {"devices", "%2e%2e"},
		"/devices/%00/modules/x": {"devices", "\x00", "modules", "x"},
	} {
		got, ok := pathSegments(path)
		if ok != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%q splits into %q, %t; want %q", path, got, ok, want)
		}
	}
}

// The way from the request line to the handler decodes once, never twice, and lets
// nothing through that another reading of the path would take for another one.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/devices/pi-1", "/devices/", "//devices", "/devices/%2e%2e", "/devices/a%2Fb", "/devices/%252F", "/twins/a/streams/b", "/twins/a%2fb/streams/c",
		"/bridges/0123", "/$iothub/websocket?x=y", "/./a", "*", "https://h/devices/x", "/devices/\xff", "/devices/%ff", "/devices/a%3Fb#c", "/devices/{id}", "//h/devices/x", "/devices/+",
	} {
		f.Add("GET", seed)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		segments, ok := pathSegments(u.EscapedPath())
		if !ok {
			return
		}
		// Decoding once is what net/url did, too.
		if joined := strings.Join(segments, "/"); joined != strings.TrimPrefix(u.Path, "/") {
			t.Errorf("%q: segments %q, but the path is %q", target, segments, u.Path)
		}
		escaped := make([]string, len(segments))
		for i, s := range segments {
			if s == "." || s == ".." || strings.Contains(s, "/") || s == "" && i < len(segments)-1 {
				t.Errorf("%q has segment %q", target, s)
			}
			escaped[i] = url.PathEscape(s)
		}
		if again, ok := pathSegments("/" + strings.Join(escaped, "/")); !ok || !slices.Equal(again, segments) {
			t.Errorf("%q: segments %q escaped and split again are %q", target, segments, again)
		}

		r := &request{Request: &http.Request{Method: method, URL: u}}
		found, methods := r.match(segments)
		if found == nil {
			if r.id != "" || r.name != "" {
				t.Errorf("%q has no route, but ID %q and name %q", target, r.id, r.name)
			}
			return
		}
		if found.method != method || len(methods) > 0 {
			t.Errorf("%s %q goes to %s %s", method, target, found.method, found.path)
		}
		// The route's pattern, filled in, is the path.
		filled := strings.NewReplacer("{id}", url.PathEscape(r.id), "{name}", url.PathEscape(r.name)).Replace(found.path)
		if again, ok := pathSegments(filled); !ok || !slices.Equal(again, segments) {
			t.Errorf("%q goes to %s with ID %q, name %q", target, found.path, r.id, r.name)
		}
	})
}

// What is said about what somebody sent is one short line.
func TestQuote(t *testing.T) {
	for _, s := range []string{"", "pi-1", "a\nb\r\x00\x1b[31m", "\u202egnp.exe", "\xff\xfe", strings.Repeat("ä", 1<<16), `"quoted"`} {
		got := quote(s)
		if len(got) > 4*256+2 || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == '\u202e' || r == '\u2028' }) {
			t.Errorf("%.20q is quoted as %.40s", s, got)
		}
	}
}

func TestNewID(t *testing.T) {
	if a, b := newID(), newID(); a == b || len(a) != 32 || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("IDs are %q and %q", a, b)
	}
	if len(wire.PathBridges)+32 >= wire.MaxURL {
		t.Error("the path of a stream is too long for the C SDK")
	}
}
