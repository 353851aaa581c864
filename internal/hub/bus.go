package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Bus is how the nodes of a hub reach the one that holds a device or module, and each
// other; device stands for the name of either. Requests and answers are plain data, so
// that they can cross a network. Who puts the request to the device, by which protocol,
// is up to the Answerer: another control transport would Hold as well. Implementations
// are safe for concurrent use.
type Bus interface {
	// Hold announces that this node can put requests to device, until release is
	// called. A later Hold of the same device takes over.
	Hold(device string, answer Answerer) (release func())
	// Ask puts a request to the node that holds device and returns its answer. While
	// no node does, or the one that did has just lost it, it waits up to wait for
	// one that does, then returns errNotConnected. When ctx ends meanwhile, the error
	// wraps its cause as well.
	Ask(ctx context.Context, device string, wait time.Duration, r Request) (Answer, error)
	// Tell lets every node know, this one included, that a device's identity, or that
	// of one of its modules, has changed or is gone; "" means that any may have. It
	// returns when this node has acted on it.
	Tell(device string)
}

// Request is what a device is asked or told: one of Stream, Method and Change.
type Request struct {
	Generation string        // life of the identity that is meant
	Timeout    time.Duration // for the device's answer
	Stream     *StreamOffer
	Method     *MethodCall
	Change     *TwinChange
}

// StreamOffer asks a device for a stream.
type StreamOffer struct {
	ID      string
	Name    string
	Created time.Time
	Expires time.Time  // when both legs must have joined
	Service wire.Offer // what the service is ready for
}

// MethodCall calls a direct method.
type MethodCall struct {
	Name    string
	Payload []byte // JSON
}

// TwinChange tells a device that its desired properties have changed; it has no answer.
type TwinChange struct {
	Version int
	Desired []byte // JSON
}

// Answer is what the device said: to a StreamOffer whether it takes it, the credential
// its control connection came with, and what kind of stream it was asked for; to a
// MethodCall a status of its own and JSON, which nobody has looked at.
type Answer struct {
	Accepted   bool
	Credential string
	Grant      wire.Grant
	Instance   string // that has been asked; "" unless it offers the extended stream
	Status     int
	Payload    []byte
}

// Answerer puts a request to a device. errNotConnected means that the device has
// gone, and another holder may do better.
type Answerer func(context.Context, Request) (Answer, error)

// Errors of Ask, besides those of its context.
var (
	errNotConnected = errors.New("device is not connected")
	errNoAnswer     = errors.New("device did not answer")
	errLost         = errors.New("device lost its connection before it answered; the method may have run") // so it is not called again
	errDeviceBusy   = errors.New("device has too many requests waiting for an answer")
)

// localBus is the bus of a hub that is one node.
type localBus struct {
	changed func(device string)

	mu      sync.Mutex
	holders map[string]*holder
	waiting map[string]*waiting
}

type holder struct{ answer Answerer }

// waiting is what those who wait for one device share.
type waiting struct {
	came chan struct{} // closed when a holder comes
	n    int           // how many wait; the last one clears up
}

func newLocalBus(changed func(device string)) *localBus {
	return &localBus{changed: changed, holders: make(map[string]*holder), waiting: make(map[string]*waiting)}
}

func (b *localBus) Hold(device string, answer Answerer) func() {
	h := &holder{answer}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holders[device] = h
	if w := b.waiting[device]; w != nil {
		close(w.came)
		delete(b.waiting, device)
	}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.holders[device] == h {
			delete(b.holders, device)
		}
	}
}

func (b *localBus) Ask(ctx context.Context, device string, wait time.Duration, r Request) (Answer, error) {
	patience, cancel := context.WithTimeoutCause(ctx, wait, errNotConnected)
	defer cancel()
	var failed *holder
	for {
		h, err := b.await(patience, device, failed)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", errNotConnected, err) // nobody was asked
		}
		if err != nil {
			return Answer{}, err
		}
		answer, err := h.answer(ctx, r)
		if !errors.Is(err, errNotConnected) {
			return answer, err
		}
		failed = h
	}
}

// await returns the device's holder once there is one other than failed, or the
// cause of ctx.
func (b *localBus) await(ctx context.Context, device string, failed *holder) (*holder, error) {
	for {
		b.mu.Lock()
		if h := b.holders[device]; h != nil && h != failed {
			b.mu.Unlock()
			return h, nil
		}
		w := b.waiting[device]
		if w == nil {
			w = &waiting{came: make(chan struct{})}
			b.waiting[device] = w
		}
		w.n++
		b.mu.Unlock()

		var err error
		select {
		case <-w.came:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		b.mu.Lock()
		if w.n--; w.n == 0 && b.waiting[device] == w {
			delete(b.waiting, device)
		}
		b.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

func (b *localBus) Tell(device string) { b.changed(device) }
