package hub

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/farportio/farport/internal/wire"
)

// maxList is the most identities one answer lists.
const maxList = 1000

// listDevices answers with up to top identities in the order of their IDs. Azure
// has no paging here; who wants more goes on with the header.
func (h *Hub) listDevices(w http.ResponseWriter, r *request) {
	top := maxList
	query := r.URL.Query()
	if text := query.Get("top"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxList {
			h.refuse(w, r, wire.ErrArgumentInvalid, "top is not a number from 1 to "+strconv.Itoa(maxList))
			return
		}
		top = n
	}
	list, err := h.registry.List(r.Context(), r.Header.Get(wire.HeaderContinuation), top)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	if len(list) == top {
		w.Header().Set(wire.HeaderContinuation, list[top-1].DeviceID) // has no character that a header could not
	}
	if list == nil {
		list = []wire.Device{}
	}
	writeJSON(w, list)
}

func (h *Hub) getDevice(w http.ResponseWriter, r *request) {
	d, err := h.registry.Get(r.Context(), r.id)
	h.answerDevice(w, r, d, err)
}

// putDevice creates an identity, or with If-Match updates it.
func (h *Hub) putDevice(w http.ResponseWriter, r *request) {
	var d wire.Device
	if !h.readJSON(w, r, &d) {
		return
	}
	if d.Name() != r.id {
		h.refuse(w, r, wire.ErrArgumentInvalid, "deviceId in the body is not "+quote(r.id)+" as in the path")
		return
	}
	etag := ifMatch(r)
	var err error
	if etag == "" {
		d, err = h.registry.Create(r.Context(), d)
	} else {
		d, err = h.registry.Update(r.Context(), d, etag)
	}
	if err == nil {
		h.audit("identity written", r)
		h.bus.Tell(r.id)
	}
	h.answerDevice(w, r, d, err)
}

// deleteDevice deletes an identity; no If-Match means whatever is there.
func (h *Hub) deleteDevice(w http.ResponseWriter, r *request) {
	etag := ifMatch(r)
	if etag == "" {
		etag = "*"
	}
	if err := h.registry.Delete(r.Context(), r.id, etag); err != nil {
		h.failed(w, r, err)
		return
	}
	h.audit("identity deleted", r)
	h.bus.Tell(r.id)
	w.WriteHeader(http.StatusNoContent)
}

// audit leaves a trace of a change to the registry (security.md T46).
func (h *Hub) audit(what string, r *request) {
	h.log.Info(what, "device", r.id, "policy", r.principal.policy, "remote", r.RemoteAddr, "tracking", r.tracking)
}

func (h *Hub) answerDevice(w http.ResponseWriter, r *request, d wire.Device, err error) {
	if err != nil {
		h.failed(w, r, err)
		return
	}
	w.Header().Set("ETag", strconv.Quote(d.ETag))
	writeJSON(w, d)
}

// ifMatch is the etag of the request, "*" for any, "" for none.
func ifMatch(r *request) string { return strings.Trim(r.Header.Get("If-Match"), `"`) }

// getTwin answers with what the identity says; properties come from devices that
// report some, which none can yet.
func (h *Hub) getTwin(w http.ResponseWriter, r *request) {
	d, err := h.registry.Get(r.Context(), r.id)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	version := map[string]any{"$version": 1}
	w.Header().Set("ETag", strconv.Quote(d.ETag))
	writeJSON(w, wire.Twin{
		DeviceID: d.DeviceID, ETag: d.ETag, DeviceETag: d.ETag, Status: d.Status, StatusUpdateTime: d.StatusUpdatedTime,
		ConnectionState: d.ConnectionState, LastActivityTime: d.LastActivityTime, Version: 1,
		Properties: wire.TwinProperties{Desired: version, Reported: version}, Capabilities: d.Capabilities,
	})
}
