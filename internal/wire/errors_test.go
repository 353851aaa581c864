package wire

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

var codes = []ErrorCode{
	ErrArgumentInvalid, ErrFormat, ErrUnauthorizedAccess, ErrDeviceNotFound, ErrDeviceNotOnline, ErrMethodNotAllowed,
	ErrDeviceExists, ErrPrecondition, ErrMessageTooLarge, ErrThrottling, ErrUnavailable, ErrGatewayTimeout, ErrStreamGone, ErrNotFound,
}

// Every error can be read back, and has a body that the C# SDK survives: JSON with a
// string Message.
func TestErrorsThereAndBack(t *testing.T) {
	for _, code := range codes {
		t.Run(code.Name, func(t *testing.T) {
			const text = `no "device" <pi-9>; or: none`
			w := httptest.NewRecorder()
			WriteError(w, code, text, "1f6e", 0)
			resp := w.Result()
			if resp.StatusCode != code.Status() || resp.Header.Get("iothub-errorcode") != code.Name ||
				resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("%s %v", resp.Status, resp.Header)
			}
			var body struct{ Message, ExceptionMessage *string }
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Message == nil || *body.Message == "" {
				t.Fatalf("%s: %v", w.Body, err)
			}
			got := ParseError(resp.StatusCode, resp.Header, w.Body.Bytes())
			want := HubError{Status: code.Status(), Number: got.Number, Name: code.Name, Message: text, TrackingID: "1f6e"}
			if got != want || got.Number != 0 && got.Number != code.Number {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// The examples of docs/protocol.md, Errors.
func TestWriteErrorAsDocumented(t *testing.T) {
	w := httptest.NewRecorder()
	WriteError(w, ErrGatewayTimeout, "device did not answer", "1f6e", 30*time.Second)
	got := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`).ReplaceAllString(w.Body.String(), "2026-01-02T03:04:05Z")
	if got != documented504 {
		t.Errorf("%s\nwant %s", got, documented504)
	}
	w = httptest.NewRecorder()
	WriteError(w, ErrDeviceNotFound, "no device pi-9", "1f6e", time.Minute)
	if w.Body.String() != documented404 {
		t.Errorf("%s\nwant %s", w.Body, documented404)
	}
	for timeout, want := range map[time.Duration]string{
		time.Second: "00:00:01", 1500 * time.Millisecond: "00:00:02", MaxStreamTimeout: "00:05:00", 0: "",
	} {
		w = httptest.NewRecorder()
		WriteError(w, ErrDeviceNotOnline, "offline", "1", timeout)
		if has := strings.Contains(w.Body.String(), `\"info\":{\"timeout\":\"`+want); has != (want != "") {
			t.Errorf("%v: %s", timeout, w.Body)
		}
	}
}

const (
	documented504 = `{"Message":"{\"errorCode\":504101,\"trackingId\":\"1f6e\",\"message\":\"device did not answer\",\"info\":{\"timeout\":\"00:00:30\"},\"timestampUtc\":\"2026-01-02T03:04:05Z\"}","ExceptionMessage":""}`
	documented404 = `{"Message":"ErrorCode:DeviceNotFound;no device pi-9","ExceptionMessage":"Tracking ID:1f6e"}`
)

func TestParseError(t *testing.T) {
	for _, test := range []struct {
		name, header, body string
		want               HubError
	}{
		{"nested", "GatewayTimeout", documented504, HubError{504, 504101, "GatewayTimeout", "device did not answer", "1f6e"}},
		{"nested, no header", "", documented504, HubError{504, 504101, "", "device did not answer", "1f6e"}},
		{"name and text", "DeviceNotFound", documented404, HubError{504, 0, "DeviceNotFound", "no device pi-9", "1f6e"}},
		{"name and text, no header", "", documented404, HubError{504, 0, "DeviceNotFound", "no device pi-9", "1f6e"}},
		{"the header knows better", "DeviceNotOnline", documented404, HubError{504, 0, "DeviceNotOnline", "no device pi-9", "1f6e"}},
		{"name alone", "", `{"Message":"ErrorCode:Throttling"}`, HubError{504, 0, "Throttling", "", ""}},
		{"plain message", "X", `{"Message":"just so"}`, HubError{504, 0, "X", "just so", ""}},
		{"message of another shape", "", `{"Message":"{\"errorCode\":\"504101\",\"message\":\"m\"}"}`, HubError{504, 0, "", `{"errorCode":"504101","message":"m"}`, ""}},
		{"lower case", "", `{"message":"m"}`, HubError{504, 0, "", "m", ""}},
		{"empty", "", "", HubError{504, 0, "", "", ""}},
		{"no JSON", "", " <html>Bad Gateway</html>\r\n", HubError{504, 0, "", "<html>Bad Gateway</html>", ""}},
		{"cut off", "", documented504[:40], HubError{504, 0, "", documented504[:40], ""}},
		{"number for a message", "", `{"Message":5}`, HubError{504, 0, "", `{"Message":5}`, ""}},
		{"JSON that is no object", "", `[1]`, HubError{504, 0, "", `[1]`, ""}},
		{"null", "", `null`, HubError{504, 0, "", `null`, ""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := http.Header{}
			if test.header != "" {
				header.Set(HeaderErrorCode, test.header)
			}
			if got := ParseError(504, header, []byte(test.body)); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// Numbers begin with their status, and neither number nor name is used twice.
func TestErrorCodes(t *testing.T) {
	seen := map[string]bool{}
	for _, code := range codes {
		for _, key := range []string{code.Name, fmt.Sprint(code.Number)} {
			if seen[key] {
				t.Errorf("%s twice", key)
			}
			seen[key] = true
		}
		if code.Number < 400_000 || code.Number > 599_999 || http.StatusText(code.Status()) == "" {
			t.Errorf("%+v", code)
		}
	}
}
