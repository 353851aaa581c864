package hub_test

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/wire"
)

// device is a device's control connection, packet by packet.
type device struct {
	t        *testing.T
	id       string
	conn     net.Conn
	requests chan wire.StreamRequest
	pongs    chan struct{}
	subacks  chan *packets.SubackPacket
	messages chan *packets.PublishPacket // what is not a stream request
	gone     chan struct{}               // closed when the hub has ended the connection
}

// login is what a device says in CONNECT.
type login struct {
	host     string   // in the user name; "" means localhost
	agents   []string // DeviceClientTypes in the user name
	id       string
	clientID string           // "" means id
	password string           // "" is none
	cert     *tls.Certificate // nil is none
	ws       bool             // MQTT in a WebSocket
	tickets  tls.ClientSessionCache
}

func (w *world) login(cs credential.ConnectionString) login {
	w.t.Helper()
	token, err := cs.SAS(time.Now().Add(time.Hour))
	if err != nil {
		w.t.Fatal(err)
	}
	return login{id: wire.TargetName(cs.DeviceID, cs.ModuleID), password: token.Reveal()}
}

// device connects and subscribes to stream requests.
func (w *world) device(cs credential.ConnectionString) *device {
	w.t.Helper()
	d := w.connected(w.login(cs))
	d.subscribe()
	return d
}

func (w *world) connected(l login) *device {
	w.t.Helper()
	d, code, err := w.connect(l)
	if err != nil || code != packets.Accepted {
		w.t.Fatalf("connect device %q: CONNACK %d, %v", l.id, code, err)
	}
	return d
}

// connect signs a device in. The error is that of a connection without a CONNACK.
func (w *world) connect(l login) (*device, byte, error) {
	conn, err := w.dialMQTT(l)
	if err != nil {
		return nil, 0, err
	}
	d := &device{t: w.t, id: l.id, conn: conn, requests: make(chan wire.StreamRequest, 100), pongs: make(chan struct{}, 10), subacks: make(chan *packets.SubackPacket, 10), messages: make(chan *packets.PublishPacket, 100), gone: make(chan struct{})}
	w.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.Keepalive = "MQTT", 4, 240
	hello.ClientIdentifier = l.clientID
	if l.clientID == "" {
		hello.ClientIdentifier = l.id
	}
	host := l.host
	if host == "" {
		host = "localhost"
	}
	hello.UsernameFlag, hello.Username = true, host+"/"+l.id+"/?api-version=2020-09-30" // a module's has its ID in id, too
	for _, agent := range l.agents {
		hello.Username += "&" + url.Values{wire.ParamClientType: {agent}}.Encode()
	}
	hello.PasswordFlag, hello.Password = l.password != "", []byte(l.password)
	if err := hello.Write(conn); err != nil {
		return nil, 0, err
	}
	p, err := packets.ReadPacket(conn)
	if err != nil {
		return nil, 0, err
	}
	ack, ok := p.(*packets.ConnackPacket)
	if !ok {
		return nil, 0, errors.New("no CONNACK but " + p.String())
	}
	if ack.ReturnCode != packets.Accepted {
		conn.Close()
		return nil, ack.ReturnCode, nil
	}
	_ = conn.SetDeadline(time.Time{})
	go d.read()
	w.t.Cleanup(func() { conn.Close(); <-d.gone })
	return d, ack.ReturnCode, nil
}

func (w *world) dialMQTT(l login) (net.Conn, error) {
	config := w.trust()
	config.ServerName, config.ClientSessionCache = "localhost", l.tickets
	if l.cert != nil {
		config.Certificates = []tls.Certificate{*l.cert}
	}
	if !l.ws {
		return tls.Dial("tcp", w.Hub.MQTTAddress().String(), config)
	}
	dialer := websocket.Dialer{TLSClientConfig: config, Subprotocols: []string{"MQTT"}}
	c, _, err := dialer.Dial("wss://"+w.Hub.Address().String()+"/$iothub/websocket?iothub-no-client-cert=true", http.Header{})
	if err != nil {
		return nil, err
	}
	return &packetConn{Conn: c.NetConn(), ws: c}, nil
}

// packetConn reads and writes the messages of a WebSocket as bytes.
type packetConn struct {
	net.Conn
	ws   *websocket.Conn
	rest []byte
}

func (c *packetConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		_, b, err := c.ws.ReadMessage()
		if err != nil {
			return 0, err
		}
		c.rest = b
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *packetConn) Write(p []byte) (int, error) {
	return len(p), c.ws.WriteMessage(websocket.BinaryMessage, p)
}

// read takes what the hub sends until it ends the connection.
func (d *device) read() {
	defer close(d.gone)
	for {
		p, err := packets.ReadPacket(d.conn)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.PublishPacket:
			if !strings.HasPrefix(p.TopicName, "$iothub/streams/") {
				d.messages <- p
				continue
			}
			r, ok := wire.ParseStreamRequest(p.TopicName)
			if !ok || strings.Count(p.TopicName, "/") != 4 || len(p.Payload) > 0 || p.Qos != 0 {
				d.t.Errorf("message %v is no stream request", p)
				continue
			}
			d.requests <- r
		case *packets.SubackPacket:
			select {
			case d.subacks <- p:
			default: // the test does not look
			}
		case *packets.PingrespPacket:
			d.pongs <- struct{}{}
		}
	}
}

// subscribe listens to stream requests, and returns when the hub knows.
func (d *device) subscribe() {
	d.t.Helper()
	d.subscribeTo(wire.FilterStreamRequests, wire.FilterStreamResponses)
}

func (d *device) subscribeTo(filters ...string) {
	d.t.Helper()
	sub := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	sub.MessageID, sub.Topics, sub.Qoss = 1, filters, make([]byte, len(filters))
	d.write(sub)
	d.ping()
}

// publish sends a message in QoS 0.
func (d *device) publish(topic, payload string) {
	d.t.Helper()
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = topic, []byte(payload)
	d.write(p)
}

// heard is the next message that is no stream request.
func (d *device) heard() (topic, payload string) {
	d.t.Helper()
	select {
	case p := <-d.messages:
		return p.TopicName, string(p.Payload)
	case <-d.gone:
		d.t.Fatalf("device %q lost its control connection instead of hearing something", d.id)
	case <-time.After(patience):
		d.t.Fatalf("device %q heard nothing", d.id)
	}
	return "", ""
}

// suback is the answer to the next SUBSCRIBE.
func (d *device) suback() *packets.SubackPacket {
	d.t.Helper()
	select {
	case p := <-d.subacks:
		return p
	case <-time.After(patience):
		d.t.Fatalf("device %q: no SUBACK", d.id)
	}
	return nil
}

// ping checks that the control connection works. The hub has then dealt with
// everything that was sent before.
func (d *device) ping() {
	d.t.Helper()
	d.write(packets.NewControlPacket(packets.Pingreq))
	select {
	case <-d.pongs:
	case <-d.gone:
		d.t.Fatalf("device %q has lost its control connection", d.id)
	case <-time.After(patience):
		d.t.Fatalf("device %q: no answer to a ping", d.id)
	}
}

func (d *device) write(p packets.ControlPacket) {
	d.t.Helper()
	if err := p.Write(d.conn); err != nil {
		d.t.Fatalf("device %q: write %v: %v", d.id, p, err)
	}
}

// next is the next stream request.
func (d *device) next() wire.StreamRequest {
	d.t.Helper()
	select {
	case r := <-d.requests:
		return r
	case <-d.gone:
		d.t.Fatalf("device %q lost its control connection instead of being asked", d.id)
	case <-time.After(patience):
		d.t.Fatalf("device %q was not asked", d.id)
	}
	return wire.StreamRequest{}
}

func (d *device) answer(r wire.StreamRequest, status int) {
	d.t.Helper()
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName = wire.StreamResponse{Status: status, RID: r.RID}.Topic()
	d.write(p)
}

// ended checks that the hub ends the control connection, soon.
func (d *device) ended() {
	d.t.Helper()
	select {
	case <-d.gone:
	case <-time.After(soon):
		d.t.Errorf("device %q still has its control connection", d.id)
	}
}
