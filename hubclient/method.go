package hubclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/farportio/farport/internal/wire"
)

// methodCall is the body of a direct method. Source: docs/protocol.md, Identity
// registry.
type methodCall struct {
	Name            string      `json:"methodName"`
	Payload         any         `json:"payload"`
	ConnectTimeout  json.Number `json:"connectTimeoutInSeconds"`
	ResponseTimeout json.Number `json:"responseTimeoutInSeconds"`
}

// InvokeMethod calls a direct method of a target, DEVICE or DEVICE/MODULE, and returns
// the status and the JSON that it answered with, both of the target's own making.
// payload is anything that encoding/json takes, nil for null. How long it waits, and
// the errors, are as for Open, as far as they are not about streams.
func (s *Service) InvokeMethod(ctx context.Context, target, method string, payload any, o OpenOptions) (status int, answer json.RawMessage, err error) {
	what := "call method " + quote(method) + " of"
	if !wire.ValidMethodName(method) {
		return 0, nil, s.about(what, target, fmt.Errorf("%s is %w of a method", quote(method), ErrBadName))
	}
	o = o.orDefault()
	var got struct {
		Status  int             `json:"status"`
		Payload json.RawMessage `json:"payload"`
	}
	_, err = s.onTarget(ctx, target, call{
		method: http.MethodPost,
		path:   wire.MethodPath(target),
		body: methodCall{
			Name: method, Payload: payload,
			ConnectTimeout:  json.Number(wire.FormatSeconds(o.ConnectTimeout)),
			ResponseTimeout: json.Number(wire.FormatSeconds(o.ResponseTimeout)),
		},
		result:  &got,
		limit:   maxDocument,
		timeout: o.wait(),
	})
	if err != nil {
		return 0, nil, s.about(what, target, err)
	}
	return got.Status, got.Payload, nil
}
