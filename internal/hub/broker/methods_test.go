package broker

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// invoked is what came of an Invoke.
type invoked struct {
	status int
	answer string
	err    error
}

// invoke calls a method beside the test.
func invoke(ctx context.Context, s *Session, payload string) <-chan invoked {
	ch := make(chan invoked, 1)
	go func() {
		status, answer, err := s.Invoke(ctx, "reboot", []byte(payload))
		ch <- invoked{status, string(answer), err}
	}()
	return ch
}

// called reads the call of a method and returns its $rid and payload.
func (d *raw) called() (rid, payload string) {
	d.t.Helper()
	topic, payload := d.message()
	rid, ok := strings.CutPrefix(topic, wire.MethodTopic("reboot", ""))
	if !ok {
		d.t.Fatalf("message on %s", topic)
	}
	return rid, payload
}

func (d *raw) methodAnswer(qos byte, status, rid, payload string) {
	d.t.Helper()
	d.send(publish(qos, "$iothub/methods/res/"+status+"/?$rid="+rid, payload))
}

// callable logs in as pi-1 and subscribes to stream requests and methods.
func (h *harness) callable(t *testing.T, d *raw) *Session {
	t.Helper()
	s := h.ready(t, d, "pi-1")
	d.subscribe(1, wire.FilterMethods)
	h.expect(t, "ready")
	return s
}

func TestInvoke(t *testing.T) {
	h := start(t, nil)
	d := h.dial(t)
	s := h.callable(t, d)
	for i, c := range []struct{ status, payload, answer string }{
		{"200", `{"delay":3}`, `{"ok":true}`},
		{"404", "", ""},
		{"-7", "null", "not JSON"},
		{"0", strings.Repeat("x", wire.MaxMethodPayload), strings.Repeat("y", wire.MaxMethodPayload)},
	} {
		got := invoke(t.Context(), s, c.payload)
		rid, payload := d.called()
		if rid != strconv.Itoa(i+1) || payload != c.payload {
			t.Errorf("call %d: $rid %s, payload %.20q", i, rid, payload)
		}
		d.methodAnswer(byte(i%2), c.status, rid, c.answer)
		d.methodAnswer(0, "999", rid, "changed my mind")
		if i%2 == 1 {
			if head, _ := d.read(); head != packets.Puback<<4 {
				t.Errorf("packet %x, want PUBACK", head)
			}
		}
		if got := <-got; got.err != nil || strconv.Itoa(got.status) != c.status || got.answer != c.answer {
			t.Errorf("call %d: %d %.20q, %v", i, got.status, got.answer, got.err)
		}
	}
	d.ping()
	if s.methods.pending != nil {
		t.Errorf("left pending: %v", s.methods.pending)
	}
}

// TestCrossedAnswers: streams and methods count their $rid apart, and an answer of one
// kind, or of another device, never counts for the other.
func TestCrossedAnswers(t *testing.T) {
	h := start(t, nil)
	d, other := h.dial(t), h.dial(t)
	s := h.callable(t, d)
	other.mustLogin("pi-2")
	stream := ask(t.Context(), s)
	if rid := d.request().RID; rid != "1" {
		t.Fatalf("stream request %s", rid)
	}
	d.methodAnswer(0, "200", "1", "for no method")
	other.methodAnswer(0, "200", "1", "theirs")
	d.ping()
	method := invoke(t.Context(), s, "{}")
	if rid, _ := d.called(); rid != "1" {
		t.Fatalf("method call %s", rid)
	}
	d.answer(200, "1")
	if got := <-stream; !got.accepted || got.err != nil {
		t.Errorf("stream: %+v", got)
	}
	d.answer(400, "1")
	d.ping()
	select {
	case got := <-method:
		t.Fatalf("a stream's answer answered the method: %+v", got)
	default:
	}
	d.methodAnswer(0, "201", "1", "mine")
	if got := <-method; got != (invoked{201, "mine", nil}) {
		t.Errorf("method: %+v", got)
	}
}

func TestInvokeErrors(t *testing.T) {
	h := start(t, func(o *Options) { o.MaxPending = 2 })
	d := h.dial(t)
	s := h.ready(t, d, "pi-1")
	if got := <-invoke(t.Context(), s, ""); !errors.Is(got.err, ErrNotReady) {
		t.Errorf("not subscribed: %+v", got)
	}
	d.subscribe(0, wire.FilterMethods)

	tooLarge := invoke(t.Context(), s, "")
	rid, _ := d.called()
	d.methodAnswer(0, "200", rid, strings.Repeat("y", wire.MaxMethodPayload+1))
	if got := <-tooLarge; !errors.Is(got.err, ErrAnswerTooLarge) || got.status != 200 || got.answer != "" {
		t.Errorf("large answer: %d, %d bytes, %v", got.status, len(got.answer), got.err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	first, second := invoke(ctx, s, ""), invoke(ctx, s, "")
	rid, _ = d.called()
	d.called()
	if got := <-invoke(t.Context(), s, ""); !errors.Is(got.err, ErrBusy) {
		t.Errorf("third call: %+v", got)
	}
	stream := ask(t.Context(), s) // has room of its own
	d.answer(200, d.request().RID)
	if got := <-stream; !got.accepted {
		t.Errorf("stream beside two calls: %+v", got)
	}
	cancel()
	for _, call := range []<-chan invoked{first, second} {
		if got := <-call; !errors.Is(got.err, context.Canceled) {
			t.Errorf("cancelled: %+v", got)
		}
	}
	next := invoke(t.Context(), s, "")
	d.methodAnswer(0, "200", rid, "too late")
	fresh, _ := d.called()
	d.methodAnswer(0, "202", fresh, "in time")
	if got := <-next; got != (invoked{202, "in time", nil}) {
		t.Errorf("after a late answer: %+v", got)
	}

	last := invoke(t.Context(), s, "")
	d.called()
	h.EndWhere(func(Identity) bool { return true }, wire.EndRevoked)
	if got := <-last; !errors.Is(got.err, ErrGone) {
		t.Errorf("revoked: %+v", got)
	}
	if got := <-invoke(t.Context(), s, ""); !errors.Is(got.err, ErrGone) {
		t.Errorf("after the end: %+v", got)
	}
}
