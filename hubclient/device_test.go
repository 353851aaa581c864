package hubclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/skip"
	"github.com/farportio/farport/internal/wire"
)

// request is the topic of a stream request.
func request(rid int, url string) string {
	return wire.StreamRequest{RID: fmt.Sprint(rid), Name: "ssh", URL: url, Token: testToken}.Topic()
}

func answerTopic(rid, status int) string {
	return wire.StreamResponse{Status: status, RID: fmt.Sprint(rid)}.Topic()
}

// dial connects testDevice and closes it when the test ends.
func (h *testHub) dial(o DeviceOptions) *Device {
	h.t.Helper()
	o.Proxy = noProxy
	d, err := DialDevice(h.t.Context(), h.connectionString(testDevice), o)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { d.Close() })
	return d
}

// bounded is a context for what happens at once.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestDeviceAcceptsAndRejects(t *testing.T) {
	for _, transport := range []Transport{MQTTWS, MQTT} {
		t.Run(fmt.Sprint(transport), func(t *testing.T) {
			hub := &testHub{}
			answers := make(chan string, 3)
			connects := make(chan *packets.ConnectPacket, 1)
			subscribes := make(chan *packets.SubscribePacket, 1)
			hub.device = func(s *deviceSession) {
				connects <- s.signIn(packets.Accepted)
				subscribes <- s.subscribe(0, 0)
				for rid := range 2 {
					s.ask("$iothub/streams/POST/nothing") // is ignored
					s.ask(request(rid, hub.legURL()))
					answers <- s.answer()
				}
				answers <- s.answer() // none: the device disconnects
			}
			hub.start(t)
			port := hub.listenMQTT()
			d := hub.dial(DeviceOptions{Transport: transport, MQTTPort: port, Options: Options{UserAgent: "farport/test (x)"}})
			checkConnect(t, <-connects)
			if s := <-subscribes; len(s.Topics) != 2 || s.Qoss[0] != 0 || s.Qoss[1] != 0 {
				t.Errorf("subscribed to %q in %v", s.Topics, s.Qoss)
			}

			r, err := d.Next(bounded(t))
			if err != nil || r.Name != "ssh" {
				t.Fatalf("request is %+v, %v", r, err)
			}
			leg, err := r.Accept(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			if got := <-answers; got != answerTopic(0, wire.StatusAccept) {
				t.Errorf("answer is %q", got)
			}
			if err := r.Reject(bounded(t)); !errors.Is(err, errAnswered) {
				t.Errorf("second answer gave %v", err)
			}

			if r, err = d.Next(bounded(t)); err != nil {
				t.Fatal(err)
			}
			if err := r.Reject(bounded(t)); err != nil {
				t.Fatal(err)
			}
			if got := <-answers; got != answerTopic(1, wire.StatusReject) {
				t.Errorf("answer is %q", got)
			}

			select {
			case <-d.Done():
				t.Error("Done before Close")
			default:
			}
			if d.Err() != nil {
				t.Errorf("Err before Close is %v", d.Err())
			}
			d.Close()
			<-d.Done()
			if _, err := d.Next(bounded(t)); !errors.Is(err, net.ErrClosed) || !errors.Is(d.Err(), net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
			if got := <-answers; got != "" {
				t.Errorf("one answer more: %q", got)
			}
			echo(t, leg) // outlives the control connection
			leg.Close()
		})
	}
}

func checkConnect(t *testing.T, c *packets.ConnectPacket) {
	t.Helper()
	if c.ProtocolName != "MQTT" || c.ProtocolVersion != 4 || c.CleanSession || c.ClientIdentifier != testDevice ||
		time.Duration(c.Keepalive)*time.Second != wire.DeviceKeepAlive {
		t.Errorf("CONNECT is %s %d, clean %v, ID %q, keep-alive %d", c.ProtocolName, c.ProtocolVersion, c.CleanSession, c.ClientIdentifier, c.Keepalive)
	}
	before, offer, _ := strings.Cut(c.Username, "%20farport-stream%2F1%3Bi%3D")
	want := "127.0.0.1/pi-1/?api-version=" + wire.APIVersionDevice + "&DeviceClientType=farport%2Ftest%20%28x%29"
	if id, window, _ := strings.Cut(offer, "%3Bw%3D"); before != want || !wire.ValidInstance(id) || window != "300" {
		t.Errorf("user name is %q, not %q with an offer", c.Username, want)
	}
	token, err := credential.ParseSAS(string(c.Password))
	key, _ := credential.ParseKey(testKey)
	if err != nil || !token.SignedBy(key) || token.Resource != "127.0.0.1%2Fdevices%2Fpi-1" || token.Policy != "" {
		t.Errorf("token is %v, %v", token, err)
	}
}

func TestDialDeviceFails(t *testing.T) {
	session := func(code byte, suback ...byte) func(*deviceSession) {
		return func(s *deviceSession) {
			s.signIn(code)
			if suback != nil {
				s.subscribe(suback...)
			}
			s.drain()
		}
	}
	tests := []struct {
		name   string
		device func(*deviceSession)
		want   error // nil: none of the sentinels
		text   string
	}{
		{"bad user name or password", session(4), ErrUnauthorized, "CONNACK 4"},
		{"not authorised", session(5), ErrUnauthorized, "CONNACK 5"},
		{"not available", session(3), ErrHubUnreachable, "CONNACK 3"},
		{"client ID", session(2), nil, "CONNACK 2"},
		{"no such code", session(77), ErrHubUnreachable, "MQTT connection"},
		{"subscription refused", session(0, 0, 0x80), nil, "refused the subscription to $iothub/streams/"},
		{"hangs up before CONNACK", func(s *deviceSession) { s.read() }, ErrHubUnreachable, `MQTT connection "127.0.0.1": closed`},
		{"hangs up before SUBACK", func(s *deviceSession) { s.signIn(0); s.read() }, ErrHubUnreachable, `MQTT connection "127.0.0.1": closed`},
		{"says something else", func(s *deviceSession) {
			s.read()
			s.write(packets.NewControlPacket(packets.Pingresp))
		}, ErrHubUnreachable, "MQTT connection"},
	}
	for _, tt := range tests {
		for _, transport := range []Transport{MQTTWS, MQTT} {
			t.Run(fmt.Sprint(tt.name, " ", transport), func(t *testing.T) {
				hub := (&testHub{device: tt.device}).start(t)
				o := DeviceOptions{Transport: transport, MQTTPort: hub.listenMQTT(), Options: Options{Proxy: noProxy}}
				d, err := DialDevice(t.Context(), hub.connectionString(testDevice), o)
				if err == nil {
					d.Close()
					t.Fatal("it connected")
				}
				for _, s := range sentinels {
					if got := errors.Is(err, s); got != (s == tt.want) {
						t.Errorf("Is(%v) is %v for %v", s, got, err)
					}
				}
				contains(t, err.Error(), tt.text, `connect device "pi-1" to 127.0.0.1:`)
				if strings.Contains(err.Error(), "sig=") {
					t.Errorf("the error holds the token: %v", err)
				}
			})
		}
	}
}

func TestDialDeviceNeedsCredentials(t *testing.T) {
	for text, want := range map[string]string{
		"HostName=hub.example.test;DeviceId=pi-1;x509=true":                                "no certificate to sign in with",
		"HostName=hub.example.test;SharedAccessKeyName=service;SharedAccessKey=" + testKey: "no DeviceId",
	} {
		cs, err := ParseConnectionString(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = DialDevice(t.Context(), cs, DeviceOptions{})
		if err == nil {
			t.Fatal("it connected")
		}
		contains(t, err.Error(), want)
	}
}

func TestDialDeviceHops(t *testing.T) {
	hub := (&testHub{device: func(s *deviceSession) { s.drain() }}).start(t)
	port := hub.listenMQTT()
	pinned := hub.connectionString(testDevice)
	unpinned, nobody := pinned, pinned
	unpinned.CAFingerprint = ""
	nobody.Port = 1
	for _, transport := range []Transport{MQTTWS, MQTT} {
		t.Run(fmt.Sprint(transport), func(t *testing.T) {
			o := DeviceOptions{Transport: transport, MQTTPort: port, Options: Options{Proxy: noProxy}}
			_, err := DialDevice(t.Context(), unpinned, o)
			if untrusted, ok := errors.AsType[*UntrustedError](err); !ok || untrusted.Fingerprint != "sha256:"+fingerprint(hub.ca.cert) {
				t.Errorf("untrusted: %v", err)
			}
			o.MQTTPort = 1
			_, err = DialDevice(t.Context(), nobody, o)
			if !errors.Is(err, ErrHubUnreachable) {
				t.Fatalf("nobody there: %v", err)
			}
			contains(t, err.Error(), `TCP connection "127.0.0.1:1": connection refused`)
		})
	}
}

// What the hub answers instead of a WebSocket must not be lost.
func TestWebSocketRefused(t *testing.T) {
	hub := (&testHub{}).start(t)
	hub.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		wire.WriteError(w, wire.ErrUnavailable, "come back later", "1f6e", 0)
	})
	_, err := DialDevice(t.Context(), hub.connectionString(testDevice), DeviceOptions{Options: Options{Proxy: noProxy}})
	if refused, ok := errors.AsType[*HubError](err); !ok || refused.Number != wire.ErrUnavailable.Number {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), `503 ServiceUnavailable: "come back later"`)
}

// A hub that falls silent anywhere must not keep a caller who gives up.
func TestDialDeviceIsCancelled(t *testing.T) {
	for name, device := range map[string]func(*deviceSession, func()){
		"before CONNACK": func(s *deviceSession, cancel func()) { s.read(); cancel(); s.drain() },
		"before SUBACK":  func(s *deviceSession, cancel func()) { s.signIn(0); s.read(); cancel(); s.drain() },
	} {
		for _, transport := range []Transport{MQTTWS, MQTT} {
			t.Run(fmt.Sprint(name, " ", transport), func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				hub := (&testHub{device: func(s *deviceSession) { device(s, cancel) }}).start(t)
				o := DeviceOptions{Transport: transport, MQTTPort: hub.listenMQTT(), Options: Options{Proxy: noProxy}}
				start := time.Now()
				if _, err := DialDevice(ctx, hub.connectionString(testDevice), o); !errors.Is(err, context.Canceled) {
					t.Errorf("error is %v", err)
				}
				if took := time.Since(start); took > patience {
					t.Errorf("took %v", took)
				}
			})
		}
	}
}

func TestHubEndsControlConnection(t *testing.T) {
	for _, transport := range []Transport{MQTTWS, MQTT} {
		t.Run(fmt.Sprint(transport), func(t *testing.T) {
			hub := &testHub{}
			hub.device = func(s *deviceSession) {
				s.ready()
				s.ask(request(1, hub.legURL()))
				s.answer()
			}
			hub.start(t)
			d := hub.dial(DeviceOptions{Transport: transport, MQTTPort: hub.listenMQTT()})
			r, err := d.Next(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Reject(bounded(t)); err != nil {
				t.Fatal(err)
			}
			if _, err = d.Next(bounded(t)); !errors.Is(err, ErrHubUnreachable) {
				t.Errorf("Next gave %v", err)
			}
			<-d.Done()
			if !errors.Is(d.Err(), ErrHubUnreachable) {
				t.Errorf("Err gave %v", d.Err())
			}
			late := &StreamRequest{device: d, asked: wire.StreamRequest{RID: "9"}}
			if err := late.Reject(bounded(t)); !errors.Is(err, ErrHubUnreachable) {
				t.Errorf("late answer gave %v", err)
			}
		})
	}
}

func TestForeignEndpointIsRejectedUndialled(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		skip.Test(t, "needs a second loopback address: "+err.Error())
	}
	defer listener.Close()
	dialled := make(chan struct{})
	go func() {
		if conn, err := listener.Accept(); err == nil {
			close(dialled)
			conn.Close()
		}
	}()
	hub := &testHub{}
	answered := make(chan string, 1)
	hub.device = func(s *deviceSession) {
		s.ready()
		s.ask(request(1, "wss://"+listener.Addr().String()+"/bridges/1"))
		answered <- s.answer()
		s.drain()
	}
	hub.start(t)
	cs := hub.connectionString(testDevice)
	cs.CAFingerprint = "" // with a pin the certificate decides
	roots := rootsOf(hub.ca)
	d, err := DialDevice(t.Context(), cs, DeviceOptions{Options: Options{Proxy: noProxy, RootCAs: roots}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r, err := d.Next(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Accept(bounded(t)); !errors.Is(err, ErrForeignEndpoint) {
		t.Errorf("error is %v", err)
	}
	if got := <-answered; got != answerTopic(1, wire.StatusReject) {
		t.Errorf("answer is %q", got)
	}
	select {
	case <-dialled:
		t.Error("the endpoint was dialled")
	default:
	}
}

// Requests that nobody takes must not pile up: what does not fit is rejected.
func TestTooManyRequests(t *testing.T) {
	const more = 5
	hub := &testHub{}
	rejected := make(chan string, more)
	hub.device = func(s *deviceSession) {
		s.ready()
		for rid := range maxRequests + more {
			s.ask(request(rid, hub.legURL()))
		}
		for range more {
			rejected <- s.answer()
		}
		s.drain()
	}
	hub.start(t)
	d := hub.dial(DeviceOptions{})
	for range more {
		if got := <-rejected; !strings.Contains(got, "/res/400/") {
			t.Errorf("answer is %q", got)
		}
	}
	for range maxRequests {
		if _, err := d.Next(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAcceptFailsAtTheEndpoint(t *testing.T) {
	hub := &testHub{}
	hub.device = func(s *deviceSession) {
		s.ready()
		s.ask(request(1, "wss://127.0.0.1:1/bridges/1"))
		s.drain()
	}
	hub.start(t)
	r, err := hub.dial(DeviceOptions{}).Next(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = r.Accept(bounded(t)); !errors.Is(err, ErrHubUnreachable) {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), `accept stream "ssh": streaming endpoint: TCP connection "127.0.0.1:1"`)
}

func TestRenewAt(t *testing.T) {
	hub := (&testHub{device: func(s *deviceSession) { s.ready(); s.drain() }}).start(t)
	key, err := credential.ParseKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	ready := hub.connectionString(testDevice)
	ready.SharedAccessSignature = credential.Sign("127.0.0.1/devices/pi-1", "", key, time.Now().Add(time.Hour))
	ready.SharedAccessKey = credential.Key{}
	d, err := DialDevice(t.Context(), ready, DeviceOptions{Options: Options{Proxy: noProxy}})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if !d.RenewAt().IsZero() {
		t.Errorf("a ready token is to be renewed at %v", d.RenewAt())
	}
	for _, life := range []time.Duration{0, 30 * time.Second} {
		before := time.Now()
		d := hub.dial(DeviceOptions{TokenLife: life})
		whole := life
		if whole == 0 {
			whole = time.Hour
		}
		if at := d.RenewAt(); at.Before(before.Add(whole*74/100)) || at.After(time.Now().Add(whole*90/100)) {
			t.Errorf("a life of %v is renewed after %v", whole, at.Sub(before))
		}
	}
}

func TestCloseTwice(t *testing.T) {
	hub := (&testHub{device: func(s *deviceSession) { s.ready(); s.drain() }}).start(t)
	d := hub.dial(DeviceOptions{})
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The hub's words in a close frame are shown, in quotes.
func TestHubClosesWebSocket(t *testing.T) {
	dialled := make(chan struct{}) // or else dialling may fail
	hub := (&testHub{device: func(s *deviceSession) {
		s.ready()
		<-dialled
		frame := websocket.FormatCloseMessage(websocket.ClosePolicyViolation, "\x1b[31mgo away")
		_ = s.conn.(*wsConn).WriteControl(websocket.CloseMessage, frame, time.Now().Add(patience))
		s.drain()
	}}).start(t)
	d := hub.dial(DeviceOptions{})
	close(dialled)
	_, err := d.Next(bounded(t))
	if !errors.Is(err, ErrHubUnreachable) {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), `closed by the hub, 1008 "\x1b[31mgo away"`)
}

func TestWebSocketWithoutMQTT(t *testing.T) {
	hub := (&testHub{}).start(t)
	hub.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		_, _, _ = ws.ReadMessage()
		ws.Close()
	})
	_, err := DialDevice(t.Context(), hub.connectionString(testDevice), DeviceOptions{Options: Options{Proxy: noProxy}})
	if !errors.Is(err, ErrHubUnreachable) {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), `the hub chose subprotocol ""`)
}

func TestNextHeedsContext(t *testing.T) {
	hub := (&testHub{device: func(s *deviceSession) { s.ready(); s.drain() }}).start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hub.dial(DeviceOptions{}).Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}
