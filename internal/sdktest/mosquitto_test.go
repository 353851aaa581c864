//go:build linux

package sdktest

import (
	"regexp"
	"strings"
	"testing"
)

// TestMosquitto: mosquitto_sub and mosquitto_pub 2.0.11, an MQTT client that knows
// nothing of Azure, on port 8883.
func TestMosquitto(t *testing.T) {
	able(t)
	t.Parallel()
	h := newHub(t)
	h.farport(t, "device", "create", "pi-1")
	h.farport(t, "device", "create", "pi-2")
	sas := []string{"-P", h.farport(t, "sas-token", "--device", "pi-1")}
	other := []string{"-P", h.farport(t, "sas-token", "--device", "pi-2")}
	const events = "devices/pi-1/messages/events/"
	for _, test := range []struct {
		name, program string
		secret, args  []string
		code          int
		says          string // a pattern; ^ and $ match at lines
	}{
		{"subscribe_streams", "mosquitto_sub", sas, []string{"-E", "-t", "$iothub/streams/POST/#", "-t", "$iothub/streams/res/#"}, 0, `^Subscribed \(mid: \d+\): 0, 0$`},
		{"subscribe_messages", "mosquitto_sub", sas, []string{"-E", "-q", "1", "-t", "devices/pi-1/messages/devicebound/#"}, 0, `^Subscribed \(mid: \d+\): 1$`},
		{"subscribe_methods", "mosquitto_sub", sas, []string{"-E", "-t", "$iothub/methods/POST/#"}, 0, `^Subscribed \(mid: \d+\): 0$`},
		{"subscribe_twin", "mosquitto_sub", sas, []string{"-E", "-t", "$iothub/twin/res/#", "-t", "$iothub/twin/PATCH/properties/desired/#"}, 0, `^Subscribed \(mid: \d+\): 0, 0$`},
		{"subscribe_qos2", "mosquitto_sub", sas, []string{"-E", "-q", "2", "-t", "devices/pi-1/messages/devicebound/#"}, 0, `^Subscribed \(mid: \d+\): 1$`},
		{"subscribe_of_another", "mosquitto_sub", sas, []string{"-E", "-t", "devices/pi-2/messages/devicebound/#"}, 0, `^All subscription requests were denied\.$`},
		{"publish_qos0", "mosquitto_pub", sas, []string{"-q", "0", "-m", "x", "-t", events}, 0, `sending PUBLISH`},
		{"publish_qos1", "mosquitto_pub", sas, []string{"-q", "1", "-m", "x", "-t", events + "%24.ct=application%2Fjson&a%20b=c%2Fd"}, 0, `received PUBACK \(Mid: 1, RC:0\)$`},
		{"publish_qos1_1000", "mosquitto_pub", sas, []string{"-q", "1", "-m", "x", "--repeat", "1000", "-t", events}, 0, `received PUBACK \(Mid: 1000, RC:0\)$`},
		{"publish_qos2", "mosquitto_pub", sas, []string{"-q", "2", "-m", "x", "-t", events}, 7, `^Error: The connection was lost\.$`},
		{"publish_retained", "mosquitto_pub", sas, []string{"-q", "1", "-r", "-m", "x", "-t", events}, 0, `received PUBACK`},
		{"will", "mosquitto_pub", sas, []string{"-q", "1", "-m", "x", "-t", events, "--will-topic", events, "--will-payload", "bye", "--will-qos", "1", "--will-retain"}, 0, `received PUBACK`},
		{"no_clean_session", "mosquitto_sub", sas, []string{"-E", "-c", "-q", "1", "-t", "devices/pi-1/messages/devicebound/#"}, 0, `^Subscribed \(mid: \d+\): 1$`},
		{"refused_wrong_token", "mosquitto_pub", other, []string{"-m", "x", "-t", events}, 5, `CONNACK \(5\)$`},
		{"refused_nonsense", "mosquitto_pub", []string{"-P", "wrong"}, []string{"-m", "x", "-t", events}, 5, `CONNACK \(5\)$`},
		{"refused_no_password", "mosquitto_pub", nil, []string{"-m", "x", "-t", events}, 5, `CONNACK \(5\)$`},
		{"refused_mqtt5", "mosquitto_pub", sas, []string{"-V", "mqttv5", "-m", "x", "-t", events}, 132, `CONNACK \(132\)$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.mosquitto(t, test.program, "pi-1", append(test.secret, test.args...)...).ends(t, test.code, test.says)
		})
	}
	t.Run("stream_request", func(t *testing.T) { h.streamRequest(t, sas) })
}

// streamRequest sees what a device that asked for stream requests is sent. The hub waits
// for the subscription; nobody answers.
func (h *hub) streamRequest(t *testing.T, sas []string) {
	device := h.mosquitto(t, "mosquitto_sub", "pi-1", append(sas, "-C", "1", "-F", "topic %t payload %l", "-t", "$iothub/streams/POST/#")...)
	start(t, soon, h.env, h.binary, "service-proxy", "--stdio", "-d", "pi-1", "--service", "TestStream",
		"--connect-timeout", "20s", "--connection-string-file", h.data("connection-strings", "service"))
	device.ends(t, 0, `^topic \$iothub/streams/POST/TestStream/\?\$rid=1&\$url=wss%3A%2F%2F`+regexp.QuoteMeta(h.host)+`%3A443%2F[A-Za-z0-9%._~-]+&\$auth=[A-Za-z0-9._~-]+ payload 0$`)
}

// TestMosquittoX509: certificates instead of a password.
func TestMosquittoX509(t *testing.T) {
	able(t)
	t.Parallel()
	h := newHub(t)
	ca, strangeCA := newCertificate(t, "factory", true, nil), newCertificate(t, "factory", true, nil)
	own, foreign := newCertificate(t, "anything", false, nil), newCertificate(t, "anything", false, nil)
	signed, strange := newCertificate(t, "pi-ca", false, ca), newCertificate(t, "pi-ca", false, strangeCA)
	signedModule, signedOwn := newCertificate(t, "pi-ca/m-1", false, ca), newCertificate(t, "pi-own", false, ca)
	h.farport(t, "ca", "add", ca.certFile(), "--key", ca.keyFile())
	h.farport(t, "device", "create", "pi-own", "--x509-thumbprint", own.thumbprint())
	h.farport(t, "device", "create", "pi-own/m-1", "--x509-thumbprint", own.thumbprint())
	h.farport(t, "device", "create", "pi-ca", "--x509-ca")
	h.farport(t, "device", "create", "pi-ca/m-1", "--x509-ca")
	h.farport(t, "device", "create", "pi-sas")
	for _, test := range []struct {
		name, id    string       // of a device or module
		certificate *certificate // nil: none
		code        int
	}{
		{"thumbprint", "pi-own", own, 0},
		{"ca", "pi-ca", signed, 0},
		{"module_thumbprint", "pi-own/m-1", own, 0},
		{"module_ca", "pi-ca/m-1", signedModule, 0},
		{"refused_other_thumbprint", "pi-own", foreign, 5},
		{"refused_signed_instead_of_thumbprint", "pi-own", signedOwn, 5},
		{"refused_unknown_ca", "pi-ca", strange, 5},
		{"refused_other_name", "pi-ca", signedOwn, 5},
		{"refused_device_for_module", "pi-ca/m-1", signed, 5},
		{"refused_none", "pi-ca", nil, 5},
		{"refused_for_sas_device", "pi-sas", own, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			events := "devices/" + strings.Replace(test.id, "/", "/modules/", 1) + "/messages/events/"
			args := []string{"-q", "1", "-m", "x", "-t", events}
			if c := test.certificate; c != nil {
				args = append(args, "--cert", c.certFile(), "--key", c.keyFile())
			}
			says := `received PUBACK`
			if test.code != 0 {
				says = `CONNACK \(5\)$`
			}
			h.mosquitto(t, "mosquitto_pub", test.id, args...).ends(t, test.code, says)
		})
	}
}

// mosquitto starts mosquitto_sub or mosquitto_pub as a device; it tells what it does.
func (h *hub) mosquitto(t *testing.T, program, id string, args ...string) *process {
	t.Helper()
	return start(t, soon, h.env, append([]string{
		require(t, program), "-d", "-V", "mqttv311", "-h", h.host, "-p", "8883", "--cafile", h.data("ca.pem"),
		"-i", id, "-u", h.host + "/" + id + "/?api-version=2021-04-12",
	}, args...)...)
}
