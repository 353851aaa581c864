package wire

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestMethodTopics(t *testing.T) {
	if got := MethodTopic("reboot", "7"); got != "$iothub/methods/POST/reboot/?$rid=7" {
		t.Error(got)
	}
	for topic, want := range map[string]MethodResponse{
		"$iothub/methods/res/200/?$rid=1":         {200, "1"},
		"$iothub/methods/res/-1/?$rid=1":          {-1, "1"},
		"$iothub/methods/res/0?$rid=a-b&x=y":      {0, "a-b"},
		"$iothub/methods/res/2147483647/?$rid=1":  {2147483647, "1"},
		"$iothub/methods/res/200/":                {},
		"$iothub/methods/res/200/?$rid=":          {},
		"$iothub/methods/res/200/?$rid=1&$rid=1":  {},
		"$iothub/methods/res/x/?$rid=1":           {},
		"$iothub/methods/res/4294967296/?$rid=1":  {},
		"$iothub/methods/res/200/more/?$rid=1":    {},
		"$iothub/streams/res/200/?$rid=1":         {},
		"devices/pi-1/messages/events/?$rid=1":    {},
		"$iothub/methods/POST/reboot/?$rid=1":     {},
		"x$iothub/methods/res/200/?$rid=1":        {},
		"$iothub/methods/res/9999999999999?$rid=": {},
	} {
		got, ok := ParseMethodResponse(topic)
		if got != want || ok != (want != MethodResponse{}) {
			t.Errorf("%q: %+v, %v", topic, got, ok)
		}
	}
}

func TestTwinTopics(t *testing.T) {
	for _, c := range []struct {
		topic string
		want  TwinRequest
		ok    bool
	}{
		{"$iothub/twin/GET/?$rid=1", TwinRequest{false, "1"}, true},
		{"$iothub/twin/GET/?$rid=", TwinRequest{}, true},
		{"$iothub/twin/PATCH/properties/reported/?$rid=a-1&$version=3", TwinRequest{true, "a-1"}, true},
		{"$iothub/twin/GET/", TwinRequest{}, false},
		{"$iothub/twin/GET/x/?$rid=1", TwinRequest{}, false},
		{"$iothub/twin/GET/?$rid=1/2", TwinRequest{}, false},
		{"$iothub/twin/GET/?$rid=1&$rid=2", TwinRequest{}, false},
		{"$iothub/twin/GET/?$rid=" + strings.Repeat("1", maxRID+1), TwinRequest{}, false},
		{"$iothub/twin/PATCH/properties/desired/?$rid=1", TwinRequest{}, false},
		{"$iothub/twin/res/200/?$rid=1", TwinRequest{}, false},
	} {
		if got, ok := ParseTwinRequest(c.topic); got != c.want || ok != c.ok {
			t.Errorf("%q: %+v, %v", c.topic, got, ok)
		}
	}
	got := []string{TwinAnswerTopic(200, "1", 0), TwinAnswerTopic(204, "a", 2), TwinChangeTopic(5)}
	want := []string{"$iothub/twin/res/200/?$rid=1", "$iothub/twin/res/204/?$rid=a&$version=2", "$iothub/twin/PATCH/properties/desired/?$version=5"}
	if !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestIsEvent(t *testing.T) {
	for _, c := range []struct {
		name, topic string
		want        bool
	}{
		{"pi-1", "devices/pi-1/messages/events/", true},
		{"pi-1", "devices/pi-1/messages/events/%24.mid=1&a%20b=c%2Fd", true},
		{"pi-1/m", "devices/pi-1/modules/m/messages/events/", true},
		{"pi-1", "devices/pi-10/messages/events/", false},
		{"pi-1", "devices/pi-1/modules/m/messages/events/", false},
		{"pi-1", "$iothub/twin/GET/?$rid=1", false},
	} {
		if got := IsEvent(c.name, c.topic); got != c.want {
			t.Errorf("%s, %q: %v", c.name, c.topic, got)
		}
	}
}

func TestTargets(t *testing.T) {
	for name, want := range map[string][2]string{"pi-1": {"pi-1", ""}, "pi-1/m": {"pi-1", "m"}} {
		device, module := SplitTarget(name)
		if device != want[0] || module != want[1] || TargetName(device, module) != name || !ValidTarget(name) {
			t.Errorf("%q: %q, %q", name, device, module)
		}
	}
	for _, name := range []string{"", "/", "pi-1/", "/m", "a/b/c", "pi 1", "a/b c", "../m", "pi-1/.."} {
		if ValidTarget(name) {
			t.Errorf("%q can name a target", name)
		}
	}
	for name, want := range map[string]bool{
		"reboot": true, "Re_boot-2.x~": true, "": false, "a/b": false, "a+": false, "a#": false, "a b": false, "$a": false, "a?": false,
		strings.Repeat("m", maxMethodName): true, strings.Repeat("m", maxMethodName+1): false,
	} {
		if ValidMethodName(name) != want {
			t.Errorf("method %q: want %v", name, want)
		}
	}
	for got, want := range map[string]string{
		IdentityPath("pi-1/m"):        "/devices/pi-1/modules/m",
		ModulesPath("a#b"):            "/devices/a%23b/modules",
		StreamPath("pi-1/m#1", "ssh"): "/twins/pi-1/modules/m%231/streams/ssh",
		MethodPath("pi-1"):            "/twins/pi-1/methods",
		CAPath("ab"):                  "/certificates/ab",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func FuzzDeviceTopics(f *testing.F) {
	f.Add("$iothub/methods/res/200/?$rid=1")
	f.Add("$iothub/twin/GET/?$rid=1")
	f.Add("$iothub/twin/PATCH/properties/reported/?$rid=a&$version=2")
	f.Add("devices/pi-1/messages/events/a=b")
	f.Fuzz(func(t *testing.T, topic string) {
		if r, ok := ParseMethodResponse(topic); ok && (r.RID == "" || !strings.HasPrefix(topic, topicMethodResponse)) {
			t.Errorf("%q: %+v", topic, r)
		}
		if r, ok := ParseTwinRequest(topic); ok {
			answer := TwinAnswerTopic(200, r.RID, 1)
			if strings.Count(answer, "/") != 4 || strings.ContainsAny(answer, "+#") || len(answer) > 400 {
				t.Errorf("%q is answered on %q", topic, answer)
			}
		}
		if _, ok := ParseStreamResponse(topic); ok {
			_, twin := ParseTwinRequest(topic)
			_, method := ParseMethodResponse(topic)
			if twin || method || IsEvent("pi-1", topic) {
				t.Errorf("%q is two things", topic)
			}
		}
	})
}

func TestTwinAnswer(t *testing.T) {
	for topic, want := range map[string]TwinAnswer{
		TwinAnswerTopic(200, "1", 0):         {200, "1"},
		TwinAnswerTopic(204, "a", 2):         {204, "a"},
		"$iothub/twin/res/200/?$rid=":        {},
		"$iothub/twin/res/200/?$rid=1&$rid=": {},
		"$iothub/twin/res/x/?$rid=1":         {},
		"$iothub/twin/res/200":               {},
		TwinReportTopic("1"):                 {},
	} {
		if got, ok := ParseTwinAnswer(topic); got != want || ok != (want != TwinAnswer{}) {
			t.Errorf("%q: %+v, %v", topic, got, ok)
		}
	}
	if got, ok := ParseTwinRequest(TwinReportTopic("h1")); !ok || got != (TwinRequest{true, "h1"}) {
		t.Errorf("report: %+v, %v", got, ok)
	}
}

func TestHostKeys(t *testing.T) {
	for patch, want := range map[string][]string{
		`{"farport":{"hostKeys":["a b","c d"]}}`:  {"a b", "c d"},
		`{"farport":{"hostKeys":["a b",1,null]}}`: {"a b"},
		`{"farport":{"hostKeys":"a b"}}`:          nil,
		`{"farport":{"hostKeys":null}}`:           nil,
		`{"farport":[]}`:                          nil,
		`{}`:                                      nil,
	} {
		var reported map[string]any
		if err := json.Unmarshal([]byte(patch), &reported); err != nil {
			t.Fatal(err)
		}
		if got := ReportedHostKeys(reported); !slices.Equal(got, want) {
			t.Errorf("%s: %q", patch, got)
		}
	}
	for want, keys := range map[string][]string{
		`{"farport":{"hostKeys":["a b"]}}`: {"a b"},
		`{"farport":{"hostKeys":null}}`:    nil,
	} {
		if got, err := json.Marshal(HostKeysPatch(keys)); err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", keys, got, err)
		}
	}
}

func TestServices(t *testing.T) {
	for patch, want := range map[string][]string{
		`{"farport":{"services":["rdp","ssh"]}}`:                {"rdp", "ssh"},
		`{"farport":{"services":["a b","..","ok",1,"\u001b"]}}`: {"ok"},
		`{"farport":{"hostKeys":["a"]}}`:                        nil,
	} {
		var reported map[string]any
		if err := json.Unmarshal([]byte(patch), &reported); err != nil {
			t.Fatal(err)
		}
		if got := ReportedServices(reported); !slices.Equal(got, want) {
			t.Errorf("%s: %q", patch, got)
		}
	}
	if got, err := json.Marshal(ServicesPatch([]string{"rdp"})); err != nil || string(got) != `{"farport":{"services":["rdp"]}}` {
		t.Errorf("%s, %v", got, err)
	}
}
