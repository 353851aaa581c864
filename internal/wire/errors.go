package wire

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// ErrorCode is one of the service's numbered errors: the HTTP status, then a
// serial of three digits. Source: docs/protocol.md, Error numbers.
type ErrorCode struct {
	Number int
	Name   string // also the value of HeaderErrorCode
}

// Status is the HTTP status the code is sent with.
func (c ErrorCode) Status() int { return c.Number / 1000 }

// The errors a farport hub sends or a farport client looks for.
var (
	ErrArgumentInvalid    = ErrorCode{400004, "ArgumentInvalid"}
	ErrFormat             = ErrorCode{400006, "IotHubFormatError"}
	ErrUnauthorizedAccess = ErrorCode{401002, "IotHubUnauthorizedAccess"}
	ErrDeviceNotFound     = ErrorCode{404001, "DeviceNotFound"}
	ErrModuleNotFound     = ErrorCode{404010, "ModuleNotFound"}
	ErrDeviceNotOnline    = ErrorCode{404103, "DeviceNotOnline"}
	ErrMethodNotAllowed   = ErrorCode{405000, "GenericMethodNotAllowed"}
	ErrDeviceExists       = ErrorCode{409001, "DeviceAlreadyExists"}
	ErrModuleExists       = ErrorCode{409301, "ModuleAlreadyExistsOnDevice"}
	ErrPrecondition       = ErrorCode{412001, "PreconditionFailed"}
	ErrMessageTooLarge    = ErrorCode{413001, "MessageTooLarge"}
	ErrThrottling         = ErrorCode{429001, "ThrottlingException"}
	ErrBadDeviceResponse  = ErrorCode{502101, "InvalidDeviceResponse"}
	ErrUnavailable        = ErrorCode{503001, "ServiceUnavailable"}
	ErrGatewayTimeout     = ErrorCode{504101, "GatewayTimeout"}
	// ErrStreamGone answers a leg whose stream has ended. farport's own number: what
	// Azure's gateway answers is not known.
	ErrStreamGone = ErrorCode{410001, "StreamGone"}
	// ErrStaleJoin answers a join of an extended stream that is not its side's newest;
	// also farport's own.
	ErrStaleJoin = ErrorCode{409901, "StreamJoinStale"}
	// ErrNotFound answers a path the hub does not have; Azure has no number for it.
	ErrNotFound = ErrorCode{404000, "GenericNotFound"}
)

// HubError is an error as the hub says it.
type HubError struct {
	Status     int    // HTTP status
	Number     int    // six digits, 0 when the body had none
	Name       string // "" when neither header nor body had one
	Message    string
	TrackingID string
}

// errorBody is the outer JSON of every error. Message holds more JSON, or
// "ErrorCode:Name;text".
type errorBody struct {
	Message          string
	ExceptionMessage string
}

// errorDetail is the JSON inside errorBody.Message.
type errorDetail struct {
	ErrorCode    int        `json:"errorCode"`
	TrackingID   string     `json:"trackingId"`
	Message      string     `json:"message"`
	Info         *errorInfo `json:"info,omitempty"`
	TimestampUTC string     `json:"timestampUtc"`
}

type errorInfo struct {
	Timeout string `json:"timeout"`
}

// WriteError answers with code in the body form its readers expect: name and
// text for what the registry says, nested JSON for the rest, with the time-out
// that ran out as hh:mm:ss where there was one (docs/protocol.md, Errors). The
// body is never empty, as the C# SDK cannot read one.
func WriteError(w http.ResponseWriter, code ErrorCode, message, trackingID string, timeout time.Duration) {
	var body errorBody
	switch code {
	case ErrDeviceNotFound, ErrModuleNotFound, ErrDeviceExists, ErrModuleExists, ErrPrecondition, ErrArgumentInvalid, ErrFormat:
		body = errorBody{"ErrorCode:" + code.Name + ";" + message, "Tracking ID:" + trackingID}
	default:
		d := errorDetail{ErrorCode: code.Number, TrackingID: trackingID, Message: message, TimestampUTC: time.Now().UTC().Format(time.RFC3339)}
		if timeout > 0 {
			d.Info = &errorInfo{time.Time{}.Add(timeout.Round(time.Second)).Format(time.TimeOnly)}
		}
		inner, _ := json.Marshal(d) // strings and numbers: cannot fail
		body.Message = string(inner)
	}
	text, _ := json.Marshal(body)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set(HeaderErrorCode, code.Name)
	w.WriteHeader(code.Status())
	_, _ = w.Write(text) // the client is gone if this fails
}

// ParseError reads an error response in either body form, or in neither.
// text is the body, cut off by the caller at a sensible length.
func ParseError(status int, header http.Header, text []byte) HubError {
	e := HubError{Status: status, Name: header.Get(HeaderErrorCode)}
	var body errorBody
	if json.Unmarshal(text, &body) != nil || body.Message == "" {
		e.Message = strings.TrimSpace(string(text))
		return e
	}
	e.TrackingID = strings.TrimPrefix(body.ExceptionMessage, "Tracking ID:")
	e.Message = body.Message
	if rest, ok := strings.CutPrefix(body.Message, "ErrorCode:"); ok {
		var name string
		name, e.Message, _ = strings.Cut(rest, ";")
		if e.Name == "" {
			e.Name = name
		}
		return e
	}
	var d errorDetail
	if json.Unmarshal([]byte(body.Message), &d) == nil && d.Message != "" {
		e.Number, e.Message, e.TrackingID = d.ErrorCode, d.Message, d.TrackingID
	}
	return e
}
