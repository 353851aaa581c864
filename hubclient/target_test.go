package hubclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/wire"
)

// targeted are the calls that are about one device or module.
var targeted = map[string]func(*testing.T, *Service, string) error{
	"create": func(t *testing.T, s *Service, target string) error {
		_, err := s.CreateDevice(t.Context(), identityOf(target))
		return err
	},
	"update": func(t *testing.T, s *Service, target string) error {
		_, err := s.UpdateDevice(t.Context(), identityOf(target), "MTIz")
		return err
	},
	"read": func(t *testing.T, s *Service, target string) error {
		_, err := s.GetDevice(t.Context(), target)
		return err
	},
	"delete": func(t *testing.T, s *Service, target string) error {
		return s.DeleteDevice(t.Context(), target, "")
	},
	"read twin of": func(t *testing.T, s *Service, target string) error {
		_, err := s.Twin(t.Context(), target)
		return err
	},
	"open stream to": func(t *testing.T, s *Service, target string) error {
		_, err := s.Open(t.Context(), target, "ssh", OpenOptions{})
		return err
	},
	`call method "reboot" of`: func(t *testing.T, s *Service, target string) error {
		_, _, err := s.InvokeMethod(t.Context(), target, "reboot", nil, OpenOptions{})
		return err
	},
}

func identityOf(target string) Identity {
	device, module := SplitTarget(target)
	return Identity{DeviceID: device, ModuleID: module}
}

func TestTargets(t *testing.T) {
	const version = "?api-version=" + wire.APIVersionService
	paths := map[string]string{
		"create": "PUT /devices/D", "update": "PUT /devices/D", "read": "GET /devices/D", "delete": "DELETE /devices/D",
		"read twin of": "GET /twins/D", "open stream to": "POST /twins/D/streams/ssh", `call method "reboot" of`: "POST /twins/D/methods",
	}
	var asked string
	var sent map[string]any
	var refusal wire.ErrorCode
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		asked, sent = r.Method+" "+r.RequestURI, nil
		if r.ContentLength > 0 {
			if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
				t.Error(err)
			}
		}
		wire.WriteError(w, refusal, "some text", "1f6e", 0)
	}}).start(t)
	s := hub.service(Options{Proxy: noProxy})
	for what, call := range targeted {
		for _, tt := range []struct {
			target, path, named string
			refusal             wire.ErrorCode
			want                error
		}{
			{"pi-1", "pi-1", `device "pi-1"`, wire.ErrDeviceNotFound, ErrDeviceNotFound},
			{"pi-1/m#1", "pi-1/modules/m%231", `module "pi-1/m#1"`, wire.ErrModuleNotFound, ErrDeviceNotFound},
			{"pi-1/m1", "pi-1/modules/m1", `module "pi-1/m1"`, wire.ErrModuleExists, ErrDeviceExists},
		} {
			refusal = tt.refusal
			err := call(t, s, tt.target)
			if !errors.Is(err, tt.want) {
				t.Fatalf("%s: error is %v", what, err)
			}
			contains(t, err.Error(), what+" "+tt.named+" on 127.0.0.1:")
			if want := strings.Replace(paths[what], "/D", "/"+tt.path, 1) + version; asked != want {
				t.Errorf("%s: asked for %s, not %s", what, asked, want)
			}
			if what == "create" {
				checkIdentity(t, tt.target, sent)
			}
		}
	}
}

// checkIdentity looks at what a new identity is sent with.
func checkIdentity(t *testing.T, target string, sent map[string]any) {
	t.Helper()
	device, module := SplitTarget(target)
	gotModule, isModule := sent["moduleId"]
	status, hasStatus := sent["status"]
	if sent["deviceId"] != device || isModule != (module != "") || isModule && gotModule != module {
		t.Errorf("sent %v for %s", sent, target)
	}
	if hasStatus == isModule || hasStatus && status != string(StatusEnabled) {
		t.Errorf("status of %s is %v", target, status)
	}
}

// Names that are none go nowhere.
func TestBadTargets(t *testing.T) {
	hub := (&testHub{api: func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.RequestURI) }}).start(t)
	s := hub.service(Options{Proxy: noProxy})
	for _, target := range []string{"", "/", "pi-1/", "/m1", "a/b/c", "pi-1/..", "../m1", "pi 1", "pi-1/m 1", strings.Repeat("x", 129)} {
		for what, call := range targeted {
			if strings.HasSuffix(target, "/") && (what == "create" || what == "update") {
				continue // an identity without a ModuleID is its device's
			}
			if err := call(t, s, target); !errors.Is(err, ErrBadName) {
				t.Errorf("%s %q: error is %v", what, target, err)
			}
		}
	}
	if _, err := s.CreateDevice(t.Context(), Identity{DeviceID: "pi-1/m1"}); !errors.Is(err, ErrBadName) {
		t.Errorf("device with a slash: error is %v", err)
	}
	for _, device := range []string{"", "..", "pi-1/m1"} {
		if _, err := s.ListModules(t.Context(), device); !errors.Is(err, ErrBadName) {
			t.Errorf("modules of %q: error is %v", device, err)
		}
	}
}

func TestListModules(t *testing.T) {
	const perPage = 2
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI != "/devices/pi-1/modules?api-version="+wire.APIVersionService {
			wire.WriteError(w, wire.ErrDeviceNotFound, "some text", "1f6e", 0)
			return
		}
		page := 0
		_, _ = fmt.Sscan(r.Header.Get(wire.HeaderContinuation), &page)
		if page == 0 {
			w.Header().Set(wire.HeaderContinuation, "1")
		}
		var modules []Identity
		for i := range perPage {
			modules = append(modules, Identity{DeviceID: testDevice, ModuleID: fmt.Sprintf("m%d", page*perPage+i), ManagedBy: "me"})
		}
		_ = json.NewEncoder(w).Encode(modules)
	}}).start(t)
	s := hub.service(Options{Proxy: noProxy})
	modules, err := s.ListModules(t.Context(), testDevice)
	if err != nil || len(modules) != 2*perPage {
		t.Fatalf("%d modules, %v", len(modules), err)
	}
	for i, m := range modules {
		if want := fmt.Sprintf("pi-1/m%d", i); m.Name() != want || m.ManagedBy != "me" {
			t.Errorf("module %d is %+v", i, m)
		}
	}
	_, err = s.ListModules(t.Context(), "gone")
	if !errors.Is(err, ErrDeviceNotFound) {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), `list modules of device "gone" on `)
}

func TestTarget(t *testing.T) {
	for text, want := range map[string]string{
		"DeviceId=pi-1":                     "pi-1",
		"DeviceId=pi-1;ModuleId=m1":         "pi-1/m1",
		"SharedAccessKeyName=iothubowner":   "",
		"DeviceId=a/b;ModuleId=c":           "error",
		"DeviceId=pi-1;ModuleId=m1/modules": "error",
	} {
		cs, err := ParseConnectionString("HostName=hub.example.test;SharedAccessKey=" + testKey + ";" + text)
		got := Target(cs)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("target of %s is %q, %v", text, got, err)
		}
	}
	cs, err := ParseConnectionString("HostName=hub.example.test;DeviceId=pi-1;ModuleId=m1;SharedAccessKey=" + testKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = NewService(cs, Options{}); err == nil {
		t.Fatal("a module became a service")
	}
	contains(t, err.Error(), `module "pi-1/m1"`)
}
