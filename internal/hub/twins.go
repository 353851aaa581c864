package hub

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/farportio/farport/internal/hub/broker"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/wire"
)

// maxTwinBody bounds a change of a twin: two documents, each in some wrapping.
const maxTwinBody = 2*wire.MaxTwinPart + maxBody

func (h *Hub) getTwin(w http.ResponseWriter, r *request) {
	twin, err := h.registry.Twin(r.Context(), r.target())
	h.answerTwin(w, r, twin, err)
}

func (h *Hub) answerTwin(w http.ResponseWriter, r *request, twin wire.Twin, err error) {
	if err != nil {
		h.failed(w, r, err)
		return
	}
	w.Header().Set("ETag", strconv.Quote(twin.ETag))
	writeJSON(w, twin)
}

// changeTwin changes tags and desired properties: PATCH merges, PUT replaces. The
// device is told what it should know, if it listens; otherwise it finds out when it
// asks for its twin.
func (h *Hub) changeTwin(w http.ResponseWriter, r *request) {
	var body struct {
		Tags       map[string]any `json:"tags"`
		Properties struct {
			Desired map[string]any `json:"desired"`
		} `json:"properties"`
	}
	if !h.readJSON(w, r, maxTwinBody, &body) {
		return
	}
	change := registry.TwinChange{Tags: body.Tags, Desired: body.Properties.Desired, Replace: r.Method == http.MethodPut}
	twin, desired, err := h.registry.UpdateTwin(r.Context(), r.target(), change, orAny(ifMatch(r)))
	if err == nil {
		h.log.Info("twin written", "device", r.target(), "policy", r.principal.policy, "remote", r.RemoteAddr, "tracking", r.tracking)
		h.tellDesired(r, twin, desired)
	}
	h.answerTwin(w, r, twin, err)
}

// tellDesired tells a device of a change of its desired properties, also when the
// caller has gone: the change is made.
func (h *Hub) tellDesired(r *request, twin wire.Twin, desired map[string]any) {
	if desired == nil {
		return
	}
	text, err := json.Marshal(desired)
	if err != nil {
		panic(err) // came as JSON
	}
	ctx := context.WithoutCancel(r.Context())
	d, err := h.registry.Get(ctx, r.target())
	if err == nil {
		_, err = h.bus.Ask(ctx, r.target(), 0, Request{
			Generation: d.GenerationID, Timeout: answerTimeout,
			Change: &TwinChange{Version: desired["$version"].(int), Desired: text},
		})
	}
	if err != nil && !errors.Is(err, errNotConnected) {
		h.log.Warn("tell a device of its desired properties", "device", r.target(), "err", err)
	}
}

// deviceTwin answers a device that asks for its twin, or reports properties.
func (h *Hub) deviceTwin(s *broker.Session, q wire.TwinRequest, payload []byte) broker.TwinAnswer {
	id, ctx := s.Identity(), context.Background()
	if !q.Report {
		twin, err := h.registry.Twin(ctx, id.Name)
		if err == nil {
			err = h.stillLives(ctx, id)
		}
		if err != nil {
			return h.twinFailed(id.Name, err)
		}
		text, err := json.Marshal(twin.Properties)
		if err != nil {
			panic(err) // our own types
		}
		return broker.TwinAnswer{Status: http.StatusOK, Body: text}
	}
	version, err := h.registry.Report(ctx, id.Name, id.GenerationID, payload)
	if err != nil {
		return h.twinFailed(id.Name, err)
	}
	return broker.TwinAnswer{Status: http.StatusNoContent, Version: version}
}

// stillLives returns registry.ErrNotFound once another life of an identity has begun,
// whose twin is none of this session's business: it is about to be ended.
func (h *Hub) stillLives(ctx context.Context, id broker.Identity) error {
	d, err := h.registry.Get(ctx, id.Name)
	if err == nil && d.GenerationID != id.GenerationID {
		err = registry.ErrNotFound
	}
	return err
}

func (h *Hub) twinFailed(name string, err error) broker.TwinAnswer {
	status := http.StatusInternalServerError
	switch _, invalid := errors.AsType[*registry.InvalidError](err); {
	case invalid:
		status = http.StatusBadRequest
	case gone(err):
		status = http.StatusNotFound
	default:
		h.log.Error("twin of a device", "device", name, "err", err)
	}
	h.log.Debug("twin request refused", "device", name, "status", status, "err", err)
	return broker.TwinAnswer{Status: status}
}

// gone reports whether an identity was not there.
func gone(err error) bool { return errors.Is(err, registry.ErrNotFound) }
