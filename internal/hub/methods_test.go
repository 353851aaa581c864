package hub_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// invoke calls a direct method as the policy service; the answer comes on the channel.
func (w *world) invoke(name, body string) <-chan answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	done := make(chan answer, 1)
	gone := make(chan struct{})
	c := call{method: "POST", path: wire.MethodPath(name) + "?api-version=2021-04-12", auth: w.policy("service"), body: body}
	go func() {
		defer close(gone)
		a, err := w.do(ctx, c)
		if err != nil {
			a.body = err.Error()
		}
		done <- a
	}()
	w.t.Cleanup(func() { cancel(); <-gone })
	return done
}

// called checks which method the device is asked for, and answers it.
func (d *device) called(method, payload, status, answer string) {
	d.t.Helper()
	topic, got := d.heard()
	rid, ok := strings.CutPrefix(topic, "$iothub/methods/POST/"+method+"/?$rid=")
	if !ok || rid == "" || got != payload {
		d.t.Errorf("device %q was asked for %q with %q; want method %q with %q", d.id, topic, got, method, payload)
	}
	d.publish("$iothub/methods/res/"+status+"/?$rid="+rid, answer)
}

func TestMethods(t *testing.T) {
	w := newWorld(t, hub.Options{})
	own, module := w.device(w.AddDevice("pi-1")), w.device(w.AddDevice("pi-1/m"))
	for _, d := range []*device{own, module} {
		d.subscribeTo(wire.FilterMethods)
		for _, c := range []struct{ body, method, payload, status, said, want string }{
			{`{"methodName":"reboot","payload":{"in":5,"big":12345678901234567890}}`, "reboot", `{"in":5,"big":12345678901234567890}`, "200", `{"ok":true}`, `{"status":200,"payload":{"ok":true}}`},
			{`{"methodName":"a.b-c_d"}`, "a.b-c_d", "null", "404", "", `{"status":404,"payload":null}`},
			{`{"methodName":"x","payload":null,"responseTimeoutInSeconds":30,"connectTimeoutInSeconds":5}`, "x", "null", "-7", `"text"`, `{"status":-7,"payload":"text"}`},
			{`{"methodName":"x","payload":"p"}`, "x", `"p"`, "0", ` [1, 2] `, `{"status":0,"payload":[1,2]}`},
		} {
			asked := w.invoke(d.id, c.body)
			d.called(c.method, c.payload, c.status, c.said)
			if got := <-asked; got.status != 200 || got.body != c.want {
				t.Errorf("%s: %s: %d %s, want %s", d.id, c.body, got.status, got.body, c.want)
			}
		}
	}
	// A stream and a method may be asked for at the same time.
	method, asked := w.invoke("pi-1", `{"methodName":"x"}`), w.open("pi-1", "shell", "", "")
	r := own.next()
	own.answer(r, 200)
	asked.accepted()
	own.called("x", "null", "200", "1")
	if got := <-method; got.body != `{"status":200,"payload":1}` {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestMethodErrors(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	w.AddDevice("off")
	for _, body := range []string{
		``, `[]`, `{}`, `{"methodName":""}`, `{"methodName":"a/b"}`, `{"methodName":"a+"}`, `{"methodName":"a b"}`, `{"methodName":"` + strings.Repeat("x", 129) + `"}`,
		`{"methodName":"x","responseTimeoutInSeconds":-1}`, `{"methodName":"x","responseTimeoutInSeconds":301}`,
		`{"methodName":"x","connectTimeoutInSeconds":301}`, `{"methodName":"x","connectTimeoutInSeconds":"5"}`, `{"methodName":"x"} x`,
		`{"methodName":"x","payload":"` + strings.Repeat("x", wire.MaxMethodPayload) + `"}`,
	} {
		if got := <-w.invoke("pi-1", body); got.status != 400 {
			t.Errorf("%.60s: %d %s", body, got.status, got.body)
		} else {
			got.fault(t)
		}
	}
	(<-w.invoke("none", `{"methodName":"x"}`)).wants(t, wire.ErrDeviceNotFound)
	(<-w.invoke("pi-1/none", `{"methodName":"x"}`)).wants(t, wire.ErrModuleNotFound)
	// Connected, but not listening to methods, is as good as not connected.
	for _, id := range []string{"off", "pi-1"} {
		(<-w.invoke(id, `{"methodName":"x","connectTimeoutInSeconds":0.05}`)).wants(t, wire.ErrDeviceNotOnline)
	}
	d.subscribeTo(wire.FilterMethods)
	got := <-w.invoke("pi-1", `{"methodName":"slow","responseTimeoutInSeconds":0.2}`)
	got.wants(t, wire.ErrGatewayTimeout)
	topic, _ := d.heard()
	d.publish("$iothub/methods/res/200/?$rid="+topic[strings.LastIndex(topic, "=")+1:], "late")
	d.ping() // a late answer bothers nobody

	asked := w.invoke("pi-1", `{"methodName":"x"}`)
	d.called("x", "null", "200", "no JSON")
	(<-asked).wants(t, wire.ErrBadDeviceResponse)
	asked = w.invoke("pi-1", `{"methodName":"x"}`)
	d.called("x", "null", "200", `"`+strings.Repeat("x", wire.MaxMethodPayload)+`"`)
	(<-asked).wants(t, wire.ErrBadDeviceResponse)
	asked = w.invoke("pi-1", `{"methodName":"x"}`)
	d.heard()
	d.conn.Close()
	(<-asked).wants(t, wire.ErrDeviceNotOnline)
	w.disable("pi-1")
	(<-w.invoke("pi-1", `{"methodName":"x"}`)).wants(t, wire.ErrDeviceNotFound)
}

// A method that the device may have run is not called again on its next connection.
func TestMethodIsNotCalledTwice(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	d := w.device(cs)
	d.subscribeTo(wire.FilterMethods)
	asked := w.invoke("pi-1", `{"methodName":"reboot","connectTimeoutInSeconds":20}`)
	d.heard()
	d.conn.Close()
	again := w.device(cs)
	again.subscribeTo(wire.FilterMethods)
	select {
	case got := <-asked:
		got.wants(t, wire.ErrDeviceNotOnline)
	case p := <-again.messages:
		t.Errorf("called again: %s", p.TopicName)
	}
}

// A call waits for a device that comes, and for one that subscribes late.
func TestMethodWaits(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	asked := w.invoke("pi-1", `{"methodName":"x","connectTimeoutInSeconds":30}`)
	eventually(t, "somebody waits", func() bool { return w.Hub.TestWaiting("pi-1") == 1 })
	d := w.device(cs) // streams only: not yet
	eventually(t, "somebody waits on", func() bool { return w.Hub.TestWaiting("pi-1") == 1 })
	d.subscribeTo(wire.FilterMethods)
	d.called("x", "null", "200", "true")
	if got := <-asked; got.body != `{"status":200,"payload":true}` {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// The twin is kept: what a device reports, services read, and the other way round.
func TestTwins(t *testing.T) {
	w := newWorld(t, hub.Options{})
	own, module := w.device(w.AddDevice("pi-1")), w.device(w.AddDevice("pi-1/m"))
	for _, d := range []*device{own, module} {
		path := wire.TwinPath(d.id)
		d.subscribeTo(wire.FilterTwinAnswers)
		d.publish("$iothub/twin/GET/?$rid=1", " ")
		if topic, payload := d.heard(); topic != "$iothub/twin/res/200/?$rid=1" || !strings.Contains(payload, `"desired":{"$metadata"`) || strings.Count(payload, `"$version":1`) != 2 {
			t.Errorf("%s: fresh twin %s %s", d.id, topic, payload)
		}
		d.publish("$iothub/twin/PATCH/properties/reported/?$rid=2", `{"a":{"b":1,"c":2},"big":12345678901234567890}`)
		if topic, payload := d.heard(); topic != "$iothub/twin/res/204/?$rid=2&$version=2" || payload != "" {
			t.Errorf("%s: report %s %s", d.id, topic, payload)
		}
		d.publish("$iothub/twin/PATCH/properties/reported/?$rid=3", `{"a":{"b":null}}`)
		if topic, _ := d.heard(); topic != "$iothub/twin/res/204/?$rid=3&$version=3" {
			t.Errorf("%s: report %s", d.id, topic)
		}
		for _, bad := range []string{`[]`, `{`, ``, `{"a":"` + strings.Repeat("x", wire.MaxTwinPart) + `"}`} {
			d.publish("$iothub/twin/PATCH/properties/reported/?$rid=4", bad)
			if topic, _ := d.heard(); topic != "$iothub/twin/res/400/?$rid=4" {
				t.Errorf("%s: bad report %.40s: %s", d.id, bad, topic)
			}
		}
		got := w.as("GET", path, "", nil)
		if !strings.Contains(got.body, `"a":{"c":2},"big":12345678901234567890`) || strings.Contains(got.body, `"b":`) {
			t.Errorf("%s: twin %s", d.id, got.body)
		}

		// Desired properties, before the device listens to changes and after.
		w.as("PATCH", path, `{"tags":{"site":"lab"},"properties":{"desired":{"x":1}}}`, nil)
		d.subscribeTo(wire.FilterTwinChanges)
		etag := w.as("GET", path, "", nil).header.Get("ETag")
		changed := w.as("PATCH", path, `{"properties":{"desired":{"x":null,"y":{"z":2}}}}`, map[string][]string{"If-Match": {etag}})
		if changed.status != 200 || !strings.Contains(changed.body, `"tags":{"site":"lab"}`) || changed.header.Get("ETag") == etag {
			t.Errorf("%s: %d %s", d.id, changed.status, changed.body)
		}
		if topic, payload := d.heard(); topic != "$iothub/twin/PATCH/properties/desired/?$version=3" || !strings.Contains(payload, `"x":null`) || !strings.Contains(payload, `"y":{"z":2}`) || !strings.Contains(payload, `"$version":3`) {
			t.Errorf("%s: change %s %s", d.id, topic, payload)
		}
		w.as("PATCH", path, `{"properties":{"desired":{"x":1}}}`, map[string][]string{"If-Match": {etag}}).wants(t, wire.ErrPrecondition)
		w.as("PATCH", path, `{"properties":{"desired":[]}}`, nil).wants(t, wire.ErrFormat)
		w.as("PUT", path, `{"properties":{"desired":{"only":true}}}`, nil)
		if topic, payload := d.heard(); topic != "$iothub/twin/PATCH/properties/desired/?$version=4" || !strings.Contains(payload, `"only":true`) || strings.Contains(payload, `"y"`) {
			t.Errorf("%s: replaced %s %s", d.id, topic, payload)
		}
	}
	// Both survive the hub's restart.
	address, dir := w.Hub.Address().String(), w.DataDir
	w.Stop()
	again := newWorld(t, hub.Options{DataDir: dir, Listen: address})
	if got := again.as("GET", "/twins/pi-1", "", nil); !strings.Contains(got.body, `"only":true`) || !strings.Contains(got.body, `"c":2`) {
		t.Errorf("after a restart: %s", got.body)
	}
}

// A session does not see the twin of the device that came after its own.
func TestTwinOfAnotherLife(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	d.subscribeTo(wire.FilterTwinAnswers)
	if err := w.Hub.TestReplace("pi-1"); err != nil {
		t.Fatal(err)
	}
	d.publish("$iothub/twin/GET/?$rid=1", "")
	if topic, payload := d.heard(); topic != "$iothub/twin/res/404/?$rid=1" || payload != "" {
		t.Errorf("got %s %s", topic, payload)
	}
}

// A change that has been made is told, though its author has hung up.
func TestChangeIsToldWithoutItsAuthor(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	d.subscribeTo(wire.FilterTwinChanges)
	w.Hub.TestTellDesired("pi-1", 7)
	w.as("PATCH", "/twins/pi-1", `{"properties":{"desired":{"x":1}}}`, nil)
	if topic, _ := d.heard(); topic != "$iothub/twin/PATCH/properties/desired/?$version=7" {
		t.Errorf("heard first: %s", topic)
	}
}

// Telemetry is acknowledged and counted, and does not keep a proxy's work from going on.
func TestTelemetryIsCounted(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	for i := range 7 {
		d.publish(fmt.Sprintf("devices/pi-1/messages/events/%%24.mid=%d&%%24.ct=application%%2Fjson", i), "{}")
	}
	w.stream(d).echo(t)
	d.ping()
	d.conn.Close()
	w.Log.WaitFor(t, "device disconnected", "device=pi-1", "events=7")
}
