package hub_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// A module lives as a device does, under its device.
func TestModuleLife(t *testing.T) {
	w := newWorld(t, hub.Options{})
	const path = "/devices/pi-1/modules/cam"
	w.as("PUT", path, `{"deviceId":"pi-1","moduleId":"cam"}`, nil).wants(t, wire.ErrDeviceNotFound)
	w.AddDevice("pi-1")
	w.as("GET", path, "", nil).wants(t, wire.ErrModuleNotFound)
	for _, body := range []string{
		`{"deviceId":"pi-1"}`, `{"deviceId":"pi-2","moduleId":"cam"}`, `{"deviceId":"pi-1","moduleId":"other"}`,
		`{"moduleId":"cam"}`, `{"deviceId":"pi-1","moduleId":"cam","authentication":{"type":"magic"}}`,
	} {
		w.as("PUT", path, body, nil).wants(t, wire.ErrArgumentInvalid)
	}
	created := w.as("PUT", path, `{"deviceId":"pi-1","moduleId":"cam","managedBy":"us","status":"disabled"}`, nil)
	m := w.identity(created)
	if m.ModuleID != "cam" || m.DeviceID != "pi-1" || m.ManagedBy != "us" || len(m.Authentication.SymmetricKey.PrimaryKey) != 44 || m.ETag == "" {
		t.Errorf("created %s", created.body)
	}
	if strings.Contains(created.body, `"status"`) {
		t.Errorf("a module has a status: %s", created.body)
	}
	w.as("PUT", path, `{"deviceId":"pi-1","moduleId":"cam"}`, nil).wants(t, wire.ErrModuleExists)
	w.as("PUT", path, `{"deviceId":"pi-1","moduleId":"cam"}`, http.Header{"If-Match": {`"no"`}}).wants(t, wire.ErrPrecondition)
	updated := w.as("PUT", path, `{"deviceId":"pi-1","moduleId":"cam","managedBy":"them"}`, http.Header{"If-Match": {`"` + m.ETag + `"`}})
	if u := w.identity(updated); u.ManagedBy != "them" || u.GenerationID != m.GenerationID || u.Authentication.SymmetricKey != m.Authentication.SymmetricKey || u.ETag == m.ETag {
		t.Errorf("updated %s", updated.body)
	}
	w.AddDevice("pi-1/a")
	var list []wire.Device
	if got := w.as("GET", "/devices/pi-1/modules", "", nil); json.Unmarshal([]byte(got.body), &list) != nil || len(list) != 2 || list[0].ModuleID != "a" || list[1].ModuleID != "cam" {
		t.Errorf("modules %s", got.body)
	}
	if got := w.as("GET", "/devices", "", nil); strings.Contains(got.body, "moduleId") {
		t.Errorf("modules are among the devices: %s", got.body)
	}
	w.as("GET", "/devices/pi-2/modules", "", nil).wants(t, wire.ErrDeviceNotFound)
	if got := w.as("DELETE", path, "", nil); got.status != http.StatusNoContent {
		t.Errorf("delete: %d %s", got.status, got.body)
	}
	w.as("DELETE", path, "", nil).wants(t, wire.ErrModuleNotFound)

	// A device takes its modules with it.
	w.as("DELETE", "/devices/pi-1", "", nil)
	w.AddDevice("pi-1")
	if got := w.as("GET", "/devices/pi-1/modules", "", nil); got.body != "[]" {
		t.Errorf("modules of an earlier life: %s", got.body)
	}
}

// A module is a target of streams, beside its device and other modules of it.
func TestModuleStreams(t *testing.T) {
	w := newWorld(t, hub.Options{})
	own := w.AddDevice("pi-1")
	cam, mic := w.AddDevice("pi-1/cam"), w.AddDevice("pi-1/mic")
	w.open("pi-1/cam", "shell", "", "").answer().wants(t, wire.ErrDeviceNotOnline)
	w.open("pi-1/none", "shell", "", "").answer().wants(t, wire.ErrModuleNotFound)
	w.open("none/cam", "shell", "", "").answer().wants(t, wire.ErrDeviceNotFound)
	for _, d := range []*device{w.device(own), w.device(cam), w.device(mic)} {
		p := w.stream(d)
		defer p.echo(t) // they all go on
		w.Log.WaitFor(t, "stream opened", "device="+d.id)
	}
	if got := w.as("GET", "/devices/pi-1/modules/cam", "", nil); !strings.Contains(got.body, `"connectionState":"Connected"`) {
		t.Errorf("a connected module: %s", got.body)
	}
}

// Each key opens its own identity: a module's not its device, nor another module.
func TestModuleSignIn(t *testing.T) {
	w := newWorld(t, hub.Options{})
	own, cam, mic := w.AddDevice("pi-1"), w.AddDevice("pi-1/cam"), w.AddDevice("pi-1/mic")
	w.AddDevice("pi-2")
	w.AddDevice("pi-2/cam")
	in := unix(time.Hour)
	const sr = "localhost%2Fdevices%2Fpi-1%2Fmodules%2Fcam"
	policy := w.ConnectionString("device").SharedAccessKey
	for what, c := range map[string]struct {
		id, password string
		ok           bool
	}{
		"its key":                     {"pi-1/cam", sas(sr, in, cam.SharedAccessKey, ""), true},
		"its key, made out to device": {"pi-1/cam", sas("localhost%2Fdevices%2Fpi-1", in, cam.SharedAccessKey, ""), true},
		"policy":                      {"pi-1/cam", sas(sr, in, policy, "&skn=device"), true},
		"device's key":                {"pi-1/cam", sas(sr, in, own.SharedAccessKey, ""), false},
		"other module's key":          {"pi-1/cam", sas(sr, in, mic.SharedAccessKey, ""), false},
		"made out to another module":  {"pi-1/cam", sas("localhost%2Fdevices%2Fpi-1%2Fmodules%2Fmic", in, cam.SharedAccessKey, ""), false},
		"as its device":               {"pi-1", sas("localhost%2Fdevices%2Fpi-1", in, cam.SharedAccessKey, ""), false},
		"as its device, with its own": {"pi-1", sas(sr, in, cam.SharedAccessKey, ""), false},
		"as another device's module":  {"pi-2/cam", sas("localhost%2Fdevices%2Fpi-2%2Fmodules%2Fcam", in, cam.SharedAccessKey, ""), false},
		"policy for another module":   {"pi-1/cam", sas("localhost%2Fdevices%2Fpi-1%2Fmodules%2Fmic", in, policy, "&skn=device"), false},
		"no such module":              {"pi-1/none", sas("localhost", in, policy, "&skn=device"), false},
	} {
		for _, ws := range []bool{false, true} {
			d, code, err := w.connect(login{id: c.id, password: c.password, ws: ws})
			if err != nil || (code == packets.Accepted) != c.ok {
				t.Errorf("%s: CONNACK %d, %v", what, code, err)
			}
			if d != nil {
				d.ping()
			}
		}
	}
	// User name and client ID have to name the same module.
	if _, code, err := w.connect(login{id: "pi-1/cam", clientID: "pi-1", password: sas(sr, in, cam.SharedAccessKey, "")}); err != nil || code == packets.Accepted {
		t.Errorf("client ID of the device: CONNACK %d, %v", code, err)
	}
}

// What takes a device's rights away takes its modules' away; what takes a module's away
// leaves the others alone.
func TestModulesAreRevoked(t *testing.T) {
	for what, c := range map[string]struct {
		do        func(w *world)
		cam, rest bool // whether they are cut
	}{
		"module deleted":  {func(w *world) { w.as("DELETE", "/devices/pi-1/modules/cam", "", nil) }, true, false},
		"device disabled": {func(w *world) { w.disable("pi-1") }, true, true},
		"device deleted":  {func(w *world) { w.as("DELETE", "/devices/pi-1", "", nil) }, true, true},
		"module's key": {func(w *world) {
			m := w.get("pi-1/cam")
			m.Authentication.SymmetricKey.PrimaryKey = credential.NewKey().Reveal()
			w.update(m)
		}, true, false},
		"another device deleted": {func(w *world) { w.as("DELETE", "/devices/pi-10", "", nil) }, false, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, hub.Options{})
			w.AddDevice("pi-10")
			own, cam := w.device(w.AddDevice("pi-1")), w.device(w.AddDevice("pi-1/cam"))
			rest, mine := w.stream(own), w.stream(cam)
			c.do(w)
			for _, s := range []struct {
				d   *device
				p   pair
				cut bool
			}{{own, rest, c.rest}, {cam, mine, c.cam}} {
				if !s.cut {
					s.p.echo(t)
					s.d.ping()
					continue
				}
				ends(t, s.p.device, wire.EndRevoked)
				ends(t, s.p.service, wire.EndRevoked)
				s.d.ended()
			}
		})
	}
}
