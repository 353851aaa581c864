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
	writeIdentities(w, list)
}

// listModules answers with all modules of a device.
func (h *Hub) listModules(w http.ResponseWriter, r *request) {
	list, err := h.registry.Modules(r.Context(), r.id)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	writeIdentities(w, list)
}

func writeIdentities(w http.ResponseWriter, list []wire.Device) {
	shown := make([]wire.Device, len(list)) // never null
	for i, d := range list {
		shown[i] = onTheWire(d)
	}
	writeJSON(w, shown)
}

// onTheWire is an identity as callers see it: a module's status is its device's, so
// that it has none of its own.
func onTheWire(d wire.Device) wire.Device {
	if d.ModuleID != "" {
		d.Status = ""
	}
	return d
}

func (h *Hub) getIdentity(w http.ResponseWriter, r *request) {
	d, err := h.registry.Get(r.Context(), r.target())
	h.answerIdentity(w, r, d, err)
}

// putIdentity creates an identity, or with If-Match updates it.
func (h *Hub) putIdentity(w http.ResponseWriter, r *request) {
	var d wire.Device
	if !h.readJSON(w, r, maxBody, &d) {
		return
	}
	if d.DeviceID != r.id || d.ModuleID != r.module {
		h.refuse(w, r, wire.ErrArgumentInvalid, "deviceId and moduleId in the body are not those of "+quote(r.target())+" as in the path")
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
		h.changed("identity written", r.target(), r)
	}
	h.answerIdentity(w, r, d, err)
}

// deleteIdentity deletes an identity; no If-Match means whatever is there.
func (h *Hub) deleteIdentity(w http.ResponseWriter, r *request) {
	if err := h.registry.Delete(r.Context(), r.target(), orAny(ifMatch(r))); err != nil {
		h.failed(w, r, err)
		return
	}
	h.changed("identity deleted", r.target(), r)
	w.WriteHeader(http.StatusNoContent)
}

// changed follows a write to the registry: it leaves a trace (security.md T46), and has
// live connections judged anew.
func (h *Hub) changed(what, name string, r *request) {
	h.log.Info(what, "device", name, "policy", r.principal.policy, "remote", r.RemoteAddr, "tracking", r.tracking)
	h.bus.Tell(name)
}

func (h *Hub) answerIdentity(w http.ResponseWriter, r *request, d wire.Device, err error) {
	if err != nil {
		h.failed(w, r, err)
		return
	}
	w.Header().Set("ETag", strconv.Quote(d.ETag))
	writeJSON(w, onTheWire(d))
}

// ifMatch is the etag of the request, "*" for any, "" for none.
func ifMatch(r *request) string { return strings.Trim(r.Header.Get("If-Match"), `"`) }

// orAny is etag, or "*" where there is none.
func orAny(etag string) string {
	if etag == "" {
		return "*"
	}
	return etag
}

// deviceStatistics counts the devices.
func (h *Hub) deviceStatistics(w http.ResponseWriter, r *request) {
	n, err := h.registry.Count(r.Context())
	if err != nil {
		h.failed(w, r, err)
		return
	}
	writeJSON(w, map[string]int{"totalDeviceCount": n.Total, "enabledDeviceCount": n.Enabled, "disabledDeviceCount": n.Disabled})
}

// serviceStatistics counts the devices that are connected.
func (h *Hub) serviceStatistics(w http.ResponseWriter, r *request) {
	n, err := h.registry.Count(r.Context())
	if err != nil {
		h.failed(w, r, err)
		return
	}
	writeJSON(w, map[string]int{"connectedDeviceCount": n.Connected})
}
