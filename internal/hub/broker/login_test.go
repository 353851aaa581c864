package broker

import (
	"net/url"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// An identity has the offer of its own connection, whatever Authenticate says and
// whatever the one before offered.
func TestOffer(t *testing.T) {
	offer := wire.Offer{Instance: wire.InstanceID("x"), Window: time.Minute}
	h := start(t, nil)
	for _, c := range []struct {
		clientType string
		want       wire.Offer
	}{
		{"farport/1 (linux; arm64) " + offer.Word(), offer},
		{"azure-iot-device/1.18.4 (node v20)", wire.Offer{}},
		{offer.Word(), offer},
		{offer.Word() + " " + offer.Word(), wire.Offer{}},
	} {
		d := h.dial(t)
		code := d.login("pi-1", func(pk *packets.Packet) {
			pk.Connect.Username = []byte(wire.UserName{Host: "hub.example.test", DeviceID: "pi-1", Params: url.Values{
				"api-version": {wire.APIVersionDevice}, wire.ParamClientType: {c.clientType},
			}}.String())
		})
		if code != 0 {
			t.Fatalf("CONNACK %d", code)
		}
		s := h.expect(t, "connected")
		if got := s.Identity().Offer; got != c.want {
			t.Errorf("%q offers %+v", c.clientType, got)
		}
		_ = d.conn.Close()
		h.expect(t, "disconnected")
	}
}
