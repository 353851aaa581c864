package broker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// generations makes a harness whose devices log in with a generation for a password,
// or with "bad".
func generations(o *Options) {
	o.Authenticate = func(_ context.Context, l Login) (Identity, error) {
		if l.Password.Reveal() == "bad" {
			return Identity{}, ErrRefused
		}
		return Identity{Name: l.ClientID, GenerationID: l.Password.Reveal()}, nil
	}
}

func clean(pk *packets.Packet) { pk.Connect.Clean = true }

func as(password string, change func(*packets.Packet)) func(*packets.Packet) {
	return func(pk *packets.Packet) {
		pk.Connect.Password = []byte(password)
		if change != nil {
			change(pk)
		}
	}
}

// TestSessionPresent: each row is what happens between a first session, which has
// clean session 0 and subscribes to stream requests, and the last, which has it too.
func TestSessionPresent(t *testing.T) {
	all := func(Identity) bool { return true }
	type world struct {
		*harness
		first *raw
	}
	away := func(w world) {
		_ = w.first.conn.Close()
		w.expect(w.first.t, "disconnected")
	}
	between := func(password string, change func(*packets.Packet)) func(world) {
		return func(w world) {
			away(w)
			d := w.dial(w.first.t)
			if d.login("pi-1", as(password, change)) == 0 {
				w.expect(d.t, "connected")
				if d.present {
					w.expect(d.t, "ready")
				}
				_ = d.conn.Close()
				w.expect(d.t, "disconnected")
			}
		}
	}
	for _, c := range []struct {
		name    string
		do      func(world)
		present bool
		ready   bool
	}{
		{"away for a while", away, true, true},
		{"taken over", func(world) {}, true, true},
		{"a third session between", between("g1", nil), true, true},
		{"a clean one between", between("g1", clean), false, false},
		{"a refused clean one between", between("bad", clean), true, true},
		{"taken over by a clean one", func(w world) {
			d := w.dial(w.first.t)
			d.login("pi-1", as("g1", clean))
			if d.present {
				d.t.Error("clean session is present")
			}
			w.expect(d.t, "connected")
			_ = d.conn.Close()
			w.expect(d.t, "disconnected")
		}, false, false},
		{"another generation between", between("g2", nil), false, false},
		{"unsubscribed", func(w world) {
			w.first.unsubscribe(wire.FilterStreamRequests, wire.FilterStreamResponses)
			away(w)
		}, true, false},
		{"polite end", func(w world) {
			w.first.send([]byte{packets.Disconnect << 4, 0})
			w.expect(w.first.t, "disconnected")
		}, true, true},
		{"cut by the hub", func(w world) {
			w.EndWhere(all, wire.EndNetwork)
			w.expect(w.first.t, "disconnected")
		}, true, true},
		{"revoked", func(w world) {
			w.EndWhere(all, wire.EndRevoked)
			w.expect(w.first.t, "disconnected")
		}, false, false},
		{"revoked while away", func(w world) {
			away(w)
			w.EndWhere(all, wire.EndRevoked)
		}, false, false},
		{"others revoked", func(w world) {
			away(w)
			w.EndWhere(func(i Identity) bool { return i.Name != "pi-1" }, wire.EndRevoked)
		}, true, true},
		{"cut while away", func(w world) {
			away(w)
			w.EndWhere(all, wire.EndNetwork)
		}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, generations)
			first := h.dial(t)
			first.login("pi-1", as("g1", nil))
			if first.present {
				t.Error("first session is present")
			}
			h.expect(t, "connected")
			first.subscribe(0, wire.FilterStreamRequests, wire.FilterStreamResponses)
			h.expect(t, "ready")
			c.do(world{h, first})
			for len(h.events) > 0 {
				t.Fatalf("callback left: %+v", <-h.events)
			}
			last := h.dial(t)
			if code := last.login("pi-1", as("g1", nil)); code != 0 || last.present != c.present {
				t.Fatalf("CONNACK %d, present %v", code, last.present)
			}
			s := h.expect(t, "connected")
			last.ping()
			if c.ready {
				h.expect(t, "ready")
				asked := ask(t.Context(), s)
				last.answer(200, last.request().RID)
				if got := <-asked; !got.accepted {
					t.Errorf("%+v", got)
				}
			} else if _, err := initiate(t, s); !errors.Is(err, ErrNotReady) {
				t.Errorf("Initiate: %v", err)
			}
			h.quiet(t)
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.retained) != 0 {
				t.Errorf("kept for a device that is here: %v", h.retained)
			}
		})
	}
}

// TestRevokedLeavesNothing, whether the session leaves before its turn in EndWhere or
// after EndWhere has returned.
func TestRevokedLeavesNothing(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				leave := make(chan struct{})
				h := newHarness(t, func(o *Options) { o.Disconnected = func(*Session) { <-leave } })
				d := h.pipe(t)
				h.ready(t, d, "pi-1")
				if when == "before" {
					close(leave)
				}
				h.EndWhere(func(Identity) bool {
					if when == "before" {
						_ = d.conn.Close()
					}
					synctest.Wait()
					return true
				}, wire.EndRevoked)
				if when == "after" {
					close(leave)
				}
				synctest.Wait()
				if len(h.retained) != 0 || len(h.sessions) != 0 {
					t.Errorf("left: %d states, %d sessions", len(h.retained), len(h.sessions))
				}
			})
		})
	}
}

// TestPresentWithoutSubscriptions: a session that never subscribed is one as well.
func TestPresentWithoutSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, nil)
		for i, change := range []func(*packets.Packet){nil, nil, clean, clean, nil, nil} {
			d := h.pipe(t)
			d.login("pi-1", change)
			if want := i == 1 || i == 5; d.present != want {
				t.Errorf("login %d: session present %v", i, d.present)
			}
			_ = d.conn.Close()
			synctest.Wait()
			if n := len(h.retained); n > 1 || (n == 1) != (change == nil) {
				t.Errorf("login %d: %d states kept", i, n)
			}
		}
	})
}

// TestResumedOrder: nothing is sent before CONNACK, not even by Connected, and Ready
// comes after it.
func TestResumedOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, func(o *Options) {
			tell := o.Connected
			o.Connected = func(s *Session) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if _, err := s.Initiate(ctx, shell); !errors.Is(err, ErrNotReady) {
					t.Errorf("Initiate before CONNACK: %v", err)
				}
				if err := s.Notify(1, nil); !errors.Is(err, ErrNotReady) {
					t.Errorf("Notify before CONNACK: %v", err)
				}
				tell(s)
			}
		})
		d := h.pipe(t)
		d.login("pi-1", nil)
		d.subscribe(0, wire.FilterStreamRequests)
		d.subscribe(0, wire.FilterTwinChanges)
		h.expect(t, "connected")
		h.expect(t, "ready")
		h.expect(t, "ready")
		_ = d.conn.Close()
		h.expect(t, "disconnected")

		d = h.pipe(t) // takes no byte that is not read
		d.send(connect("pi-1", nil))
		s := h.expect(t, "connected")
		synctest.Wait() // the hub is writing CONNACK
		h.quiet(t)
		if err := s.Notify(2, nil); !errors.Is(err, ErrNotReady) {
			t.Errorf("Notify while CONNACK is written: %v", err)
		}
		if head, body := d.read(); head != packets.Connack<<4 || body[0] != 1 {
			t.Fatalf("answer to CONNECT: %x %x", head, body)
		}
		if h.expect(t, "ready") != s {
			t.Error("another session is ready")
		}
		if err := s.Notify(3, []byte("{}")); err != nil {
			t.Error(err)
		}
		if topic, _ := d.message(); topic != wire.TwinChangeTopic(3) {
			t.Errorf("message on %s", topic)
		}
		d.subscribe(0, wire.FilterStreamRequests, wire.FilterTwinChanges) // known already
		d.unsubscribe(wire.FilterTwinChanges)
		if err := s.Notify(4, nil); !errors.Is(err, ErrNotReady) {
			t.Errorf("Notify after unsubscribing: %v", err)
		}
		h.quiet(t)
	})
}

// TestTakeoverChain: the state goes from hand to hand, even through a session that is
// replaced before it has begun.
func TestTakeoverChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Bool
		h := newHarness(t, func(o *Options) {
			tell := o.Connected
			o.Connected = func(s *Session) {
				tell(s)
				if slow.Load() {
					time.Sleep(5 * time.Second)
				}
			}
		})
		h.ready(t, h.pipe(t), "pi-1")
		slow.Store(true)
		var last *raw
		for range 3 { // the second of them has to wait for the first, and does not live to see its end
			time.Sleep(2 * time.Second)
			last = h.pipe(t)
			last.send(connect("pi-1", nil))
		}
		if head, body := last.read(); head != packets.Connack<<4 || body[0] != 1 {
			t.Errorf("answer to CONNECT: %x %x", head, body)
		}
		first, third := h.expect(t, "connected"), h.expect(t, "connected")
		if s := h.expect(t, "ready"); s != third || s == first {
			t.Error("another session is ready")
		}
		h.quiet(t)
	})
}

// TestReady counts the announcements of a session's subscriptions.
func TestReady(t *testing.T) {
	subscribe := func(filters ...string) func(*raw) { return func(d *raw) { d.subscribe(0, filters...) } }
	unsubscribe := func(filters ...string) func(*raw) { return func(d *raw) { d.unsubscribe(filters...) } }
	for _, c := range []struct {
		name string
		do   []func(*raw)
		want int
	}{
		{"each kind by itself", []func(*raw){subscribe(wire.FilterStreamRequests), subscribe(wire.FilterMethods), subscribe(wire.FilterTwinChanges)}, 3},
		{"all in one packet", []func(*raw){subscribe(wire.FilterStreamRequests, wire.FilterMethods, wire.FilterTwinChanges)}, 1},
		{"nothing to announce", []func(*raw){subscribe(wire.FilterStreamResponses, wire.FilterTwinAnswers), subscribe(wire.FilterDevicebound("pi-1"))}, 0},
		{"refused", []func(*raw){subscribe("#", "$iothub/#")}, 0},
		{"C# SDK, twice", []func(*raw){subscribe(wire.FilterStreamRequests), subscribe(wire.FilterStreamResponses),
			subscribe(wire.FilterStreamRequests), subscribe(wire.FilterStreamResponses)}, 1},
		{"again with one more", []func(*raw){subscribe(wire.FilterMethods), subscribe(wire.FilterMethods, wire.FilterTwinChanges)}, 2},
		{"unsubscribed between", []func(*raw){subscribe(wire.FilterMethods), unsubscribe(wire.FilterMethods), subscribe(wire.FilterMethods)}, 2},
		{"another unsubscribed", []func(*raw){subscribe(wire.FilterMethods), unsubscribe(wire.FilterTwinChanges, "#"), subscribe(wire.FilterMethods)}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, nil)
			d := h.dial(t)
			d.login("pi-1", nil)
			s := h.expect(t, "connected")
			for _, step := range c.do {
				step(d)
			}
			for range c.want { // each told before its SUBACK
				if len(h.events) == 0 || h.expect(t, "ready") != s {
					t.Fatal("Ready was not called in time")
				}
			}
			h.quiet(t)
		})
	}
}
