package hubclient

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

func TestInvokeMethod(t *testing.T) {
	var sent string
	big := `"` + strings.Repeat("x", wire.MaxMethodPayload-2) + `"`
	answer := ""
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent = string(body)
		_, _ = io.WriteString(w, answer)
	}}).start(t)
	s := hub.service(Options{Proxy: noProxy})
	tests := []struct {
		name    string
		payload any
		o       OpenOptions
		sent    string
		answer  string
		status  int
		want    string
	}{
		{
			"all of it", map[string]any{"delay": 3}, OpenOptions{ConnectTimeout: 1500 * time.Millisecond, ResponseTimeout: 10 * time.Second},
			`{"methodName":"reboot","payload":{"delay":3},"connectTimeoutInSeconds":2,"responseTimeoutInSeconds":10}`,
			`{"status":200,"payload":{"ok":true}}`, 200, `{"ok":true}`,
		},
		{
			"nothing", nil, OpenOptions{},
			`{"methodName":"reboot","payload":null,"connectTimeoutInSeconds":0,"responseTimeoutInSeconds":30}`,
			`{"status":-1,"payload":null}`, -1, `null`,
		},
		{
			"no payload in the answer", "x", OpenOptions{},
			`{"methodName":"reboot","payload":"x","connectTimeoutInSeconds":0,"responseTimeoutInSeconds":30}`,
			`{"status":404}`, 404, ``,
		},
		{
			"most in the answer", 1, OpenOptions{},
			`{"methodName":"reboot","payload":1,"connectTimeoutInSeconds":0,"responseTimeoutInSeconds":30}`,
			`{"status":200,"payload":` + big + `}`, 200, big,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer = tt.answer
			status, got, err := s.InvokeMethod(t.Context(), "pi-1/m1", "reboot", tt.payload, tt.o)
			if err != nil || status != tt.status || string(got) != tt.want {
				t.Errorf("got %d %.80s, %v", status, got, err)
			}
			if sent != tt.sent {
				t.Errorf("sent %s", sent)
			}
		})
	}
}

func TestInvokeMethodFails(t *testing.T) {
	code := wire.ErrDeviceNotOnline
	hub := (&testHub{api: func(w http.ResponseWriter, _ *http.Request) { wire.WriteError(w, code, "", "1f6e", time.Minute) }}).start(t)
	s := hub.service(Options{Proxy: noProxy})
	for _, tt := range []struct {
		method  string
		payload any
		code    wire.ErrorCode
		want    error // nil: none in particular
	}{
		{"reboot", nil, wire.ErrDeviceNotOnline, ErrDeviceOffline},
		{"reboot", nil, wire.ErrGatewayTimeout, ErrTimeout},
		{"a/b", nil, wire.ErrorCode{}, ErrBadName},
		{"", nil, wire.ErrorCode{}, ErrBadName},
		{"reboot", make(chan int), wire.ErrorCode{}, nil}, // no JSON
	} {
		code = tt.code
		_, _, err := s.InvokeMethod(t.Context(), testDevice, tt.method, tt.payload, OpenOptions{})
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("method %q: error is %v", tt.method, err)
		}
	}
}
