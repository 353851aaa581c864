//go:build linux

package sdktest

import (
	"strings"
	"testing"
)

// TestMosquitto: mosquitto_sub and mosquitto_pub of Debian 12 (2.0.11), an MQTT client
// that knows nothing of Azure.
func TestMosquitto(t *testing.T) {
	able(t)
	t.Parallel()
	h := newHub(t)
	h.farport(t, "device", "create", "pi-1")
	secret := []string{"-P", h.farport(t, "sas-token", "--device", "pi-1")}
	t.Run("explore", func(t *testing.T) {
		for _, extra := range [][]string{
			{"mosquitto_sub", "-t", "$iothub/methods/POST/#", "-E"},
			{"mosquitto_pub", "-t", "devices/pi-1/messages/events/", "-q", "0", "-m", "x"},
			{"mosquitto_pub", "-t", "devices/pi-1/messages/events/", "-q", "1", "-m", "x"},
			{"mosquitto_pub", "-t", "devices/pi-1/messages/events/", "-q", "2", "-m", "x"},
			{"mosquitto_pub", "-t", "devices/pi-1/messages/events/", "-q", "1", "-m", "x", "-r"},
			{"mosquitto_pub", "-t", "devices/pi-1/messages/events/", "-q", "1", "-m", "x", "-P", "wrong"},
			{"mosquitto_sub", "-t", "devices/pi-1/messages/devicebound/#", "-q", "2", "-E"},
			{"mosquitto_sub", "-t", "devices/pi-2/messages/devicebound/#", "-q", "2", "-E"},
			{"mosquitto_sub", "-t", "$iothub/methods/POST/#", "-E", "-V", "mqttv5"},
			{"mosquitto_sub", "-t", "$iothub/methods/POST/#", "-E", "-V", "mqttv31"},
		} {
			args := append(h.mosquitto(t, extra[0], "pi-1"), secret...)
			p := start(t, soon, h.env, append(args, extra[1:]...)...)
			code := p.exit()
			t.Logf("%q: %d\n%s", strings.Join(extra, " "), code, p.text)
		}
	})
}

// mosquitto is how mosquitto_sub or _pub connects as a device, without its secret, and
// tells what it does.
func (h *hub) mosquitto(t *testing.T, program, id string) []string {
	t.Helper()
	return []string{
		require(t, program), "-d", "-V", "mqttv311", "-h", h.host, "-p", "8883", "--cafile", h.data("ca.pem"),
		"-i", id, "-u", h.host + "/" + id + "/?api-version=2021-04-12",
	}
}
