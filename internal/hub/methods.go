package hub

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/farportio/farport/internal/hub/broker"
	"github.com/farportio/farport/internal/wire"
)

// maxCalls bounds the direct methods under way in a hub, most of which wait for a
// device.
const maxCalls = 1000

// methodCall is the body of a call. Times are in seconds; without one the hub waits 30 s
// for the answer, and not at all for the device to connect, as Azure does.
type methodCall struct {
	MethodName               string          `json:"methodName"`
	Payload                  json.RawMessage `json:"payload"`
	ConnectTimeoutInSeconds  float64         `json:"connectTimeoutInSeconds"`
	ResponseTimeoutInSeconds float64         `json:"responseTimeoutInSeconds"`
}

// invokeMethod relays a direct method to a device, and its answer back
// (docs/protocol.md, Direct methods).
func (h *Hub) invokeMethod(w http.ResponseWriter, r *request) {
	body, ok := h.beginLongCall(w, r, wire.MaxMethodPayload+maxBody)
	if !ok {
		return
	}
	var call methodCall
	if !h.parseJSON(w, r, body, &call) {
		return
	}
	wait, answer, problem := call.check()
	if problem != "" {
		h.refuse(w, r, wire.ErrArgumentInvalid, problem)
		return
	}
	d, err := h.registry.Get(r.Context(), r.target())
	if err != nil || enabled(d) != nil {
		h.noDevice(w, r, err)
		return
	}
	select {
	case h.calls <- struct{}{}:
		defer func() { <-h.calls }()
	default:
		h.refuse(w, r, wire.ErrThrottling, "too many direct methods are under way")
		return
	}
	said, err := h.bus.Ask(r.Context(), r.target(), wait, Request{
		Generation: d.GenerationID, Timeout: answer,
		Method: &MethodCall{Name: call.MethodName, Payload: call.Payload},
	})
	if err != nil {
		h.notInvoked(w, r, d, err, wait, answer)
		return
	}
	h.answerMethod(w, r, said)
}

// check returns the call's two time-outs, or what is wrong with it.
func (c *methodCall) check() (wait, answer time.Duration, problem string) {
	if len(c.Payload) == 0 {
		c.Payload = json.RawMessage("null")
	}
	if c.ResponseTimeoutInSeconds == 0 {
		c.ResponseTimeoutInSeconds = wire.DefaultResponseTimeout.Seconds()
	}
	most := wire.MaxStreamTimeout.Seconds()
	switch {
	case !wire.ValidMethodName(c.MethodName):
		return 0, 0, "methodName " + quote(c.MethodName) + " cannot name a method"
	case len(c.Payload) > wire.MaxMethodPayload:
		return 0, 0, "the payload is larger than 128 KiB"
	case !(c.ConnectTimeoutInSeconds >= 0 && c.ConnectTimeoutInSeconds <= most && c.ResponseTimeoutInSeconds > 0 && c.ResponseTimeoutInSeconds <= most):
		return 0, 0, "the time-outs are not seconds from 0 to 300"
	}
	return seconds(c.ConnectTimeoutInSeconds), seconds(c.ResponseTimeoutInSeconds), ""
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// notInvoked answers for an error of Ask.
func (h *Hub) notInvoked(w http.ResponseWriter, r *request, d wire.Device, err error, wait, answer time.Duration) {
	switch {
	case r.Context().Err() != nil:
		h.refuse(w, r, wire.ErrUnavailable, "the service went away before the device answered")
	case errors.Is(err, errNotConnected):
		h.refuseAfter(w, r, wire.ErrDeviceNotOnline, offline(d, time.Now()), wait)
	case errors.Is(err, errLost):
		h.refuse(w, r, wire.ErrDeviceNotOnline, err.Error())
	case errors.Is(err, errNoAnswer):
		h.refuseAfter(w, r, wire.ErrGatewayTimeout, err.Error(), answer)
	case errors.Is(err, errDeviceBusy):
		h.refuse(w, r, wire.ErrThrottling, err.Error())
	case errors.Is(err, broker.ErrAnswerTooLarge):
		h.refuse(w, r, wire.ErrBadDeviceResponse, err.Error())
	default:
		h.log.Warn("call a direct method", "device", r.target(), "err", err)
		h.refuse(w, r, wire.ErrUnavailable, "the device could not be asked")
	}
}

// answerMethod hands on what the device said, if that is JSON or nothing.
func (h *Hub) answerMethod(w http.ResponseWriter, r *request, said Answer) {
	payload := json.RawMessage(said.Payload)
	if len(payload) == 0 {
		payload = json.RawMessage("null")
	}
	if !json.Valid(payload) {
		h.refuse(w, r, wire.ErrBadDeviceResponse, "the device answered with something that is not JSON")
		return
	}
	writeJSON(w, struct {
		Status  int             `json:"status"`
		Payload json.RawMessage `json:"payload"`
	}{said.Status, payload})
}
