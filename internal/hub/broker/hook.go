package broker

import (
	"errors"
	"log/slog"
	"strconv"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// MQTT control packet types. Source: MQTT 3.1.1, table 2.1.
const (
	typeConnect  = packets.Connect
	typePublish  = packets.Publish
	typeReserved = packets.Auth // no packet of 3.1.1
)

const (
	// mqttLevel is the protocol level of MQTT 3.1.1, the only one spoken here.
	mqttLevel = 4
	// maxKeepAlive is the keep-alive, in seconds, after one and a half of which
	// the hub hangs up at the latest.
	maxKeepAlive = uint16(wire.MaxDeviceSilence * 2 / 3 / time.Second)
	// readBuffer is enough for what an idle device sends.
	readBuffer = 512
)

// newServer sets up mochi. It is never told to Serve, which would only start a
// loop for $SYS topics and for sessions that outlive their connection; there are none
// of the first here, and the second are the broker's own matter.
func newServer(b *Broker) (*mqtt.Server, error) {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumPacketSize = maxPublish + 1
	c.MaximumClientWritesPending = 64
	c.MaximumSessionExpiryInterval = 0
	c.MaximumQos = 1
	c.MinimumProtocolVersion = mqttLevel
	c.SharedSubAvailable = 0
	c.TopicAliasMaximum = 0
	server := mqtt.New(&mqtt.Options{
		Capabilities:            c,
		ClientNetReadBufferSize: readBuffer,
		Logger:                  slog.New(slog.DiscardHandler), // it would log whole packets, passwords included
	})
	return server, server.AddHook(&hook{broker: b}, nil)
}

// hook is what the hub allows devices, in the places where mochi asks.
type hook struct {
	mqtt.HookBase
	broker *Broker
}

// ID names the hook to mochi.
func (h *hook) ID() string { return "farport" }

// Provides lists the methods below to mochi.
func (h *hook) Provides(method byte) bool {
	switch method {
	case mqtt.OnPacketRead, mqtt.OnConnect, mqtt.OnConnectAuthenticate,
		mqtt.OnPacketEncode, mqtt.OnSessionEstablished, mqtt.OnACLCheck, mqtt.OnPublish,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribe, mqtt.OnUnsubscribed:
		return true
	}
	return false
}

// OnPacketRead sees packets before mochi judges them. A QoS 2 publish ends the
// connection, as on the real hub. A will is dropped here, so that none is ever
// sent nor refused; an empty password is none.
func (h *hook) OnPacketRead(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	switch pk.FixedHeader.Type {
	case packets.Publish:
		if pk.FixedHeader.Qos > 1 {
			return pk, packets.ErrRejectPacket // the one error mochi does not ignore here
		}
	case packets.Connect:
		pk.Connect.WillFlag, pk.Connect.WillRetain = false, false
		pk.Connect.PasswordFlag = len(pk.Connect.Password) > 0
	}
	return pk, nil
}

// OnConnect does the whole login and answers a bad one.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := cl.Net.Conn.(*conn)
	if pk.ProtocolVersion != mqttLevel {
		return h.refuse(cl, packets.ErrUnsupportedProtocolVersion, packets.ErrUnsupportedProtocolVersion)
	}
	if cl.State.Keepalive == 0 || cl.State.Keepalive > maxKeepAlive {
		cl.State.Keepalive = maxKeepAlive
	}
	// A name of its own for each connection keeps mochi from handing one session's
	// state to the next, and from telling the older one in words 3.1.1 does not have.
	cl.ID = strconv.FormatUint(c.serial, 10)
	cl.Properties.Username = nil // it keeps the packet, password and all
	c.client = cl
	err := h.broker.login(c, cl, pk.Connect)
	switch {
	case err == nil || c.session != nil:
		return err
	case errors.Is(err, ErrRefused):
		return h.refuse(cl, packets.ErrBadUsernameOrPassword, err)
	}
	return h.refuse(cl, packets.ErrServerUnavailable, err)
}

// refuse sends CONNACK with code, which mochi translates for 3.1.1, and returns
// err to end the connection.
func (h *hook) refuse(cl *mqtt.Client, code packets.Code, err error) error {
	return errors.Join(err, h.broker.server.SendConnack(cl, code, false, nil))
}

// OnConnectAuthenticate agrees: OnConnect has judged.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnPacketEncode tells in a good CONNACK whether the session goes on with an older
// one's state. Mochi knows of none.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack && pk.ReasonCode == packets.CodeSuccess.Code {
		s := cl.Net.Conn.(*conn).session
		pk.SessionPresent = s != nil && s.present
	}
	return pk
}

// OnSessionEstablished comes after CONNACK: from now on the device can be sent what it
// is subscribed to from before.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	if s := cl.Net.Conn.(*conn).session; s != nil && s.opened()&announced != 0 {
		h.broker.options.Ready(s)
	}
}

// OnACLCheck judges subscriptions. What is published needs no right, as none of
// it goes anywhere: see OnPublish.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	s := cl.Net.Conn.(*conn).session
	return write || s != nil && permitted(s.id, topic) != 0
}

// OnPublish hands on what the device published, which is then acknowledged and goes
// no further. What is read after the session's end counts for nothing.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if s := cl.Net.Conn.(*conn).session; s != nil && !s.over() {
		s.receive(pk.TopicName, pk.Payload, h.broker.options.Twin)
	}
	return pk, packets.CodeSuccessIgnore
}

// OnSubscribe puts filters into the one form the hub knows.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if s := cl.Net.Conn.(*conn).session; s != nil {
		spellOut(s.id, pk.Filters)
	}
	return pk
}

// OnUnsubscribe does the same.
func (h *hook) OnUnsubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	return h.OnSubscribe(cl, pk)
}

// OnSubscribed notes what was granted, ahead of the SUBACK: a device that has been told
// that it is subscribed can be asked. A request may so come before the SUBACK, as
// [MQTT-3.8.4] allows.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	s := cl.Net.Conn.(*conn).session
	if s == nil {
		return
	}
	var granted filters
	for i, wanted := range pk.Filters {
		if codes[i] <= packets.CodeGrantedQos1.Code {
			granted |= permitted(s.id, wanted.Filter)
		}
	}
	if s.subscribe(granted)&announced != 0 {
		h.broker.options.Ready(s)
	}
}

// OnUnsubscribed notes the end of subscriptions, ahead of the UNSUBACK.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	s := cl.Net.Conn.(*conn).session
	if s == nil {
		return
	}
	var gone filters
	for _, unwanted := range pk.Filters {
		gone |= permitted(s.id, unwanted.Filter)
	}
	s.unsubscribe(gone)
}
