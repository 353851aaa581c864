package hubclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/farportio/farport/internal/wire"
)

var (
	// errAnswered is returned for a second answer.
	errAnswered = errors.New("stream request is already answered")
	// errGrant is returned for a grant that is malformed or exceeds what was offered.
	errGrant = errors.New("hub granted a kind of stream that was not offered")
)

// StreamRequest is the hub asking a device for a stream. It is to be answered once,
// within wire.HandshakeTimeout at most, over the connection that it came by.
type StreamRequest struct {
	// Name is the stream's name, that is the service asked for. It is the hub's
	// word: quote it before it is shown.
	Name string

	device   *Device
	asked    wire.StreamRequest
	answered atomic.Bool
}

// AcceptOptions say how a stream is kept. They matter to extended streams only.
type AcceptOptions struct {
	// Changed is told when the stream waits for its other end, and when it has resumed;
	// nil means nobody. It is called by one goroutine at a time and must return soon.
	Changed func(Change)
	// Linger bounds how long a stream that is done here goes on in the background for the
	// other end's sake. Zero means the window that was agreed on, and 60 s at most.
	Linger time.Duration
}

// Accept is AcceptWith without options.
func (r *StreamRequest) Accept(ctx context.Context) (Stream, error) {
	return r.AcceptWith(ctx, AcceptOptions{})
}

// AcceptWith takes the stream and connects the device's leg, both at once. The caller
// closes the Stream. A URL that does not belong to the hub is not dialled: the
// request is rejected and the error is ErrForeignEndpoint. So is one for a kind of stream
// that the device did not offer.
func (r *StreamRequest) AcceptWith(ctx context.Context, o AcceptOptions) (Stream, error) {
	leg, err := r.accept(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("accept stream %s: %w", quote(r.Name), err)
	}
	return leg, nil
}

func (r *StreamRequest) accept(ctx context.Context, o AcceptOptions) (Stream, error) {
	h := r.device.hub
	endpoint, err := h.checkEndpoint(r.asked.URL, r.asked.Token)
	if err == nil && !r.asked.Grant.Fits(h.offer) {
		err = errGrant
	}
	if err != nil {
		if also := r.answer(ctx, wire.StatusReject); also != nil {
			return nil, fmt.Errorf("%w; to reject it failed as well: %w", err, also)
		}
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var answered error
	var wg sync.WaitGroup
	wg.Go(func() {
		if answered = r.answer(ctx, wire.StatusAccept); answered != nil {
			cancel(answered)
		}
	})
	leg, err := h.connect(ctx, endpoint, r.asked.Token, keep{r.asked.Grant, o.Changed, o.Linger})
	wg.Wait()
	if err == nil && answered != nil {
		leg.Close()
		return nil, answered
	}
	return leg, err
}

// Reject refuses the stream.
func (r *StreamRequest) Reject(ctx context.Context) error {
	if err := r.answer(ctx, wire.StatusReject); err != nil {
		return fmt.Errorf("reject stream %s: %w", quote(r.Name), err)
	}
	return nil
}

// answer sends the one answer and waits until it is written.
func (r *StreamRequest) answer(ctx context.Context, status int) error {
	if r.answered.Swap(true) {
		return errAnswered
	}
	sent := make(chan error, 1)
	select {
	case r.device.answers <- answer{reply(r.asked, status), sent}:
	case <-r.device.gone:
		return r.device.Err()
	case <-ctx.Done():
		return callerGaveUp(ctx)
	}
	select {
	case err := <-sent:
		return err
	case <-r.device.silent:
		select {
		case err := <-sent: // it was the last one
			return err
		default:
			return r.device.Err()
		}
	case <-ctx.Done():
		return callerGaveUp(ctx)
	}
}

func reply(asked wire.StreamRequest, status int) string {
	return wire.StreamResponse{Status: status, RID: asked.RID}.Topic()
}
