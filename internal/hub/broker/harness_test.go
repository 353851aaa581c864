package broker

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/goleak"

	"github.com/farportio/farport/internal/wire"
)

// patience bounds what should take milliseconds.
const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The passwords that the harness knows.
const (
	good = "good"
	busy = "busy" // the registry cannot be asked
)

var errRegistry = errors.New("registry is away")

// harness is a broker on a TLS port and behind an HTTPS server.
type harness struct {
	*Broker
	roots       *x509.CertPool
	certificate tls.Certificate
	tcp         string // host:port
	wss         string // URL

	events chan event
	logins chan Login
}

// event is one callback.
type event struct {
	kind    string // connected, ready, disconnected
	session *Session
}

// judge accepts the password good for any device.
func judge(_ context.Context, l Login) (Identity, error) {
	switch l.Password.Reveal() {
	case good:
		return Identity{Name: l.ClientID, GenerationID: "g1", CredentialID: "key", Host: l.User.Host}, nil
	case busy:
		return Identity{}, errRegistry
	}
	return Identity{}, ErrRefused
}

// newHarness makes the broker alone; change edits its options.
func newHarness(t testing.TB, change func(*Options)) *harness {
	h := &harness{events: make(chan event, 1000), logins: make(chan Login, 1000)}
	o := Options{Authenticate: judge}
	tell := func(kind string) func(*Session) { return func(s *Session) { h.events <- event{kind, s} } }
	o.Connected, o.Ready, o.Disconnected = tell("connected"), tell("ready"), tell("disconnected")
	if change != nil {
		change(&o)
	}
	inner := o.Authenticate
	o.Authenticate = func(ctx context.Context, l Login) (Identity, error) {
		h.logins <- l
		return inner(ctx, l)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.Broker = b
	t.Cleanup(func() { _ = b.Close() })
	return h
}

// start makes the broker and both its ports.
func start(t testing.TB, change func(*Options)) *harness {
	h := newHarness(t, change)
	web := httptest.NewUnstartedServer(h)
	web.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	web.StartTLS()
	t.Cleanup(web.Close)
	h.certificate = web.TLS.Certificates[0]
	h.roots = x509.NewCertPool()
	h.roots.AddCert(web.Certificate())
	h.wss = "wss" + strings.TrimPrefix(web.URL, "https") + wire.PathMQTT

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.tcp = listener.Addr().String()
	config := &tls.Config{Certificates: []tls.Certificate{h.certificate}, ClientAuth: tls.RequestClientCert}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { h.ServeConn(tls.Server(conn, config)) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		_ = h.Close()
		serving.Wait()
	})
	return h
}

// expect waits for one callback of the given kind.
func (h *harness) expect(t testing.TB, kind string) *Session {
	t.Helper()
	select {
	case e := <-h.events:
		if e.kind != kind {
			t.Fatalf("callback %q, want %q", e.kind, kind)
		}
		return e.session
	case <-time.After(patience):
		t.Fatalf("no callback %q", kind)
		return nil
	}
}

// quiet checks that no callback is left.
func (h *harness) quiet(t testing.TB) {
	t.Helper()
	select {
	case e := <-h.events:
		t.Fatalf("unexpected callback %q of %q", e.kind, e.session.id)
	default:
	}
}

// raw is a device that may misbehave.
type raw struct {
	t       testing.TB
	conn    net.Conn
	r       *bufio.Reader
	present bool // what the last CONNACK said
}

// dial opens a TLS connection and says nothing.
func (h *harness) dial(t testing.TB) *raw {
	t.Helper()
	conn, err := tls.Dial("tcp", h.tcp, &tls.Config{RootCAs: h.roots, ServerName: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return newRaw(t, conn)
}

// pipe serves one end of a net.Pipe and returns the other, for synctest.
func (h *harness) pipe(t testing.TB) *raw {
	device, hub := net.Pipe()
	go h.ServeConn(hub) // Close waits for it
	return newRaw(t, device)
}

func newRaw(t testing.TB, conn net.Conn) *raw {
	t.Cleanup(func() { _ = conn.Close() })
	return &raw{t: t, conn: conn, r: bufio.NewReader(conn)}
}

// login connects with CONNECT changed as told and returns the CONNACK code.
func (d *raw) login(device string, change func(*packets.Packet)) byte {
	d.t.Helper()
	d.send(connect(device, change))
	head, body := d.read()
	if head != packets.Connack<<4 || len(body) != 2 {
		d.t.Fatalf("answer to CONNECT: %x %x", head, body)
	}
	if d.present = body[0] == 1; body[0] > 1 || d.present && body[1] != 0 { // [MQTT-3.2.2-4]
		d.t.Errorf("CONNACK %x", body)
	}
	return body[1]
}

// mustLogin logs in and subscribes to stream requests.
func (d *raw) mustLogin(device string) {
	d.t.Helper()
	if code := d.login(device, nil); code != 0 {
		d.t.Fatalf("CONNACK %d", code)
	}
	if got := d.subscribe(0, wire.FilterStreamRequests, wire.FilterStreamResponses); !bytes.Equal(got, []byte{0, 0}) {
		d.t.Fatalf("SUBACK %x", got)
	}
}

// subscribe sends one SUBSCRIBE and returns the codes of its SUBACK.
func (d *raw) subscribe(qos byte, filters ...string) []byte {
	d.t.Helper()
	d.send(subscribe(7, qos, filters...))
	head, body := d.read()
	if head != packets.Suback<<4 || binary.BigEndian.Uint16(body) != 7 {
		d.t.Fatalf("answer to SUBSCRIBE: %x %x", head, body)
	}
	return body[2:]
}

// unsubscribe sends one UNSUBSCRIBE and waits for its UNSUBACK.
func (d *raw) unsubscribe(filters ...string) {
	d.t.Helper()
	body := []byte{0, 8}
	for _, f := range filters {
		body = str(body, f)
	}
	d.send(packet(packets.Unsubscribe<<4|2, body))
	if head, body := d.read(); head != packets.Unsuback<<4 || !bytes.Equal(body, []byte{0, 8}) {
		d.t.Fatalf("answer to UNSUBSCRIBE: %x %x", head, body)
	}
}

// ping checks that the connection lives and that nothing else arrives.
func (d *raw) ping() {
	d.t.Helper()
	d.send([]byte{packets.Pingreq << 4, 0})
	if head, body := d.read(); head != packets.Pingresp<<4 {
		d.t.Fatalf("answer to PINGREQ: %x %q", head, body)
	}
}

// message reads a PUBLISH.
func (d *raw) message() (topic, payload string) {
	d.t.Helper()
	head, body := d.read()
	if head != packets.Publish<<4 {
		d.t.Fatalf("packet %x, want PUBLISH in QoS 0", head)
	}
	n := 2 + int(binary.BigEndian.Uint16(body))
	return string(body[2:n]), string(body[n:])
}

// request reads a stream request.
func (d *raw) request() wire.StreamRequest {
	d.t.Helper()
	topic, payload := d.message()
	if payload != "" {
		d.t.Fatalf("request has a payload: %q", payload)
	}
	r, ok := wire.ParseStreamRequest(topic)
	if !ok {
		d.t.Fatalf("not a stream request: %q", topic)
	}
	return r
}

func (d *raw) answer(status int, rid string) {
	d.t.Helper()
	d.send(publish(0, wire.StreamResponse{Status: status, RID: rid}.Topic(), ""))
}

func (d *raw) send(p []byte) {
	d.t.Helper()
	if _, err := d.conn.Write(p); err != nil {
		d.t.Fatal(err)
	}
}

// read reads one packet.
func (d *raw) read() (head byte, body []byte) {
	d.t.Helper()
	_ = d.conn.SetReadDeadline(time.Now().Add(patience))
	defer d.conn.SetReadDeadline(time.Time{})
	head, err := d.r.ReadByte()
	if err != nil {
		d.t.Fatalf("read packet: %v", err)
	}
	length, _, err := packets.DecodeLength(d.r)
	if err != nil {
		d.t.Fatalf("read packet: %v", err)
	}
	body = make([]byte, length)
	if _, err := io.ReadFull(d.r, body); err != nil {
		d.t.Fatalf("read packet: %v", err)
	}
	return head, body
}

// closed checks that the hub ends the connection without another packet. It
// waits as long as it takes, since some tests have a clock of their own.
func (d *raw) closed() {
	d.t.Helper()
	if b, err := d.r.ReadByte(); err == nil {
		d.t.Fatalf("hub sent %x instead of closing", b)
	} else if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		d.t.Fatal("connection is still open")
	}
}

// initiate asks for a stream, with a bound on how long a test may hang.
func initiate(t testing.TB, s *Session) (bool, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return s.Initiate(ctx, shell)
}

// shell is a stream request but for its RID.
var shell = wire.StreamRequest{Name: "shell", URL: "wss://hub.example.test:443/x", Token: "tok"}

// connect encodes a CONNECT packet with the good password.
func connect(device string, change func(*packets.Packet)) []byte {
	pk := packets.Packet{ProtocolVersion: mqttLevel, Connect: packets.ConnectParams{
		ProtocolName: []byte("MQTT"), ClientIdentifier: device, Keepalive: 60,
		UsernameFlag: true, Username: []byte(wire.UserName{Host: "hub.example.test", DeviceID: device}.String() + "?api-version=2021-04-12"),
		PasswordFlag: true, Password: []byte(good),
	}}
	pk.FixedHeader.Type = packets.Connect
	if change != nil {
		change(&pk)
	}
	return encode(pk.ConnectEncode)
}

func subscribe(id uint16, qos byte, filters ...string) []byte {
	body := binary.BigEndian.AppendUint16(nil, id)
	for _, f := range filters {
		body = append(str(body, f), qos)
	}
	return packet(packets.Subscribe<<4|2, body)
}

func publish(qos byte, topic, payload string) []byte {
	body := str(nil, topic)
	if qos > 0 {
		body = append(body, 0, 9)
	}
	return packet(packets.Publish<<4|qos<<1, append(body, payload...))
}

func str(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func packet(head byte, body []byte) []byte {
	p := []byte{head}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			return append(append(p, b), body...)
		}
		p = append(p, b|0x80)
	}
}

func encode(f func(*bytes.Buffer) error) []byte {
	var buf bytes.Buffer
	if err := f(&buf); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// logged collects log lines.
type logged struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logged) contains(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(l.lines.String(), p) })
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
