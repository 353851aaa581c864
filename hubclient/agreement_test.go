package hubclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/farportio/farport/internal/wire"
)

// windows are values of Options.ResumeWindow, and what is offered then.
var windows = map[time.Duration]time.Duration{
	0:                             DefaultResumeWindow,
	-1:                            0,
	time.Minute:                   time.Minute,
	1500 * time.Millisecond:       time.Second,
	MaxResumeWindow + time.Second: MaxResumeWindow,
}

func TestServiceOffers(t *testing.T) {
	var offered wire.Offer
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		offered = wire.ParseOffer(r.Header[wire.HeaderStream])
		w.Header().Set(wire.HeaderIsAccepted, wire.Rejected)
	}}).start(t)
	seen := map[string]bool{}
	for window, want := range windows {
		s := hub.service(Options{Proxy: noProxy, ResumeWindow: window})
		id := ""
		for range 2 { // one instance for all its streams
			if _, err := s.Open(t.Context(), testDevice, "ssh", OpenOptions{}); !errors.Is(err, ErrStreamRejected) {
				t.Fatal(err)
			}
			if !offered.Offered() || offered.Window != want || id != "" && offered.Instance != id {
				t.Errorf("window of %s: offered %+v", window, offered)
			}
			id = offered.Instance
		}
		if seen[id] {
			t.Error("two services are one instance")
		}
		seen[id] = true
	}
}

// userName is what a device has signed in as.
func userName(t *testing.T, c *packets.ConnectPacket) wire.UserName {
	t.Helper()
	u, ok := wire.ParseUserName(c.Username)
	if !ok {
		t.Fatalf("user name is %q", c.Username)
	}
	return u
}

func TestDeviceOffers(t *testing.T) {
	hub := &testHub{}
	connects := make(chan *packets.ConnectPacket, 1)
	hub.device = func(s *deviceSession) {
		connects <- s.signIn(packets.Accepted)
		s.subscribe(0, 0)
		s.drain()
	}
	hub.start(t)
	for window, want := range windows {
		hub.dial(DeviceOptions{Options: Options{ResumeWindow: window, UserAgent: "agent/1 (a; b)"}}).Close()
		u := userName(t, <-connects)
		if got := u.Offer(); !got.Offered() || got.Window != want {
			t.Errorf("window of %s: offered %+v", window, got)
		}
		if got := u.Params.Get(wire.ParamClientType); !strings.HasPrefix(got, "agent/1 (a; b) ") {
			t.Errorf("client type is %q", got)
		}
	}
	// The instance is the caller's, or else another one each time.
	one := NewInstance()
	ids := map[string]int{}
	for _, instance := range []*Instance{one, one, nil, nil} {
		hub.dial(DeviceOptions{Instance: instance}).Close()
		ids[userName(t, <-connects).Offer().Instance]++
	}
	if len(ids) != 3 || ids[one.String()] != 2 {
		t.Errorf("offered %v", ids)
	}
}

// badGrants are what no hub may answer a service whose offer was 60 s.
var badGrants = [][]string{{""}, {"1"}, {"2; w=10"}, {"1; w=61"}, {"1; w=3601"}, {"1; w=x"}, {"1; w=10; w=10"}, {"1; w=10", "1; w=10"}, {"1.10"}}

func TestServiceChecksGrant(t *testing.T) {
	var grant []string
	hub := &testHub{}
	hub.api = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(wire.HeaderIsAccepted, wire.Accepted)
		w.Header().Set(wire.HeaderStreamURL, hub.legURL())
		w.Header().Set(wire.HeaderStreamToken, testToken)
		w.Header()[wire.HeaderStream] = grant
	}
	hub.start(t)
	s := hub.service(Options{Proxy: noProxy, ResumeWindow: time.Minute})
	for _, grant = range badGrants {
		leg, err := s.Open(t.Context(), testDevice, "ssh", OpenOptions{})
		if leg != nil || !errors.Is(err, errGrant) {
			t.Errorf("%q: %v, %v", grant, leg, err)
			continue
		}
		contains(t, err.Error(), `open stream to device "pi-1"`, wire.HeaderStream)
	}
	grant = nil // the plain stream
	leg, err := s.Open(t.Context(), testDevice, "ssh", OpenOptions{Changed: func(Change) { t.Error("a plain stream resumes") }})
	if err != nil {
		t.Fatal(err)
	}
	echo(t, leg)
	leg.Close()
}

// A grant that the device cannot have been given is rejected, so that nobody waits.
func TestDeviceChecksGrant(t *testing.T) {
	a := newAsker(t)
	d := a.dial(DeviceOptions{Options: Options{ResumeWindow: time.Minute}})
	for rid, property := range []string{"", "1", "2.10", "1.61", "1.3601", "1.x", "1.10.1"} {
		a.asks <- request(rid, a.legURL()) + "&$farport=" + url.QueryEscape(property)
		r, err := d.Next(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		leg, err := r.Accept(bounded(t))
		if leg != nil || !errors.Is(err, errGrant) {
			t.Errorf("%q: %v, %v", property, leg, err)
		}
		a.wants(rid, wire.StatusReject)
	}
}

// The secret of an instance shows nowhere.
func TestInstanceIsRedacted(t *testing.T) {
	i := NewInstance()
	if wire.InstanceID(i.secret) != i.String() {
		t.Errorf("shows as %s", i)
	}
	var shown bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p"} {
		fmt.Fprintf(&shown, verb+"\n", i)
		fmt.Fprintf(&shown, verb+"\n", DeviceOptions{Instance: i})
	}
	logger := slog.New(slog.NewJSONHandler(&shown, nil))
	logger.Info("x", "instance", i, "options", DeviceOptions{Instance: i}.Instance)
	text, err := json.Marshal(DeviceOptions{Instance: i}.Instance) //nolint:staticcheck // that it shows nothing is the point
	shown.Write(text)
	for _, secret := range []string{i.secret, fmt.Sprintf("%x", i.secret), fmt.Sprintf("%X", i.secret)} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%v: the secret is in %s", err, shown.String())
		}
	}
}
