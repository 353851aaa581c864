package hubclient

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/farportio/farport/internal/wire"
)

const (
	// pageSize is how many identities are asked for at once: the most Azure gives.
	// Source: docs/protocol.md, Identity registry.
	pageSize = 1000
	// maxPages bounds a list, should a hub never come to its end.
	maxPages = 1000
	// anyVersion as etag lets an update or deletion go through whatever changed.
	anyVersion = "*"
)

// CreateDevice registers an identity and returns it as the hub has it, with keys:
// those of d, or new ones where d has none. ErrDeviceExists when the ID is taken.
func (s *Service) CreateDevice(ctx context.Context, d Identity) (Identity, error) {
	return s.put(ctx, "create", d, "")
}

// UpdateDevice replaces the identity of that ID and returns it as the hub has it.
// etag is the version that d is based on; "" means any. ErrPrecondition when it is
// not the present one, ErrDeviceNotFound when there is no such device.
func (s *Service) UpdateDevice(ctx context.Context, d Identity, etag string) (Identity, error) {
	return s.put(ctx, "update", d, quotedETag(etag))
}

func (s *Service) put(ctx context.Context, what string, d Identity, ifMatch string) (Identity, error) {
	// Azure reads these as enumerations, which have no empty value.
	d.Status = cmp.Or(d.Status, wire.StatusEnabled)
	d.ConnectionState = cmp.Or(d.ConnectionState, wire.Disconnected)
	if d.Authentication == nil {
		d.Authentication = &wire.Authentication{Type: wire.AuthSAS} // empty keys: the hub makes them
	}
	c := call{method: http.MethodPut, path: wire.IdentityPath(d.DeviceID), body: d}
	if ifMatch != "" {
		c.header = http.Header{"If-Match": {ifMatch}}
	}
	var got Identity
	c.result = &got
	if _, err := s.onDevice(ctx, d.DeviceID, c); err != nil {
		return Identity{}, s.about(what, d.DeviceID, err)
	}
	return got, nil
}

// GetDevice returns an identity, with its keys. ErrDeviceNotFound when there is
// none of that ID.
func (s *Service) GetDevice(ctx context.Context, device string) (Identity, error) {
	var got Identity
	if _, err := s.onDevice(ctx, device, call{method: http.MethodGet, path: wire.IdentityPath(device), result: &got}); err != nil {
		return Identity{}, s.about("read", device, err)
	}
	return got, nil
}

// DeleteDevice removes an identity. etag is as for UpdateDevice, and so are the
// errors.
func (s *Service) DeleteDevice(ctx context.Context, device, etag string) error {
	c := call{
		method: http.MethodDelete,
		path:   wire.IdentityPath(device),
		header: http.Header{"If-Match": {quotedETag(etag)}},
	}
	if _, err := s.onDevice(ctx, device, c); err != nil {
		return s.about("delete", device, err)
	}
	return nil
}

// ListDevices returns all identities in the hub's order, with their keys. Azure
// gives no more than 1000.
func (s *Service) ListDevices(ctx context.Context) ([]Identity, error) {
	var all []Identity
	c := call{
		method: http.MethodGet,
		path:   wire.IdentityPath(""),
		query:  url.Values{"top": {strconv.Itoa(pageSize)}},
		limit:  maxList,
	}
	for range maxPages {
		var page []Identity
		c.result = &page
		answer, err := s.do(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("list devices on %s: %w", s.hub.authority(), err)
		}
		all = append(all, page...)
		next := answer.Get(wire.HeaderContinuation)
		if next == "" {
			return all, nil
		}
		c.header = http.Header{}
		c.header.Set(wire.HeaderContinuation, next)
	}
	return nil, fmt.Errorf("list devices on %s: no end after %d pages", s.hub.authority(), maxPages)
}

// Twin returns the hub's view of a device. ErrDeviceNotFound when there is none of
// that ID.
func (s *Service) Twin(ctx context.Context, device string) (Twin, error) {
	var got Twin
	c := call{method: http.MethodGet, path: wire.TwinPath(device), result: &got, limit: maxTwin}
	if _, err := s.onDevice(ctx, device, c); err != nil {
		return Twin{}, s.about("read twin of", device, err)
	}
	return got, nil
}

// StreamingEndpoints returns the https URLs of the hub's streaming endpoints. Only
// farport's hub can tell; Azure's answers with a *HubError.
func (s *Service) StreamingEndpoints(ctx context.Context) ([]string, error) {
	var got wire.StreamingEndpoints
	if _, err := s.do(ctx, call{method: http.MethodGet, path: wire.PathDeviceStreams, result: &got}); err != nil {
		return nil, fmt.Errorf("ask %s for its streaming endpoints: %w", s.hub.authority(), err)
	}
	return got.StreamingEndpoints, nil
}

// about says which device and hub err is about.
func (s *Service) about(what, device string, err error) error {
	return fmt.Errorf("%s device %s on %s: %w", what, quote(device), s.hub.authority(), err)
}

// quotedETag writes an etag as If-Match has it, the wildcard included.
func quotedETag(etag string) string { return `"` + cmp.Or(etag, anyVersion) + `"` }
