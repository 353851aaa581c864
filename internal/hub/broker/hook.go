package broker

import (
	"errors"
	"log/slog"
	"strconv"
	"strings"
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
// loop for $SYS topics and for sessions that outlive their connection; there are
// none of either here.
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
		mqtt.OnACLCheck, mqtt.OnPublish, mqtt.OnSubscribed, mqtt.OnUnsubscribed:
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

// OnACLCheck judges subscriptions. What is published needs no right, as none of
// it goes anywhere: see OnPublish.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	s := cl.Net.Conn.(*conn).session
	return write || s != nil && maySubscribe(s.id, topic)
}

// OnPublish takes answers to stream requests. Everything else, events and twin
// requests among it, is acknowledged and dropped.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	s := cl.Net.Conn.(*conn).session
	if r, ok := wire.ParseStreamResponse(pk.TopicName); ok && s != nil {
		s.answer(r)
	}
	return pk, packets.CodeSuccessIgnore
}

// OnSubscribed notes a subscription to stream requests, ahead of the SUBACK: a
// device that has been told that it is subscribed can be asked. A request may so
// come before the SUBACK, as [MQTT-3.8.4] allows.
func (h *hook) OnSubscribed(cl *mqtt.Client, _ packets.Packet, _ []byte) {
	s := cl.Net.Conn.(*conn).session
	if s == nil || !listens(cl) {
		return
	}
	s.setSubscribed(true)
	if !s.told {
		s.told = true
		h.broker.options.Ready(s)
	}
}

// OnUnsubscribed notes the end of that subscription, ahead of the UNSUBACK.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, _ packets.Packet) {
	if s := cl.Net.Conn.(*conn).session; s != nil {
		s.setSubscribed(listens(cl))
	}
}

// listens reports whether the device is subscribed to stream requests.
func listens(cl *mqtt.Client) bool {
	_, ok := cl.State.Subscriptions.Get(wire.FilterStreamRequests)
	return ok
}

// maySubscribe reports whether the device or module with this client ID may
// subscribe to filter.
func maySubscribe(clientID, filter string) bool {
	switch filter {
	case wire.FilterStreamRequests, wire.FilterStreamResponses, wire.FilterMethods, wire.FilterTwinAnswers, wire.FilterTwinChanges:
		return true
	}
	if strings.ContainsAny(clientID, "+#") {
		return false // such an ID would be a wildcard inside a filter
	}
	device, module, isModule := strings.Cut(clientID, "/")
	if isModule {
		return filter == wire.FilterModule(device, module)
	}
	return filter == wire.FilterDevicebound(device)
}
