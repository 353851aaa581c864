//go:build linux

package sdktest

import "testing"

// TestServiceSDK: azure-iothub 1.16.6, without devices.
func TestServiceSDK(t *testing.T) {
	able(t)
	t.Parallel()
	newHub(t).script(t, "service.mjs")
}

// TestDeviceSDK: azure-iot-device 1.18.4 with azure-iot-device-mqtt 1.16.4. Streams are
// started by azure-iothub's HTTP layer.
func TestDeviceSDK(t *testing.T) { deviceSDK(t, "device") }

// TestOldDeviceSDK: azure-iot-device and azure-iot-device-mqtt 1.9.9, which speak
// api-version 2018-06-30.
func TestOldDeviceSDK(t *testing.T) { deviceSDK(t, "device-2018") }

func deviceSDK(t *testing.T, folder string) {
	able(t)
	for _, test := range []struct{ name, transport, auth string }{
		{"mqtt", "Mqtt", "sas"},
		{"mqtt_ws", "MqttWs", "sas"},
		{"mqtt_thumbprint", "Mqtt", "selfSigned"},
		{"mqtt_ws_thumbprint", "MqttWs", "selfSigned"},
		{"mqtt_ca", "Mqtt", "certificateAuthority"},
		{"mqtt_ws_ca", "MqttWs", "certificateAuthority"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			env := []string{"FOLDER=" + folder, "TRANSPORT=" + test.transport, "AUTH=" + test.auth}
			if test.auth != "sas" {
				env = append(env, h.certificates(t, test.auth)...)
			}
			h.script(t, "device.mjs", env...)
		})
	}
}

// certificates makes that of "pi-1" and one that the hub does not know, and tells a
// script. They are signed by themselves, or, if auth says so, by a CA that is registered
// and by one that is not.
func (h *hub) certificates(t *testing.T, auth string) []string {
	t.Helper()
	var ca, strange *certificate
	if auth == "certificateAuthority" {
		ca, strange = newCertificate(t, "factory", true, nil), newCertificate(t, "factory", true, nil)
		h.farport(t, "ca", "add", ca.certFile(), "--key", ca.keyFile())
	}
	mine, other := newCertificate(t, "pi-1", false, ca), newCertificate(t, "pi-1", false, strange)
	return []string{"MINE=" + mine.file, "THUMBPRINT=" + mine.thumbprint(), "OTHER=" + other.file}
}

// TestWebsocketStream: websocket-stream 5.5.2, as in the Node quickstart's proxy, to
// real device-proxies.
func TestWebsocketStream(t *testing.T) {
	able(t)
	t.Parallel()
	h := newHub(t)
	h.deviceProxy(t, "pi-1", listen(t, echo))
	h.deviceProxy(t, "pi-2", listen(t, banner))
	h.script(t, "quickstart.mjs", "DEVICE=pi-1", "BANNER=pi-2")
}
