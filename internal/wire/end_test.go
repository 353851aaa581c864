package wire

import (
	"fmt"
	"testing"
)

// A break arrives as the word it was sent as. A clean end has no word: who ended
// first, each side knows by itself.
func TestCloseFrames(t *testing.T) {
	for _, reason := range []EndReason{EndDevice, EndService, EndAborted, EndNetwork, EndRejected, EndOffline, EndExpired, EndRevoked, EndStopping, EndProtocol} {
		code, text := reason.CloseFrame()
		got, clean := ParseClose(code, text)
		if clean != reason.Clean() || !clean && got != reason {
			t.Errorf("%s became %q, %v by %d %q", reason, got, clean, code, text)
		}
		if len(text) > 123 || clean != (code == CloseNormal) || !clean && code != CloseError {
			t.Errorf("%s: %d %q", reason, code, text)
		}
	}
}

// What an extended stream has words of its own for is on a plain leg what it always was.
func TestCloseFramesOfExtendedReasons(t *testing.T) {
	for _, reason := range []EndReason{EndReset, EndShutdown} {
		if got, clean := ParseClose(reason.CloseFrame()); got != EndAborted || clean {
			t.Errorf("%s became %q, %v", reason, got, clean)
		}
	}
}

func TestParseClose(t *testing.T) {
	for _, test := range []struct {
		code  int
		text  string
		want  EndReason
		clean bool
	}{
		{1000, "", "", true},
		{1000, "End of test", "", true},
		{1000, "revoked", "", true},
		{1005, "", "", true}, // the Node quickstart
		{1011, "WS disconnected", EndNetwork, false},
		{1011, "", EndNetwork, false},
		{1011, "device closed", EndNetwork, false},
		{1011, "service closed", EndNetwork, false},
		{1011, "Aborted", EndNetwork, false},
		{1011, "hub stopping", EndStopping, false},
		{1001, "revoked", EndNetwork, false},
		{1002, "", EndProtocol, false},
		{1009, "", EndProtocol, false},
		{1006, "", EndNetwork, false},
		{1007, "", EndNetwork, false},
		{4000, "aborted", EndNetwork, false},
	} {
		t.Run(fmt.Sprint(test.code, test.text), func(t *testing.T) {
			if got, clean := ParseClose(test.code, test.text); got != test.want || clean != test.clean {
				t.Errorf("%q, %v", got, clean)
			}
		})
	}
}

func TestClosed(t *testing.T) {
	if Closed(SideDevice) != EndDevice || Closed(SideService) != EndService {
		t.Error("the other side ended")
	}
}
