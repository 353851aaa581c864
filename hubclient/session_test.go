package hubclient

import (
	"bytes"
	"fmt"
	"maps"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/farportio/farport/internal/wire"
)

// A hub that still has the session may ask before the device has subscribed, even in
// one breath with CONNACK.
func TestRequestBeforeSuback(t *testing.T) {
	for _, transport := range []Transport{MQTTWS, MQTT} {
		t.Run(fmt.Sprint(transport), func(t *testing.T) {
			hub := &testHub{}
			answers := make(chan string, 2)
			hub.device = func(s *deviceSession) {
				s.read()
				ack := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
				ack.SessionPresent = true
				early := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
				early.TopicName = request(1, hub.legURL())
				var both bytes.Buffer
				_, _ = ack.Write(&both), early.Write(&both)
				_, _ = s.conn.Write(both.Bytes())
				s.ask(request(2, hub.legURL()))
				s.subscribe(0, 0)
				for range cap(answers) {
					answers <- s.answer()
				}
				s.drain()
			}
			hub.start(t)
			d := hub.dial(DeviceOptions{Transport: transport, MQTTPort: hub.listenMQTT()})
			want, got := map[string]bool{}, map[string]bool{}
			for rid := range cap(answers) {
				r, err := d.Next(bounded(t))
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Reject(bounded(t)); err != nil {
					t.Fatal(err)
				}
				want[answerTopic(rid+1, wire.StatusReject)] = true
				got[<-answers] = true
			}
			if !maps.Equal(got, want) {
				t.Errorf("answers are %v", got)
			}
		})
	}
}
