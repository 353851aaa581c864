package hubclient

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey    = "ZXhhbXBsZS1rZXktZm9yLXRlc3QtdmVjdG9ycy0wMSE="
	testDevice = "pi-1"
	testToken  = "leg-token"
	patience   = 10 * time.Second // for what happens at once
)

// testHub is a hub with a private CA that says what a test tells it to. The fields
// are set before start.
type testHub struct {
	api    http.HandlerFunc     // the HTTPS API
	device func(*deviceSession) // one control connection; it ends when this returns
	tls    func(*tls.Config)    // changes what the servers do in TLS; nil: nothing
	x509   bool                 // devices sign in with certificates

	t       *testing.T
	ca      testCA
	server  *httptest.Server
	working sync.WaitGroup
	conns   newConns
	resumed atomic.Bool // the last leg's TLS session was one resumed
	known   atomic.Bool // the last leg presented a certificate
}

// newConns counts the connections that a server has accepted.
type newConns struct {
	mu    sync.Mutex
	count int
}

func (n *newConns) note(_ net.Conn, state http.ConnState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if state == http.StateNew {
		n.count++
	}
}

func (n *newConns) get() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

func (h *testHub) start(t *testing.T) *testHub {
	t.Helper()
	h.t, h.ca = t, newTestCA(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.api(w, r) })
	mux.HandleFunc(wire.PathMQTT, h.serveMQTT)
	mux.HandleFunc(wire.PathBridges, h.serveEcho)
	h.server = httptest.NewUnstartedServer(mux)
	h.server.TLS = h.serverTLS()
	h.server.Config.ConnState = h.conns.note
	h.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.server.StartTLS()
	t.Cleanup(func() {
		h.server.Close()
		h.working.Wait()
	})
	return h
}

func (h *testHub) serverTLS() *tls.Config {
	config := &tls.Config{Certificates: []tls.Certificate{h.ca.leaf(h.t, nil).chain(h.ca)}}
	if h.tls != nil {
		h.tls(config)
	}
	return config
}

func (h *testHub) address() string { return h.server.Listener.Addr().String() }

// legURL is where legs are echoed, the token being testToken.
func (h *testHub) legURL() string { return "wss://" + h.address() + wire.PathBridges + "1" }

// connectionString is a service's, or with a device ID that device's.
func (h *testHub) connectionString(device string) ConnectionString {
	h.t.Helper()
	who := "SharedAccessKeyName=service"
	if device != "" {
		who = "DeviceId=" + device
	}
	cs, err := ParseConnectionString("HostName=" + h.address() + ";" + who + ";SharedAccessKey=" + testKey +
		";CaFingerprint=sha256:" + fingerprint(h.ca.cert))
	if err != nil {
		h.t.Fatal(err)
	}
	return cs
}

func (h *testHub) service(o Options) *Service {
	h.t.Helper()
	s, err := NewService(h.connectionString(""), o)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { s.Close() })
	return s
}

func (h *testHub) serveEcho(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	h.resumed.Store(r.TLS.DidResume)
	h.known.Store(len(r.TLS.PeerCertificates) > 0)
	leg, err := stream.Accept(w, r)
	if err != nil {
		h.t.Error(err)
		return
	}
	h.working.Go(func() {
		_, _ = io.Copy(leg, leg)
		_ = leg.CloseWrite()
		leg.Close()
	})
}

func (h *testHub) serveMQTT(w http.ResponseWriter, r *http.Request) {
	want := wire.QueryNoClientCert
	if h.x509 {
		want = ""
	}
	if r.URL.RawQuery != want {
		h.t.Errorf("query of the WebSocket is %q, not %q", r.URL.RawQuery, want)
	}
	upgrader := websocket.Upgrader{Subprotocols: []string{wire.SubprotocolMQTT}}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		h.t.Error(err)
		return
	}
	h.working.Add(1)
	defer h.working.Done()
	h.serveSession(&wsConn{Conn: ws})
}

func (h *testHub) serveSession(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	h.device(&deviceSession{t: h.t, conn: conn})
}

// listenMQTT serves MQTT in TLS and returns the port.
func (h *testHub) listenMQTT() int {
	h.t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", h.serverTLS())
	if err != nil {
		h.t.Fatal(err)
	}
	h.working.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			h.working.Go(func() { h.serveSession(conn) })
		}
	})
	h.t.Cleanup(func() { listener.Close() })
	return listener.Addr().(*net.TCPAddr).Port
}

// deviceSession is the hub's end of a control connection.
type deviceSession struct {
	t    *testing.T
	conn net.Conn
}

// read returns the next packet, nil at the end of the connection.
func (s *deviceSession) read() packets.ControlPacket {
	p, err := packets.ReadPacket(s.conn)
	if err != nil {
		return nil
	}
	return p
}

// write sends a packet; that the device is gone shows in read.
func (s *deviceSession) write(p packets.ControlPacket) { _ = p.Write(s.conn) }

// certificate is the one that the device presented, nil if it has none.
func (s *deviceSession) certificate() *x509.Certificate {
	conn := s.conn
	if ws, ok := conn.(*wsConn); ok {
		conn = ws.NetConn()
	}
	if presented := conn.(*tls.Conn).ConnectionState().PeerCertificates; len(presented) > 0 {
		return presented[0]
	}
	return nil
}

// signIn answers CONNECT with the code.
func (s *deviceSession) signIn(code byte) *packets.ConnectPacket {
	connect, ok := s.read().(*packets.ConnectPacket)
	if !ok {
		s.t.Error("the first packet is not CONNECT")
		return nil
	}
	ack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
	ack.ReturnCode = code
	s.write(ack)
	return connect
}

// subscribe answers SUBSCRIBE with the codes.
func (s *deviceSession) subscribe(codes ...byte) *packets.SubscribePacket {
	subscribe, ok := s.read().(*packets.SubscribePacket)
	if !ok {
		s.t.Error("CONNECT is not followed by SUBSCRIBE")
		return nil
	}
	ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	ack.MessageID, ack.ReturnCodes = subscribe.MessageID, codes
	s.write(ack)
	return subscribe
}

// ready takes the device in.
func (s *deviceSession) ready() {
	s.signIn(packets.Accepted)
	s.subscribe(0, 0)
}

// ask sends a topic without payload.
func (s *deviceSession) ask(topic string) {
	publish := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	publish.TopicName = topic
	s.write(publish)
}

// answer returns the topic of the next message from the device, "" at the end.
func (s *deviceSession) answer() string {
	for {
		switch p := s.read().(type) {
		case nil:
			return ""
		case *packets.PublishPacket:
			return p.TopicName
		case *packets.PingreqPacket:
			s.write(packets.NewControlPacket(packets.Pingresp))
		}
	}
}

// drain reads until the device is gone.
func (s *deviceSession) drain() {
	for s.answer() != "" {
	}
}

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

// echo checks that a leg carries bytes both ways.
func echo(t *testing.T, leg Stream) {
	t.Helper()
	const text = "hello"
	if _, err := io.WriteString(leg, text); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(leg, back); err != nil || string(back) != text {
		t.Fatalf("echo of %q is %q, %v", text, back, err)
	}
}

// contains fails unless text has all of parts.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not have %q", text, p)
		}
	}
}
