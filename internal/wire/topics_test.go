package wire

import (
	"maps"
	"net/url"
	"strings"
	"testing"
)

const exampleURL = "wss://hub.example.test:443/bridges/h/pi-1/0123456789abcdef0123456789abcdef"

var example = StreamRequest{RID: "1", Name: "shell", URL: exampleURL, Token: "k3J.x_9-"}

// exampleTopic is the one in docs/protocol.md, Stream request.
const exampleTopic = "$iothub/streams/POST/shell/?$rid=1&$url=wss%3A%2F%2Fhub.example.test%3A443%2Fbridges%2Fh%2Fpi-1%2F0123456789abcdef0123456789abcdef&$auth=k3J.x_9-"

func TestStreamRequest(t *testing.T) {
	if got := example.Topic(); got != exampleTopic {
		t.Errorf("topic %q", got)
	}
	lower := strings.NewReplacer("%3A", "%3a", "%2F", "%2f").Replace(exampleTopic)
	for _, test := range []struct {
		name, topic string
		want        StreamRequest // zero: no request
	}{
		{"documented", exampleTopic, example},
		{"lower-case escapes", lower, example},
		{"not escaped", "$iothub/streams/POST/shell/?$rid=1&$url=" + exampleURL + "&$auth=k3J.x_9-", example},
		{"no slash", strings.Replace(exampleTopic, "/?", "?", 1), example},
		{"more levels", strings.Replace(exampleTopic, "/?", "/g2/x/?", 1), example},
		{"any order", "$iothub/streams/POST/shell/?$auth=k3J.x_9-&$url=" + exampleURL + "&$rid=1", example},
		{"unknown properties", exampleTopic + "&$ip=10.0.0.1&$new&", example},
		{"question mark in the URL", strings.Replace(exampleTopic, "&$auth", "%3Fa%3Db%26c&$auth", 1),
			StreamRequest{RID: "1", Name: "shell", URL: exampleURL + "?a=b&c", Token: "k3J.x_9-"}},
		{"rid of letters", strings.Replace(exampleTopic, "$rid=1", "$rid=6d0c-1", 1), StreamRequest{RID: "6d0c-1", Name: "shell", URL: exampleURL, Token: "k3J.x_9-"}},
		{"token with padding", exampleTopic + "==", StreamRequest{RID: "1", Name: "shell", URL: exampleURL, Token: "k3J.x_9-=="}},

		{"empty", "", StreamRequest{}},
		{"another topic", "$iothub/methods/POST/shell/?$rid=1&$url=a&$auth=b", StreamRequest{}},
		{"response", "$iothub/streams/res/200/?$rid=1", StreamRequest{}},
		{"no properties", "$iothub/streams/POST/shell/", StreamRequest{}},
		{"no name", "$iothub/streams/POST/?$rid=1&$url=a&$auth=b", StreamRequest{}},
		{"empty name", "$iothub/streams/POST//?$rid=1&$url=a&$auth=b", StreamRequest{}},
		{"no rid", "$iothub/streams/POST/shell/?$url=a&$auth=b", StreamRequest{}},
		{"no URL", "$iothub/streams/POST/shell/?$rid=1&$auth=b", StreamRequest{}},
		{"no token", "$iothub/streams/POST/shell/?$rid=1&$url=a", StreamRequest{}},
		{"empty token", "$iothub/streams/POST/shell/?$rid=1&$url=a&$auth=", StreamRequest{}},
		{"two URLs", exampleTopic + "&$url=wss%3A%2F%2Fevil.example.test", StreamRequest{}},
		{"broken escape", "$iothub/streams/POST/shell/?$rid=1&$url=wss%3&$auth=b", StreamRequest{}},
		{"other case", strings.ToUpper(exampleTopic), StreamRequest{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := ParseStreamRequest(test.topic)
			if got != test.want || ok != (test.want != StreamRequest{}) {
				t.Errorf("%+v, %v, want %+v", got, ok, test.want)
			}
		})
	}
}

func TestStreamResponse(t *testing.T) {
	for _, test := range []struct {
		topic string
		want  StreamResponse // zero: no answer
		took  bool
	}{
		{"$iothub/streams/res/200/?$rid=1", StreamResponse{200, "1"}, true},
		{"$iothub/streams/res/400/?$rid=1", StreamResponse{400, "1"}, false},
		{"$iothub/streams/res/204/?$rid=6d0c-1", StreamResponse{204, "6d0c-1"}, true},
		{"$iothub/streams/res/299/?$rid=1", StreamResponse{299, "1"}, true},
		{"$iothub/streams/res/300/?$rid=1", StreamResponse{300, "1"}, false},
		{"$iothub/streams/res/199/?$rid=1", StreamResponse{199, "1"}, false},
		{"$iothub/streams/res/999/?$rid=1", StreamResponse{999, "1"}, false},
		{"$iothub/streams/res/200?$rid=1", StreamResponse{200, "1"}, true},
		{"$iothub/streams/res/200/?$other=2&$rid=1", StreamResponse{200, "1"}, true},
		{topic: ""},
		{topic: "$iothub/streams/res/200/"},
		{topic: "$iothub/streams/res/200/?"},
		{topic: "$iothub/streams/res/200/?$rid="},
		{topic: "$iothub/streams/res/200/?$rid=1&$rid=2"},
		{topic: "$iothub/streams/res/200/x/?$rid=1"},
		{topic: "$iothub/streams/res//?$rid=1"},
		{topic: "$iothub/streams/res/2/?$rid=1"},
		{topic: "$iothub/streams/res/0200/?$rid=1"},
		{topic: "$iothub/streams/res/+20/?$rid=1"},
		{topic: "$iothub/streams/res/-20/?$rid=1"},
		{topic: "$iothub/streams/res/099/?$rid=1"},
		{topic: "$iothub/streams/res/2e2/?$rid=1"},
		{topic: "$iothub/streams/res/99999999999999999999/?$rid=1"},
		{topic: "$iothub/methods/res/200/?$rid=1"},
		{topic: exampleTopic},
	} {
		got, ok := ParseStreamResponse(test.topic)
		if got != test.want || ok != (test.want != StreamResponse{}) || got.Accepted() != test.took {
			t.Errorf("%q: %+v, %v, accepted %v", test.topic, got, ok, got.Accepted())
		}
	}
	for _, r := range []StreamResponse{{StatusAccept, "1"}, {StatusReject, "abc"}} {
		if got, ok := ParseStreamResponse(r.Topic()); got != r || !ok {
			t.Errorf("%q: %+v", r.Topic(), got)
		}
	}
	if got := (StreamResponse{StatusReject, "7"}).Topic(); got != "$iothub/streams/res/400/?$rid=7" {
		t.Error(got)
	}
}

func TestFilters(t *testing.T) {
	for got, want := range map[string]string{
		FilterDevicebound("pi-1"):        "devices/pi-1/messages/devicebound/#",
		FilterModule("pi-1", "cam"):      "devices/pi-1/modules/cam/#",
		FilterInputs("pi-1", "cam"):      "devices/pi-1/modules/cam/inputs/#",
		FilterModulebound("pi-1", "cam"): "devices/pi-1/modules/cam/messages/devicebound/#",
		TargetName("pi-1", ""):           "pi-1",
		TargetName("pi-1", "cam"):        "pi-1/cam",
		FilterStreamRequests:             "$iothub/streams/POST/#",
		FilterStreamResponses:            "$iothub/streams/res/#",
		string(SideDevice.Other()):       "service",
		string(SideService.Other()):      "device",
		FilterMethods:                    "$iothub/methods/POST/#",
		FilterTwinAnswers:                "$iothub/twin/res/#",
		FilterTwinChanges:                "$iothub/twin/PATCH/properties/desired/#",
		PathMQTT:                         "/$iothub/websocket",
		StreamPath("pi-1", "shell"):      "/twins/pi-1/streams/shell",
		StreamPath("a#b?c", "s.t~u"):     "/twins/a%23b%3Fc/streams/s.t~u",
		IdentityPath("a%b"):              "/devices/a%25b",
		TwinPath("pi-1"):                 "/twins/pi-1",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestUserName(t *testing.T) {
	const host = "hub.example.test"
	for _, test := range []struct {
		text string
		want UserName // zero: none
	}{
		// Captured (docs/protocol.md, Connecting).
		{"hub.example.test/pi-1/?api-version=2020-09-30&DeviceClientType=iothubclient%2f1.9.0%20(native%3b%20Linux%3b%20x86_64)",
			UserName{host, "pi-1", "", url.Values{"api-version": {"2020-09-30"}, ParamClientType: {"iothubclient/1.9.0 (native; Linux; x86_64)"}}}},
		{"hub.example.test/pi-1/?api-version=2021-04-12&DeviceClientType=azure-iot-device%2F1.18.4%20(node%20v20)",
			UserName{host, "pi-1", "", url.Values{"api-version": {"2021-04-12"}, ParamClientType: {"azure-iot-device/1.18.4 (node v20)"}}}},
		{"hub.example.test/pi-1/?api-version=2021-04-12&model-id=dtmi:com:example:Thing;1&DeviceClientType=x",
			UserName{host, "pi-1", "", url.Values{"api-version": {"2021-04-12"}, "model-id": {"dtmi:com:example:Thing;1"}, ParamClientType: {"x"}}}},
		{"hub.example.test/pi-1/?api-version=2018-06-30&DeviceClientType=x",
			UserName{host, "pi-1", "", url.Values{"api-version": {"2018-06-30"}, ParamClientType: {"x"}}}},
		// Documented.
		{"hub.example.test/pi-1", UserName{host, "pi-1", "", url.Values{}}},
		{"hub.example.test/pi-1/", UserName{host, "pi-1", "", url.Values{}}},
		{"hub.example.test/pi-1/api-version=2016-11-14", UserName{host, "pi-1", "", url.Values{"api-version": {"2016-11-14"}}}},
		{"hub.example.test/pi-1/cam/?api-version=2018-06-30", UserName{host, "pi-1", "cam", url.Values{"api-version": {"2018-06-30"}}}},
		{"localhost:18883/pi-1/?api-version=2021-04-12", UserName{"localhost:18883", "pi-1", "", url.Values{"api-version": {"2021-04-12"}}}},
		// Every character an ID may have.
		{"h/-.+%_#*?!(),=@$':/?api-version=1", UserName{"h", "-.+%_#*?!(),=@$':", "", url.Values{"api-version": {"1"}}}},
		{"h/?/?api-version=1", UserName{"h", "?", "", url.Values{"api-version": {"1"}}}},
		{"h/?api-version=0/?api-version=1", UserName{"h", "?api-version=0", "", url.Values{"api-version": {"1"}}}},
		{"h/d/?m/?api-version=1", UserName{"h", "d", "?m", url.Values{"api-version": {"1"}}}},

		{text: ""}, {text: "h"}, {text: "h/"}, {text: "/d"}, {text: "//"}, {text: "h//m"}, {text: "h/d/m/x"},
		{text: "h/d//"},
		{text: "h/.."}, {text: "h/d/.."}, {text: "h/a b"}, {text: "h/a\x00"}, {text: "h/é"},
		{text: "h/" + strings.Repeat("x", MaxID+1)},
		{text: "h/d/?api-version=%zz"},
	} {
		got, ok := ParseUserName(test.text)
		if ok != (test.want.Host != "") || !sameUser(got, test.want) {
			t.Errorf("%q: %+v, %v", test.text, got, ok)
		}
	}
	u := UserName{host, "pi-1", "", url.Values{"api-version": {APIVersionDevice}, ParamClientType: {"farport/1 (linux; arm)"}, "a": {"1"}}}
	if got, want := u.String(), "hub.example.test/pi-1/?api-version=2020-09-30&DeviceClientType=farport%2F1%20%28linux%3B%20arm%29&a=1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func sameUser(a, b UserName) bool {
	return a.Host == b.Host && a.DeviceID == b.DeviceID && a.ModuleID == b.ModuleID &&
		maps.EqualFunc(a.Params, b.Params, func(v, w []string) bool { return strings.Join(v, "\x00") == strings.Join(w, "\x00") })
}

// What is read from any topic can be written and read again, and is fit to be used.
func FuzzStreamRequest(f *testing.F) {
	for _, topic := range []string{exampleTopic, "", "$iothub/streams/POST/a/b/?$rid=1&$url=%41+%20&$auth=t&x&&", "$iothub/streams/POST/?$rid"} {
		f.Add(topic)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		r, ok := ParseStreamRequest(topic)
		if !ok {
			if r != (StreamRequest{}) {
				t.Errorf("%+v and false", r)
			}
			return
		}
		if strings.Contains(r.Name, "/") || strings.ContainsAny(r.RID+r.Token, "&") {
			t.Errorf("%q: %+v", topic, r)
		}
		if !r.Grant.Fits(Offer{testID, MaxResumeWindow}) {
			return // malformed, which is never written
		}
		if again, ok := ParseStreamRequest(r.Topic()); !ok || again != r {
			t.Errorf("%+v became %+v", r, again)
		}
	})
}

func FuzzStreamResponse(f *testing.F) {
	for _, topic := range []string{"$iothub/streams/res/200/?$rid=1", "$iothub/streams/res/400?$rid=", "$iothub/streams/res/+20/?$rid=1"} {
		f.Add(topic)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		r, ok := ParseStreamResponse(topic)
		if !ok {
			return
		}
		if r.Status < 100 || r.Status > 999 || r.RID == "" {
			t.Errorf("%q: %+v", topic, r)
		}
		if again, ok := ParseStreamResponse(r.Topic()); !ok || again != r {
			t.Errorf("%+v became %+v", r, again)
		}
	})
}

// What is read from any user name is what its device meant: written in the form of
// the SDKs it is read the same.
func FuzzUserName(f *testing.F) {
	for _, text := range []string{
		"hub.example.test/pi-1/?api-version=2020-09-30&DeviceClientType=a%2f1.9.0%20(b%3b%20c)&model-id=dtmi:a;1",
		"h/d", "h/d/m", "h/?/api-version=1", "h/d/?/?api-version=", "h/?x=1/?y=2", "h/d/m/?a=b&a=c",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, ok := ParseUserName(text)
		if !ok {
			return
		}
		if !ValidID(u.DeviceID) || u.ModuleID != "" && !ValidID(u.ModuleID) || u.Host == "" || strings.Contains(u.Host, "/") {
			t.Errorf("%q: %+v", text, u)
		}
		u.Params.Set("api-version", u.Params.Get("api-version"))
		if again, ok := ParseUserName(u.String()); !ok || !sameUser(again, u) {
			t.Errorf("%+v became %+v by %q", u, again, u.String())
		}
	})
}
