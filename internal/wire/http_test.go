package wire

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	for _, test := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"30", 30 * time.Second, true},
		{"1.5", 1500 * time.Millisecond, true}, // C# formats a TimeSpan
		{".5", 500 * time.Millisecond, true},
		{"0", 0, true},
		{"300", MaxStreamTimeout, true},
		{"00030", 30 * time.Second, true},
		{"300.001", 0, false},
		{"-1", 0, false},
		{"+1", 0, false},
		{"1e2", 0, false},
		{"0x10", 0, false},
		{"1_0", 0, false},
		{"Inf", 0, false},
		{"NaN", 0, false},
		{"1.2.3", 0, false},
		{"", 0, false},
		{".", 0, false},
		{" 1", 0, false},
		{"00:00:30", 0, false},
		{"३०", 0, false},
		{strings.Repeat("9", 1000), 0, false},
	} {
		if got, ok := ParseSeconds(test.text); got != test.want || ok != test.ok {
			t.Errorf("%q: %v, %v, want %v, %v", test.text, got, ok, test.want, test.ok)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0", 1: "1", time.Second: "1", time.Second + 1: "2", DefaultResponseTimeout: "30",
		-time.Hour: "0", math.MaxInt64: "9223372037", math.MinInt64: "0",
	} {
		if got := FormatSeconds(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

// Limits that other limits are counted on.
func TestTimesFitTogether(t *testing.T) {
	if DeadAfter < 2*PingInterval || DeadAfter <= WriteStall {
		t.Error("a living peer may be given up")
	}
	if HandshakeTimeout < DefaultConnectTimeout+DefaultResponseTimeout {
		t.Error("a stream expires before the device has answered")
	}
	if MaxDeviceSilence < DeviceKeepAlive*3/2 {
		t.Error("the hub hangs up on a device-proxy")
	}
}

func TestIDs(t *testing.T) {
	long := strings.Repeat("x", MaxID)
	for _, test := range []struct {
		text         string
		id, isStream bool
	}{
		{"pi-1", true, true},
		{"shell", true, true},
		{"TestStream", true, true},
		{"a.b_c-d", true, true},
		{long, true, true},
		{long + "x", false, false},
		{"-.+%_#*?!(),=@$':", true, false},
		{"~", false, true},
		{"...", true, true},
		{"", false, false},
		{".", false, false},
		{"..", false, false},
		{"a/b", false, false},
		{"a%2fb", false, false},
		{"a%2Fb", false, false},
		{"a%2eb", true, false},
		{"a b", false, false},
		{"a\x00", false, false},
		{"a\n", false, false},
		{"a&b", false, false},
		{"a;b", false, false},
		{"é", false, false},
		{"\xff", false, false},
	} {
		if ValidID(test.text) != test.id || ValidStreamName(test.text) != test.isStream {
			t.Errorf("%q: ID %v, stream name %v", test.text, ValidID(test.text), ValidStreamName(test.text))
		}
	}
}
