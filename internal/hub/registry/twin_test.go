package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// object reads JSON with its numbers as they are.
func object(t *testing.T, text string) map[string]any {
	t.Helper()
	o, err := decodeObject([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return o
}

func jsonText(v any) string {
	data, err := encodeJSON(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// bare is a document without what the hub adds.
func bare(doc map[string]any) string {
	return jsonText(mergeObject(doc, map[string]any{nameVersion: nil, nameMetadata: nil}))
}

func mustTwin(t *testing.T, r *Registry, name string) wire.Twin {
	t.Helper()
	twin, err := r.Twin(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return twin
}

func TestTwinOfNewIdentity(t *testing.T) {
	t.Parallel()
	const none = `{"$metadata":{"$lastUpdated":"0001-01-01T00:00:00"},"$version":1}`
	for kind, d := range names {
		r := openFor(t, d)
		reason := "new"
		d.Status, d.StatusReason, d.Authentication = wire.StatusDisabled, &reason, certs(wire.AuthSelfSigned, sha1A, "")
		d = mustCreate(t, r, d)
		r.SetConnected(d.Name(), true, noon)
		twin := mustTwin(t, r, d.Name())
		if twin.DeviceID != d.DeviceID || twin.ModuleID != d.ModuleID || twin.DeviceETag != d.ETag || twin.ETag != "AAAAAAAAAAE=" || twin.Version != 1 ||
			twin.Status != d.Status || twin.StatusReason != d.StatusReason && *twin.StatusReason != reason ||
			twin.ConnectionState != wire.Connected || !twin.LastActivityTime.Equal(noon) ||
			twin.AuthenticationType != wire.AuthSelfSigned || *twin.X509Thumbprint.PrimaryThumbprint != sha1A {
			t.Errorf("%s: %s of %s", kind, jsonText(twin), text(d))
		}
		if p := twin.Properties; jsonText(twin.Tags) != "{}" || jsonText(p.Desired) != none || jsonText(p.Reported) != none {
			t.Errorf("%s: %s", kind, jsonText(twin))
		}
		if records, err := r.store.List(t.Context(), store.KindTwin, "", 10); err != nil || len(records) != 0 {
			t.Errorf("%s: reading stored %d twins, %v", kind, len(records), err)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	for _, d := range names {
		r := openFor(t, d)
		d = mustCreate(t, r, d)
		name, etag := d.Name(), mustTwin(t, r, d.Name()).ETag
		before := time.Now().Truncate(time.Millisecond)
		for i, step := range []struct {
			patch   string
			version int
			want    string
		}{
			{`{}`, 1, `{}`},
			{` {"a":1.50,"b":{"c":"<&>","d":[1,null,{"e":2}]}} `, 2, `{"a":1.50,"b":{"c":"<&>","d":[1,null,{"e":2}]}}`},
			{`{"$version":99,"$metadata":{"$lastUpdated":"x"}}`, 2, `{"a":1.50,"b":{"c":"<&>","d":[1,null,{"e":2}]}}`},
			{`{"b":{"c":null,"f":12345678901234567890}}`, 3, `{"a":1.50,"b":{"d":[1,null,{"e":2}],"f":12345678901234567890}}`},
			{`{"b":{"c":null,"f":12345678901234567890}}`, 4, `{"a":1.50,"b":{"d":[1,null,{"e":2}],"f":12345678901234567890}}`},
			{`{"a":{"b":1},"b":"x"}`, 5, `{"a":{"b":1},"b":"x"}`},
			{`{"a":{"b":null},"b":null,"c":null}`, 6, `{"a":{}}`},
		} {
			version, err := r.Report(t.Context(), name, d.GenerationID, []byte(step.patch))
			twin := mustTwin(t, New(r.store), name)
			if err != nil || version != step.version || bare(twin.Properties.Reported) != step.want || twin.Properties.Reported["$version"] != version {
				t.Errorf("step %d: version %d, %v, now %s", i, version, err, jsonText(twin.Properties.Reported))
			}
			if twin.Version != 1 || twin.ETag != etag || bare(twin.Properties.Desired) != "{}" || twin.Properties.Desired["$version"] != 1 {
				t.Errorf("step %d: a report changed the rest: %s", i, jsonText(twin))
			}
			updated := twin.Properties.Reported[nameMetadata].(map[string]any)["$lastUpdated"].(wire.Time)
			if i > 0 && (updated.Before(before) || updated.After(time.Now())) || i == 0 && !updated.IsZero() {
				t.Errorf("step %d: updated at %v", i, updated)
			}
		}
	}
}

func TestReportOfAnotherLife(t *testing.T) {
	t.Parallel()
	for kind, d := range names {
		r := openFor(t, d)
		old := mustCreate(t, r, d)
		if _, err := r.Report(t.Context(), d.Name(), old.GenerationID, []byte(`{"secret":1}`)); err != nil {
			t.Fatal(err)
		}
		left, err := r.store.Get(t.Context(), store.KindTwin, d.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Delete(t.Context(), d.Name(), "*"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.Get(t.Context(), store.KindTwin, d.Name()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: the twin is still stored: %v", kind, err)
		}
		if _, err := r.Report(t.Context(), d.Name(), old.GenerationID, []byte(`{"late":1}`)); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: report of none: %v", kind, err)
		}
		if err := r.store.PutAll(t.Context(), store.KindTwin, map[string][]byte{d.Name(): left.Value}); err != nil { // as after a crash
			t.Fatal(err)
		}
		d = mustCreate(t, r, d)
		if _, err := r.Report(t.Context(), d.Name(), old.GenerationID, []byte(`{"late":1}`)); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrModuleNotFound) != (d.ModuleID != "") {
			t.Errorf("%s: report of an old life: %v", kind, err)
		}
		if twin := mustTwin(t, r, d.Name()); bare(twin.Properties.Reported) != "{}" || twin.Properties.Reported["$version"] != 1 {
			t.Errorf("%s: inherited %s", kind, jsonText(twin))
		}
		version, err := r.Report(t.Context(), d.Name(), d.GenerationID, []byte(`{"new":1}`))
		if twin := mustTwin(t, r, d.Name()); err != nil || version != 2 || bare(twin.Properties.Reported) != `{"new":1}` {
			t.Errorf("%s: version %d, %v, %s", kind, version, err, jsonText(twin))
		}
	}
}

func TestUpdateTwin(t *testing.T) {
	t.Parallel()
	for _, d := range names {
		r := openFor(t, d)
		d = mustCreate(t, r, d)
		for i, step := range []struct {
			tags, desired string // "" for nil
			replace       bool
			version       int
			tell          string // what the device hears
			wantTags      string
			wantDesired   string
			desiredAt     int
		}{
			{"", "", false, 1, "null", `{}`, `{}`, 1},
			{`{}`, `{}`, false, 1, "null", `{}`, `{}`, 1},
			{`{"room":"7"}`, "", false, 2, "null", `{"room":"7"}`, `{}`, 1},
			{"", `{"a":{"b":1,"c":null},"d":2.0}`, false, 3, `{"$version":2,"a":{"b":1,"c":null},"d":2.0}`, `{"room":"7"}`, `{"a":{"b":1},"d":2.0}`, 2},
			{`{"floor":1,"room":null}`, `{"$version":9,"$metadata":{"x":1},"d":null}`, false, 4, `{"$version":3,"d":null}`, `{"floor":1}`, `{"a":{"b":1}}`, 3},
			{"", `{"$version":9}`, false, 4, "null", `{"floor":1}`, `{"a":{"b":1}}`, 3},
			{"", `{"a":{"b":1}}`, false, 5, `{"$version":4,"a":{"b":1}}`, `{"floor":1}`, `{"a":{"b":1}}`, 4},
			{"", "", true, 5, "null", `{"floor":1}`, `{"a":{"b":1}}`, 4},
			{"", `{"x":{"y":null,"z":[]}}`, true, 6, `{"$version":5,"x":{"z":[]}}`, `{"floor":1}`, `{"x":{"z":[]}}`, 5},
			{`{"n":1}`, "", true, 7, "null", `{"n":1}`, `{"x":{"z":[]}}`, 5},
			{`{}`, `{"$version":1}`, true, 8, `{"$version":6}`, `{}`, `{}`, 6},
		} {
			change := TwinChange{Replace: step.replace}
			if step.tags != "" {
				change.Tags = object(t, step.tags)
			}
			if step.desired != "" {
				change.Desired = object(t, step.desired)
			}
			old := mustTwin(t, r, d.Name())
			twin, tell, err := r.UpdateTwin(t.Context(), d.Name(), change, old.ETag)
			if err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			if jsonText(tell) != step.tell || twin.Version != step.version || twin.Properties.Desired[nameVersion] != step.desiredAt ||
				jsonText(twin.Tags) != step.wantTags || bare(twin.Properties.Desired) != step.wantDesired || bare(twin.Properties.Reported) != "{}" {
				t.Errorf("step %d: tell %s, now %s", i, jsonText(tell), jsonText(twin))
			}
			if got := mustTwin(t, New(r.store), d.Name()); jsonText(got) != jsonText(twin) {
				t.Errorf("step %d: Twin has %s, returned was %s", i, jsonText(got), jsonText(twin))
			}
			if (twin.ETag == old.ETag) != (twin.Version == old.Version) || twin.DeviceETag != d.ETag {
				t.Errorf("step %d: etag %s after %s, the device's %s", i, twin.ETag, old.ETag, twin.DeviceETag)
			}
			if step.desired != "" && jsonText(change.Desired) != jsonText(object(t, step.desired)) {
				t.Errorf("step %d: the caller's map is now %s", i, jsonText(change.Desired))
			}
		}
	}
}

func TestUpdateTwinETags(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	d := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	change := TwinChange{Tags: map[string]any{"a": 1}}
	fresh := mustTwin(t, r, "pi-1").ETag
	if _, err := r.Report(ctx, "pi-1", d.GenerationID, []byte(`{"x":1}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.UpdateTwin(ctx, "pi-1", change, fresh); err != nil {
		t.Errorf("after a report: %v", err) // which a service need not have read
	}
	for _, etag := range []string{fresh, "", "nonsense", d.ETag} {
		if _, tell, err := r.UpdateTwin(ctx, "pi-1", change, etag); !errors.Is(err, ErrPrecondition) || tell != nil {
			t.Errorf("with etag %q: %v", etag, err)
		}
	}
	if _, _, err := r.UpdateTwin(ctx, "pi-1", TwinChange{}, fresh); !errors.Is(err, ErrPrecondition) {
		t.Errorf("of nothing: %v", err)
	}
	if _, _, err := r.UpdateTwin(ctx, "pi-2", change, "*"); !errors.Is(err, ErrNotFound) {
		t.Errorf("of no device: %v", err)
	}
}

// TestTwinLimits has what one may and may not put into a twin; every refusal leaves it
// as it was.
func TestTwinLimits(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	arrays := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}" }
	half := `"` + strings.Repeat("x", 4000) + `"`
	var many strings.Builder // 8 values of 4000 bytes and their names
	for i := range 8 {
		fmt.Fprintf(&many, `"n%d":%s,`, i, half)
	}
	exact := wire.MaxTwinPart - len(many.String()) - len(`{"z":""}`)
	fits := "{" + many.String() + `"z":"` + strings.Repeat("y", exact) + `"}`
	for name, c := range map[string]struct {
		patch string
		ok    bool
	}{
		"depth 10":              {nested(11), true},
		"depth 11":              {nested(12), false},
		"arrays of depth 10":    {arrays(10), true},
		"arrays of depth 11":    {arrays(11), false},
		"as deep as fits":       {`{"a":` + strings.Repeat("[", 10000), false},
		"long name":             {`{"` + strings.Repeat("n", 1024) + `":1}`, true},
		"too long a name":       {`{"` + strings.Repeat("n", 1025) + `":1}`, false},
		"no name":               {`{"":1}`, false},
		"dot":                   {`{"a.b":1}`, false},
		"dollar":                {`{"$a":1}`, false},
		"dollar below":          {`{"a":{"$version":1}}`, false},
		"dollar in an array":    {`{"a":[{"b$":1}]}`, false},
		"space":                 {`{"a b":1}`, false},
		"control":               {`{"a\u0007":1}`, false},
		"control beyond ASCII":  {`{"a\u0085":1}`, false},
		"bad name of a removal": {`{"a b":null}`, false},
		"other characters":      {`{"ä-_/%'\"#":1}`, true},
		"long string":           {`{"a":"` + strings.Repeat("s", 4096) + `"}`, true},
		"too long a string":     {`{"a":"` + strings.Repeat("s", 4097) + `"}`, false},
		"in an array":           {`{"a":["` + strings.Repeat("s", 4097) + `"]}`, false},
		"string of controls":    {`{"a":"\u0000\n"}`, true},
		"all that fits":         {fits, true},
		"one byte more":         {strings.Replace(fits, "y", "yy", 1), false},
		"no object":             {`[]`, false},
		"null":                  {`null`, false},
		"number":                {`5`, false},
		"empty":                 {``, false},
		"two":                   {`{}{}`, false},
		"text behind":           {`{} x`, false},
		"broken":                {`{"a":`, false},
		"no UTF-8":              {"{\"a\":\"\xff\"}", false},
		"number of any size":    {`{"a":-1e999}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t)
			d := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
			check := func(field string, err error) {
				t.Helper()
				if c.ok && err != nil {
					t.Errorf("%s: %v", field, err)
				}
				if !c.ok {
					wantInvalid(t, err, field)
				}
			}
			_, err := r.Report(t.Context(), "pi-1", d.GenerationID, []byte(c.patch))
			check("properties.reported", err)
			if doc, err := decodeObject([]byte(c.patch)); err == nil && doc != nil && !strings.Contains(c.patch, "\xff") {
				_, _, err := r.UpdateTwin(t.Context(), "pi-1", TwinChange{Desired: doc}, "*")
				check("properties.desired", err)
				_, _, err = r.UpdateTwin(t.Context(), "pi-1", TwinChange{Tags: doc, Replace: true}, "*")
				check("tags", err)
			}
			if twin := mustTwin(t, r, "pi-1"); !c.ok && jsonText(twin) != jsonText(newTwinOf(t, d)) {
				t.Errorf("it is now %s", jsonText(twin))
			}
		})
	}
}

func newTwinOf(t *testing.T, d wire.Device) wire.Twin {
	t.Helper()
	return twin{identity: d, stored: newTwin(d.GenerationID)}.wire()
}

// TestTwinGrows merges what fits into more than does.
func TestTwinGrows(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), open(t)
	d := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	value := strings.Repeat("x", 4000)
	for i := range 9 {
		patch := fmt.Appendf(nil, `{"n%d":%q}`, i, value)
		_, err := r.Report(ctx, "pi-1", d.GenerationID, patch)
		_, tell, failed := r.UpdateTwin(ctx, "pi-1", TwinChange{Desired: object(t, string(patch))}, "*")
		if i < 8 && (err != nil || failed != nil) {
			t.Fatal(err, failed)
		}
		if i == 8 {
			wantInvalid(t, err, "properties.reported")
			wantInvalid(t, failed, "properties.desired")
			if tell != nil {
				t.Error("the device would hear of what was not stored")
			}
		}
	}
	if p := mustTwin(t, r, "pi-1").Properties; p.Reported[nameVersion] != 9 || p.Desired[nameVersion] != 9 || len(p.Desired) != 10 {
		t.Errorf("versions %v, %v", p.Reported[nameVersion], p.Desired[nameVersion])
	}
	if _, err := r.Report(ctx, "pi-1", d.GenerationID, []byte(`{"n0":null,"n8":"`+value+`"}`)); err != nil {
		t.Errorf("after making room: %v", err)
	}
}

func TestNotJSON(t *testing.T) {
	t.Parallel()
	r := open(t)
	mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	for _, value := range []any{make(chan int), json.Number("x"), func() {}} {
		_, _, err := r.UpdateTwin(t.Context(), "pi-1", TwinChange{Tags: map[string]any{"a": value}}, "*")
		wantInvalid(t, err, "tags")
	}
	if _, _, err := r.UpdateTwin(t.Context(), "pi-1", TwinChange{Tags: map[string]any{"a": 1, "b": []string{"x"}}}, "*"); err != nil {
		t.Error(err)
	}
	if got := jsonText(mustTwin(t, r, "pi-1").Tags); got != `{"a":1,"b":["x"]}` {
		t.Errorf("tags %s", got)
	}
}

// TestConcurrentTwinWrites has a device report while a service writes: nothing is lost.
func TestConcurrentTwinWrites(t *testing.T) {
	t.Parallel()
	r := open(t)
	d := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	const each = 20
	var wg sync.WaitGroup
	again := func(write func(name string) error) {
		for i := range each {
			for err := store.ErrConflict; errors.Is(err, store.ErrConflict); {
				if err = write(fmt.Sprint("n", i)); err != nil && !errors.Is(err, store.ErrConflict) {
					t.Error(err)
				}
			}
		}
	}
	wg.Go(func() {
		again(func(name string) error {
			_, err := r.Report(t.Context(), "pi-1", d.GenerationID, fmt.Appendf(nil, `{%q:1}`, name))
			return err
		})
	})
	wg.Go(func() {
		again(func(name string) error {
			return third(r.UpdateTwin(t.Context(), "pi-1", TwinChange{Desired: map[string]any{name: 1}}, "*"))
		})
	})
	wg.Go(func() {
		again(func(name string) error {
			return third(r.UpdateTwin(t.Context(), "pi-1", TwinChange{Tags: map[string]any{name: 1}}, "*"))
		})
	})
	wg.Wait()
	twin := mustTwin(t, r, "pi-1")
	if p := twin.Properties; len(twin.Tags) != each || len(p.Desired) != each+2 || len(p.Reported) != each+2 ||
		twin.Version != 1+2*each || p.Desired[nameVersion] != 1+each || p.Reported[nameVersion] != 1+each {
		t.Errorf("writes were lost: %s", jsonText(twin))
	}
}

func third[T, U any](_ T, _ U, err error) error { return err }

func TestTwinLostRaces(t *testing.T) {
	t.Parallel()
	r := open(t)
	d := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	if _, err := r.Report(t.Context(), "pi-1", d.GenerationID, []byte(`{"a":1}`)); err != nil {
		t.Fatal(err)
	}
	r = New(busyStore{r.store})
	if _, err := r.Report(t.Context(), "pi-1", d.GenerationID, []byte(`{"a":2}`)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("report: %v", err)
	}
	if _, tell, err := r.UpdateTwin(t.Context(), "pi-1", TwinChange{Desired: map[string]any{"a": 1}}, "*"); !errors.Is(err, store.ErrConflict) || tell != nil {
		t.Errorf("update: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Report(ended, "pi-1", d.GenerationID, []byte(`{"a":2}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("report of one who has gone: %v", err)
	}
}
