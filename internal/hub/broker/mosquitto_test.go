package broker

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/skip"
	"github.com/farportio/farport/internal/wire"
)

// mosquitto prepares one of mosquitto's programs, a client that is nobody's relative,
// to log in as pi-1.
func (h *harness) mosquitto(t *testing.T, program, password string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("mosquitto_" + program)
	if err != nil {
		skip.Test(t, "mosquitto_"+program+" is not installed: apt-get install mosquitto-clients")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	conn := h.dial(t).conn.(*tls.Conn)
	chain := conn.ConnectionState().PeerCertificates
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[len(chain)-1].Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(h.tcp, ":")
	return exec.CommandContext(t.Context(), path, append([]string{"-V", "mqttv311", "--cafile", ca, "-h", host, "-p", port,
		"-i", "pi-1", "-P", password, "-u", "hub.example.test/pi-1/?api-version=2021-04-12"}, args...)...)
}

// TestMosquitto: refused, then let in and asked for a stream.
func TestMosquitto(t *testing.T) {
	h := start(t, nil)
	args := []string{"-t", wire.FilterStreamRequests, "-C", "1", "-F", "%t", "-W", "10",
		"--will-topic", "devices/pi-1/messages/events/", "--will-payload", "gone", "--will-retain", "--will-qos", "1"}
	out, err := h.mosquitto(t, "sub", "bad", args...).CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 5 {
		t.Errorf("bad password: %v, %s", err, out)
	}
	received := make(chan string, 1)
	command := h.mosquitto(t, "sub", good, args...)
	go func() {
		out, err := command.CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		received <- string(out)
	}()
	h.expect(t, "connected")
	s := h.expect(t, "ready")
	// It prints the request and leaves without an answer.
	if _, err := initiate(t, s); !errors.Is(err, ErrGone) {
		t.Errorf("initiate: %v", err)
	}
	want := "$iothub/streams/POST/shell/?$rid=1&$url=wss%3A%2F%2Fhub.example.test%3A443%2Fx&$auth=tok\n"
	if got := <-received; got != want {
		t.Errorf("received %q", got)
	}
	h.expect(t, "disconnected")
}

// TestMosquittoTelemetry goes on with a session that another program began.
func TestMosquittoTelemetry(t *testing.T) {
	h := start(t, nil)
	out, err := h.mosquitto(t, "sub", good, "-c", "-q", "1", "-t", wire.FilterMethods, "-E", "-W", "10").CombinedOutput()
	if err != nil {
		t.Errorf("subscribe: %v, %s", err, out)
	}
	for _, kind := range []string{"connected", "ready", "disconnected"} {
		h.expect(t, kind)
	}
	out, err = h.mosquitto(t, "pub", good, "-c", "-q", "1", "-t", "devices/pi-1/messages/events/", "-m", "{}", "--repeat", "3").CombinedOutput()
	if err != nil {
		t.Errorf("telemetry: %v, %s", err, out)
	}
	s := h.expect(t, "connected")
	h.expect(t, "ready")
	if h.expect(t, "disconnected") != s || s.Events() != 3 {
		t.Errorf("counted %d", s.Events())
	}
}
