package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

const (
	// maxEnded bounds the ended streams on disk (docs/farport-v1.md, section 8).
	maxEnded = 100_000
	// sweepPage is how many records a sweep reads at once, maxSwept how many it removes,
	// as each is a write of its own.
	sweepPage = 500
	maxSwept  = 1000
)

var errTooManyEnded = errors.New("too many ended streams are written down")

// ended is what is stored of an extended stream that must not come back.
type ended struct {
	Reason wire.EndReason `json:"reason"`
	Until  int64          `json:"until"` // Unix seconds; no token of the stream is good any more
}

// EndStream writes down that an extended stream has ended, to be known until that time.
// Errors are the store's, or that there are too many.
func (r *Registry) EndStream(ctx context.Context, id string, reason wire.EndReason, until time.Time) error {
	if err := r.countEnded(); err != nil {
		return err
	}
	value, err := json.Marshal(ended{reason, until.Unix()})
	if err == nil {
		err = r.store.PutAll(ctx, store.KindEnded, map[string][]byte{id: value})
	}
	return err
}

func (r *Registry) countEnded() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended >= maxEnded {
		return errTooManyEnded
	}
	r.ended++ // the next sweep counts anew
	return nil
}

// StreamEnd reads why an extended stream has ended; "" if that is not written down.
func (r *Registry) StreamEnd(ctx context.Context, id string) (wire.EndReason, error) {
	record, err := r.store.Get(ctx, store.KindEnded, id)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	e, err := decodeEnded(record)
	return e.Reason, err
}

// SweepStreams removes ended streams that nobody can ask for any more, a part of them if
// there are many. It is called at start and now and then.
func (r *Registry) SweepStreams(ctx context.Context, now time.Time) error {
	kept, swept := 0, 0
	for after := ""; ; {
		records, err := r.store.List(ctx, store.KindEnded, after, sweepPage)
		if err != nil {
			return err
		}
		for _, record := range records {
			after = record.Key
			e, err := decodeEnded(record)
			if err != nil {
				return err
			}
			if swept == maxSwept || now.Unix() < e.Until {
				kept++
				continue
			}
			if err := r.store.Delete(ctx, store.KindEnded, record.Key, record.Revision); err != nil && !errors.Is(err, store.ErrConflict) {
				return err
			}
			swept++
		}
		if len(records) < sweepPage {
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = kept
	return nil
}

func decodeEnded(record store.Record) (e ended, err error) {
	if err = json.Unmarshal(record.Value, &e); err != nil || e.Reason == "" {
		err = fmt.Errorf("read ended stream %s: malformed record", record.Key)
	}
	return e, err
}
