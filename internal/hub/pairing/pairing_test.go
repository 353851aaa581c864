package pairing

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

const (
	device  = wire.SideDevice
	service = wire.SideService
	window  = time.Minute
)

// script drives a Stream and writes down what it asks for.
type script struct {
	*Stream
	t   *testing.T
	now time.Time
}

func begin(t *testing.T, c Config) *script {
	now := time.Unix(1000, 0)
	return &script{New(c, now), t, now}
}

func resumable(t *testing.T) *script { return begin(t, Config{Window: window}) }

// join is a join that must be admitted.
func (s *script) join(side wire.Side, counter uint64) LegID {
	s.t.Helper()
	id, refusal := s.Join(Join{Side: side, Counter: counter, Instance: string(side)}, s.now)
	if refusal != nil {
		s.t.Fatalf("%s's join %d: %+v", side, counter, refusal)
	}
	return id
}

func (s *script) refused(side wire.Side, counter uint64, want Refusal) {
	s.t.Helper()
	_, got := s.Join(Join{Side: side, Counter: counter, Instance: string(side)}, s.now)
	if got == nil || *got != want {
		s.t.Errorf("%s's join %d: %+v, want %+v", side, counter, got, want)
	}
}

// wants checks what is to be done since the last call.
func (s *script) wants(want ...string) {
	s.t.Helper()
	got := []string{}
	for _, a := range s.Act() {
		switch a.Kind {
		case Pair:
			got = append(got, fmt.Sprintf("pair %d %d", a.Leg, a.To))
		case Data, Text:
			got = append(got, fmt.Sprintf("send %d %s", a.Leg, a.Bytes))
		case Close:
			got = append(got, strings.TrimSpace(fmt.Sprintf("close %d %d %s", a.Leg, a.Code, a.Reason)))
		case Persist:
			got = append(got, "persist "+string(a.Reason))
		case Ended:
			got = append(got, "ended "+string(a.Reason))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("wants %q, not %q", got, want)
	}
}

func (s *script) closed(id LegID, code int, text string) { s.Closed(id, code, text, s.now) }
func (s *script) gone(id LegID)                          { s.LegGone(id, s.now) }

// pass lets time go by.
func (s *script) pass(d time.Duration) {
	s.now = s.now.Add(d)
	s.Tick(s.now)
}

// open is a stream with both legs, 1 the device's and 2 the service's.
func open(t *testing.T, c Config) *script {
	s := begin(t, c)
	s.join(device, 1)
	s.join(service, 1)
	s.wants("pair 2 1")
	return s
}

var settings = Config{Window: window}

func TestHeldBytes(t *testing.T) {
	s := resumable(t)
	a := s.join(device, 1)
	for _, text := range []string{"one", "two"} {
		if !s.Hold(a, Data, []byte(text)) {
			t.Error("not held")
		}
	}
	s.Hold(a, Text, []byte("E 6"))
	s.wants()
	s.join(service, 1)
	s.wants("pair 2 1", "send 2 onetwo", "send 2 E 6")
	if s.Hold(a, Data, []byte("x")) || s.Partner(1) != 2 || s.Partner(2) != 1 {
		t.Error("what comes to a paired leg is held")
	}
	for kind, most := range map[Kind]int{Data: wire.EarlyData, Text: wire.HeldText} {
		s := resumable(t)
		a := s.join(device, 1)
		s.Hold(a, kind, make([]byte, most))
		s.wants()
		s.Hold(a, kind, []byte("x"))
		s.wants("close 1 1008", "ended protocol")
		s.refused(service, 1, Refusal{Ended: wire.EndProtocol})
	}
}

// What is held takes little more memory than its bytes, into however many messages they
// are cut: empty texts are none, and bytes are put together.
func TestHeldMessages(t *testing.T) {
	s := resumable(t)
	a := s.join(device, 1)
	for range wire.EarlyData {
		s.Hold(a, Data, []byte("x"))
	}
	for range wire.HeldText {
		s.Hold(a, Text, nil)
	}
	s.wants()
	if n := len(s.legs[a].held); n > 1+wire.HeldText {
		t.Errorf("%d messages are held", n)
	}
	s.Hold(a, Text, nil)
	s.wants("close 1 1008", "ended protocol")
}

// Each leg that goes takes its partner along, and no leg is paired twice.
func TestLost(t *testing.T) {
	s := open(t, settings)
	s.gone(1)
	s.wants("close 2 4000 peer away")
	s.join(device, 2) // before the service's leg has gone
	s.wants()
	s.gone(2)
	s.wants()
	s.join(service, 2)
	s.wants("pair 4 3")
	s.closed(3, 1001, "")
	s.wants("close 4 4000 peer away", "close 3 1001")
	s.gone(3)
	s.gone(4)
	s.wants()
	if s.Legs() != 0 {
		t.Errorf("%d legs left", s.Legs())
	}
}

// A newer leg takes over, but for a leg of the other side that was never paired.
func TestTakeover(t *testing.T) {
	s := open(t, settings)
	s.join(device, 2)
	s.wants("close 1 4001 replaced", "close 2 4000 peer away")
	s.join(device, 5)
	s.wants("close 3 4001 replaced")
	s.join(service, 2)
	s.wants("pair 5 4")
	s.join(service, 3)
	s.wants("close 5 4001 replaced", "close 4 4000 peer away")
	s.join(device, 6)
	s.wants("pair 7 6")
	s.refused(device, 6, Refusal{Highest: 6})
	s.refused(device, 1, Refusal{Highest: 6})
	s.refused(service, 3, Refusal{Highest: 3})
	s.wants()
}

func TestFinished(t *testing.T) {
	s := open(t, settings)
	s.closed(1, 1000, "")
	s.wants("close 1 1000", "ended finished", "close 2 4002 finished")
	s.refused(device, 2, Refusal{Ended: wire.EndFinished})
	s.refused(service, 2, Refusal{Ended: wire.EndFinished})
	// Also on a leg that is being closed.
	s = open(t, settings)
	s.gone(2)
	s.wants("close 1 4000 peer away")
	s.closed(1, 1000, "")
	s.wants("ended finished")
}

// What an end may say that it ends with.
func TestReasons(t *testing.T) {
	for said, want := range map[string]string{
		"reset": "reset", "lost": "lost", "protocol": "protocol", "overflow": "overflow", "shutdown": "shutdown",
		"": "reset", "later": "reset", "revoked": "reset", "finished": "reset", "closed": "reset", "instance": "reset",
	} {
		s := open(t, settings)
		s.closed(1, 4004, said)
		if reason, _ := s.Over(); string(reason) != want {
			t.Errorf("%q ends with %q", said, reason)
		}
	}
}

// An abort is acknowledged when the other end has taken note, or it is on disk.
func TestAbort(t *testing.T) {
	aborted := func() *script {
		s := open(t, settings)
		s.closed(1, 4004, "reset")
		s.wants("ended reset", "close 2 4002 reset")
		s.refused(device, 2, Refusal{RetryAfter: time.Second})
		s.refused(service, 2, Refusal{Ended: wire.EndReset})
		return s
	}
	settled := func(s *script) {
		t.Helper()
		s.wants("close 1 4004 reset")
		s.refused(device, 3, Refusal{Ended: wire.EndReset})
		if _, ok := s.Over(); !ok {
			t.Error("not settled")
		}
		s.pass(time.Hour)
		s.wants()
	}
	for _, code := range []int{4002, 4004, 1000} {
		s := aborted()
		s.closed(2, code, "")
		settled(s)
	}
	// Another code says nothing, a leg that goes takes the news to disk at once.
	s := aborted()
	s.closed(2, 1001, "")
	s.wants()
	s.gone(2)
	s.wants("persist reset")
	s.pass(time.Hour)
	s.wants()
	s.Persisted(false, s.now)
	s.wants()
	s.refused(device, 2, Refusal{RetryAfter: time.Second})
	s.pass(tellTime)
	s.wants("persist reset")
	s.Persisted(true, s.now)
	settled(s)
	// Nor does one that takes its time hold it up for long.
	s = aborted()
	s.pass(tellTime - 1)
	s.wants()
	s.pass(1)
	s.wants("persist reset")
	s.closed(2, 4002, "reset") // faster than the disk
	settled(s)
	s.Persisted(true, s.now)
	s.wants()
	// The aborting leg may be gone by then.
	s = aborted()
	s.gone(1)
	s.closed(2, 4002, "reset")
	s.wants()
	s.refused(device, 2, Refusal{Ended: wire.EndReset})
	// Nobody is there to be told.
	s = resumable(t)
	s.join(service, 1)
	s.closed(1, 4004, "reset")
	s.wants("ended reset", "persist reset")
	// On a leg that is being closed, its own word stands.
	s = open(t, settings)
	s.gone(2)
	s.wants("close 1 4000 peer away")
	s.closed(1, 4004, "reset")
	s.wants("ended reset", "persist reset")
	s.gone(1)
	s.Persisted(true, s.now)
	s.wants()
	s.refused(device, 2, Refusal{Ended: wire.EndReset})
	// Both abort.
	s = aborted()
	s.closed(2, 4004, "shutdown")
	settled(s)
}

// Who is lost need not be told of it: that end has its own window.
func TestAbortLost(t *testing.T) {
	s := open(t, settings)
	s.closed(1, 4004, "lost")
	s.wants("ended lost", "close 2 4002 lost", "close 1 4004 lost")
	s.gone(2)
	s.wants()
}

// Without a window losing a leg is losing the stream, and a token is for one use.
func TestWithoutWindow(t *testing.T) {
	s := open(t, Config{})
	s.refused(device, 2, Refusal{Ended: wire.EndRefused})
	s.wants()
	s.gone(1)
	s.wants("ended lost", "close 2 4002 lost")
	s = open(t, Config{})
	s.closed(1, 4004, "reset")
	s.wants("ended reset", "close 2 4002 reset", "close 1 4004 reset")
	s = begin(t, Config{})
	s.join(device, 1)
	s.closed(1, 1001, "")
	s.wants("ended lost", "close 1 1001")
}

func TestExpired(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, late := range []bool{false, true} {
		s := begin(t, Config{Window: window, JoinBy: start.Add(FirstJoin)})
		s.now = s.now.Add(FirstJoin)
		if late {
			s.now = s.now.Add(1)
			s.refused(device, 1, Refusal{Ended: wire.EndExpired})
			s.wants("ended expired")
			continue
		}
		s.Tick(s.now)
		s.join(device, 1)
		s.now = s.now.Add(time.Hour)
		s.join(service, 1) // the stream's first join counts
		s.wants("pair 2 1")
	}
	s := begin(t, Config{Window: window, JoinBy: start.Add(FirstJoin)})
	s.pass(s.Next().Sub(s.now))
	s.wants("ended expired")
}

// A side whose other one does not come holds the stream no longer than one that has gone,
// however often it joins.
func TestAlone(t *testing.T) {
	s := open(t, settings)
	s.gone(2)
	s.wants("close 1 4000 peer away")
	s.gone(1)
	s.join(device, 2)
	s.pass(window)
	s.join(device, 3)
	s.wants("close 3 4001 replaced")
	s.gone(3)
	s.pass(Afterlife - 1)
	s.wants()
	s.pass(1)
	s.wants("ended idle", "close 4 4002 idle")
}

func TestIdle(t *testing.T) {
	s := open(t, settings)
	if !s.Next().IsZero() {
		t.Error("waits with legs")
	}
	s.pass(24 * time.Hour)
	s.gone(1)
	s.gone(2)
	s.wants("close 2 4000 peer away")
	s.pass(window + Afterlife - 1)
	s.wants()
	s.join(device, 2)
	s.join(service, 2)
	s.wants("pair 4 3")
	s.pass(24 * time.Hour)
	s.gone(3)
	s.gone(4)
	s.wants("close 4 4000 peer away")
	s.pass(window + Afterlife)
	s.wants("ended idle")
}

func TestInstance(t *testing.T) {
	// A control connection counts only of another instance.
	s := open(t, settings)
	s.Control("device")
	s.gone(1)
	s.Control("")
	s.wants("close 2 4000 peer away")
	s.Control("other")
	s.wants("ended instance")
	// A live leg proves its process alive, until it goes.
	s = open(t, settings)
	s.Control("other")
	s.wants()
	s.gone(1)
	s.wants("close 2 4000 peer away", "ended instance")
	// It may go by a takeover of the other side.
	s = open(t, settings)
	s.Control("other")
	s.refused(service, 2, Refusal{Ended: wire.EndInstance})
	s.wants("close 2 4001 replaced", "close 1 4000 peer away", "ended instance")
	// An instance that is not known cannot be another.
	s = resumable(t)
	s.join(service, 1)
	s.Control("other")
	s.wants()
	s.join(device, 1)
	s.wants("pair 2 1")
	// The service's token may know it.
	s = resumable(t)
	if _, refusal := s.Join(Join{Side: service, Counter: 1, Instance: "service", Peer: "device"}, s.now); refusal != nil {
		t.Fatal(refusal)
	}
	s.Control("device")
	s.wants()
	s.Control("other")
	s.wants("ended instance", "close 1 4002 instance")
}

func TestTooManyJoins(t *testing.T) {
	s := resumable(t)
	for n := range uint64(maxJoins) {
		s.join(device, n+1)
	}
	s.now = s.now.Add(20 * time.Second)
	s.refused(device, 1000, Refusal{RetryAfter: 40 * time.Second})
	s.join(service, 1)
	s.now = s.now.Add(40 * time.Second)
	s.join(device, 1000)
}

func TestHubEnds(t *testing.T) {
	s := open(t, settings)
	s.End(wire.EndRevoked)
	s.wants("ended revoked", "close 1 4002 revoked", "close 2 4002 revoked")
	s.End(wire.EndClosed)
	s.closed(1, 4002, "revoked")
	s.gone(1)
	s.gone(2)
	s.wants()
	s = open(t, settings)
	s.Violation(2, wire.CloseTooBig)
	s.wants("close 2 1009", "ended protocol", "close 1 4002 protocol")
	s = open(t, settings)
	s.Restart(s.now)
	s.wants("close 1 1012", "close 2 1012")
	s.gone(1)
	s.gone(2)
	s.wants()
}
