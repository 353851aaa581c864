package hub_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// bulkAnswer is the answer to a bulk request.
type bulkAnswer struct {
	IsSuccessful bool
	Errors       []struct{ DeviceID, ModuleID, ErrorCode, ErrorStatus string }
	Warnings     []any
	Message      string
}

func (w *world) bulk(items string) (answer, bulkAnswer) {
	w.t.Helper()
	got := w.as("POST", "/devices?api-version=2021-04-12", items, nil)
	var parsed bulkAnswer
	if err := json.Unmarshal([]byte(got.body), &parsed); err != nil {
		w.t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	return got, parsed
}

func TestBulk(t *testing.T) {
	w := newWorld(t, hub.Options{})
	got, _ := w.bulk(`[{"id":"a","importMode":"create"},{"id":"b","status":"disabled","importMode":"Create"},{"id":"a","moduleId":"m","importMode":"create"},
		{"id":"x","importMode":"create","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"` + strings.Repeat("a", 40) + `"}}}]`)
	if got.status != 200 || got.body != `{"isSuccessful":true,"errors":[],"warnings":[]}` {
		t.Errorf("create: %d %s", got.status, got.body)
	}
	if w.get("b").Status != wire.StatusDisabled || w.get("a/m").ModuleID != "m" || w.get("x").Authentication.Type != wire.AuthSelfSigned {
		t.Error("not written as sent")
	}
	// What can be written is, and the rest is named.
	etag := w.get("a").ETag
	got, result := w.bulk(fmt.Sprintf(`[{"id":"a","importMode":"create"},{"id":"b","status":"enabled","importMode":"update"},{"id":"a","eTag":"bm8=","importMode":"updateIfMatchETag"},
		{"id":"a","etag":%q,"status":"disabled","importMode":"UpdateIfMatchETag"},{"id":"none","importMode":"delete"},{"id":"a","moduleId":"none","importMode":"delete"},
		{"id":"c c","importMode":"create"},{"id":"d","importMode":"updateTwin"},{"id":"e"},{"id":"x","eTag":"*","importMode":"deleteIfMatchETag"}]`, etag))
	var codes []string
	for _, e := range result.Errors {
		codes = append(codes, e.DeviceID+" "+e.ModuleID+" "+e.ErrorCode)
	}
	want := []string{"a  DeviceAlreadyExists", "a  PreconditionFailed", "none  DeviceNotFound", "a none ModuleNotFound", "c c  ArgumentInvalid", "d  ArgumentInvalid", "e  ArgumentInvalid"}
	if got.status != 400 || result.IsSuccessful || !slices.Equal(codes, want) || !strings.HasPrefix(result.Message, "ErrorCode:ArgumentInvalid;7 of 10 ") {
		t.Errorf("%d %s\n%q, want %q", got.status, got.body, codes, want)
	}
	if w.get("b").Status != wire.StatusEnabled || w.get("a").Status != wire.StatusDisabled {
		t.Error("what could be written was not")
	}
	w.as("GET", "/devices/x", "", nil).wants(t, wire.ErrDeviceNotFound)

	for _, body := range []string{"[]", "[" + strings.Repeat(`{"id":"a","importMode":"update"},`, 100) + `{"id":"a","importMode":"update"}]`} {
		w.as("POST", "/devices", body, nil).wants(t, wire.ErrArgumentInvalid)
	}
	w.as("POST", "/devices", `{"id":"a"}`, nil).wants(t, wire.ErrFormat)
	w.as("POST", "/devices", "["+strings.Repeat(" ", 1<<20)+"]", nil).wants(t, wire.ErrMessageTooLarge)
}

// Large twins make short pages, not large ones.
func TestQueryOfLargeTwins(t *testing.T) {
	w := newWorld(t, hub.Options{})
	long := strings.Repeat("x", 4000)
	document := `{"0":"` + long + `"`
	for i := range 7 {
		document += fmt.Sprintf(`,"%d":"%s"`, i+1, long)
	}
	document += "}"
	const devices = 20
	for i := range devices {
		id := fmt.Sprintf("d%02d", i)
		w.AddDevice(id)
		w.as("PUT", "/twins/"+id, `{"tags":`+document+`,"properties":{"desired":`+document+`}}`, nil)
	}
	header, found := http.Header{"X-Ms-Max-Item-Count": {"1000"}}, 0
	for {
		got := w.as("POST", "/devices/query", `{"query":"SELECT * FROM devices"}`, header)
		if len(got.body) > 1<<20+100<<10 {
			t.Errorf("a page of %d bytes", len(got.body))
		}
		found += strings.Count(got.body, `"deviceId"`)
		if header.Set("x-ms-continuation", got.header.Get("x-ms-continuation")); header.Get("x-ms-continuation") == "" {
			break
		}
	}
	if found != devices {
		t.Errorf("found %d devices, want %d", found, devices)
	}
}

// An ID with a slash does not reach another device's module.
func TestBulkSlash(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.AddDevice("a")
	w.AddDevice("a/m")
	got, _ := w.bulk(`[{"id":"a/m","importMode":"delete"}]`)
	if got.status != 400 {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.get("a/m")
}

// The log tells a deletion from a write.
func TestBulkLeavesTraces(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.bulk(`[{"id":"a","importMode":"create"},{"id":"b","importMode":"create"}]`)
	w.bulk(`[{"id":"a","importMode":"delete"},{"id":"b","importMode":"deleteIfMatchETag"}]`)
	for _, id := range []string{"a", "b"} {
		w.Log.WaitFor(t, "identity written", "device="+id)
		w.Log.WaitFor(t, "identity deleted", "device="+id)
	}
}

// A bulk request takes rights away as any other.
func TestBulkRevokes(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	p := w.stream(d)
	w.bulk(`[{"id":"pi-1","status":"disabled","importMode":"update"}]`)
	ends(t, p.service, wire.EndRevoked)
	d.ended()
}

func TestStatistics(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.device(w.AddDevice("a"))
	w.AddDevice("a/m")
	w.AddDevice("b")
	w.AddDevice("c")
	w.disable("c")
	if got := w.as("GET", "/statistics/devices", "", nil); got.body != `{"disabledDeviceCount":1,"enabledDeviceCount":2,"totalDeviceCount":3}` {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := w.as("GET", "/statistics/service", "", nil); got.body != `{"connectedDeviceCount":1}` {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestQuery(t *testing.T) {
	w := newWorld(t, hub.Options{})
	for _, id := range []string{"a", "b", "c", "d"} {
		w.AddDevice(id)
	}
	w.AddDevice("a/m")
	w.disable("c")
	w.device(w.AddDevice("pi'1"))
	query := func(text, size string) (all []string, pages int) {
		t.Helper()
		header := http.Header{}
		if size != "" {
			header.Set("x-ms-max-item-count", size)
		}
		for range 20 {
			body := mustJSON(t, map[string]string{"query": text})
			got := w.as("POST", "/devices/query?api-version=2021-04-12", body, header)
			var twins []wire.Twin
			if err := json.Unmarshal([]byte(got.body), &twins); err != nil || got.status != 200 || got.header.Get("x-ms-item-type") != "Twin" {
				t.Fatalf("%s: %d %v %s", text, got.status, got.header, got.body)
			}
			pages++
			for _, twin := range twins {
				all = append(all, twin.DeviceID)
			}
			next := got.header.Get("x-ms-continuation")
			if next == "" {
				return all, pages
			}
			header.Set("x-ms-continuation", next)
		}
		t.Fatal("a query without end")
		return nil, 0
	}
	for _, c := range []struct {
		text, size, want string
		pages            int
	}{
		{"SELECT * FROM devices", "", "a b c d pi'1", 1},
		{"select * from devices", "2", "a b c d pi'1", 3},
		{"SELECT * FROM devices", "1", "a b c d pi'1", 6},
		{"SELECT * FROM devices WHERE status = 'disabled'", "", "c", 1},
		{"SELECT * FROM devices WHERE status <> 'disabled' AND deviceId != 'a'", "", "b d pi'1", 1},
		{"SELECT * FROM devices WHERE connectionState = 'Connected'", "", "pi'1", 1},
		{"SELECT * FROM devices WHERE deviceId IN ['a', 'd', 'z']", "", "a d", 1},
		{"SELECT * FROM devices WHERE deviceId = 'none'", "", "", 1},
	} {
		all, pages := query(c.text, c.size)
		if got := strings.Join(all, " "); got != c.want || pages > c.pages {
			t.Errorf("%s: %q in %d pages, want %q in %d", c.text, got, pages, c.want, c.pages)
		}
	}
	for _, text := range []string{
		"", "SELECT", "SELECT deviceId FROM devices", "SELECT * FROM devices.modules", "SELECT * FROM devices WHERE tags.site = 'lab'",
		"SELECT COUNT() AS n FROM devices", "SELECT * FROM devices ORDER BY deviceId", "SELECT * FROM devices WHERE deviceId = 'a", "SELECT * FROM devices; DROP",
	} {
		e := w.as("POST", "/devices/query", mustJSON(t, map[string]string{"query": text}), nil).wants(t, wire.ErrArgumentInvalid)
		if !strings.HasPrefix(e.Message, "query: ") {
			t.Errorf("%q: %s", text, e.Message)
		}
	}
	for key, values := range map[string][]string{"x-ms-max-item-count": {"0", "-1", "1001", "x"}, "x-ms-continuation": {"!", "YSBi", "Lw"}} {
		for _, v := range values {
			w.as("POST", "/devices/query", `{"query":"SELECT * FROM devices"}`, http.Header{key: {v}}).wants(t, wire.ErrArgumentInvalid)
		}
	}
}
