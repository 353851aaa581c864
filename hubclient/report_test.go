package hubclient

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/farportio/farport/internal/wire"
)

// TestReports: the hub takes the first report and refuses two; a fourth one ends with
// the connection.
func TestReports(t *testing.T) {
	var sent []string
	hub := (&testHub{device: func(s *deviceSession) {
		s.ready()
		for i := range 4 {
			if got := s.subscribe(0); got == nil || got.Topics[0] != wire.FilterTwinAnswers {
				t.Errorf("%d. report did not begin with a subscription to its answers", i+1)
				return
			}
			publish, ok := s.read().(*packets.PublishPacket)
			if !ok {
				t.Errorf("no %d. report", i+1)
				return
			}
			asked, _ := wire.ParseTwinRequest(publish.TopicName)
			sent = append(sent, string(publish.Payload))
			if i == 3 {
				return
			}
			s.ask(wire.TwinAnswerTopic(200, "another", 0)) // of nobody's request
			s.ask(wire.TwinAnswerTopic([]int{204, 400, 400}[i], asked.RID, 2))
		}
	}}).start(t)
	d, err := DialDevice(t.Context(), hub.connectionString("pi-1"), DeviceOptions{Options: Options{Proxy: noProxy}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.ReportHostKeys(t.Context(), []string{"ssh-ed25519 AAAA"}); err != nil {
		t.Error(err)
	}
	if err := d.ReportHostKeys(t.Context(), nil); err == nil || !strings.Contains(err.Error(), `report host keys of device "pi-1": hub answered 400`) {
		t.Errorf("refused report: %v", err)
	}
	if err := d.ReportServices(t.Context(), []string{"rdp", "ssh"}); err == nil || !strings.Contains(err.Error(), `report services of device "pi-1": hub answered 400`) {
		t.Errorf("refused report: %v", err)
	}
	if err := d.ReportHostKeys(context.Background(), nil); err == nil {
		t.Error("a report that the hub never answered succeeded")
	}
	want := []string{`{"farport":{"hostKeys":["ssh-ed25519 AAAA"]}}`, `{"farport":{"hostKeys":null}}`, `{"farport":{"services":["rdp","ssh"]}}`, `{"farport":{"hostKeys":null}}`}
	if !slices.Equal(sent, want) {
		t.Errorf("sent %q", sent)
	}
}
