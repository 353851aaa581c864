package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// The documents of a twin, as its JSON has them.
const (
	fieldTags     = "tags"
	fieldDesired  = "properties.desired"
	fieldReported = "properties.reported"
)

// storedTwin is what is kept beside an identity. It belongs to one life of it.
type storedTwin struct {
	GenerationID string         `json:"generationId"`
	Version      int            `json:"version"` // from 1; counts changes of tags and desired
	Tags         map[string]any `json:"tags"`
	Desired      document       `json:"desired"`
	Reported     document       `json:"reported"`
}

// document is one of a twin's two properties.
type document struct {
	Version int            `json:"version"` // from 1; counts changes
	Updated wire.Time      `json:"updated"` // zero before the first one
	Values  map[string]any `json:"values"`
}

// changed returns the document with new values.
func (d document) changed(values map[string]any) document {
	return document{d.Version + 1, now(), values}
}

// wire returns the document as it is shown.
func (d document) wire() map[string]any {
	shown := withVersion(d.Values, d.Version)
	shown[nameMetadata] = map[string]any{"$lastUpdated": d.Updated}
	return shown
}

func withVersion(values map[string]any, version int) map[string]any {
	shown := make(map[string]any, len(values)+2)
	maps.Copy(shown, values)
	shown[nameVersion] = version
	return shown
}

// twin is an identity with what is kept beside it.
type twin struct {
	identity wire.Device
	stored   storedTwin
	revision uint64 // of the record, be it of another life; 0 when there is none
}

// etag counts as the version does, so that it outlives what a device reports.
func (t twin) etag() string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(t.stored.Version)))
}

// wire returns the twin as the service sees it.
func (t twin) wire() wire.Twin {
	d, s := t.identity, t.stored
	tags := s.Tags
	if tags == nil {
		tags = map[string]any{}
	}
	return wire.Twin{
		DeviceID: d.DeviceID, ModuleID: d.ModuleID, ETag: t.etag(), DeviceETag: d.ETag,
		Status: d.Status, StatusReason: d.StatusReason, StatusUpdateTime: d.StatusUpdatedTime,
		ConnectionState: d.ConnectionState, LastActivityTime: d.LastActivityTime, CloudToDeviceMessageCount: d.CloudToDeviceMessageCount,
		AuthenticationType: d.Authentication.Type, X509Thumbprint: d.Authentication.X509Thumbprint,
		Version: s.Version, Tags: tags, Capabilities: d.Capabilities,
		Properties: wire.TwinProperties{Desired: s.Desired.wire(), Reported: s.Reported.wire()},
	}
}

// TwinChange is what a service changes of a twin. nil documents are not touched. The
// others are merged into what there is, or replace it.
type TwinChange struct {
	Tags, Desired map[string]any
	Replace       bool
}

// Twin returns the twin of a device or module. A module's has its device's status.
// Errors: ErrNotFound, ErrModuleNotFound, or the store's.
func (r *Registry) Twin(ctx context.Context, name string) (wire.Twin, error) {
	t, err := r.loadTwin(ctx, name)
	if err != nil {
		return wire.Twin{}, about("get the twin of", name, err)
	}
	return t.wire(), nil
}

// Report merges a patch, JSON, into what a device or module reports, and returns the
// version that this has now. Each patch that names anything counts, as on Azure, even
// if all stays the same. generation is the life that the reporter signed in to; of
// another one nothing is found. Errors: *InvalidError, ErrNotFound,
// ErrModuleNotFound, or the store's.
func (r *Registry) Report(ctx context.Context, name, generation string, patch []byte) (version int, err error) {
	changes, err := parsePatch(fieldReported, patch)
	if err != nil {
		return 0, err
	}
	err = retry(func() error {
		t, err := r.loadTwin(ctx, name)
		switch {
		case err != nil:
			return err
		case t.identity.GenerationID != generation:
			return store.ErrNotFound
		case len(changes) > 0:
			merged := mergeObject(t.stored.Reported.Values, changes)
			if err := checkDocument(fieldReported, merged); err != nil {
				return err
			}
			t.stored.Reported = t.stored.Reported.changed(merged)
			err = r.saveTwin(ctx, t)
		}
		version = t.stored.Reported.Version
		return err
	})
	if err != nil {
		return 0, about("report for", name, err)
	}
	return version, nil
}

// UpdateTwin changes the twin whose etag is ifMatch, without quotes, or "*" for any,
// and returns it. desired is what to tell the device: the patch of its desired
// properties, or all of them when they were replaced, with "$version"; nil when they
// were not touched. As on Azure, each patch that names anything and each replacement
// counts as a change. Errors: *InvalidError, ErrNotFound, ErrModuleNotFound,
// ErrPrecondition, or the store's.
func (r *Registry) UpdateTwin(ctx context.Context, name string, change TwinChange, ifMatch string) (t wire.Twin, desired map[string]any, err error) {
	if change, err = change.normal(); err != nil {
		return wire.Twin{}, nil, err
	}
	err = retry(func() (err error) {
		t, desired, err = r.updateTwin(ctx, name, change, ifMatch)
		return err
	})
	if err != nil {
		return wire.Twin{}, nil, about("update the twin of", name, err)
	}
	return t, desired, nil
}

// normal returns the change as parsePatch would, with nil for what changes nothing.
func (c TwinChange) normal() (TwinChange, error) {
	part := func(field string, doc map[string]any) (map[string]any, error) {
		if doc == nil {
			return nil, nil
		}
		patch, err := normalPatch(field, doc)
		if len(patch) == 0 && !c.Replace {
			return nil, err
		}
		return patch, err
	}
	var err error
	if c.Tags, err = part(fieldTags, c.Tags); err == nil {
		c.Desired, err = part(fieldDesired, c.Desired)
	}
	return c, err
}

// updateTwin tries once. The write is the last thing that can fail, so an error
// means that nothing was changed.
func (r *Registry) updateTwin(ctx context.Context, name string, change TwinChange, ifMatch string) (wire.Twin, map[string]any, error) {
	t, err := r.loadTwin(ctx, name)
	switch {
	case err != nil:
		return wire.Twin{}, nil, err
	case ifMatch != anyETag && ifMatch != t.etag():
		return wire.Twin{}, nil, ErrPrecondition
	case change.Tags == nil && change.Desired == nil:
		return t.wire(), nil, nil
	}
	if err = t.stored.apply(change); err == nil {
		err = r.saveTwin(ctx, t)
	}
	if err != nil {
		return wire.Twin{}, nil, err
	}
	tell := t.stored.Desired.Values
	switch {
	case change.Desired == nil:
		return t.wire(), nil, nil
	case !change.Replace:
		tell = change.Desired
	}
	return t.wire(), withVersion(tell, t.stored.Desired.Version), nil
}

// apply changes the twin by a change that is not empty. Error: *InvalidError.
func (s *storedTwin) apply(change TwinChange) error {
	merged := func(current, patch map[string]any) map[string]any {
		if change.Replace {
			current = nil
		}
		return mergeObject(current, patch)
	}
	s.Version++
	if change.Tags != nil {
		s.Tags = merged(s.Tags, change.Tags)
	}
	if change.Desired != nil {
		s.Desired = s.Desired.changed(merged(s.Desired.Values, change.Desired))
	}
	if err := checkDocument(fieldTags, s.Tags); err != nil {
		return err
	}
	return checkDocument(fieldDesired, s.Desired.Values)
}

// loadTwin reads an identity and its twin; one of another life counts as none.
func (r *Registry) loadTwin(ctx context.Context, name string) (twin, error) {
	s, _, err := r.load(ctx, name)
	if err == nil {
		s.Device, err = r.withActivity(ctx, s.Device)
	}
	if err != nil {
		return twin{}, err
	}
	t := twin{identity: s.Device, stored: newTwin(s.GenerationID)}
	record, err := r.store.Get(ctx, store.KindTwin, name)
	if errors.Is(err, store.ErrNotFound) {
		return t, nil
	}
	if err != nil {
		return twin{}, err
	}
	t.revision = record.Revision
	kept, err := decodeTwin(record)
	if err != nil {
		return twin{}, err
	}
	if kept.GenerationID == s.GenerationID {
		t.stored = kept
	}
	return t, nil
}

// newTwin is the twin of an identity for which nothing is stored yet.
func newTwin(generation string) storedTwin {
	none := document{Version: 1}
	return storedTwin{GenerationID: generation, Version: 1, Desired: none, Reported: none}
}

func decodeTwin(record store.Record) (storedTwin, error) {
	var s storedTwin
	d := json.NewDecoder(bytes.NewReader(record.Value))
	d.UseNumber()
	if err := d.Decode(&s); err != nil {
		return storedTwin{}, fmt.Errorf("read stored twin of %s: %w", noun(record.Key), err)
	}
	return s, nil
}

// saveTwin stores a twin unless somebody else was faster: store.ErrConflict.
func (r *Registry) saveTwin(ctx context.Context, t twin) error {
	value, err := encodeJSON(t.stored)
	if err != nil {
		return err
	}
	_, err = r.write(ctx, store.KindTwin, t.identity.Name(), value, t.revision)
	return err
}

// forgetTwin removes a twin whose identity is gone, not that of a new life.
func (r *Registry) forgetTwin(ctx context.Context, name string) {
	record, err := r.store.Get(ctx, store.KindTwin, name)
	if err != nil {
		return
	}
	s, err := decodeTwin(record)
	if identity, _, failed := r.load(ctx, name); failed == nil && err == nil && identity.GenerationID == s.GenerationID {
		return
	}
	_ = r.store.Delete(ctx, store.KindTwin, name, record.Revision)
}
