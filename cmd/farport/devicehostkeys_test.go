package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
)

// What a device reports in place of host keys keeps nobody from seeing the device.
func TestShowDeviceWithBadHostKeys(t *testing.T) {
	server := hubtest.New(t, hub.Options{})
	device, err := hubclient.DialDevice(t.Context(), server.AddDevice("pi-1"), hubclient.DeviceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if err := device.ReportHostKeys(t.Context(), []string{"ssh-ed25519 \x1b[2J"}); err != nil {
		t.Fatal(err)
	}
	env := environment(map[string]string{"IOTHUB_CONNECTION_STRING": server.ConnectionString("iothubowner").Reveal(), "HOME": t.TempDir()})
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"device", "show", "pi-1"}, exitDone},
		{[]string{"device", "host-keys", "pi-1"}, exitFailed},
		{[]string{"ssh", "pi-1"}, exitFailed},
	} {
		var out, said bytes.Buffer
		if code := run(t.Context(), c.args, streams{strings.NewReader(""), &out, &said}, env); code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, code, c.code)
		}
		if !strings.Contains(said.String(), `host keys that device "pi-1" reports: a host key is not base64`) || strings.Contains(said.String(), "\x1b") {
			t.Errorf("%q says %q", c.args, said.String())
		}
		if shown := strings.Contains(out.String(), "pi-1"); shown != (c.code == exitDone) {
			t.Errorf("%q prints %q", c.args, out.String())
		}
	}
}
