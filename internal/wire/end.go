package wire

// EndReason says why a stream ended: one word, the same in log, close frame and
// message.
type EndReason string

// The reasons a plain stream can end with.
const (
	EndDevice   EndReason = "device closed"  // the device's side ended first, cleanly
	EndService  EndReason = "service closed" // the service's side ended first, cleanly
	EndAborted  EndReason = "aborted"        // an end broke off on purpose (its TCP side was reset)
	EndNetwork  EndReason = "network"        // a leg was lost without a word, or stalled
	EndRejected EndReason = "rejected"       // the device said no
	EndOffline  EndReason = "offline"        // the device was not connected in time
	EndExpired  EndReason = "expired"        // the legs did not meet within the handshake time-out
	EndRevoked  EndReason = "revoked"        // the right it was opened with was taken away
	EndStopping EndReason = "hub stopping"   // the hub shuts down
	EndProtocol EndReason = "protocol"       // an end sent what no stream carries
)

// What an extended stream ends with, besides EndRevoked, EndExpired and EndProtocol.
// Source: docs/farport-v1.md, section 5.
const (
	EndFinished EndReason = "finished" // both directions delivered in full
	EndReset    EndReason = "reset"    // an end broke off: its TCP side was reset
	EndRefused  EndReason = "refused"  // a join without the right token or instance
	EndLost     EndReason = "lost"     // an end could not resume within the window
	EndOverflow EndReason = "overflow" // more bytes than an offset can count
	EndShutdown EndReason = "shutdown" // an end's process was told to stop
	EndInstance EndReason = "instance" // the device-proxy was started anew
	EndClosed   EndReason = "closed"   // an operator ended it
	EndIdle     EndReason = "idle"     // no leg came back
)

// WebSocket close codes. Source: RFC 6455 §7.4.1; docs/protocol.md, Ending.
const (
	CloseNormal   = 1000 // clean end, every byte handed on
	CloseProtocol = 1002
	CloseNoStatus = 1005 // close frame without a code; never sent as a code
	CloseAbnormal = 1006 // no close frame at all; never sent
	CloseTooBig   = 1009
	CloseError    = 1011 // any end that was not clean
)

// closeDisconnected is what the real gateway says when the other leg has gone.
const closeDisconnected = "WS disconnected"

// Clean reports whether the reason is an end in good order.
func (r EndReason) Clean() bool { return r == EndDevice || r == EndService || r == EndFinished }

// CloseFrame is the close code and text that tell a leg of the end. The text
// for a lost peer is the real gateway's.
func (r EndReason) CloseFrame() (code int, text string) {
	switch r {
	case EndDevice, EndService, EndFinished:
		return CloseNormal, ""
	case EndNetwork:
		return CloseError, closeDisconnected
	case EndReset, EndShutdown: // a plain stream has no words for why an end broke off
		return CloseError, string(EndAborted)
	}
	return CloseError, string(r)
}

// ParseClose reads a received close frame: clean for 1000, and for 1005, which is
// how the Node quickstart ends; otherwise the reason.
func ParseClose(code int, text string) (reason EndReason, clean bool) {
	switch code {
	case CloseNormal, CloseNoStatus:
		return "", true
	case CloseProtocol, CloseTooBig:
		return EndProtocol, false
	case CloseError:
		switch r := EndReason(text); r {
		case EndAborted, EndRejected, EndOffline, EndExpired, EndRevoked, EndStopping, EndProtocol:
			return r, false
		}
	}
	return EndNetwork, false
}

// Closed is the reason of a stream that side ended first, cleanly.
func Closed(side Side) EndReason {
	if side == SideDevice {
		return EndDevice
	}
	return EndService
}
