package hub

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/farportio/farport/internal/hub/query"
	"github.com/farportio/farport/internal/wire"
)

// A page of a query holds this many twins unless the caller wants fewer; queryScan
// bounds the identities looked at for one page, and queryBytes the page itself, which
// ends with the twin that reaches it. A page may so come short, or empty, with more to
// follow.
const (
	queryPage  = 100
	queryScan  = 10_000
	queryBytes = 1 << 20
	scanStep   = 500
)

// queryDevices answers a query with the twins of the devices that match, in the order
// of their IDs, a page at a time (docs/protocol.md, Identity registry).
func (h *Hub) queryDevices(w http.ResponseWriter, r *request) {
	var body struct {
		Query string `json:"query"`
	}
	if !h.readJSON(w, r, maxBody, &body) {
		return
	}
	q, err := query.Parse(body.Query)
	if err != nil {
		h.refuse(w, r, wire.ErrArgumentInvalid, err.Error())
		return
	}
	size, after, problem := page(r.Header)
	if problem != "" {
		h.refuse(w, r, wire.ErrArgumentInvalid, problem)
		return
	}
	twins, last, err := h.matching(r, q, after, size)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	w.Header().Set(wire.HeaderItemType, wire.ItemTwin)
	if last != "" {
		w.Header().Set(wire.HeaderContinuation, base64.RawURLEncoding.EncodeToString([]byte(last)))
	}
	writeJSON(w, twins)
}

// page reads how large a page is wanted, and after which device it begins.
func page(header http.Header) (size int, after, problem string) {
	size = queryPage
	if text := header.Get(wire.HeaderMaxItems); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxList {
			return 0, "", wire.HeaderMaxItems + " is not a number from 1 to " + strconv.Itoa(maxList)
		}
		size = n
	}
	last, err := base64.RawURLEncoding.DecodeString(header.Get(wire.HeaderContinuation))
	if err != nil || len(last) > 0 && !wire.ValidID(string(last)) {
		return 0, "", wire.HeaderContinuation + " is not one that this hub has given"
	}
	return size, string(last), ""
}

// matching returns up to size twins, in JSON, of the matching devices after the given one, and
// the device to go on after, "" when there are no more.
func (h *Hub) matching(r *request, q *query.Query, after string, size int) (twins []json.RawMessage, last string, err error) {
	twins = []json.RawMessage{} // never null
	bytes := 0
	for range queryScan / scanStep {
		list, err := h.registry.List(r.Context(), after, scanStep)
		if err != nil {
			return nil, "", err
		}
		for _, d := range list {
			after = d.DeviceID
			if !q.Match(d) {
				continue
			}
			twin, err := h.registry.Twin(r.Context(), d.DeviceID)
			if gone(err) {
				continue
			}
			if err != nil {
				return nil, "", err
			}
			text, err := json.Marshal(twin)
			if err != nil {
				panic(err) // our own types
			}
			bytes += len(text)
			if twins = append(twins, text); len(twins) == size || bytes >= queryBytes {
				return twins, after, nil
			}
		}
		if len(list) < scanStep {
			return twins, "", nil
		}
	}
	return twins, after, nil
}
