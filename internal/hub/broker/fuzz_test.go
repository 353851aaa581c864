package broker

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// FuzzConnection feeds bytes to a connection before and after CONNECT. Whatever
// they are, nothing panics, no other device hears of it, and the connection ends
// once the device is gone.
func FuzzConnection(f *testing.F) {
	for _, seed := range [][]byte{
		connect("pi-1", nil),
		connect("pi-1", func(pk *packets.Packet) { pk.ProtocolVersion = 5 }),
		subscribe(7, 1, wire.FilterStreamRequests, "#", ""),
		publish(1, "devices/pi-1/messages/events/", "x"),
		publish(0, "$iothub/streams/res/200/?$rid=1", ""),
		publish(1, "$iothub/methods/res/200/?$rid=1", "{}"),
		publish(1, "$iothub/twin/GET/?$rid=1", " "),
		subscribe(7, 1, wire.FilterTwinAnswers, wire.FilterOwnDevicebound),
		publish(2, "x", ""),
		{packets.Pingreq << 4, 0, packets.Disconnect << 4, 0},
		{packets.Pubrec << 4, 2, 0, 1, packets.Pubrel<<4 | 2, 2, 0, 1, packets.Pubcomp << 4, 2, 0, 1},
		{packets.Unsubscribe<<4 | 2, 6, 0, 1, 0, 2, 'a', '#'},
		{packets.Publish << 4, 0x81, 0x80, 0x10, 0},
	} {
		f.Add(false, seed)
		f.Add(true, seed)
	}
	f.Fuzz(func(t *testing.T, after bool, data []byte) {
		var log logged
		h := newHarness(t, func(o *Options) {
			o.Logger = log.logger()
			o.Twin = func(*Session, wire.TwinRequest, []byte) TwinAnswer { return TwinAnswer{Status: 200} }
		})
		device, hub := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			h.ServeConn(hub)
		}()
		d := newRaw(t, device)
		if after {
			d.mustLogin("pi-1")
		}
		go func() { // the hub's answers have to go somewhere
			buf := make([]byte, 1024)
			for {
				if _, err := device.Read(buf); err != nil {
					return
				}
			}
		}()
		_ = device.SetWriteDeadline(time.Now().Add(patience))
		if _, err := device.Write(data); errors.Is(err, os.ErrDeadlineExceeded) { // any other error: the hub has had enough
			t.Fatal("hub neither reads nor closes")
		}
		_ = device.Close()
		select {
		case <-served:
		case <-time.After(patience):
			t.Fatal("connection does not end")
		}
		_ = h.Close()
		if log.contains("panic") {
			t.Fatalf("%s", log.lines.String())
		}
		if h.server.Clients.Len() != 0 || h.server.Topics.Retained.Len() != 0 {
			t.Error("something is left in the server")
		}
	})
}

// FuzzFilter: no filter a device may subscribe to covers another device's topic.
func FuzzFilter(f *testing.F) {
	for _, seed := range [][2]string{
		{"pi-1", "devices/pi-1/messages/devicebound/#"}, {"pi-1", "devices/+/messages/devicebound/#"},
		{"+", "devices/+/messages/devicebound/#"}, {"#", "devices/#/messages/devicebound/#"}, {"d/m", "devices/d/modules/m/#"},
		{"d/+", "devices/d/modules/+/#"}, {"+/m", "devices/+/modules/m/inputs/#"}, {"pi-1/m", "devices/+/messages/devicebound/#"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, id, filter string) {
		wanted := packets.Subscriptions{{Filter: filter}}
		spellOut(id, wanted)
		filter = wanted[0].Filter
		if device, _ := wire.SplitTarget(id); !wire.ValidTarget(id) || device == "pi-2" || permitted(id, filter) == 0 {
			return
		}
		for _, topic := range []string{"devices/pi-2/messages/devicebound/x", "devices/pi-2/messages/events/", "devices/pi-2/modules/m/x"} {
			if covers(filter, topic) {
				t.Errorf("%q may subscribe to %q", id, filter)
			}
		}
	})
}

// covers is MQTT's matching, written plainly [MQTT-4.7.1].
func covers(filter, topic string) bool {
	levels, names := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range levels {
		switch {
		case level == "#":
			return true
		case i >= len(names), level != "+" && level != names[i]:
			return false
		}
	}
	return len(levels) == len(names)
}
