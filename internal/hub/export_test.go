package hub

import (
	"context"
	"net/http"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/wire"
)

// What the tests against a running hub need to see of its inside.

// RouteNames lists all routes as "METHOD path".
func RouteNames() []string {
	var list []string
	for _, r := range routes {
		list = append(list, r.method+" "+r.path)
	}
	return list
}

// TestPolicy is a policy with its keys.
func (h *Hub) TestPolicy(name string) (registry.Policy, error) {
	return h.registry.Policy(context.Background(), name)
}

// TestLegToken mints a stream token like another that has been minted, but for its
// expiry.
func (h *Hub) TestLegToken(token string, expires time.Time) (credential.Secret, error) {
	t, err := h.token.verify(token, time.Now())
	t.Expires = expires.Unix()
	return h.token.mint(t), err
}

// TestTellDesired tells a device of a change in the name of a caller who has gone.
func (h *Hub) TestTellDesired(device string, version int) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := &request{Request: (&http.Request{}).WithContext(ctx), id: device}
	h.tellDesired(r, wire.Twin{}, map[string]any{"$version": version})
}

// TestReplace puts a new life in the place of a device, and tells nobody yet.
func (h *Hub) TestReplace(device string) error {
	ctx := context.Background()
	if err := h.registry.Delete(ctx, device, "*"); err != nil {
		return err
	}
	_, err := h.registry.Create(ctx, wire.Device{DeviceID: device})
	return err
}

// TestIdle reports whether the hub holds nothing for any stream.
func (h *Hub) TestIdle() bool {
	return len(h.rendezvous.List()) == 0
}

// TestWaiting reports how many requests wait for a device to connect.
func (h *Hub) TestWaiting(device string) int {
	b := h.bus.(*localBus)
	b.mu.Lock()
	defer b.mu.Unlock()
	if w := b.waiting[device]; w != nil {
		return w.n
	}
	return 0
}

// TestOpen is the number of streams there are.
func (h *Hub) TestOpen() int { return len(h.rendezvous.List()) }

// SideOf is the side that a stream token is for.
func (h *Hub) SideOf(token string) wire.Side {
	t, _ := h.token.verify(token, time.Now())
	return t.Side
}

// FailListener breaks the HTTPS listener.
func (h *Hub) FailListener() { _ = h.https.Close() }
