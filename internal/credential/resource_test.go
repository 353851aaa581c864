package credential

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestResource(t *testing.T) {
	for _, tc := range []struct{ host, device, module, want string }{
		{"hub.example.test", "", "", "hub.example.test"},
		{"hub.example.test", "pi-1", "", "hub.example.test/devices/pi-1"},
		{"hub.example.test", "pi-1", "m1", "hub.example.test/devices/pi-1/modules/m1"},
		{"hub.example.test", "", "m1", "hub.example.test"},
		{"::1", "pi-1", "", "[::1]/devices/pi-1"},
	} {
		if got := Resource(tc.host, tc.device, tc.module); got != tc.want {
			t.Errorf("Resource(%q, %q, %q) = %q, want %q", tc.host, tc.device, tc.module, got, tc.want)
		}
	}
}

// ourHost takes the names the hub of these tests is configured with.
func ourHost(host string) bool { return host == "hub.example.test" || host == "::1" }

// coverCases are resources as written, what is asked for, and the answer.
var coverCases = []struct {
	sr, asked string
	want      bool
}{
	// Prefixes in whole segments.
	{"hub.example.test", "devices/pi-1", true},
	{"hub.example.test", "", true},
	{"hub.example.test%2Fdevices", "devices/pi-1", true},
	{"hub.example.test%2Fdevices%2Fpi-1", "devices/pi-1", true},
	{"hub.example.test%2fdevices%2fpi-1", "devices/pi-1", true},
	{"hub.example.test/devices/pi-1", "devices/pi-1", true},
	{"hub.example.test/devices/pi-1", "devices/pi-1/modules/m1", true},
	{"hub.example.test/devices/pi-1/modules/m1", "devices/pi-1", false},
	{"hub.example.test/devices/pi-1", "devices/pi-10", false},
	{"hub.example.test/devices/pi-10", "devices/pi-1", false},
	{"hub.example.test/devices/pi-1", "devices", false},
	{"hub.example.test/devices/pi-1", "", false},
	{"hub.example.test/Devices/pi-1", "devices/pi-1", false},
	{"hub.example.test/devices/PI-1", "devices/pi-1", false},
	{"hub.example.test/twins/pi-1", "devices/pi-1", false},
	{"devices/pi-1", "devices/pi-1", false},

	// Hosts.
	{"HUB.Example.TEST/devices/pi-1", "devices/pi-1", true},
	{"hub.example.test%3A18883%2Fdevices%2Fpi-1", "devices/pi-1", true},
	{"hub.example.test:8443/devices/pi-1", "devices/pi-1", true},
	{"[::1]:8443/devices/pi-1", "devices/pi-1", true},
	{"%5B%3A%3A1%5D%2Fdevices%2Fpi-1", "devices/pi-1", true},
	{"::1/devices/pi-1", "devices/pi-1", false},
	{"[hub.example.test]/devices/pi-1", "devices/pi-1", false},
	{"hub.example.test:/devices/pi-1", "devices/pi-1", false},
	{"hub.example.test:0/devices/pi-1", "devices/pi-1", false},
	{"hub.example.test:65536/devices/pi-1", "devices/pi-1", false},
	{"hub.example.test:x/devices/pi-1", "devices/pi-1", false},
	{"hub.example.test:1:2/devices/pi-1", "devices/pi-1", false},
	{"other.example.test/devices/pi-1", "devices/pi-1", false},
	{"hub.example.test.evil.test/devices/pi-1", "devices/pi-1", false},
	{"x@hub.example.test/devices/pi-1", "devices/pi-1", false},
	{"https://hub.example.test/devices/pi-1", "devices/pi-1", false},
	{"", "devices/pi-1", false},

	// Escapes: decoded once, never hiding a slash.
	{"hub.example.test/devices/pi%2D1", "devices/pi-1", true},
	{"hub.example.test/devices/a%23b", "devices/a#b", true},
	{"hub.example.test%2Fdevices%2Fa%2Bb", "devices/a+b", true},
	{"hub.example.test/devices/a+b", "devices/a+b", true},
	{"hub.example.test/devices/a%2541", "devices/a%41", true},
	{"hub.example.test%2Fdevices%2Fpi%252D1", "devices/pi-1", false},
	{"hub.example.test%252Fdevices%252Fpi-1", "devices/pi-1", false},
	{"hub.example.test%252F", "devices/pi-1", false},
	{"hub.example.test/devices%2Fpi-1", "devices/pi-1", false},
	{"hub.example.test/devices%2fpi-1", "devices/pi-1", false},
	{"hub.example.test/devices/a%2Fb", "devices/a/b", false},
	{"hub.example.test%2Fdevices%2Fa%252Fb", "devices/a%2Fb", false},
	{"hub.example.test%2Fdevices%2Fa%252fb", "devices/a%2fb", false},
	{"hub.example.test/devices/pi-1%", "devices/pi-1%", false},
	{"hub.example.test/devices/pi-1%zz", "devices/pi-1%zz", false},

	// Segments and characters that no resource has.
	{"hub.example.test/", "devices/pi-1", false},
	{"hub.example.test/devices/", "devices/pi-1", false},
	{"hub.example.test/devices/pi-1/", "devices/pi-1", false},
	{"hub.example.test//devices/pi-1", "devices/pi-1", false},
	{"/hub.example.test/devices/pi-1", "devices/pi-1", false},
	{"hub.example.test/./devices/pi-1", "devices/pi-1", false},
	{"hub.example.test/devices/../devices/pi-1", "devices/pi-1", false},
	{"hub.example.test/devices/..", "devices/..", false},
	{"hub.example.test/devices/%2E%2E", "devices/..", false},
	{"hub.example.test/devices/.", "devices/.", false},
	{"hub.example.test/devices/pi-1%00", "devices/pi-1", false},
	{"hub.example.test/devices/pi-1%0A", "devices/pi-1\n", false},
	{"hub.example.test/devices/pi%201", "devices/pi 1", false},
	{"hub.example.test/devices/pi-%C3%A4", "devices/pi-\u00e4", false},
	{"hub.example.test/devices/pi-%E2%80%AE", "devices/pi-\u202e", false},

	// The segment of old tools.
	{"hub.example.test%2Fdevices%2Fpi-1%2Fapi-version%3D2016-11-14", "devices/pi-1", true},
	{"hub.example.test/devices/pi-1/api-version=2016-11-14", "devices/pi-1", true},
	{"hub.example.test/devices/pi-1/api-version=2016-11-14", "devices/pi-10", false},
	{"hub.example.test/devices/pi-1/api-version=2016-11-14/x", "devices/pi-1", false},
	{"hub.example.test/devices/pi-1/Api-Version=2016-11-14", "devices/pi-1", false},
	{"hub.example.test/devices/pi-1/api-versions", "devices/pi-1", false},
	{"hub.example.test/devices/pi-1/modules/m1/api-version=1", "devices/pi-1/modules/m1", true},
	{"hub.example.test/devices/api-version=1", "devices/api-version=1", true},
	{"hub.example.test/devices/api-version=1", "devices", false},
	{"hub.example.test/devices/pi-1/modules/api-version=1", "devices/pi-1/modules", false},
	{"hub.example.test/api-version=1", "", false},
}

func askedSegments(asked string) []string {
	if asked == "" {
		return nil
	}
	return strings.Split(asked, "/")
}

func TestCovers(t *testing.T) {
	for _, tc := range coverCases {
		if got := (SAS{Resource: tc.sr}).Covers(ourHost, askedSegments(tc.asked)...); got != tc.want {
			t.Errorf("%q covers %q: %v, want %v", tc.sr, tc.asked, got, tc.want)
		}
	}
	// A slash in what is asked for is part of a segment.
	if (SAS{Resource: "hub.example.test%2Fdevices%2Fa%2Fb"}).Covers(ourHost, "devices", "a/b") {
		t.Error("two segments match one with a slash in it")
	}
}

func TestCoversOwner(t *testing.T) {
	for _, tc := range []struct {
		sr, asked string
		want      bool
	}{
		{"hub.example.test%2Fdevices%2Fpi-1", "devices/pi-1", true},
		{"hub.example.test%2fdevices%2fa%252bb", "devices/a+b", true}, // C#
		{"hub.example.test%2Fdevices%2Fa%252Bb%2Fmodules%2Fm%2523", "devices/a+b/modules/m#", true},
		{"hub.example.test/devices/a%252Bb", "devices/a+b", true},
		{"hub.example.test%2Fdevices%2Fa%25252Bb", "devices/a+b", false}, // three times
		{"hub.example.test%2Fdevices%2Fa%252Bb", "devices/ab", false},
		{"hub.example.test%2Fdevices%2Fa%252Bb", "devices/a%2Bb", true}, // once
		{"hub.example.test%252Fdevices%252Fpi-1", "devices/pi-1", true},
		{"hub.example.test%2Fdevices%2Fa%25252Fb", "devices/a%2Fb", false},
		{"hub.example.test%2Fdevices%2Fa%252Fb", "devices/a/b", false},
		{"hub.example.test%2Fdevices%2F%252E%252E", "devices/..", false},
		{"other.example.test%2Fdevices%2Fa%252Bb", "devices/a+b", false},
		{"hub.example.test%2Fdevices%2Fa%2", "devices/a%2", false},
	} {
		if got := (SAS{Resource: tc.sr}).CoversOwner(ourHost, askedSegments(tc.asked)...); got != tc.want {
			t.Errorf("%q covers %q: %v, want %v", tc.sr, tc.asked, got, tc.want)
		}
	}
}

func FuzzCovers(f *testing.F) {
	for _, tc := range coverCases {
		f.Add(tc.sr, tc.asked)
	}
	f.Fuzz(func(t *testing.T, sr, asked string) {
		segments := askedSegments(asked)
		if got, want := (SAS{Resource: sr}).Covers(ourHost, segments...), naiveCovers(sr, segments); got != want {
			t.Errorf("%q covers %q: %v, the oracle says %v", sr, segments, got, want)
		}
	})
}

// naiveCovers is the rule of docs/protocol.md and docs/security.md, T3, by split
// and compare.
func naiveCovers(sr string, asked []string) bool {
	plain, ok := decodeOnce(sr)
	if !ok || regexp.MustCompile(`[^!-~]|(?i:%2f)`).MatchString(plain) || regexp.MustCompile(`(?i)/.*%2f|%2f.*/`).MatchString(sr) {
		return false
	}
	segments := strings.Split(plain, "/")
	if slices.Contains(segments, "") || slices.Contains(segments, ".") || slices.Contains(segments, "..") {
		return false
	}
	port := `(:0*([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]))?`
	if !regexp.MustCompile(`(?i)^(hub\.example\.test|\[::1\])` + port + `$`).MatchString(segments[0]) {
		return false
	}
	path := segments[1:]
	if len(asked) == 2 || len(asked) == 4 || len(asked) > 4 && len(asked)%2 == 0 {
		if len(path) == len(asked)+1 && regexp.MustCompile(`^api-version=`).MatchString(path[len(path)-1]) {
			path = path[:len(path)-1]
		}
	}
	for i, segment := range path {
		if i >= len(asked) || asked[i] != segment {
			return false
		}
	}
	return true
}
