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
func (r EndReason) Clean() bool { return r == EndDevice || r == EndService }

// CloseFrame is the close code and text that tell a leg of the end. The text
// for a lost peer is the real gateway's.
func (r EndReason) CloseFrame() (code int, text string) {
	switch r {
	case EndDevice, EndService:
		return CloseNormal, ""
	case EndNetwork:
		return CloseError, closeDisconnected
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
