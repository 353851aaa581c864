package hub

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/farportio/farport/internal/wire"
)

// maxBulkItems is the most identities one bulk request may write.
const maxBulkItems = 100

// bulkItem is an identity to be written. The device's ID is in id, not deviceId.
type bulkItem struct {
	ID             string               `json:"id"`
	ModuleID       string               `json:"moduleId"`
	ManagedBy      string               `json:"managedBy"`
	ETag           string               `json:"eTag"` // matched without case, as Go does
	ImportMode     string               `json:"importMode"`
	Status         wire.DeviceStatus    `json:"status"`
	StatusReason   *string              `json:"statusReason"`
	Authentication *wire.Authentication `json:"authentication"`
}

// bulkResult says how a bulk request went. A failed one also has a Message, without
// which the C# SDK could not read it.
type bulkResult struct {
	IsSuccessful bool        `json:"isSuccessful"`
	Errors       []bulkError `json:"errors"`
	Warnings     []struct{}  `json:"warnings"`
	Message      string      `json:"Message,omitempty"`
}

type bulkError struct {
	DeviceID    string `json:"deviceId"`
	ModuleID    string `json:"moduleId,omitempty"`
	ErrorCode   string `json:"errorCode"` // an ErrorCode's name
	ErrorStatus string `json:"errorStatus"`
}

// bulk writes many identities, each for itself: those that can be written are, and the
// answer names the others (docs/protocol.md, Identity registry).
func (h *Hub) bulk(w http.ResponseWriter, r *request) {
	var items []bulkItem
	if !h.readJSON(w, r, maxBulk, &items) {
		return
	}
	if len(items) == 0 || len(items) > maxBulkItems {
		h.refuse(w, r, wire.ErrArgumentInvalid, "a bulk request takes 1 to "+strconv.Itoa(maxBulkItems)+" identities")
		return
	}
	result := bulkResult{Errors: []bulkError{}, Warnings: []struct{}{}}
	for _, item := range items {
		if failed := h.bulkWrite(r, item); failed != nil {
			result.Errors = append(result.Errors, *failed)
		}
	}
	if result.IsSuccessful = len(result.Errors) == 0; result.IsSuccessful {
		writeJSON(w, result)
		return
	}
	result.Message = "ErrorCode:" + wire.ErrArgumentInvalid.Name + ";" + strconv.Itoa(len(result.Errors)) +
		" of " + strconv.Itoa(len(items)) + " identities could not be written"
	w.Header().Set(wire.HeaderErrorCode, wire.ErrArgumentInvalid.Name)
	writeJSONStatus(w, wire.ErrArgumentInvalid.Status(), result)
}

// bulkWrite writes one identity; nil means that it is done.
func (h *Hub) bulkWrite(r *request, item bulkItem) *bulkError {
	one := *r // names the identity in errors
	one.id, one.module = item.ID, item.ModuleID
	refused := func(code wire.ErrorCode, message string) *bulkError {
		return &bulkError{item.ID, item.ModuleID, code.Name, message}
	}
	mode := strings.ToLower(item.ImportMode)
	write := h.bulkModes()[mode]
	switch {
	case write == nil:
		return refused(wire.ErrArgumentInvalid, "importMode "+quote(item.ImportMode)+" is not known here")
	case !wire.ValidID(item.ID): // "a/m" would be a's module
		return refused(wire.ErrArgumentInvalid, "id "+quote(item.ID)+" is not one that a device can have")
	}
	if err := write(r.Context(), item); err != nil {
		return refused(h.explain(&one, err))
	}
	what := "identity written"
	if strings.HasPrefix(mode, "delete") {
		what = "identity deleted"
	}
	h.changed(what, one.target(), r)
	return nil
}

func (h *Hub) bulkModes() map[string]func(context.Context, bulkItem) error {
	create := func(ctx context.Context, i bulkItem) error {
		_, err := h.registry.Create(ctx, i.identity())
		return err
	}
	update := func(etag func(bulkItem) string) func(context.Context, bulkItem) error {
		return func(ctx context.Context, i bulkItem) error {
			_, err := h.registry.Update(ctx, i.identity(), etag(i))
			return err
		}
	}
	remove := func(etag func(bulkItem) string) func(context.Context, bulkItem) error {
		return func(ctx context.Context, i bulkItem) error {
			return h.registry.Delete(ctx, wire.TargetName(i.ID, i.ModuleID), etag(i))
		}
	}
	whatever := func(bulkItem) string { return "*" }
	its := func(i bulkItem) string { return orAny(strings.Trim(i.ETag, `"`)) }
	return map[string]func(context.Context, bulkItem) error{
		"create": create, "update": update(whatever), "updateifmatchetag": update(its),
		"delete": remove(whatever), "deleteifmatchetag": remove(its),
	}
}

func (i bulkItem) identity() wire.Device {
	return wire.Device{
		DeviceID: i.ID, ModuleID: i.ModuleID, ManagedBy: i.ManagedBy,
		Status: i.Status, StatusReason: i.StatusReason, Authentication: i.Authentication,
	}
}
