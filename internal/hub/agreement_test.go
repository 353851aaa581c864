package hub_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// claims is what a stream token says.
type claims struct {
	Side     wire.Side `json:"d"`
	Expires  int64     `json:"e"`
	Instance string    `json:"n"`
	Window   int64     `json:"w"`
	Minted   int64     `json:"m"`
}

func claimsOf(t *testing.T, token string) (c claims) {
	t.Helper()
	body, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// offering connects a device whose user name has these client types.
func (w *world) offering(name string, agents ...string) *device {
	w.t.Helper()
	l := w.login(w.AddDevice(name))
	l.agents = agents
	d := w.connected(l)
	d.subscribe()
	return d
}

// Both sides are told what is granted, and get a token of their own that says so.
func TestAgreement(t *testing.T) {
	deviceID, serviceID := wire.InstanceID("device"), wire.InstanceID("service")
	for name, test := range map[string]struct {
		hub             time.Duration // Options.ResumeWindow
		device, service time.Duration
		want            time.Duration
	}{
		"device": {0, 10 * time.Second, 300 * time.Second, 10 * time.Second},
		"svc":    {0, 300 * time.Second, 20 * time.Second, 20 * time.Second},
		"hub":    {30 * time.Second, 300 * time.Second, 300 * time.Second, 30 * time.Second},
		"max":    {time.Hour, time.Hour, time.Hour, time.Hour},
		"none-d": {0, 0, 300 * time.Second, 0},
		"none-s": {0, 300 * time.Second, 0, 0},
		"none-h": {-1, 300 * time.Second, 300 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, hub.Options{ResumeWindow: test.hub})
			d := w.offering("pi-1", "farport/1 (linux; arm64) "+wire.Offer{Instance: deviceID, Window: test.device}.Word())
			before := time.Now()
			asked := w.openOffering("pi-1", "shell", wire.Offer{Instance: serviceID, Window: test.service}.Header())
			r := d.next()
			grant := wire.Grant{Extended: true, Window: test.want}
			if r.Grant != grant {
				t.Errorf("device is told %+v", r.Grant)
			}
			d.answer(r, wire.StatusAccept)
			got := asked.answer()
			if values := got.header.Values(wire.HeaderStream); len(values) != 1 || values[0] != grant.Header() {
				t.Errorf("service is told %q", values)
			}
			device, service := claimsOf(t, r.Token), claimsOf(t, got.header.Get(wire.HeaderStreamToken))
			life := wire.ResumeTokenLife
			if test.want == 0 {
				life = wire.HandshakeTimeout
			}
			minted := time.UnixMilli(device.Minted)
			if minted.Before(before.Truncate(time.Millisecond)) || minted.After(time.Now()) {
				t.Errorf("minted at %s, not since %s", minted, before)
			}
			want := claims{wire.SideDevice, minted.Add(life + time.Second).Unix(), deviceID, int64(test.want / time.Second), device.Minted}
			// The expiry is rounded up from a time that the token has in milliseconds.
			if device != want {
				t.Errorf("device's token says %+v, not %+v", device, want)
			}
			want.Side, want.Instance = wire.SideService, serviceID
			if service != want {
				t.Errorf("service's token says %+v, not %+v", service, want)
			}
		})
	}
}

// Without both offers, or with one that is none, the stream is as plain as it ever was,
// on either side.
func TestAgreementPlain(t *testing.T) {
	o := wire.Offer{Instance: wire.InstanceID("x"), Window: time.Minute}
	word, header := o.Word(), o.Header()
	w := newWorld(t, hub.Options{})
	for name, test := range map[string]struct{ agents, offers []string }{
		"nobody":         {nil, nil},
		"device":         {[]string{word}, nil},
		"service":        {nil, []string{header}},
		"sdk":            {[]string{"azure-iot-device/1.18.4 (node v20)"}, []string{header}},
		"twice":          {[]string{word + " " + word}, []string{header}},
		"two-parameters": {[]string{word, word}, []string{header}},
		"two-headers":    {[]string{word}, []string{header, header}},
		"joined-headers": {[]string{word}, []string{header + ", " + header}},
		"bad-word":       {[]string{word + "x"}, []string{header}},
		"bad-header":     {[]string{word}, []string{header + ";"}},
		"other-version":  {[]string{strings.Replace(word, "/1", "/2", 1)}, []string{header}},
		"long-window":    {[]string{word}, []string{wire.Offer{Instance: o.Instance, Window: wire.MaxResumeWindow + time.Second}.Header()}},
		"no-instance":    {[]string{word}, []string{"1; w=300"}},
		"not-that-word":  {[]string{"x" + word}, []string{header}},
		"empty":          {[]string{""}, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			d := w.offering(name, test.agents...)
			asked := w.openOffering(name, "shell", test.offers...)
			r := d.next()
			if r.Grant != (wire.Grant{}) {
				t.Errorf("device is told %+v", r.Grant)
			}
			d.answer(r, wire.StatusAccept)
			got := asked.answer()
			url, token := got.header.Get(wire.HeaderStreamURL), got.header.Get(wire.HeaderStreamToken)
			for _, changing := range []string{wire.HeaderStreamURL, wire.HeaderStreamToken, "Date"} {
				got.header.Del(changing)
			}
			if want := (http.Header{http.CanonicalHeaderKey(wire.HeaderIsAccepted): {"True"}, "Content-Length": {"0"}}); !reflect.DeepEqual(got.header, want) {
				t.Errorf("answer has %v, not %v", got.header, want)
			}
			for _, token := range []string{token, r.Token} {
				if c := claimsOf(t, token); c.Instance != "" || c.Window != 0 || c.Minted != 0 {
					t.Errorf("token says %+v", c)
				}
			}
			// It is not only called plain: the legs meet as ever.
			service, device := w.leg(url, token), w.leg(r.URL, r.Token)
			if err := service.WriteMessage(2, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, text, err := device.ReadMessage(); err != nil || string(text) != "hello" {
				t.Errorf("device reads %q, %v", text, err)
			}
		})
	}
}

// A rejected stream is granted nothing.
func TestAgreementRejected(t *testing.T) {
	o := wire.Offer{Instance: wire.InstanceID("x"), Window: time.Minute}
	w := newWorld(t, hub.Options{})
	d := w.offering("pi-1", o.Word())
	asked := w.openOffering("pi-1", "shell", o.Header())
	r := d.next()
	d.answer(r, wire.StatusReject)
	if got := asked.answer(); got.header[wire.HeaderStream] != nil || got.header.Get(wire.HeaderIsAccepted) != "False" {
		t.Errorf("answer is %v", got.header)
	}
}

// The offer that counts is the one of the connection that is asked: the same identity
// may be another program a moment later.
func TestAgreementFollowsSession(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	offer := wire.Offer{Instance: wire.InstanceID("service"), Window: time.Minute}
	for _, instance := range []string{wire.InstanceID("first"), "", wire.InstanceID("second")} {
		l := w.login(cs)
		if instance != "" {
			l.agents = []string{wire.Offer{Instance: instance, Window: time.Minute}.Word()}
		}
		d := w.connected(l) // takes over
		d.subscribe()
		asked := w.openOffering("pi-1", "shell", offer.Header())
		r := d.next()
		if r.Grant.Extended != (instance != "") || claimsOf(t, r.Token).Instance != instance {
			t.Errorf("instance %q is asked for %+v with %+v", instance, r.Grant, claimsOf(t, r.Token))
		}
		d.answer(r, wire.StatusAccept)
		if got := asked.answer(); reflect.DeepEqual(got.header.Values(wire.HeaderStream), []string{r.Grant.Header()}) != r.Grant.Extended {
			t.Errorf("service is told %v", got.header)
		}
	}
}
