package hubclient

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// sentinels are all that a *HubError can stand for.
var sentinels = []error{
	ErrUnauthorized, ErrDeviceNotFound, ErrDeviceOffline, ErrDeviceExists, ErrPrecondition, ErrStreamRejected,
	ErrThrottled, ErrTimeout, ErrHubUnreachable, ErrUntrusted, ErrForeignEndpoint,
}

func TestHubError(t *testing.T) {
	written := func(code wire.ErrorCode) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { wire.WriteError(w, code, "some text", "1f6e", 30*time.Second) }
	}
	raw := func(status int, name, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			if name != "" {
				w.Header().Set(wire.HeaderErrorCode, name)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	tests := []struct {
		name   string
		answer func(http.ResponseWriter)
		want   error // nil: none of the sentinels
		text   []string
	}{
		{"unauthorized", written(wire.ErrUnauthorizedAccess), ErrUnauthorized, []string{"hub refused the credentials (some text)"}},
		{"not found", written(wire.ErrDeviceNotFound), ErrDeviceNotFound, []string{"device is unknown or disabled (some text)"}},
		{"offline", written(wire.ErrDeviceNotOnline), ErrDeviceOffline, []string{"device is not connected"}},
		{"exists", written(wire.ErrDeviceExists), ErrDeviceExists, nil},
		{"module not found", written(wire.ErrModuleNotFound), ErrDeviceNotFound, []string{": module is unknown (some text)"}},
		{"module exists", written(wire.ErrModuleExists), ErrDeviceExists, []string{": module exists already (some text)"}},
		{"precondition", written(wire.ErrPrecondition), ErrPrecondition, nil},
		{"throttled", written(wire.ErrThrottling), ErrThrottled, nil},
		{"no answer in time", written(wire.ErrGatewayTimeout), ErrTimeout, []string{"timed out (some text)"}},
		{"unavailable", written(wire.ErrUnavailable), nil, []string{"hub answered 503 ServiceUnavailable", `"some text"`, "1f6e"}},
		{"no such path", written(wire.ErrNotFound), nil, []string{"404 GenericNotFound"}},
		{"408", raw(408, "", ""), ErrTimeout, []string{"timed out"}},
		{"name in the header only", raw(404, "DeviceNotOnline", "plain text"), ErrDeviceOffline, []string{"device is not connected (plain text)"}},
		{"name in the body only", raw(404, "", `{"Message":"ErrorCode:DeviceNotFound;no device","ExceptionMessage":"Tracking ID:77"}`), ErrDeviceNotFound, []string{"(no device)"}},
		{"number in the body only", raw(404, "", `{"Message":"{\"errorCode\":404103,\"message\":\"off\"}"}`), ErrDeviceOffline, []string{"(off)"}},
		{"the hub's own words suffice", raw(404, "DeviceNotOnline", `{"Message":"{\"errorCode\":404103,\"message\":\"device is not connected (last seen 3 h ago)\"}"}`), ErrDeviceOffline, []string{": device is not connected (last seen 3 h ago)"}},
		{"escape sequences in a known error", raw(404, "DeviceNotOnline", "\x1b]0;owned\a"), ErrDeviceOffline, []string{`\x1b]0;owned\a`}},
		{"name of another status", raw(500, "DeviceNotFound", ""), nil, []string{"500 DeviceNotFound"}},
		{"somebody else's 404", raw(404, "", "<html>nothing here</html>"), nil, []string{`"<html>nothing here</html>"`}},
		{"empty", raw(400, "", ""), nil, []string{"hub answered 400 Bad Request"}},
		{"escape sequences", raw(400, "a <b>", "\x1b]0;owned\a\u202eevil\nnext"), nil, []string{`\x1b]0;owned\a\u202eevil\nnext`, `"a <b>"`}},
		{"too long", raw(400, "", strings.Repeat("x", 5000)), nil, []string{strings.Repeat("x", maxQuote) + `..."`}},
		{"redirect", func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://elsewhere.example.test/")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, nil, []string{"307", "redirect to https://elsewhere.example.test/ is not followed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			hub := (&testHub{api: func(w http.ResponseWriter, _ *http.Request) { tt.answer(w) }}).start(t)
			_, err := hub.service(Options{Proxy: noProxy}).GetDevice(t.Context(), testDevice)
			if _, ok := errors.AsType[*HubError](err); !ok {
				t.Fatalf("error is %v", err)
			}
			for _, s := range sentinels {
				if got := errors.Is(err, s); got != (s == tt.want) {
					t.Errorf("Is(%v) is %v for %v", s, got, err)
				}
			}
			contains(t, err.Error(), append(tt.text, `read device "pi-1" on 127.0.0.1`)...)
			if strings.ContainsAny(err.Error(), "\x1b\a\n\u202e") || len(err.Error()) > 3*maxQuote {
				t.Errorf("error is not one short clean line: %q", err)
			}
		})
	}
}

// Secrets must not get into what is printed.
func TestErrorsHoldNoSecret(t *testing.T) {
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		wire.WriteError(w, wire.ErrUnauthorizedAccess, "no", "1", 0)
	}}).start(t)
	s := hub.service(Options{Proxy: noProxy})
	_, err := s.GetDevice(t.Context(), testDevice)
	hub.server.Close()
	_, gone := s.GetDevice(t.Context(), testDevice)
	for _, err := range []error{err, gone} {
		if err == nil || strings.Contains(err.Error(), "sig=") || strings.Contains(err.Error(), testKey) {
			t.Errorf("error is %v", err)
		}
	}
}

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"connection refused", "connection refused"},
		{"a\nb", `"a\nb"`},
		{strings.Repeat("y", maxQuote+1), `"` + strings.Repeat("y", maxQuote) + `..."`},
	} {
		if got := printable(tt.in); got != tt.want {
			t.Errorf("printable(%q) is %q", tt.in, got)
		}
	}
}
