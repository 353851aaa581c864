package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/wire"
)

// LegJoin says who joins (farport-v1.md section 2).
type LegJoin struct {
	Join   uint64 // counts the attempts of this end, from 1
	Secret string // of the instance
}

// JoinError is an answer to a join that is no leg.
type JoinError struct {
	Status     int            // HTTP status
	End        wire.EndReason // how the stream has ended; "" means that the answer is not final
	Highest    uint64         // of a 409: the highest join that the hub has admitted; 0 if it did not say
	RetryAfter time.Duration  // 0 if it did not say
}

func (e *JoinError) Error() string {
	text := fmt.Sprintf("streaming endpoint answered %d %s", e.Status, http.StatusText(e.Status))
	if e.End != "" {
		text += ": " + string(e.End)
	}
	return text
}

var errNotExtended = errors.New("streaming endpoint did not select " + wire.SubprotocolExtended)

// DialLeg joins an extended stream once: url and token are what the hub handed out. It
// returns the leg, and a token to use instead from now on, "" if there is none. An answer
// other than a leg is a *JoinError. The caller closes the leg.
func DialLeg(ctx context.Context, url, token string, j LegJoin, o DialOptions) (leg *Leg, newToken string, err error) {
	ws, resp, err := dial(ctx, url, http.Header{
		"Authorization":          {"Bearer " + token},
		"Sec-WebSocket-Protocol": {wire.SubprotocolExtended},
		wire.HeaderJoin:          {wire.FormatJoin(j.Join)},
		wire.HeaderInstance:      {j.Secret},
	}, o)
	switch {
	case err != nil:
		return nil, "", err
	case ws == nil:
		return nil, "", refusal(resp)
	case resp.Header.Get("Sec-WebSocket-Protocol") != wire.SubprotocolExtended:
		ws.drop()
		return nil, "", errNotExtended
	}
	return legOver(ws), resp.Header.Get(wire.HeaderToken), nil
}

// refusal reads an answer. Only a hub says that the stream has ended: portals and
// proxies on the way answer with anything.
func refusal(resp *http.Response) *JoinError {
	e := &JoinError{Status: resp.StatusCode}
	if end := resp.Header.Get(wire.HeaderEnd); end != "" && e.Status >= 400 {
		e.End = wire.ParseReason(end)
	}
	if e.Status == http.StatusConflict {
		e.Highest, _ = wire.ParseJoin(resp.Header.Get(wire.HeaderJoin))
	}
	if after := resp.Header.Get("Retry-After"); after != "" {
		e.RetryAfter, _ = wire.ParseSeconds(after) // a date is not understood
	}
	return e
}

// AcceptLeg turns a request for the streaming endpoint, authorised by the caller, into a
// leg of an extended stream; header goes with the answer. The caller closes the leg. On
// an error the request has been answered.
func AcceptLeg(w http.ResponseWriter, r *http.Request, header http.Header) (*Leg, error) {
	if !slices.Contains(websocket.Subprotocols(r), wire.SubprotocolExtended) {
		http.Error(w, "the stream takes "+wire.SubprotocolExtended+" only", http.StatusBadRequest)
		return nil, fmt.Errorf("accept leg: %s was not offered", wire.SubprotocolExtended)
	}
	if header = header.Clone(); header == nil {
		header = make(http.Header)
	}
	header.Set("Sec-WebSocket-Protocol", wire.SubprotocolExtended)
	ws, err := accept(w, r, header)
	if err != nil {
		return nil, err
	}
	return legOver(ws), nil
}
