package broker

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// echo is a twin that shows what it was asked.
func echo(s *Session, r wire.TwinRequest, payload []byte) TwinAnswer {
	if r.Report {
		return TwinAnswer{Status: 204, Version: 7}
	}
	return TwinAnswer{Status: 200, Body: fmt.Appendf(nil, "%s %s %q", s.id, r.RID, payload)}
}

func TestTwin(t *testing.T) {
	h := start(t, func(o *Options) { o.Twin = echo })
	for _, c := range []struct{ name, topic, payload, answer, body string }{
		{"get", "$iothub/twin/GET/?$rid=1", " ", "$iothub/twin/res/200/?$rid=1", `pi-1 1 " "`},
		{"get, odd $rid", "$iothub/twin/GET/?$rid=a-b_c%20", "", "$iothub/twin/res/200/?$rid=a-b_c%20", `pi-1 a-b_c%20 ""`},
		{"report", "$iothub/twin/PATCH/properties/reported/?$rid=2", `{"a":1}`, "$iothub/twin/res/204/?$rid=2&$version=7", ""},
		{"not a request", "$iothub/twin/DELETE/?$rid=3", "", "", ""},
		{"a hub's message", "$iothub/twin/res/200/?$rid=4", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, qos := range []byte{0, 1} {
				d := h.dial(t)
				d.login("pi-1", clean)
				d.send(publish(0, c.topic, c.payload)) // does not listen: no answer
				d.subscribe(1, wire.FilterTwinAnswers)
				d.send(publish(qos, c.topic, c.payload))
				if c.answer != "" {
					if topic, payload := d.message(); topic != c.answer || payload != c.body {
						t.Errorf("answer on %s: %q", topic, payload)
					}
				}
				if qos == 1 {
					if head, body := d.read(); head != packets.Puback<<4 || !bytes.Equal(body, []byte{0, 9}) {
						t.Errorf("packet %x %x, want PUBACK", head, body)
					}
				}
				d.ping()
				_ = d.conn.Close()
			}
		})
	}
}

// TestTwinOfEnded: a report that is still in a buffer when rights are taken away is
// not taken any more.
func TestTwinOfEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered, leave := make(chan struct{}, 10), make(chan struct{})
		h := newHarness(t, func(o *Options) {
			o.Twin = func(*Session, wire.TwinRequest, []byte) TwinAnswer {
				entered <- struct{}{}
				<-leave
				return TwinAnswer{Status: 204}
			}
		})
		d := h.pipe(t)
		d.login("pi-1", nil)
		report := publish(0, "$iothub/twin/PATCH/properties/reported/?$rid=1", "{}")
		d.send(append(report, report...))
		<-entered
		h.EndWhere(func(Identity) bool { return true }, wire.EndRevoked)
		close(leave)
		synctest.Wait()
		if len(entered) != 0 {
			t.Error("took a report after the end")
		}
	})
}

// TestTwinFlood: a device that asks and does not read holds up itself alone, and is
// given up in the end.
func TestTwinFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		h := newHarness(t, func(o *Options) {
			o.Twin = func(*Session, wire.TwinRequest, []byte) TwinAnswer {
				asked++
				return TwinAnswer{Status: 200, Body: make([]byte, wire.MaxTwinPart)}
			}
		})
		neighbour := h.pipe(t)
		s := h.ready(t, neighbour, "pi-2")
		d := h.pipe(t) // takes no byte that is not read
		d.login("pi-1", nil)
		d.subscribe(0, wire.FilterTwinAnswers)
		began := time.Now()
		get := publish(0, "$iothub/twin/GET/?$rid=1", " ")
		flooding := make(chan int)
		go func() {
			n := 0
			for ; n < 10000; n++ {
				if _, err := d.conn.Write(get); err != nil {
					break
				}
			}
			flooding <- n
		}()
		synctest.Wait() // the flood is stuck
		stream := ask(t.Context(), s)
		neighbour.answer(200, neighbour.request().RID)
		if got := <-stream; !got.accepted || time.Since(began) != 0 {
			t.Errorf("neighbour: %+v after %v", got, time.Since(began))
		}
		if n := <-flooding; n > 100 || asked != 1 {
			t.Errorf("hub took %d requests and answered %d", n, asked)
		}
		if took := time.Since(began); took != wire.WriteStall {
			t.Errorf("given up after %v", took)
		}
	})
}

func TestNotify(t *testing.T) {
	h := start(t, nil)
	d := h.dial(t)
	s := h.ready(t, d, "pi-1")
	if err := s.Notify(1, nil); !errors.Is(err, ErrNotReady) {
		t.Errorf("not subscribed: %v", err)
	}
	d.subscribe(1, wire.FilterTwinChanges)
	h.expect(t, "ready")
	for version := 2; version < 20; version++ { // in order
		if err := s.Notify(version, []byte(`{"$version":`+strconv.Itoa(version)+`}`)); err != nil {
			t.Fatal(err)
		}
	}
	for version := 2; version < 20; version++ {
		want := strconv.Itoa(version)
		if topic, payload := d.message(); topic != "$iothub/twin/PATCH/properties/desired/?$version="+want || payload != `{"$version":`+want+`}` {
			t.Errorf("%s: %s", topic, payload)
		}
	}
	_ = d.conn.Close()
	h.expect(t, "disconnected")
	if err := s.Notify(20, nil); !errors.Is(err, ErrGone) {
		t.Errorf("after the end: %v", err)
	}
}

// TestFullOutbox: what waits for a device that does not read is bounded in number and
// in bytes, is not lost, and keeps no memory behind.
func TestFullOutbox(t *testing.T) {
	for name, c := range map[string]struct{ size, want int }{
		"number": {10, 2*3 + 1}, // one is being written
		"bytes":  {maxQueued / 4, 3 + 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, func(o *Options) { o.MaxPending = 3 })
				d := h.pipe(t)
				s := h.ready(t, d, "pi-1")
				d.subscribe(0, wire.FilterTwinChanges)
				n := 0
				for {
					synctest.Wait() // drain has what it is going to take
					err := s.Notify(n+1, []byte(strings.Repeat("x", c.size)))
					if errors.Is(err, ErrBusy) {
						break
					}
					if err != nil || n > 100 {
						t.Fatalf("message %d: %v", n, err)
					}
					n++
				}
				if n != c.want {
					t.Errorf("took %d messages", n)
				}
				long := shell
				long.URL += strings.Repeat("x", c.size)
				if _, err := s.Initiate(t.Context(), long); !errors.Is(err, ErrBusy) {
					t.Errorf("Initiate: %v", err)
				}
				if s.streams.pending != nil {
					t.Error("a request that was not sent is pending")
				}
				for version := 1; version <= n; version++ {
					if topic, payload := d.message(); topic != wire.TwinChangeTopic(version) || len(payload) != c.size {
						t.Errorf("message %d: %s, %d bytes", version, topic, len(payload))
					}
				}
				synctest.Wait()
				if s.out.messages != nil || s.out.bytes != 0 || s.out.writing {
					t.Errorf("left: %+v", s.out)
				}
			})
		})
	}
}

// TestEvents: telemetry on the sender's own topic is acknowledged and counted.
func TestEvents(t *testing.T) {
	h := start(t, func(o *Options) { o.Twin = echo })
	for _, c := range []struct{ name, own, others string }{
		{"d", "devices/d/messages/events/", "devices/d/modules/m/messages/events/"},
		{"d/m", "devices/d/modules/m/messages/events/", "devices/d/messages/events/"},
	} {
		d := h.dial(t)
		d.login(c.name, nil)
		for _, topic := range []string{c.own, c.own + "%24.mid=1&a=b", c.others, "devices/e/messages/events/", "$iothub/twin/GET/?$rid=1", "x"} {
			d.send(publish(0, topic, "{}"))
			d.send(publish(1, topic, "{}"))
			if head, _ := d.read(); head != packets.Puback<<4 {
				t.Errorf("%s: packet %x", topic, head)
			}
		}
		if got := h.Session(c.name).Events(); got != 4 {
			t.Errorf("%s: counted %d", c.name, got)
		}
	}
}

// TestTwinPanic: a panic in Twin ends that connection only.
func TestTwinPanic(t *testing.T) {
	var log logged
	h := start(t, func(o *Options) {
		o.Logger = log.logger()
		o.Twin = func(*Session, wire.TwinRequest, []byte) TwinAnswer { panic("boom") }
	})
	neighbour, d := h.dial(t), h.dial(t)
	neighbour.mustLogin("pi-2")
	d.mustLogin("pi-1")
	d.send(publish(0, "$iothub/twin/GET/?$rid=1", ""))
	d.closed()
	neighbour.ping()
	_ = h.Close() // which waits for the log
	if !log.contains("boom") {
		t.Error("panic not logged")
	}
}
