package registry

import (
	"encoding/json"
	"testing"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// FuzzIdentity decodes identities as the hub does. Whatever they are, nothing panics;
// what is accepted reads back from the store as it was, and writing that back as it is
// changes nothing.
func FuzzIdentity(f *testing.F) {
	for _, seed := range []string{
		`{"deviceId":"pi-1"}`,
		`{"deviceId":"pi-1","status":"disabled","statusReason":"lost","authentication":{"type":"sas","symmetricKey":{"primaryKey":"` + keyA + `","secondaryKey":""}}}`,
		`{"deviceId":"pi-1","moduleId":"m","managedBy":"x","authentication":{"type":"certificateAuthority"}}`,
		`{"deviceId":"pi-1","authentication":{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":"` + sha1A + `","secondaryThumbprint":"` + sha256B + `"}}}`,
		`{"deviceId":"pi-1","authentication":{"x509Thumbprint":{"primaryThumbprint":""}}}`,
		`{"deviceId":"a/b","moduleId":"..","etag":5,"lastActivityTime":"2026-01-02T03:04:05Z"}`,
		`null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var sent wire.Device
		if json.Unmarshal(data, &sent) != nil {
			return
		}
		made, err := newIdentity(sent)
		if err != nil {
			if m := err.Error(); len(m) > 200 {
				t.Errorf("error of %d bytes", len(m))
			}
			return
		}
		made.GenerationID = "1"
		if !wire.ValidTarget(made.Name()) || made.Name() != sent.Name() || len(DeviceKeys(made)) != 2 && made.Authentication.Type == wire.AuthSAS ||
			len(Thumbprints(made)) == 0 && made.Authentication.Type == wire.AuthSelfSigned {
			t.Errorf("accepted %s", text(made))
		}
		value, err := encode(made, "2")
		if err != nil {
			t.Fatal(err)
		}
		read, err := decode(store.Record{Key: made.Name(), Value: value, Revision: 3})
		made.ETag = etag(3)
		if err != nil || text(read.Device) != text(made) || read.DeviceGenerationID != "2" {
			t.Errorf("read back %s, %v; written was %s", text(read.Device), err, text(made))
		}
		again, err := merge(read.Device, read.Device, stamp(noon))
		if err != nil || text(again) != text(made) {
			t.Errorf("updated by itself %s, %v; it was %s", text(again), err, text(made))
		}
	})
}

// FuzzReport merges patches into a document. Whatever they are, nothing panics; what is
// accepted keeps to the limits, holds no null outside arrays, is the same when it is
// merged twice, and reads back as it was written.
func FuzzReport(f *testing.F) {
	const base = `{"a":{"b":1.50,"c":["x",null]},"d":"<&>"}`
	for _, seed := range []string{
		`{}`, `null`, `{}{}`, `{"a":null}`, `{"a":{"b":null,"e":{"f":null}}}`, `{"a":1,"d":{"x":[{"y":null}]}}`,
		`{"$version":3,"$metadata":{},"a.b":1}`, `{"n":-1e999,"m":12345678901234567890,"u":"\ud800\u2028"}`,
		`{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{"a":{}}}}}}}}}}}}`, `{"a":[[[[[[[[[[[]]]]]]]]]]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		patch, err := parsePatch(fieldReported, data)
		if err != nil {
			if m := err.Error(); len(m) > 600 {
				t.Errorf("error of %d bytes", len(m))
			}
			return
		}
		current, err := decodeObject([]byte(base))
		if err != nil {
			t.Fatal(err)
		}
		sent := jsonText(patch)
		merged := mergeObject(current, patch)
		if jsonText(current) != base || jsonText(patch) != sent {
			t.Errorf("merging changed what was merged: %s, %s", jsonText(current), jsonText(patch))
		}
		if problem := checkValue(merged, 0); problem != "" || holdsNull(merged) {
			t.Errorf("merged into %s: %s", jsonText(merged), problem)
		}
		if twice := mergeObject(merged, patch); jsonText(twice) != jsonText(merged) {
			t.Errorf("merged twice into %s, once into %s", jsonText(twice), jsonText(merged))
		}
		if again, err := decodeObject([]byte(jsonText(merged))); err != nil || jsonText(again) != jsonText(merged) {
			t.Errorf("read back %s, %v; written was %s", jsonText(again), err, jsonText(merged))
		}
		if normal, err := normalPatch(fieldReported, patch); err == nil && jsonText(normal) != sent {
			t.Errorf("normalised to %s, sent was %s", jsonText(normal), sent)
		}
	})
}

func holdsNull(object map[string]any) bool {
	for _, value := range object {
		below, _ := value.(map[string]any)
		if value == nil || holdsNull(below) {
			return true
		}
	}
	return false
}
