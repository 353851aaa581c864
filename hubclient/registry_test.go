package hubclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/farportio/farport/internal/wire"
)

func TestRegistryRequests(t *testing.T) {
	type request struct{ method, uri, ifMatch string }
	var got request
	var sent map[string]any
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		got = request{r.Method, r.RequestURI, r.Header.Get("If-Match")}
		sent = nil
		if body, _ := io.ReadAll(r.Body); len(body) > 0 {
			if err := json.Unmarshal(body, &sent); err != nil {
				t.Error(err)
			}
		}
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		_ = json.NewEncoder(w).Encode(Identity{DeviceID: testDevice, ETag: "MTIz"})
	}}).start(t)
	s := hub.service(Options{Proxy: noProxy})
	const version = "?api-version=" + wire.APIVersionService
	device := Identity{DeviceID: testDevice}
	tests := []struct {
		name string
		call func() (Identity, error)
		want request
	}{
		{
			"create", func() (Identity, error) { return s.CreateDevice(t.Context(), device) },
			request{"PUT", "/devices/pi-1" + version, ""},
		},
		{
			"update any", func() (Identity, error) { return s.UpdateDevice(t.Context(), device, "") },
			request{"PUT", "/devices/pi-1" + version, `"*"`},
		},
		{
			"update one", func() (Identity, error) { return s.UpdateDevice(t.Context(), device, "MTIz") },
			request{"PUT", "/devices/pi-1" + version, `"MTIz"`},
		},
		{
			"get", func() (Identity, error) { return s.GetDevice(t.Context(), testDevice) },
			request{"GET", "/devices/pi-1" + version, ""},
		},
		{
			"delete", func() (Identity, error) { return device, s.DeleteDevice(t.Context(), testDevice, "*") },
			request{"DELETE", "/devices/pi-1" + version, `"*"`},
		},
		{
			"twin", func() (Identity, error) {
				twin, err := s.Twin(t.Context(), testDevice)
				return Identity{DeviceID: twin.DeviceID, ETag: twin.ETag}, err
			},
			request{"GET", "/twins/pi-1" + version, ""},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := tt.call()
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want || d.DeviceID != testDevice {
				t.Errorf("sent %+v, not %+v; got %+v", got, tt.want, d)
			}
			if got.method == http.MethodPut && (sent["status"] != "enabled" || sent["connectionState"] != "Disconnected" ||
				sent["authentication"].(map[string]any)["type"] != wire.AuthSAS) {
				t.Errorf("body is %v", sent)
			}
		})
	}
}

func TestListDevicesFollowsPages(t *testing.T) {
	const pages, perPage = 3, 400
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/devices/" || r.URL.Query().Get("top") != "1000" {
			t.Errorf("asked for %s", r.RequestURI)
		}
		page := 0
		if from := r.Header.Get(wire.HeaderContinuation); from != "" {
			_, _ = fmt.Sscan(from, &page)
		}
		if page+1 < pages {
			w.Header().Set(wire.HeaderContinuation, fmt.Sprint(page+1))
		}
		var devices []Identity
		for i := range perPage {
			devices = append(devices, Identity{DeviceID: fmt.Sprintf("d%d", page*perPage+i), StatusReason: new(string)})
		}
		_ = json.NewEncoder(w).Encode(devices)
	}}).start(t)
	devices, err := hub.service(Options{Proxy: noProxy}).ListDevices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range devices {
		if want := fmt.Sprintf("d%d", i); d.DeviceID != want {
			t.Fatalf("device %d is %s", i, d.DeviceID)
		}
	}
	if len(devices) != pages*perPage {
		t.Errorf("%d devices", len(devices))
	}
}

func TestListDevicesEnds(t *testing.T) {
	hub := (&testHub{api: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(wire.HeaderContinuation, "again")
		_, _ = w.Write([]byte("[]"))
	}}).start(t)
	if _, err := hub.service(Options{Proxy: noProxy}).ListDevices(t.Context()); err == nil {
		t.Error("no error")
	}
}

func TestStreamingEndpoints(t *testing.T) {
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != wire.PathDeviceStreams {
			wire.WriteError(w, wire.ErrNotFound, "no", "1", 0)
			return
		}
		_, _ = w.Write([]byte(`{"streamingEndpoints":["https://hub.example.test","https://hub.example.test:8443"]}`))
	}}).start(t)
	got, err := hub.service(Options{Proxy: noProxy}).StreamingEndpoints(t.Context())
	if want := []string{"https://hub.example.test", "https://hub.example.test:8443"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAnswerIsNotJSON(t *testing.T) {
	hub := (&testHub{api: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>sign in to the Wi-Fi</html>"))
	}}).start(t)
	_, err := hub.service(Options{Proxy: noProxy}).GetDevice(t.Context(), testDevice)
	if _, ok := errors.AsType[*HubError](err); err == nil || ok {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), "not the JSON asked for")
}

// TestAnotherIdentity: what a hub says is not taken for what was asked for.
func TestAnotherIdentity(t *testing.T) {
	hub := (&testHub{api: func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(Identity{DeviceID: "pi-1\u2019; calc"})
	}}).start(t)
	s := hub.service(Options{Proxy: noProxy})
	for name, call := range map[string]func() (Identity, error){
		"create": func() (Identity, error) { return s.CreateDevice(t.Context(), Identity{DeviceID: testDevice}) },
		"read":   func() (Identity, error) { return s.GetDevice(t.Context(), testDevice) },
	} {
		if got, err := call(); err == nil {
			t.Errorf("%s: got %q", name, got.DeviceID)
		}
	}
}
