package registry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/store"
)

// Right is a set of things a policy allows.
type Right uint8

// The rights. Their values are stored: never change one.
const (
	RegistryRead   Right = 1 << iota // read device identities
	RegistryWrite                    // create, change and delete them
	ServiceConnect                   // open streams to devices
	DeviceConnect                    // connect as any device
	Owner                            // list and close streams, read logs, manage CAs, make backups
)

// Has reports whether r includes all of other.
func (r Right) Has(other Right) bool { return r&other == other }

// String lists the rights by their names, comma-separated.
func (r Right) String() string {
	var names []string
	for i, name := range []string{"RegistryRead", "RegistryWrite", "ServiceConnect", "DeviceConnect", "Owner"} {
		if r.Has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Policy is a shared access policy: whoever has one of its keys has its rights.
type Policy struct {
	Name               string
	Rights             Right
	Primary, Secondary credential.Key
}

// storedPolicy is a policy as it is kept; keys are base64 text.
type storedPolicy struct {
	Rights       Right  `json:"rights"`
	PrimaryKey   string `json:"primaryKey"`
	SecondaryKey string `json:"secondaryKey"`
}

// maxPolicies bounds Policies; a hub has the five built-in ones and few others.
const maxPolicies = 1000

// Policy returns one policy by its exact name. Error: ErrNotFound or the store's.
func (r *Registry) Policy(ctx context.Context, name string) (Policy, error) {
	record, err := r.store.Get(ctx, store.KindPolicy, name)
	if errors.Is(err, store.ErrNotFound) {
		return Policy{}, fmt.Errorf("get policy %q: %w", name, ErrNotFound)
	}
	if err != nil {
		return Policy{}, err // names the policy
	}
	return decodePolicy(record)
}

// Policies returns all policies, by name.
func (r *Registry) Policies(ctx context.Context) ([]Policy, error) {
	records, err := r.store.List(ctx, store.KindPolicy, "", maxPolicies)
	if err != nil {
		return nil, err
	}
	policies := make([]Policy, 0, len(records))
	for _, record := range records {
		p, err := decodePolicy(record)
		if err != nil {
			return nil, err
		}
		policies = append(policies, p)
	}
	return policies, nil
}

func decodePolicy(record store.Record) (Policy, error) {
	var s storedPolicy
	err := json.Unmarshal(record.Value, &s)
	if err != nil {
		return Policy{}, fmt.Errorf("read stored policy %q: %w", record.Key, err)
	}
	p := Policy{Name: record.Key, Rights: s.Rights}
	if p.Primary, err = credential.ParseKey(s.PrimaryKey); err == nil {
		p.Secondary, err = credential.ParseKey(s.SecondaryKey)
	}
	if err != nil {
		return Policy{}, fmt.Errorf("read stored policy %q: %w", record.Key, err)
	}
	return p, nil
}

// CreateBuiltins makes the built-in policies that are not there yet, with fresh
// keys, and leaves those that are alone: repeating it after a crash completes
// it. It is for a new store; calling it at each start would hide that a policy
// was lost. Names and rights: docs/protocol.md, SAS tokens.
func (r *Registry) CreateBuiltins(ctx context.Context) error {
	for _, p := range []Policy{
		{Name: "iothubowner", Rights: RegistryRead | RegistryWrite | ServiceConnect | DeviceConnect | Owner},
		{Name: "service", Rights: ServiceConnect},
		{Name: "device", Rights: DeviceConnect},
		{Name: "registryRead", Rights: RegistryRead},
		{Name: "registryReadWrite", Rights: RegistryRead | RegistryWrite},
	} {
		value, err := json.Marshal(storedPolicy{p.Rights, credential.NewKey().Reveal(), credential.NewKey().Reveal()})
		if err != nil {
			return fmt.Errorf("create policy %q: %w", p.Name, err)
		}
		if _, err := r.store.Create(ctx, store.KindPolicy, p.Name, value); err != nil && !errors.Is(err, store.ErrExists) {
			return err // names the policy
		}
	}
	return nil
}

// Secret returns the random secret of that name and size in bytes, made when
// first asked for and the same ever after.
func (r *Registry) Secret(ctx context.Context, name string, size int) ([]byte, error) {
	record, err := r.store.Get(ctx, store.KindSecret, name)
	if errors.Is(err, store.ErrNotFound) {
		fresh := make([]byte, size)
		rand.Read(fresh) // never fails
		if _, err = r.store.Create(ctx, store.KindSecret, name, fresh); err == nil {
			return fresh, nil
		}
		if errors.Is(err, store.ErrExists) { // made by someone else at the same time
			record, err = r.store.Get(ctx, store.KindSecret, name)
		}
	}
	if err != nil {
		return nil, err // names the secret
	}
	if len(record.Value) != size {
		return nil, fmt.Errorf("get secret %q: %d bytes are stored, %d wanted", name, len(record.Value), size)
	}
	return record.Value, nil
}
