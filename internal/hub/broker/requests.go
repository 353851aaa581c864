package broker

import (
	"context"
	"strconv"

	"github.com/farportio/farport/internal/wire"
)

// requests are what a device has been asked and has not answered yet, of one kind.
// Each kind counts its $rid by itself and looks up only its own, so an answer of
// another kind never counts. Guarded by Session.mu.
type requests[A any] struct {
	rid     uint64              // the newest
	pending map[string]chan<- A // by $rid; nil while there is none: an idle session keeps no table
}

// add makes a fresh $rid.
func (r *requests[A]) add() (rid string, answer <-chan A) {
	r.rid++
	rid = strconv.FormatUint(r.rid, 10)
	ch := make(chan A, 1) // so that answer never waits
	if r.pending == nil {
		r.pending = make(map[string]chan<- A)
	}
	r.pending[rid] = ch
	return rid, ch
}

// remove ends a request that nobody waits for any more.
func (r *requests[A]) remove(rid string) {
	delete(r.pending, rid)
	if len(r.pending) == 0 {
		r.pending = nil
	}
}

// answer takes the device's answer; any but the first to a pending $rid is ignored.
func (r *requests[A]) answer(rid string, a A) {
	if ch, ok := r.pending[rid]; ok {
		delete(r.pending, rid)
		ch <- a
	}
}

// Initiate asks the device for a stream and waits for its answer. r must be valid, but
// for its RID, which is the session's matter; its Grant must fit the session's own
// Identity.Offer. The error is ErrNotReady, ErrBusy, ErrGone, ErrUnanswered (at once
// when the session ends), or ctx's. An answer that comes after Initiate returned is
// ignored.
func (s *Session) Initiate(ctx context.Context, r wire.StreamRequest) (accepted bool, err error) {
	return exchange(ctx, s, &s.streams, streamRequests, func(rid string) message {
		r.RID = rid
		return message{topic: r.Topic()}
	})
}

// methodAnswer is a device's answer to a direct method.
type methodAnswer struct {
	status   int
	payload  []byte
	tooLarge bool // payload was, and is not kept
}

// Invoke calls a direct method and waits for the device's answer: its status, and its
// payload as it came, JSON or not. method must be a wire.ValidMethodName; payload, at
// most wire.MaxMethodPayload bytes, must not change any more, and the answer is the
// caller's. Besides Initiate's errors there is ErrAnswerTooLarge, which comes with the
// status. As a method that timed out may still run, nothing is asked twice.
func (s *Session) Invoke(ctx context.Context, method string, payload []byte) (status int, answer []byte, err error) {
	a, err := exchange(ctx, s, &s.methods, methodRequests, func(rid string) message {
		return message{topic: wire.MethodTopic(method, rid), payload: payload}
	})
	if err == nil && a.tooLarge {
		err = ErrAnswerTooLarge
	}
	return a.status, a.payload, err
}

// exchange queues what compose makes of a fresh $rid, for a device that has subscribed to
// needs, and waits for the answer.
func exchange[A any](ctx context.Context, s *Session, r *requests[A], needs filters, compose func(rid string) message) (a A, err error) {
	rid, answer, err := pose(s, r, needs, compose)
	if err != nil {
		return a, err
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.remove(rid)
	}()
	select {
	case a = <-answer:
		return a, nil
	case <-s.done:
		err = ErrUnanswered
	case <-ctx.Done():
		err = ctx.Err()
	}
	select { // an answer that did come in time counts
	case a = <-answer:
		return a, nil
	default:
		return a, err
	}
}

// pose is exchange without the wait.
func pose[A any](s *Session, r *requests[A], needs filters, compose func(rid string) message) (rid string, answer <-chan A, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reachable(needs); err != nil {
		return "", nil, err
	}
	if len(r.pending) >= s.maxPending {
		return "", nil, ErrBusy
	}
	rid, answer = r.add()
	if err := s.post(compose(rid)); err != nil {
		r.remove(rid)
		return "", nil, err
	}
	return rid, answer, nil
}

// streamAnswered takes the device's answer to a stream request.
func (s *Session) streamAnswered(r wire.StreamResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams.answer(r.RID, r.Accepted())
}

// methodAnswered takes the device's answer to a direct method.
func (s *Session) methodAnswered(r wire.MethodResponse, payload []byte) {
	a := methodAnswer{status: r.Status, payload: payload}
	if len(payload) > wire.MaxMethodPayload {
		a.payload, a.tooLarge = nil, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.methods.answer(r.RID, a)
}
