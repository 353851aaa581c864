package broker

import (
	"crypto/tls"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/farportio/farport/internal/wire"
)

// transports runs f with the address of each port in paho's form.
func transports(t *testing.T, f func(t *testing.T, h *harness, url string)) {
	for _, name := range []string{"mqtts", "wss"} {
		t.Run(name, func(t *testing.T) {
			h := start(t, nil)
			url := "mqtts://" + h.tcp
			if name == "wss" {
				url = h.wss
			}
			f(t, h, url)
		})
	}
}

// device is a paho client set up as device-proxy sets it up.
func (h *harness) device(url, id string, change func(*mqtt.ClientOptions)) mqtt.Client {
	o := mqtt.NewClientOptions().AddBroker(url).SetClientID(id).SetPassword(good).
		SetUsername(wire.UserName{Host: "hub.example.test", DeviceID: id}.String()).
		SetProtocolVersion(4).SetCleanSession(false).SetOrderMatters(false).
		SetAutoReconnect(false).SetConnectRetry(false).
		SetTLSConfig(&tls.Config{RootCAs: h.roots, ServerName: "example.com"})
	if change != nil {
		change(o)
	}
	return mqtt.NewClient(o)
}

// done waits for a paho token and returns its error.
func done(t testing.TB, token mqtt.Token) error {
	t.Helper()
	if !token.WaitTimeout(patience) {
		t.Fatal("paho waits for ever")
	}
	return token.Error()
}

// must connects a device.
func (h *harness) must(t testing.TB, url, id string, change func(*mqtt.ClientOptions)) mqtt.Client {
	t.Helper()
	c := h.device(url, id, change)
	if err := done(t, c.Connect()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// answering subscribes as the C SDK does and answers each request with status.
func answering(t testing.TB, c mqtt.Client, status int) {
	t.Helper()
	token := c.SubscribeMultiple(map[string]byte{wire.FilterStreamRequests: 0, wire.FilterStreamResponses: 0},
		func(c mqtt.Client, m mqtt.Message) {
			if r, ok := wire.ParseStreamRequest(m.Topic()); ok {
				c.Publish(wire.StreamResponse{Status: status, RID: r.RID}.Topic(), 0, false, "")
			}
		})
	if err := done(t, token); err != nil {
		t.Fatal(err)
	}
}

func TestInitiate(t *testing.T) {
	transports(t, func(t *testing.T, h *harness, url string) {
		for _, c := range []struct {
			device string
			status int
			want   bool
		}{
			{"pi-1", wire.StatusAccept, true},
			{"pi-2", wire.StatusReject, false},
			{"pi-3", 204, true},
			{"pi-4", 503, false},
		} {
			client := h.must(t, url, c.device, nil)
			s := h.expect(t, "connected")
			if s != h.Session(c.device) || s.Identity().Name != c.device || s.ConnectedAt().IsZero() {
				t.Errorf("%s: session %+v", c.device, s.Identity())
			}
			answering(t, client, c.status)
			h.expect(t, "ready")
			for range 3 {
				got, err := initiate(t, s)
				if err != nil || got != c.want {
					t.Errorf("%s answers %d: accepted %v, %v", c.device, c.status, got, err)
				}
			}
			client.Disconnect(0)
			if h.expect(t, "disconnected") != s {
				t.Error("another session disconnected")
			}
			if _, err := initiate(t, s); !errors.Is(err, ErrGone) {
				t.Errorf("after the end: %v", err)
			}
			if h.Session(c.device) != nil {
				t.Error("session outlives its connection")
			}
		}
		if h.Session("pi-9") != nil {
			t.Error("session of a device that never came")
		}
	})
}

func TestNotReady(t *testing.T) {
	transports(t, func(t *testing.T, h *harness, url string) {
		client := h.must(t, url, "pi-1", nil)
		s := h.expect(t, "connected")
		if err := done(t, client.Subscribe(wire.FilterStreamResponses, 0, nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := initiate(t, s); !errors.Is(err, ErrNotReady) {
			t.Errorf("before subscribing: %v", err)
		}
		answering(t, client, wire.StatusAccept)
		h.expect(t, "ready")
		if err := done(t, client.Unsubscribe(wire.FilterStreamRequests)); err != nil {
			t.Fatal(err)
		}
		if _, err := initiate(t, s); !errors.Is(err, ErrNotReady) {
			t.Errorf("after unsubscribing: %v", err)
		}
		for range 3 { // as the C# SDK does
			answering(t, client, wire.StatusAccept)
		}
		h.expect(t, "ready")
		h.quiet(t) // Ready comes once
		if ok, err := initiate(t, s); !ok || err != nil {
			t.Errorf("subscribed again: %v, %v", ok, err)
		}
	})
}

// TestResume: a client that counts on its session does not subscribe again.
func TestResume(t *testing.T) {
	transports(t, func(t *testing.T, h *harness, url string) {
		accept := func(o *mqtt.ClientOptions) {
			o.SetDefaultPublishHandler(func(c mqtt.Client, m mqtt.Message) {
				if r, ok := wire.ParseStreamRequest(m.Topic()); ok {
					c.Publish(wire.StreamResponse{Status: wire.StatusAccept, RID: r.RID}.Topic(), 0, false, "")
				}
			})
		}
		for i := range 3 {
			client := h.device(url, "pi-1", accept)
			token := client.Connect()
			if err := done(t, token); err != nil {
				t.Fatal(err)
			}
			if got := token.(*mqtt.ConnectToken).SessionPresent(); got != (i > 0) {
				t.Errorf("connection %d: session present %v", i, got)
			}
			s := h.expect(t, "connected")
			if i == 0 {
				if err := done(t, client.Subscribe(wire.FilterStreamRequests, 0, nil)); err != nil {
					t.Fatal(err)
				}
			}
			h.expect(t, "ready")
			if ok, err := initiate(t, s); !ok || err != nil {
				t.Errorf("connection %d: %v, %v", i, ok, err)
			}
			client.Disconnect(0)
			h.expect(t, "disconnected")
		}
	})
}

func TestRefusedLogin(t *testing.T) {
	user := func(s string) func(*mqtt.ClientOptions) {
		return func(o *mqtt.ClientOptions) { o.SetUsername(s) }
	}
	password := func(s string) func(*mqtt.ClientOptions) {
		return func(o *mqtt.ClientOptions) { o.SetPassword(s) }
	}
	transports(t, func(t *testing.T, h *harness, url string) {
		for _, c := range []struct {
			name   string
			id     string
			change func(*mqtt.ClientOptions)
			want   error
			judged bool
		}{
			{"wrong password", "pi-1", password("bad"), packets.ErrorRefusedNotAuthorised, true},
			{"registry away", "pi-1", password(busy), packets.ErrorRefusedServerUnavailable, true},
			{"user names another device", "pi-1", user("hub.example.test/pi-2/?api-version=2020-09-30"), packets.ErrorRefusedNotAuthorised, false},
			{"user names a module", "pi-1", user("hub.example.test/pi-1/m/?api-version=2020-09-30"), packets.ErrorRefusedNotAuthorised, false},
			{"user names a prefix", "pi-10", user("hub.example.test/pi-1/?api-version=2020-09-30"), packets.ErrorRefusedNotAuthorised, false},
			{"no user", "pi-1", user(""), packets.ErrorRefusedNotAuthorised, false},
			{"no device in user", "pi-1", user("hub.example.test"), packets.ErrorRefusedNotAuthorised, false},
			{"client ID of a module", "pi-1/m", user("hub.example.test/pi-1/?api-version=2020-09-30"), packets.ErrorRefusedNotAuthorised, false},
		} {
			client := h.device(url, c.id, c.change)
			if err := done(t, client.Connect()); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
			if judged := len(h.logins) > 0; judged != c.judged {
				t.Errorf("%s: Authenticate called: %v", c.name, judged)
			}
			for len(h.logins) > 0 {
				<-h.logins
			}
		}
		h.quiet(t)
	})
}

func TestLogin(t *testing.T) {
	transports(t, func(t *testing.T, h *harness, url string) {
		h.must(t, url, "pi-1", func(o *mqtt.ClientOptions) {
			o.SetUsername("localhost:18883/pi-1/?api-version=2021-04-12&model-id=dtmi:com:example:Thing;1")
		})
		l := <-h.logins
		if l.ClientID != "pi-1" || l.User.DeviceID != "pi-1" || l.User.Host != "localhost:18883" ||
			l.User.Params.Get("model-id") != "dtmi:com:example:Thing;1" || l.Password.Reveal() != good {
			t.Errorf("login %+v", l)
		}
		if l.TLS == nil || l.TLS.Version < tls.VersionTLS12 || !l.TLS.HandshakeComplete {
			t.Errorf("TLS state %+v", l.TLS)
		}
		if l.Remote == nil || !strings.HasPrefix(l.Remote.String(), "127.0.0.1:") {
			t.Errorf("remote %v", l.Remote)
		}
		// A module is another client than its device.
		h.must(t, url, "pi-1/m", func(o *mqtt.ClientOptions) { o.SetUsername("hub.example.test/pi-1/m/?api-version=2021-04-12") })
		if l = <-h.logins; l.User.ModuleID != "m" {
			t.Errorf("login %+v", l)
		}
		first, second := h.expect(t, "connected"), h.expect(t, "connected")
		if h.Session("pi-1") != first || first == second {
			t.Error("a module took its device's session")
		}
	})
}

func TestTakeover(t *testing.T) {
	transports(t, func(t *testing.T, h *harness, url string) {
		lost := make(chan error, 1)
		h.must(t, url, "pi-1", func(o *mqtt.ClientOptions) {
			o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
		})
		old := h.expect(t, "connected")
		// One that is not let in must not disturb the session.
		if err := done(t, h.device(url, "pi-1", func(o *mqtt.ClientOptions) { o.SetPassword("bad") }).Connect()); err == nil {
			t.Fatal("let in with a bad password")
		}
		if h.Session("pi-1") != old {
			t.Fatal("a refused login evicted the session")
		}
		newer := h.must(t, url, "pi-1", nil)
		s := h.expect(t, "connected")
		if s == old || h.Session("pi-1") != s {
			t.Error("the newer connection is not the session")
		}
		select {
		case <-lost:
		case <-time.After(patience):
			t.Fatal("the older connection lives on")
		}
		answering(t, newer, wire.StatusAccept)
		h.expect(t, "ready")
		if _, err := initiate(t, old); !errors.Is(err, ErrGone) {
			t.Errorf("older session: %v", err)
		}
		if ok, err := initiate(t, s); !ok || err != nil {
			t.Errorf("newer session: %v, %v", ok, err)
		}
		h.quiet(t) // no Disconnected for the older one
	})
}

func TestEndWhere(t *testing.T) {
	transports(t, func(t *testing.T, h *harness, url string) {
		for i := range 4 {
			h.must(t, url, "pi-"+strconv.Itoa(i), nil)
			h.expect(t, "connected")
		}
		odd := func(i Identity) bool { return i.Name == "pi-1" || i.Name == "pi-3" }
		if n := h.EndWhere(odd, wire.EndRevoked); n != 2 {
			t.Errorf("ended %d", n)
		}
		for range 2 {
			if s := h.expect(t, "disconnected"); !odd(s.Identity()) {
				t.Errorf("ended %q", s.Identity().Name)
			}
		}
		if n := h.EndWhere(odd, wire.EndRevoked); n != 0 {
			t.Errorf("ended %d again", n)
		}
		if h.Session("pi-0") == nil || h.Session("pi-1") != nil || h.Session("pi-2") == nil {
			t.Error("wrong ones left")
		}
	})
}

func TestClose(t *testing.T) {
	transports(t, func(t *testing.T, h *harness, url string) {
		h.dial(t) // a stranger must not hold it up
		var session *Session
		for i := range 3 {
			client := h.must(t, url, "pi-"+strconv.Itoa(i), nil)
			session = h.expect(t, "connected")
			if err := done(t, client.Subscribe(wire.FilterStreamRequests, 0, nil)); err != nil {
				t.Fatal(err)
			}
			h.expect(t, "ready")
		}
		asked := make(chan error, 1)
		go func() {
			_, err := initiate(t, session)
			asked <- err
		}()
		for range 2 {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := <-asked; !errors.Is(err, ErrGone) {
			t.Errorf("Initiate during Close: %v", err)
		}
		for range 3 { // all told before Close returned
			h.expect(t, "disconnected")
		}
		if err := done(t, h.device(url, "pi-1", nil).Connect()); err == nil {
			t.Error("let in after Close")
		}
		h.quiet(t)
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.conns) != 0 || len(h.sessions) != 0 || h.server.Clients.Len() != 0 {
			t.Errorf("left: %d connections, %d sessions, %d clients", len(h.conns), len(h.sessions), h.server.Clients.Len())
		}
	})
}
