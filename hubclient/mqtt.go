package hubclient

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/wire"
)

const (
	// pingTimeout is how long the hub may take to answer a ping, connackTimeout to
	// answer CONNECT, and subackTimeout to answer SUBSCRIBE.
	pingTimeout    = 10 * time.Second
	connackTimeout = 15 * time.Second
	subackTimeout  = 15 * time.Second
	// farewell bounds sending the DISCONNECT packet.
	farewell = 250 * time.Millisecond
)

// answer is one answer to a stream request.
type answer struct {
	topic string
	sent  chan<- error // gets the outcome; nil when nobody wants it
}

// options set the library up for one connection that exists already.
func (d *Device) options() *mqtt.ClientOptions {
	cs := d.hub.cs
	user := wire.UserName{
		Host:     credential.Resource(cs.HostName, "", ""),
		DeviceID: cs.DeviceID,
		ModuleID: cs.ModuleID,
		Params:   url.Values{"api-version": {wire.APIVersionDevice}, wire.ParamClientType: {d.hub.agent + " " + d.hub.offer.Word()}},
	}
	return mqtt.NewClientOptions().
		AddBroker("ssl://" + cs.Address()). // the library wants one; the connection exists already
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return d.conn, nil }).
		SetProtocolVersion(4).
		SetClientID(Target(cs)).
		SetUsername(user.String()).
		SetPassword(d.login.token.Reveal()). // "": the field is absent
		SetCleanSession(false).              // as all SDKs; Azure then keeps other programs' subscriptions
		SetKeepAlive(wire.DeviceKeepAlive).
		SetPingTimeout(pingTimeout).
		SetConnectTimeout(connackTimeout).
		SetWriteTimeout(controlWrite).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetOrderMatters(false).
		SetAutoAckDisabled(true). // messages in QoS 1 are for another program with this identity
		SetDefaultPublishHandler(d.receive).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { d.lost(err) }).
		SetStore(&lastCall{mqtt.NewMemoryStore(), d.stop})
}

// lastCall is a message store whose Close is the last thing the library does when
// it disconnects or could not connect.
type lastCall struct {
	*mqtt.MemoryStore
	closed func()
}

func (s *lastCall) Close() {
	s.MemoryStore.Close()
	s.closed()
}

// begin signs in and subscribes.
func (d *Device) begin() error {
	connected := d.client.Connect()
	connected.Wait() // connackTimeout at most
	if err := connected.Error(); err != nil {
		return d.refused(connected.(*mqtt.ConnectToken).ReturnCode(), err)
	}
	filters := map[string]byte{wire.FilterStreamRequests: 0, wire.FilterStreamResponses: 0}
	subscribed := d.client.SubscribeMultiple(filters, nil)
	select {
	case <-subscribed.Done():
	case <-d.gone:
		return d.Err()
	case <-time.After(subackTimeout):
		return &timeoutError{"answer to SUBSCRIBE", subackTimeout}
	}
	if err := subscribed.Error(); err != nil {
		return d.failed(err)
	}
	granted := subscribed.(*mqtt.SubscribeToken).Result()
	for filter := range filters {
		// [MQTT-3.9.3-2]: the granted QoS, or 0x80 for failure.
		if code, ok := granted[filter]; !ok || code > 2 {
			return fmt.Errorf("hub refused the subscription to %s", filter)
		}
	}
	return nil
}

// refused says why CONNECT failed: code is the one of CONNACK [MQTT-3.2.2-6], or
// the library's for a broken connection.
func (d *Device) refused(code byte, err error) error {
	switch code {
	case packets.ErrRefusedBadUsernameOrPassword, packets.ErrRefusedNotAuthorised:
		return fmt.Errorf("%w (CONNACK %d%s)", ErrUnauthorized, code, d.login.unasked())
	case packets.ErrRefusedServerUnavailable:
		return d.failed(errors.New("the hub is not ready for the device (CONNACK 3)"))
	case packets.ErrRefusedBadProtocolVersion, packets.ErrRefusedIDRejected:
		return fmt.Errorf("hub refused protocol or client ID (CONNACK %d)", code)
	}
	return d.failed(err)
}

// failed makes the error of a connection that broke. err is what the library says,
// which often is only that it broke.
func (d *Device) failed(err error) error {
	return &hopError{hopMQTT, d.hub.cs.Host(), plain(cmp.Or(d.conn.failure(), err))}
}

// lost is called when the library has lost the connection and stopped.
func (d *Device) lost(err error) {
	d.end(d.failed(err))
	d.stop()
}

// receive takes a message from the hub. It must not block.
func (d *Device) receive(_ mqtt.Client, m mqtt.Message) {
	if answer, ok := wire.ParseTwinAnswer(m.Topic()); ok {
		d.reported(answer)
		return
	}
	asked, ok := wire.ParseStreamRequest(m.Topic())
	if !ok { // without its topic, which may hold a token
		d.hub.logger.Debug("message is no stream request", "device", Target(d.hub.cs))
		return
	}
	if d.dispatch(&StreamRequest{Name: asked.Name, device: d, asked: asked}) {
		return
	}
	d.hub.logger.Debug("stream rejected: nobody takes it, or too many requests wait", "device", Target(d.hub.cs), "name", asked.Name)
	d.rejectSoon(asked)
}

// rejectSoon rejects a request without waiting. A hub that does not read the answers
// either has to wait.
func (d *Device) rejectSoon(asked wire.StreamRequest) {
	select {
	case d.answers <- answer{topic: reply(asked, wire.StatusReject)}:
	default:
	}
}

// sendAnswers publishes answers until the connection is over. The library's Publish
// may block for controlWrite.
func (d *Device) sendAnswers() {
	defer close(d.silent)
	for {
		select {
		case <-d.gone:
			return
		case a := <-d.answers:
			err := d.publish(a.topic)
			if a.sent != nil {
				a.sent <- err
			}
		}
	}
}

func (d *Device) publish(topic string) error {
	published := d.client.Publish(topic, 0, false, "")
	select {
	case <-published.Done():
	case <-d.gone:
		select {
		case <-published.Done(): // it went out before the connection was lost
		default:
			return d.Err()
		}
	}
	if err := published.Error(); err != nil {
		return d.failed(err)
	}
	return nil
}
