package hub

import "github.com/farportio/farport/internal/hub/rendezvous"

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
