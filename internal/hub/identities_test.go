package hub_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// path is a device's, escaped as strictly as Node does it.
func path(id string) string {
	var b strings.Builder
	for i := range len(id) {
		fmt.Fprintf(&b, "%%%02X", id[i])
	}
	return "/devices/" + b.String()
}

func TestIdentityLife(t *testing.T) {
	w := newWorld(t, hub.Options{})
	created := w.as("PUT", "/devices/pi-1?api-version=2021-04-12", `{"deviceId":"pi-1","status":"enabled","authentication":{"type":"sas","symmetricKey":{"primaryKey":"","secondaryKey":""}}}`, nil)
	d := w.identity(created)
	if d.DeviceID != "pi-1" || d.Status != wire.StatusEnabled || d.ConnectionState != wire.Disconnected || d.ETag == "" || d.GenerationID == "" ||
		d.Authentication.Type != "sas" || len(d.Authentication.SymmetricKey.PrimaryKey) != 44 || d.Authentication.SymmetricKey.PrimaryKey == d.Authentication.SymmetricKey.SecondaryKey {
		t.Errorf("created %s", created.body)
	}
	if got := created.header.Get("ETag"); got != `"`+d.ETag+`"` {
		t.Errorf("ETag is %s, the body has %s", got, d.ETag)
	}
	if got := created.header.Get("Content-Type"); got != "application/json; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
	for _, field := range []string{`"statusReason":null`, `"lastActivityTime":"0001-01-01T00:00:00"`, `"cloudToDeviceMessageCount":0`, `"x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null}`, `"capabilities":{"iotEdge":false}`} {
		if !strings.Contains(created.body, field) {
			t.Errorf("no %s in %s", field, created.body)
		}
	}
	if got := w.as("GET", "/devices/pi-1", "", nil); got.body != created.body || got.header.Get("ETag") != created.header.Get("ETag") {
		t.Errorf("read %s, created %s", got.body, created.body)
	}

	exists := w.as("PUT", "/devices/pi-1", `{"deviceId":"pi-1"}`, nil)
	exists.wants(t, wire.ErrDeviceExists)
	if !strings.HasPrefix(exists.body, `{"Message":"ErrorCode:DeviceAlreadyExists;`) {
		t.Errorf("body %s", exists.body)
	}

	change := `{"deviceId":"pi-1","status":"disabled","statusReason":"lost"}`
	for _, etag := range []string{`"bm90"`, `bm90`, `W/"` + d.ETag + `"`} {
		stale := w.as("PUT", "/devices/pi-1", change, http.Header{"If-Match": {etag}})
		stale.wants(t, wire.ErrPrecondition)
		if !strings.HasPrefix(stale.body, `{"Message":"ErrorCode:PreconditionFailed;`) {
			t.Errorf("body %s", stale.body)
		}
		w.as("DELETE", "/devices/pi-1", "", http.Header{"If-Match": {etag}}).wants(t, wire.ErrPrecondition)
	}
	if got := w.as("GET", "/devices/pi-1", "", nil); got.body != created.body {
		t.Errorf("refused updates left %s", got.body)
	}
	updated := w.identity(w.as("PUT", "/devices/pi-1", change, http.Header{"If-Match": {`"` + d.ETag + `"`}}))
	if updated.Status != wire.StatusDisabled || *updated.StatusReason != "lost" || updated.ETag == d.ETag || updated.GenerationID != d.GenerationID ||
		updated.Authentication.SymmetricKey != d.Authentication.SymmetricKey || updated.StatusUpdatedTime.IsZero() {
		t.Errorf("updated to %+v", updated)
	}
	w.as("PUT", "/devices/pi-1", change, http.Header{"If-Match": {`"` + d.ETag + `"`}}).wants(t, wire.ErrPrecondition)
	w.identity(w.as("PUT", "/devices/pi-1", change, http.Header{"If-Match": {"*"}}))

	if got := w.as("DELETE", "/devices/pi-1", "", http.Header{"If-Match": {`"*"`}}); got.status != 204 || got.body != "" {
		t.Errorf("delete answers %d %q", got.status, got.body)
	}
	for _, c := range []call{
		{method: "GET", path: "/devices/pi-1"},
		{method: "GET", path: "/twins/pi-1"},
		{method: "DELETE", path: "/devices/pi-1"},
		{method: "DELETE", path: "/devices/pi-1", header: http.Header{"If-Match": {`"*"`}}},
		{method: "PUT", path: "/devices/pi-1", body: `{"deviceId":"pi-1"}`, header: http.Header{"If-Match": {"*"}}},
	} {
		c.auth = w.owner()
		got := w.call(c)
		if e := got.wants(t, wire.ErrDeviceNotFound); e.Message != `no device "pi-1"` {
			t.Errorf("%s %s: %q", c.method, c.path, e.Message)
		}
	}
	if again := w.identity(w.as("PUT", "/devices/pi-1", `{"deviceId":"pi-1"}`, nil)); again.GenerationID == d.GenerationID ||
		again.Authentication.SymmetricKey.PrimaryKey == d.Authentication.SymmetricKey.PrimaryKey || again.ETag == d.ETag {
		t.Errorf("second life is %+v, the first was %+v", again, d)
	}
	for _, line := range []string{"identity written", "identity deleted"} {
		w.Log.WaitFor(t, line, "device=pi-1", "policy=iothubowner", "remote=127.0.0.1:")
	}
}

func TestIdentityBodies(t *testing.T) {
	w := newWorld(t, hub.Options{})
	const key = "ZXhhbXBsZS1rZXktZm9yLXRlc3QtdmVjdG9ycy0wMSE="
	for _, c := range []struct {
		body string
		code wire.ErrorCode
	}{
		{``, wire.ErrFormat},
		{`{`, wire.ErrFormat},
		{`[]`, wire.ErrFormat},
		{`"pi-1"`, wire.ErrFormat},
		{`{"deviceId":1}`, wire.ErrFormat},
		{`{"deviceId":"pi-1"} x`, wire.ErrFormat},
		{`{"deviceId":"pi-1"}{"deviceId":"pi-1"}`, wire.ErrFormat},
		{`{"deviceId":"pi-1","lastActivityTime":"yesterday"}`, wire.ErrFormat},
		{`null`, wire.ErrArgumentInvalid},
		{`{}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"pi-2"}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"PI-1"}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"pi-1 "}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"pi-1\u0000"}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"pi-1","status":"on"}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"pi-1","statusReason":"` + strings.Repeat("x", 129) + `"}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"pi-1","authentication":{"type":"none"}}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"pi-1","authentication":{"symmetricKey":{"primaryKey":"c2hvcnQ="}}}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"pi-1","authentication":{"symmetricKey":{"secondaryKey":"` + key + `x"}}}`, wire.ErrArgumentInvalid},
		{`{"deviceId":"pi-1","more":"` + strings.Repeat("x", 64<<10) + `"}`, wire.ErrMessageTooLarge},
	} {
		got := w.as("PUT", "/devices/pi-1", c.body, nil)
		got.wants(t, c.code)
		if t.Failed() {
			t.Fatalf("body was %.100s", c.body)
		}
		if strings.Contains(got.body, key) {
			t.Errorf("the answer to a bad key has the key: %s", got.body)
		}
	}
	w.as("GET", "/devices/pi-1", "", nil).wants(t, wire.ErrDeviceNotFound)

	// As much as is allowed, to the byte, and chunked.
	body := `{"deviceId":"pi-1","unknown":""}`
	body = strings.Replace(body, `""`, `"`+strings.Repeat("x", 64<<10-len(body))+`"`, 1)
	w.identity(w.as("PUT", "/devices/pi-1", body, nil))
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 64<<10, body)
	head := "PUT /devices/pi-1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + w.owner() + "\r\nTransfer-Encoding: chunked\r\n"
	w.identity(w.raw(head + "If-Match: *\r\n\r\n" + chunk))
	w.raw(head+"\r\n10001\r\n"+body+"x").wants(t, wire.ErrMessageTooLarge)
	w.raw(head+"\r\nx\r\n").wants(t, wire.ErrFormat)
}

// A key that is given is kept as it is, also one that the hub did not make.
func TestIdentityKeys(t *testing.T) {
	w := newWorld(t, hub.Options{})
	const key = "ZXhhbXBsZS1rZXktZm9yLXRlc3QtdmVjdG9ycy0wMSE="
	d := w.identity(w.as("PUT", "/devices/pi-1", `{"deviceId":"pi-1","authentication":{"symmetricKey":{"primaryKey":"`+key+`"}}}`, nil))
	if d.Authentication.SymmetricKey.PrimaryKey != key {
		t.Errorf("primary key is %s", d.Authentication.SymmetricKey.PrimaryKey)
	}
	w.connected(login{id: "pi-1", password: sas("localhost%2Fdevices%2Fpi-1", unix(time.Hour), keyOf(t, key), "")})
}

func TestIDs(t *testing.T) {
	w := newWorld(t, hub.Options{})
	for _, id := range []string{"a b", "a/b", "ä", "a\x00", "a\n", "a\"b", "a<b", "a\\b", "a&b", "a;b", "a~b", "a|b", "a^b", "a`b", "a{b}", "a[b]", "a>b", strings.Repeat("x", 129), "\u202eid"} {
		body, err := json.Marshal(map[string]string{"deviceId": id})
		if err != nil {
			t.Fatal(err)
		}
		w.as("PUT", path(id), string(body), nil).wants(t, wire.ErrArgumentInvalid)
	}
	for _, id := range []string{".", ".."} {
		w.as("PUT", path(id), `{"deviceId":"`+id+`"}`, nil).wants(t, wire.ErrArgumentInvalid)
	}
}

// Every character that an ID may hold goes through REST, MQTT in both transports,
// topics, tokens and the streaming endpoint, and no ID is taken for another.
func TestIDPunctuation(t *testing.T) {
	w := newWorld(t, hub.Options{})
	ids := []string{"-.+%_#*?!(),=@$':", "...", "%41", "%252e", "a+b", "a%20b", "a%2Bb", "$iothub", "#", "+", "?api", "-rf", "a.b", "a.*", "*", "'", "=", strings.Repeat("x", 128), "Pi", "pi"}
	for _, id := range ids {
		w.AddDevice(id)
	}
	for i, id := range ids {
		d := w.identity(w.as("GET", path(id), "", nil))
		if d.DeviceID != id {
			t.Errorf("%q is read as %q", id, d.DeviceID)
		}
		cs := w.ConnectionString("iothubowner")
		cs.SharedAccessKeyName, cs.DeviceID, cs.SharedAccessKey = "", id, keyOf(t, d.Authentication.SymmetricKey.PrimaryKey)
		l := w.login(cs)
		l.ws = i%2 == 0
		control := w.connected(l)
		control.subscribe()
		w.stream(control).echo(t)
		control.conn.Close()
	}
	var list []wire.Device
	if err := json.Unmarshal([]byte(w.as("GET", "/devices", "", nil).body), &list); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		got = append(got, d.DeviceID)
	}
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		t.Errorf("list has %q, want %q", got, ids)
	}
	for _, id := range ids {
		if a := w.as("DELETE", path(id), "", nil); a.status != 204 {
			t.Errorf("delete %q: %d %s", id, a.status, a.body)
		}
	}
}

func TestList(t *testing.T) {
	w := newWorld(t, hub.Options{})
	if got := w.as("GET", "/devices/?api-version=2021-04-12", "", nil); got.body != "[]" {
		t.Errorf("empty list is %s", got.body)
	}
	want := []string{"a", "b", "c+d", "e?f=g"}
	for _, id := range want {
		w.AddDevice(id)
	}
	page := func(query, continuation string) (ids []string, next string) {
		t.Helper()
		header := http.Header{}
		if continuation != "" {
			header.Set("x-ms-continuation", continuation)
		}
		a := w.as("GET", "/devices/"+query, "", header)
		var list []wire.Device
		if err := json.Unmarshal([]byte(a.body), &list); err != nil || a.status != 200 {
			t.Fatalf("%s: %d %s", query, a.status, a.body)
		}
		for _, d := range list {
			ids = append(ids, d.DeviceID)
			if len(d.Authentication.SymmetricKey.PrimaryKey) != 44 {
				t.Errorf("no keys in %+v", d)
			}
		}
		return ids, a.header.Get("x-ms-continuation")
	}
	if got, next := page("", ""); !slices.Equal(got, want) || next != "" {
		t.Errorf("list is %q and goes on at %q", got, next)
	}
	for top := range 5 {
		if top == 0 {
			continue
		}
		var byHeader []string
		for next := ""; ; {
			ids, more := page("?top="+strconv.Itoa(top), next)
			byHeader = append(byHeader, ids...)
			if next = more; more == "" {
				break
			}
		}
		if !slices.Equal(byHeader, want) {
			t.Errorf("in pages of %d: %q, want %q", top, byHeader, want)
		}
	}
	for _, top := range []string{"0", "-1", "1001", "x", "1.5", "%20"} {
		w.as("GET", "/devices?top="+top, "", nil).wants(t, wire.ErrArgumentInvalid)
	}
	if got, _ := page("?top=1000", "zzz"); len(got) > 0 {
		t.Errorf("after the last comes %q", got)
	}
}

func TestTwin(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	read := func() wire.Twin {
		t.Helper()
		a := w.call(call{method: "GET", path: "/twins/pi-1?api-version=x", auth: w.policy("service")})
		var twin wire.Twin
		if err := json.Unmarshal([]byte(a.body), &twin); err != nil || a.status != 200 || a.header.Get("ETag") != `"`+twin.ETag+`"` {
			t.Fatalf("%d %s, %v", a.status, a.body, err)
		}
		if strings.Contains(a.body, cs.SharedAccessKey.Reveal()) {
			t.Error("the twin has the device's key")
		}
		return twin
	}
	if got := read(); got.DeviceID != "pi-1" || got.ConnectionState != wire.Disconnected || got.Status != wire.StatusEnabled || !got.LastActivityTime.IsZero() {
		t.Errorf("twin is %+v", got)
	}
	d := w.device(cs)
	if got := read(); got.ConnectionState != wire.Connected || got.LastActivityTime.IsZero() {
		t.Errorf("twin of a connected device is %+v", got)
	}
	d.conn.Close()
	w.Log.WaitFor(t, "device disconnected")
	if got := read(); got.ConnectionState != wire.Disconnected || got.LastActivityTime.IsZero() {
		t.Errorf("twin of a disconnected device is %+v", got)
	}
}
