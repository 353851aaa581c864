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

// CreateDevice registers an identity, a module's where d has a ModuleID, and returns it
// as the hub has it, with keys: those of d, or new ones where d has none.
// ErrDeviceExists when the name is taken, ErrDeviceNotFound when a module's device is
// not there.
func (s *Service) CreateDevice(ctx context.Context, d Identity) (Identity, error) {
	return s.put(ctx, "create", d, "")
}

// UpdateDevice replaces the identity of that name and returns it as the hub has it.
// etag is the version that d is based on; "" means any. ErrPrecondition when it is
// not the present one, ErrDeviceNotFound when there is no such identity.
func (s *Service) UpdateDevice(ctx context.Context, d Identity, etag string) (Identity, error) {
	return s.put(ctx, "update", d, quotedETag(etag))
}

func (s *Service) put(ctx context.Context, what string, d Identity, ifMatch string) (Identity, error) {
	// Azure reads these as enumerations, which have no empty value.
	if d.ModuleID == "" { // a module has its device's status
		d.Status = cmp.Or(d.Status, wire.StatusEnabled)
	}
	d.ConnectionState = cmp.Or(d.ConnectionState, wire.Disconnected)
	if d.Authentication == nil {
		d.Authentication = &wire.Authentication{Type: wire.AuthSAS} // empty keys: the hub makes them
	}
	target := d.Name()
	if !wire.ValidID(d.DeviceID) { // with a slash in it, it would pass for a module's name
		return Identity{}, s.about(what, target, fmt.Errorf("%s is %w of a device", quote(d.DeviceID), ErrBadName))
	}
	c := call{method: http.MethodPut, path: wire.IdentityPath(target), body: d}
	if ifMatch != "" {
		c.header = http.Header{"If-Match": {ifMatch}}
	}
	var got Identity
	c.result = &got
	if _, err := s.onTarget(ctx, target, c); err != nil {
		return Identity{}, s.about(what, target, err)
	}
	return got, s.checkName(what, target, got)
}

// checkName sees to it that the hub's answer is about target: what is made of it, such as
// a line for a shell, has its name in it.
func (s *Service) checkName(what, target string, got Identity) error {
	if got.Name() == target {
		return nil
	}
	return s.about(what, target, fmt.Errorf("hub answered about another one, %s", quote(got.Name())))
}

// GetDevice returns the identity of a target, DEVICE or DEVICE/MODULE, with its keys.
// ErrDeviceNotFound when there is none of that name.
func (s *Service) GetDevice(ctx context.Context, target string) (Identity, error) {
	var got Identity
	if _, err := s.onTarget(ctx, target, call{method: http.MethodGet, path: wire.IdentityPath(target), result: &got}); err != nil {
		return Identity{}, s.about("read", target, err)
	}
	return got, s.checkName("read", target, got)
}

// DeleteDevice removes the identity of a target, a device's with those of its modules.
// etag is as for UpdateDevice, and so are the errors.
func (s *Service) DeleteDevice(ctx context.Context, target, etag string) error {
	c := call{
		method: http.MethodDelete,
		path:   wire.IdentityPath(target),
		header: http.Header{"If-Match": {quotedETag(etag)}},
	}
	if _, err := s.onTarget(ctx, target, c); err != nil {
		return s.about("delete", target, err)
	}
	return nil
}

// ListDevices returns all devices' identities in the hub's order, with their keys, but
// no modules'. Azure gives no more than 1000.
func (s *Service) ListDevices(ctx context.Context) ([]Identity, error) {
	top := url.Values{"top": {strconv.Itoa(pageSize)}}
	all, err := s.list(ctx, wire.IdentityPath(""), top)
	if err != nil {
		return nil, fmt.Errorf("list devices on %s: %w", s.hub.authority(), err)
	}
	return all, nil
}

// ListModules returns the identities of a device's modules in the hub's order, with
// their keys. ErrDeviceNotFound when there is no such device.
func (s *Service) ListModules(ctx context.Context, device string) ([]Identity, error) {
	if !wire.ValidID(device) {
		return nil, s.about("list modules of", device, fmt.Errorf("%s is %w of a device", quote(device), ErrBadName))
	}
	all, err := s.list(ctx, wire.ModulesPath(device), nil)
	if err != nil {
		return nil, s.about("list modules of", device, err)
	}
	return all, nil
}

// list reads identities page by page.
func (s *Service) list(ctx context.Context, path string, query url.Values) ([]Identity, error) {
	var all []Identity
	c := call{method: http.MethodGet, path: path, query: query, limit: maxList}
	for range maxPages {
		var page []Identity
		c.result = &page
		answer, err := s.do(ctx, c)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		next := answer.Get(wire.HeaderContinuation)
		if next == "" {
			return all, nil
		}
		c.header = http.Header{}
		c.header.Set(wire.HeaderContinuation, next)
	}
	return nil, fmt.Errorf("no end after %d pages", maxPages)
}

// Twin returns the twin of a target. ErrDeviceNotFound when there is none of that name.
func (s *Service) Twin(ctx context.Context, target string) (Twin, error) {
	var got Twin
	c := call{method: http.MethodGet, path: wire.TwinPath(target), result: &got, limit: maxDocument}
	if _, err := s.onTarget(ctx, target, c); err != nil {
		return Twin{}, s.about("read twin of", target, err)
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

// about says which target and hub err is about.
func (s *Service) about(what, target string, err error) error {
	return fmt.Errorf("%s %s on %s: %w", what, named(target), s.hub.authority(), err)
}

// quotedETag writes an etag as If-Match has it, the wildcard included.
func quotedETag(etag string) string { return `"` + cmp.Or(etag, anyVersion) + `"` }
