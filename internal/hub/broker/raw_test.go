package broker

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

func TestSubscriptions(t *testing.T) {
	const (
		streams0 = "$iothub/streams/POST/#"
		streams1 = "$iothub/streams/res/#"
	)
	for _, c := range []struct {
		name    string
		device  string
		qos     byte
		filters []string
		want    []byte
	}{
		{"C SDK", "pi-1", 0, []string{streams0, streams1}, []byte{0, 0}},
		{"quality 1 as asked", "pi-1", 1, []string{streams0}, []byte{1}},
		{"quality 2 becomes 1", "pi-1", 2, []string{streams0}, []byte{1}},
		{"the same twice", "pi-1", 0, []string{streams0, streams0}, []byte{0, 0}},
		{"all ordinary ones", "pi-1", 1, []string{"devices/pi-1/messages/devicebound/#", "$iothub/methods/POST/#",
			"$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"}, []byte{1, 1, 1, 1}},
		{"good beside bad", "pi-1", 0, []string{"#", streams0}, []byte{0x80, 0}},
		{"everything", "pi-1", 0, []string{"#", "+/#", "$iothub/#", "$SYS/#", "$share/g/#"}, []byte{0x80, 0x80, 0x80, 0x80, 0x80}},
		{"another device", "pi-1", 0, []string{"devices/pi-10/messages/devicebound/#", "devices/pi-2/messages/devicebound/#",
			"devices/+/messages/#", "devices/+/#", "devices/#"}, []byte{0x80, 0x80, 0x80, 0x80, 0x80}},
		{"embedded C SDK means itself", "pi-1", 1, []string{"devices/+/messages/devicebound/#"}, []byte{1}},
		{"near misses", "pi-1", 0, []string{"$iothub/streams/POST/+", "$iothub/streams/POST", "$iothub/streams/#", "$IOTHUB/streams/POST/#", ""},
			[]byte{0x80, 0x80, 0x80, 0x80, 0x80}},
		{"events", "pi-1", 0, []string{"devices/pi-1/messages/events/#"}, []byte{0x80}},
		{"ID is a wildcard", "+", 0, []string{"devices/+/messages/devicebound/#", streams0}, []byte{0x80, 0}},
		{"odd ID", "a$b*c'(d)", 0, []string{"devices/a$b*c'(d)/messages/devicebound/#"}, []byte{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := start(t, nil).dial(t)
			if code := d.login(c.device, nil); code != 0 {
				t.Fatalf("CONNACK %d", code)
			}
			for range 2 { // a repeated SUBSCRIBE gets its SUBACK too
				if got := d.subscribe(c.qos, c.filters...); !bytes.Equal(got, c.want) {
					t.Errorf("SUBACK %x, want %x", got, c.want)
				}
			}
			d.ping()
		})
	}
}

func TestModuleSubscriptions(t *testing.T) {
	d := start(t, nil).dial(t)
	if code := d.login("d/m", nil); code != 0 {
		t.Fatalf("CONNACK %d", code)
	}
	for filter, want := range map[string]byte{
		"devices/d/modules/m/#":                      0,
		"devices/d/modules/m/inputs/#":               0,
		"devices/d/modules/m/messages/devicebound/#": 0,
		"devices/d/modules/n/#":                      0x80,
		"devices/d/modules/n/inputs/#":               0x80,
		"devices/d/modules/+/inputs/#":               0x80,
		"devices/d/modules/m/messages/events/#":      0x80,
		"devices/d/messages/devicebound/#":           0x80,
		"devices/+/messages/devicebound/#":           0x80,
		"devices/d/#":                                0x80,
		"$iothub/methods/POST/#":                     0,
		"$iothub/streams/POST/#":                     0,
		"$iothub/twin/res/#":                         0,
	} {
		if got := d.subscribe(0, filter); !bytes.Equal(got, []byte{want}) {
			t.Errorf("%s: SUBACK %x", filter, got)
		}
	}
}

// TestOwnDevicebound: the wildcard of the embedded C SDK covers no other device.
func TestOwnDevicebound(t *testing.T) {
	h := start(t, nil)
	d := h.dial(t)
	d.login("pi-1", nil)
	d.subscribe(1, wire.FilterOwnDevicebound)
	if n := len(h.server.Topics.Subscribers("devices/pi-2/messages/devicebound/x").Subscriptions); n != 0 {
		t.Errorf("%d subscribers to another device's messages", n)
	}
	d.unsubscribe(wire.FilterOwnDevicebound)
	if got := h.Session("pi-1").subscriptions(); got != 0 {
		t.Errorf("left subscribed: %b", got)
	}
}

// TestPublish: what a device publishes reaches nobody, is acknowledged, and does
// not end its connection.
func TestPublish(t *testing.T) {
	h := start(t, nil)
	other := h.dial(t)
	other.mustLogin("pi-2")
	d := h.dial(t)
	d.mustLogin("pi-1")
	for _, topic := range []string{
		"devices/pi-1/messages/events/",
		"devices/pi-1/messages/events/%24.mid=1&%24.ct=application%2Fjson&a%20b=c%2Fd",
		"devices/pi-2/messages/events/",
		"devices/pi-2/messages/devicebound/x",
		"$iothub/twin/GET/?$rid=1",
		"$iothub/twin/PATCH/properties/reported/?$rid=2",
		"$iothub/methods/res/200/?$rid=1",
		"$iothub/streams/POST/shell/?$rid=1&$url=wss%3A%2F%2Fevil.example&$auth=x",
		"$iothub/streams/res/200/?$rid=99",
		"$iothub/streams/res/abc/?$rid=1",
		"nonsense",
	} {
		for _, payload := range []string{"", " ", strings.Repeat("x", 200<<10)} {
			d.send(publish(0, topic, payload))
			d.send(publish(1, topic, payload))
			if head, body := d.read(); head != packets.Puback<<4 || !bytes.Equal(body, []byte{0, 9}) {
				t.Errorf("%s: answer %x %x", topic, head, body)
			}
		}
		retained := publish(0, topic, "kept")
		retained[0] |= 1
		d.send(retained)
	}
	d.send(publish(0, "$SYS/broker/version", "9"))
	d.ping()
	other.ping()
	if n := h.server.Topics.Retained.Len(); n != 0 {
		t.Errorf("%d messages retained", n)
	}
	late := h.dial(t)
	late.mustLogin("pi-3")
	late.ping()
}

func TestWill(t *testing.T) {
	h := start(t, nil)
	other := h.dial(t)
	other.mustLogin("pi-2")
	h.expect(t, "connected")
	h.expect(t, "ready")
	for _, qos := range []byte{0, 1, 2} {
		for _, payload := range []string{"", "bye"} {
			d := h.dial(t)
			code := d.login("pi-1", func(pk *packets.Packet) {
				pk.Connect.WillFlag, pk.Connect.WillRetain, pk.Connect.WillQos = true, true, qos
				pk.Connect.WillTopic = "$iothub/streams/POST/shell/?$rid=1&$url=wss%3A%2F%2Fevil.example&$auth=x"
				pk.Connect.WillPayload = []byte(payload)
			})
			if code != 0 {
				t.Fatalf("CONNACK %d", code)
			}
			h.expect(t, "connected")
			_ = d.conn.Close()
			h.expect(t, "disconnected")
			other.ping() // and not a request
		}
	}
	if n := h.server.Topics.Retained.Len(); n != 0 {
		t.Errorf("%d messages retained", n)
	}
}

// TestEnding: what a device must not send ends its connection, without a packet.
func TestEnding(t *testing.T) {
	big := packet(packets.Publish<<4, append(str(nil, "t"), make([]byte, maxPublish)...))
	for _, c := range []struct {
		name string
		send []byte
	}{
		{"quality 2", publish(2, "devices/pi-1/messages/events/", "x")},
		{"quality 3", publish(3, "devices/pi-1/messages/events/", "x")},
		{"second CONNECT", connect("pi-1", nil)},
		{"too large", big[:10]},
		{"large SUBSCRIBE", []byte{packets.Subscribe<<4 | 2, 0x81, 0x80, 0x01}},
		{"endless length", []byte{packets.Publish << 4, 0xff, 0xff, 0xff, 0xff}},
		{"reserved packet 0", []byte{0x00, 0}},
		{"reserved packet 15", []byte{0xf0, 0}},
		{"a server's packet", []byte{packets.Suback << 4, 3, 0, 1, 0}},
		{"subscribe to nothing", subscribe(1, 0)},
		{"topic with wildcard", publish(0, "a/#", "")},
		{"polite", []byte{packets.Disconnect << 4, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, nil)
			d := h.dial(t)
			d.mustLogin("pi-1")
			h.expect(t, "connected")
			h.expect(t, "ready")
			d.send(c.send)
			d.closed()
			h.expect(t, "disconnected")
		})
	}
}

func TestBadConnect(t *testing.T) {
	const dropped = 255 // no CONNACK at all
	for _, c := range []struct {
		name string
		send []byte
		code byte
	}{
		{"no CONNECT first", []byte{packets.Pingreq << 4, 0}, dropped},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), dropped},
		{"large CONNECT", []byte{packets.Connect << 4, 0x81, 0x80, 0x01}, dropped},
		{"truncated inside", packet(packets.Connect<<4, []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 0xc2}), dropped},
		{"MQTT 3.1", connect("pi-1", func(pk *packets.Packet) { pk.ProtocolVersion, pk.Connect.ProtocolName = 3, []byte("MQIsdp") }), 1},
		{"no client ID", connect("pi-1", func(pk *packets.Packet) { pk.Connect.ClientIdentifier, pk.Connect.Clean = "", true }), 5},
		{"no user name", connect("pi-1", func(pk *packets.Packet) { pk.Connect.UsernameFlag, pk.Connect.PasswordFlag = false, false }), 5},
		{"no password", connect("pi-1", func(pk *packets.Packet) { pk.Connect.PasswordFlag = false }), 5},
		{"empty password", connect("pi-1", func(pk *packets.Packet) { pk.Connect.Password = nil }), 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, nil)
			d := h.dial(t)
			d.send(c.send)
			if c.code != dropped {
				if head, body := d.read(); head != packets.Connack<<4 || !bytes.Equal(body, []byte{0, c.code}) {
					t.Errorf("answer %x %x, want code %d", head, body, c.code)
				}
			}
			d.closed()
			h.quiet(t)
		})
	}
}

// TestMQTT5 gets its refusal in version 5's own form.
func TestMQTT5(t *testing.T) {
	h := start(t, nil)
	d := h.dial(t)
	d.send(connect("pi-1", func(pk *packets.Packet) { pk.ProtocolVersion = 5 }))
	head, body := d.read()
	if head != packets.Connack<<4 || len(body) < 2 || body[1] != packets.ErrUnsupportedProtocolVersion.Code {
		t.Errorf("answer %x %x", head, body)
	}
	d.closed()
	if len(h.logins) != 0 {
		t.Error("judged")
	}
}

// asking is an Initiate in progress.
type asking struct {
	accepted bool
	err      error
}

func ask(ctx context.Context, s *Session) <-chan asking {
	ch := make(chan asking, 1)
	go func() {
		ok, err := s.Initiate(ctx, shell)
		ch <- asking{ok, err}
	}()
	return ch
}

func (h *harness) ready(t testing.TB, d *raw, device string) *Session {
	t.Helper()
	d.mustLogin(device)
	h.expect(t, "connected")
	return h.expect(t, "ready")
}

func TestAnswers(t *testing.T) {
	h := start(t, nil)
	d, other := h.dial(t), h.dial(t)
	s, foreign := h.ready(t, d, "pi-1"), h.ready(t, other, "pi-2")

	first := ask(t.Context(), s)
	if r := d.request(); r.RID != "1" || r.Name != "shell" || r.URL != "wss://hub.example.test:443/x" || r.Token != "tok" {
		t.Fatalf("request %+v", r)
	}
	second := ask(t.Context(), s)
	if r := d.request(); r.RID != "2" {
		t.Fatalf("second request has $rid %q", r.RID)
	}
	theirs := ask(t.Context(), foreign)
	if r := other.request(); r.RID != "1" {
		t.Fatalf("$rid %q does not count per session", r.RID)
	}
	// Another session's answer, unknown ones, and odd spellings count for nothing.
	other.answer(200, "2")
	for _, rid := range []string{"0", "3", "-1", "01", "1 ", "x"} {
		d.answer(200, rid)
	}
	d.answer(400, "2") // out of order
	if got := <-second; got.accepted || got.err != nil {
		t.Errorf("rejected request: %+v", got)
	}
	d.answer(200, "2") // too late to change its mind
	d.answer(200, "1")
	d.answer(400, "1")
	if got := <-first; !got.accepted || got.err != nil {
		t.Errorf("accepted request: %+v", got)
	}
	d.ping()
	other.answer(200, "1")
	if got := <-theirs; !got.accepted || got.err != nil {
		t.Errorf("other session: %+v", got)
	}

	// One that came too late does not answer the next request.
	ctx, cancel := context.WithCancel(t.Context())
	third := ask(ctx, s)
	d.request()
	cancel()
	if got := <-third; !errors.Is(got.err, context.Canceled) {
		t.Errorf("cancelled: %+v", got)
	}
	fourth := ask(t.Context(), s)
	r := d.request()
	d.answer(200, "3")
	d.answer(400, r.RID)
	if got := <-fourth; got.accepted || got.err != nil {
		t.Errorf("after a late answer: %+v", got)
	}
	if s.streams.pending != nil {
		t.Errorf("left pending: %v", s.streams.pending)
	}
}

func TestMaxPending(t *testing.T) {
	h := start(t, func(o *Options) { o.MaxPending = 3 })
	d := h.dial(t)
	s := h.ready(t, d, "pi-1")
	ctx, cancel := context.WithCancel(t.Context())
	var waiting []<-chan asking
	for range 3 {
		waiting = append(waiting, ask(ctx, s))
		d.request()
	}
	if _, err := initiate(t, s); !errors.Is(err, ErrBusy) {
		t.Errorf("fourth request: %v", err)
	}
	d.answer(200, "2")
	<-waiting[1]
	again := ask(ctx, s)
	if r := d.request(); r.RID != "4" {
		t.Errorf("$rid %q", r.RID)
	}
	cancel()
	for _, w := range append(waiting[:1], waiting[2], again) {
		if got := <-w; !errors.Is(got.err, context.Canceled) {
			t.Errorf("cancelled: %+v", got)
		}
	}
	ok := ask(t.Context(), s)
	d.answer(200, d.request().RID)
	if got := <-ok; !got.accepted {
		t.Errorf("after the jam: %+v", got)
	}
}

func TestGone(t *testing.T) {
	for name, end := range map[string]func(h *harness, d *raw){
		"device leaves": func(_ *harness, d *raw) { _ = d.conn.Close() },
		"revoked":       func(h *harness, _ *raw) { h.EndWhere(func(Identity) bool { return true }, wire.EndRevoked) },
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, nil)
			d := h.dial(t)
			s := h.ready(t, d, "pi-1")
			waiting := ask(t.Context(), s)
			d.request()
			end(h, d)
			if got := <-waiting; !errors.Is(got.err, ErrGone) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestRevokedDuringLogin: rights taken away while a login is judged are seen by it.
func TestRevokedDuringLogin(t *testing.T) {
	var h *harness
	var once sync.Once
	enabled := true
	h = start(t, func(o *Options) {
		o.Authenticate = func(_ context.Context, l Login) (Identity, error) {
			if !enabled {
				return Identity{}, ErrRefused
			}
			once.Do(func() { // judged good, and now the device is disabled
				enabled = false
				h.EndWhere(func(i Identity) bool { return i.Name == "pi-1" }, wire.EndRevoked)
			})
			return Identity{Name: l.ClientID}, nil
		}
	})
	if code := h.dial(t).login("pi-1", nil); code != 5 {
		t.Errorf("CONNACK %d, want 5", code)
	}
	h.quiet(t)
}

func TestWrongIdentity(t *testing.T) {
	h := start(t, func(o *Options) {
		o.Authenticate = func(context.Context, Login) (Identity, error) { return Identity{Name: "pi-2"}, nil }
	})
	if code := h.dial(t).login("pi-1", nil); code != 5 {
		t.Errorf("CONNACK %d, want 5", code)
	}
	if h.Session("pi-1") != nil || h.Session("pi-2") != nil {
		t.Error("a session under some name")
	}
}

// TestPanics: a panic in a callback ends that connection and no other.
func TestPanics(t *testing.T) {
	for _, where := range []string{"authenticate", "connected", "ready", "disconnected"} {
		t.Run(where, func(t *testing.T) {
			var log logged
			h := start(t, func(o *Options) {
				o.Logger = log.logger()
				boom := func(at string, f func(*Session)) func(*Session) {
					return func(s *Session) {
						f(s)
						if at == where && s.id == "bad" {
							panic("boom")
						}
					}
				}
				o.Connected, o.Ready = boom("connected", o.Connected), boom("ready", o.Ready)
				o.Disconnected = boom("disconnected", o.Disconnected)
				o.Authenticate = func(ctx context.Context, l Login) (Identity, error) {
					if where == "authenticate" && l.ClientID == "bad" {
						panic("boom")
					}
					return judge(ctx, l)
				}
			})
			neighbour := h.dial(t)
			neighbour.mustLogin("pi-1")
			d := h.dial(t)
			d.send(connect("bad", nil))
			if where == "ready" || where == "disconnected" {
				d.read()
				d.send(subscribe(7, 0, wire.FilterStreamRequests))
			}
			if where == "disconnected" {
				d.read()
				d.send([]byte{packets.Disconnect << 4, 0})
			}
			d.closed()
			for gone := where == "authenticate"; !gone; {
				e := <-h.events
				gone = e.kind == "disconnected" && e.session.id == "bad"
			}
			neighbour.ping()
			again := h.dial(t)
			again.send(connect("pi-3", nil))
			again.read()
			if h.Session("bad") != nil {
				t.Error("session left")
			}
			_ = h.Close()
			if !log.contains("boom") || !log.contains("raw_test.go") {
				t.Error("panic not logged with its stack")
			}
			if log.contains(good) {
				t.Error("password logged")
			}
		})
	}
}

// TestSlowReader: a device that does not read holds nobody up.
func TestSlowReader(t *testing.T) {
	h := newHarness(t, nil)
	d := h.pipe(t) // takes no byte that is not read
	s := h.ready(t, d, "pi-1")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Initiate(ctx, shell); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Initiate: %v", err)
	}
	waiting := ask(t.Context(), s)
	if n := h.EndWhere(func(Identity) bool { return true }, wire.EndRevoked); n != 1 {
		t.Errorf("ended %d", n)
	}
	if got := <-waiting; !errors.Is(got.err, ErrGone) {
		t.Errorf("Initiate: %+v", got)
	}
	h.expect(t, "disconnected")
}

func TestFraming(t *testing.T) {
	stream := bytes.Join([][]byte{connect("pi-1", nil), subscribe(1, 0, "a"), publish(1, "b", strings.Repeat("x", 20000)), {packets.Pingreq << 4, 0}}, nil)
	for size := 1; size < 600; size += 7 {
		var f framing
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			if err := f.advance(rest[:n]); err != nil {
				t.Fatalf("in pieces of %d: %v", size, err)
			}
			rest = rest[n:]
		}
		if f != (framing{connected: true}) {
			t.Fatalf("in pieces of %d: ends in %+v", size, f)
		}
	}
	for _, c := range []struct {
		name   string
		stream []byte
		want   error
	}{
		{"largest CONNECT", []byte{0x10, 0x80, 0x80, 0x01}, nil},
		{"larger CONNECT", []byte{0x10, 0x81, 0x80, 0x01}, errTooLarge},
		{"largest PUBLISH", []byte{0x10, 0, 0x30, 0x80, 0x80, 0x10}, nil},
		{"larger PUBLISH", []byte{0x10, 0, 0x30, 0x81, 0x80, 0x10}, errTooLarge},
		{"five bytes of length", []byte{0x10, 0x80, 0x80, 0x80, 0x80}, errLength},
		{"PUBLISH first", []byte{0x30}, errNotConnect},
		{"CONNECT with flags", []byte{0x11}, errNotConnect},
		{"type 0", []byte{0x10, 0, 0x0f}, errPacketType},
		{"type 15", []byte{0x10, 0, 0xf0}, errPacketType},
	} {
		var f framing
		if err := f.advance(c.stream); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestNew(t *testing.T) {
	for _, o := range []Options{{}, {Authenticate: judge, MaxPending: -1}} {
		if b, err := New(o); err == nil || b != nil {
			t.Errorf("New(%+v) = %v, %v", o, b, err)
		}
	}
	b, err := New(Options{Authenticate: judge}) // no callbacks, no logger
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{Broker: b}
	d := h.pipe(t)
	d.mustLogin("pi-1")
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	d.closed()
}
