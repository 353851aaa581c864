package hub

import (
	"context"
	"time"

	"github.com/farportio/farport/internal/hub/rendezvous"
	"github.com/farportio/farport/internal/wire"
)

// diskTime bounds reading and writing down that a stream has ended.
const diskTime = 10 * time.Second

func (h *Hub) persistEnd(id string, reason wire.EndReason, until time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), diskTime)
	defer cancel()
	return h.registry.EndStream(ctx, id, reason, until)
}

func (h *Hub) recallEnd(id string) (wire.EndReason, error) {
	ctx, cancel := context.WithTimeout(context.Background(), diskTime)
	defer cancel()
	return h.registry.StreamEnd(ctx, id)
}

// streamOpened and streamEnded leave a trace of every stream (security.md T46).

func (h *Hub) streamOpened(s rendezvous.Stream) {
	h.log.Info("stream opened", "stream", s.ID, "device", s.Device, "name", s.Name, "policy", s.Policy)
}

func (h *Hub) streamEnded(s rendezvous.Summary) {
	attrs := []any{"stream", s.ID, "device", s.Device, "name", s.Name, "policy", s.Policy,
		"device_remote", s.DeviceRemote, "service_remote", s.ServiceRemote,
		"reason", s.Reason, "joined", s.Joined, "up", s.Up, "down", s.Down, "dur", s.Duration}
	if s.Err != nil {
		attrs = append(attrs, "err", s.Err)
	}
	h.log.Info("stream ended", attrs...)
}
