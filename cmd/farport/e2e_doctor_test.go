//go:build unix

package main_test

import (
	"regexp"
	"strings"
	"testing"
)

// doctorAndPing look at a real sshd, which is asked nothing: it shows that it is one, and
// lets go at once.
func doctorAndPing(t *testing.T, binary string) {
	s := newSite(t, binary)
	h := newSSH(t, s)
	d := h.listen(t)
	s.serve("--listen", "127.0.0.1:0", "--mqtt-listen", "off")
	device := s.deviceProxy(s.addDevice("pi-1"), "pi-1", "--service", "ssh="+d.address)
	out := must(t, s.command(atService, "farport", "doctor", "pi-1", "--service", "ssh"))
	want := regexp.MustCompile(`(?m)^stream +ok +to "ssh": set up in \S+, \S+ to the target and back; it says "SSH-2\.0-OpenSSH\S*`)
	if !want.MatchString(out) || !strings.Contains(out, `policy "service"`) {
		t.Errorf("doctor says %s", out)
	}
	out = must(t, s.command(atService, "farport", "ping", "pi-1", "--service", "ssh", "-c", "2"))
	if !regexp.MustCompile(`(?m)^stream 2 to pi-1 \(ssh\): set-up \S+ ms, round trip \S+ ms$`).MatchString(out) {
		t.Errorf("ping says %s", out)
	}
	device.said(t, `^farport: stream 3 closed: pi-1 \(ssh\), up 0 B, `, 1, soon)
	d.stop()
	d.ended(t)
	if log := device.stderr.String(); strings.Contains(log, "broke") {
		t.Errorf("device-proxy saw a stream that broke: %s", log)
	}
}
