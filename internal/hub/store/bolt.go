package store

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"
)

// Bolt is a Store in one bbolt file, synced with every write.
type Bolt struct {
	path string
	db   *bolt.DB
	file *os.File // bbolt's own handle

	damaged atomic.Pointer[DamagedError] // set once bbolt has panicked; the end of the store
	close   func() error                 // once
}

var _ Store = (*Bolt)(nil)

// Close closes the file. A second call does nothing and returns the same.
func (b *Bolt) Close() error { return b.close() }

func (b *Bolt) shut() error {
	if b.damaged.Load() != nil {
		return b.file.Close() // bbolt may have died with its mutexes held; its mapping stays
	}
	return b.db.Close()
}

// guard runs f and turns bbolt's panics, and faults in its mapping of the file
// (cut by someone else, bad disk), into a *DamagedError. After the first one
// every call fails, as bbolt's state is unknown.
func (b *Bolt) guard(f func() error) (err error) {
	if d := b.damaged.Load(); d != nil {
		return d
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			d := &DamagedError{b.path, fmt.Errorf("%v", p)}
			b.damaged.Store(d)
			err = d
		}
	}()
	return f()
}

// view runs f in a read transaction on the bucket of kind, nil if there is none.
func (b *Bolt) view(ctx context.Context, kind Kind, f func(*bolt.Bucket) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.guard(func() error {
		return b.db.View(func(tx *bolt.Tx) error { return f(tx.Bucket([]byte(kind))) })
	})
}

// update runs f in a synced write transaction and keeps the header in step.
func (b *Bolt) update(ctx context.Context, kind Kind, f func(*bolt.Bucket, *header) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.guard(func() error {
		return b.db.Update(func(tx *bolt.Tx) error {
			h, err := readHeader(tx)
			if err != nil {
				return &DamagedError{b.path, err}
			}
			bucket, err := tx.CreateBucketIfNotExists([]byte(kind))
			if err != nil {
				return err
			}
			if err := f(bucket, &h); err != nil {
				return err
			}
			return writeHeader(tx, h)
		})
	})
}

// find reads one record out of a bucket, nil meaning an empty one.
func (b *Bolt) find(bucket *bolt.Bucket, kind Kind, key string) (Record, error) {
	if bucket == nil {
		return Record{}, ErrNotFound
	}
	sealed := bucket.Get([]byte(key))
	if sealed == nil {
		return Record{}, ErrNotFound
	}
	return b.unseal(kind, []byte(key), sealed)
}

func (b *Bolt) unseal(kind Kind, key, sealed []byte) (Record, error) {
	revision, value, err := unseal(string(kind), key, sealed)
	if err != nil {
		return Record{}, &DamagedError{b.path, err}
	}
	return Record{string(key), slices.Clone(value), revision}, nil
}

// match finds a record that must have the given revision.
func (b *Bolt) match(bucket *bolt.Bucket, kind Kind, key string, revision uint64) error {
	r, err := b.find(bucket, kind, key)
	if err == nil && r.Revision != revision {
		err = ErrConflict
	}
	return err
}

// Get implements Store.
func (b *Bolt) Get(ctx context.Context, kind Kind, key string) (r Record, err error) {
	err = b.view(ctx, kind, func(bucket *bolt.Bucket) error {
		r, err = b.find(bucket, kind, key)
		return err
	})
	if err != nil {
		return Record{}, about("get", kind, key, err)
	}
	return r, nil
}

// Create implements Store.
func (b *Bolt) Create(ctx context.Context, kind Kind, key string, value []byte) (revision uint64, err error) {
	err = b.update(ctx, kind, func(bucket *bolt.Bucket, h *header) error {
		if bucket.Get([]byte(key)) != nil {
			return ErrExists
		}
		h.Records++
		revision = h.next()
		return bucket.Put([]byte(key), seal(string(kind), []byte(key), revision, value))
	})
	if err != nil {
		return 0, about("create", kind, key, err)
	}
	return revision, nil
}

// Update implements Store.
func (b *Bolt) Update(ctx context.Context, kind Kind, key string, value []byte, revision uint64) (next uint64, err error) {
	err = b.update(ctx, kind, func(bucket *bolt.Bucket, h *header) error {
		if err := b.match(bucket, kind, key, revision); err != nil {
			return err
		}
		next = h.next()
		return bucket.Put([]byte(key), seal(string(kind), []byte(key), next, value))
	})
	if err != nil {
		return 0, about("update", kind, key, err)
	}
	return next, nil
}

// Delete implements Store.
func (b *Bolt) Delete(ctx context.Context, kind Kind, key string, revision uint64) error {
	err := b.update(ctx, kind, func(bucket *bolt.Bucket, h *header) error {
		if bucket.Get([]byte(key)) == nil {
			return ErrNotFound
		}
		if revision != 0 {
			if err := b.match(bucket, kind, key, revision); err != nil {
				return err
			}
		}
		h.Records--
		return bucket.Delete([]byte(key))
	})
	if err != nil {
		return about("delete", kind, key, err)
	}
	return nil
}

// List implements Store.
func (b *Bolt) List(ctx context.Context, kind Kind, after string, limit int) (list []Record, err error) {
	err = b.view(ctx, kind, func(bucket *bolt.Bucket) error {
		if bucket == nil {
			return nil
		}
		c := bucket.Cursor()
		key, sealed := c.Seek([]byte(after))
		if key != nil && string(key) == after {
			key, sealed = c.Next()
		}
		for ; key != nil && len(list) < limit; key, sealed = c.Next() {
			r, err := b.unseal(kind, key, sealed)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s records: %w", kind, err)
	}
	return list, nil
}

// PutAll implements Store.
func (b *Bolt) PutAll(ctx context.Context, kind Kind, values map[string][]byte) error {
	if len(values) == 0 {
		return ctx.Err()
	}
	err := b.update(ctx, kind, func(bucket *bolt.Bucket, h *header) error {
		for key, value := range values {
			if bucket.Get([]byte(key)) == nil {
				h.Records++
			}
			if err := bucket.Put([]byte(key), seal(string(kind), []byte(key), h.next(), value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put %d %s records: %w", len(values), kind, err)
	}
	return nil
}

// about adds what was tried on which record to an error.
func about(verb string, kind Kind, key string, err error) error {
	return fmt.Errorf("%s %s %q: %w", verb, kind, key, err)
}
