package resume

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// single is an End whose legs and peer the test plays.
type single struct {
	*End
	t   *testing.T
	now time.Time
}

func newSingle(t *testing.T, c Config) *single {
	s := &single{t: t, now: time.Unix(1e9, 0)}
	c.Now = func() time.Time { return s.now }
	c.Rand = rand.New(rand.NewPCG(1, 1))
	s.End = New(c)
	return s
}

// acts returns what is asked for, as text.
func (s *single) acts() (all []string) {
	names := map[ActionKind]string{ActDial: "dial", ActPing: "ping", ActClose: "close", ActDrop: "drop", ActReset: "reset"}
	for a, ok := s.Act(); ok; a, ok = s.Act() {
		text := fmt.Sprintf("%s %d", names[a.Kind], a.Join)
		if a.Kind == ActClose {
			text += fmt.Sprintf(" %d %s", a.Code, a.Reason)
		}
		if a.Kind == ActReset {
			text = "reset " + string(a.Reason)
		}
		all = append(all, text)
	}
	return all
}

// asked checks what is asked for.
func (s *single) asked(want ...string) {
	s.t.Helper()
	if got := s.acts(); fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("asked for %q, want %q", got, want)
	}
}

// next checks what is written next, "" for nothing and "n bytes" for data.
func (s *single) next(want string) {
	s.t.Helper()
	pending := s.Pending()
	f, ok := s.Next()
	got := f.Text
	if f.Data != nil {
		got = fmt.Sprintf("%d bytes", len(f.Data))
	}
	s.Sent()
	if got != want || ok != (want != "") || pending != ok {
		s.t.Errorf("writes %q (%v, pending %v), want %q", got, ok, pending, want)
	}
}

func (s *single) pass(d time.Duration) { s.now = s.now.Add(d) }

// tick lets time pass until Deadline, and returns how long that was.
func (s *single) tick() time.Duration {
	s.t.Helper()
	at := s.Deadline()
	if at.IsZero() {
		s.t.Fatal("no deadline")
	}
	d := at.Sub(s.now)
	s.now = at
	s.Tick()
	return d
}

func (s *single) message(format string, args ...any) {
	s.Message(s.leg, fmt.Appendf(nil, format, args...))
}

// open opens a leg and says the hello of a peer that has received recv bytes.
func (s *single) open(recv uint64) {
	s.t.Helper()
	s.acts()
	s.Opened(s.join, false)
	if f, ok := s.Next(); !ok || f.Text == "" || f.Text[0] != 'H' {
		s.t.Fatalf("no hello first, but %+v", f)
	}
	s.message("H %d %d %d %08x", s.peerJoin+1, recv, max(s.peerLimit, wire.FirstCredit), s.checkAt(min(recv, s.out.end)))
	if s.State() != Open && s.phase == running {
		s.t.Fatalf("state %v after both hellos", s.State())
	}
}

// write has the application write n bytes.
func (s *single) write(n int) {
	for n > 0 && s.Room() > 0 {
		space := s.Space()
		k := min(n, len(space))
		copy(space, pattern(0, s.out.end, k))
		s.Filled(k)
		n -= k
	}
}

// brings has the leg bring n bytes.
func (s *single) brings(n int) {
	for n > 0 {
		space := s.LegSpace()
		k := min(n, len(space))
		copy(space, pattern(1, s.in.end, k))
		s.Data(s.leg, k)
		n -= k
	}
}

// reads has the application take n bytes.
func (s *single) reads(n int) {
	for n > 0 {
		b := s.App()
		k := min(n, len(b))
		if !bytes.Equal(b[:k], pattern(1, s.in.start, k)) {
			s.t.Fatalf("other bytes at %d", s.in.start)
		}
		s.Delivered(k)
		n -= k
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		refusal Refusal
		outcome wire.EndReason
		at      time.Duration // of the next attempt, at most; 0: at once
	}{
		{Refusal{Status: 401, End: wire.EndRefused}, wire.EndLost, 0},
		{Refusal{Status: 410, End: wire.EndRevoked}, wire.EndRevoked, 0},
		{Refusal{Status: 410, End: wire.EndExpired}, wire.EndExpired, 0},
		{Refusal{Status: 410, End: wire.EndFinished}, wire.EndReset, 0}, // it was not, here
		{Refusal{Status: 410, End: wire.EndInstance}, wire.EndInstance, 0},
		{Refusal{Status: 409, Highest: 2}, wire.EndLost, 0},
		{Refusal{Status: 409, Highest: 1}, "", 0},
		{Refusal{Status: 409}, "", 0},
		{Refusal{Status: 401}, "", 0}, // a captive portal
		{Refusal{Status: 404}, "", 0},
		{Refusal{Status: 421}, "", 0},
		{Refusal{Status: 429}, "", 30 * time.Second},
		{Refusal{Status: 503}, "", 30 * time.Second},
		{Refusal{Status: 503, RetryAfter: 40 * time.Second}, "", 40 * time.Second},
	} {
		s := newSingle(t, Config{Window: time.Minute})
		s.asked("dial 1")
		s.Refused(9, test.refusal)
		s.asked() // of another attempt
		s.Refused(1, test.refusal)
		switch {
		case test.outcome != "":
			s.asked("reset " + string(test.outcome))
			if s.Outcome() != test.outcome || !s.Done() {
				t.Errorf("%+v: outcome %q, done %v", test.refusal, s.Outcome(), s.Done())
			}
		case test.at == 0:
			s.asked("dial 2")
		default:
			if d := s.tick(); d > test.at || test.refusal.RetryAfter > 0 && d != test.at {
				t.Errorf("%+v: next attempt after %v", test.refusal, d)
			}
			s.asked("dial 2")
		}
	}
}

func TestLegClosed(t *testing.T) {
	for _, test := range []struct {
		code    int
		reason  string
		outcome wire.EndReason
		at      time.Duration // of the next attempt, at most
	}{
		{0, "", "", 0},
		{1000, "", "", 0},
		{1001, "", "", 0},
		{1006, "", "", 0},
		{4000, "peer away", "", 0},
		{4004, "reset", "", 0}, // of the hub's, not of an end's
		{1012, "", "", time.Second},
		{1013, "", "", 30 * time.Second},
		{1008, "", wire.EndReset, 0},
		{1009, "", wire.EndReset, 0},
		{4001, "replaced", wire.EndLost, 0},
		{4002, "closed", wire.EndClosed, 0},
		{4002, "shutdown", wire.EndShutdown, 0},
		{4002, "finished", wire.EndReset, 0},
		{4002, "whatever", wire.EndReset, 0},
	} {
		s := newSingle(t, Config{Window: time.Minute})
		s.open(0)
		s.LegClosed(7, test.code, test.reason)
		s.asked() // of another leg
		s.LegClosed(1, test.code, test.reason)
		switch {
		case test.outcome != "":
			s.asked("reset " + string(test.outcome))
			if s.Outcome() != test.outcome || !s.Done() {
				t.Errorf("%d %s: outcome %q, done %v", test.code, test.reason, s.Outcome(), s.Done())
			}
		case test.at == 0:
			s.asked("dial 2")
		default:
			if d := s.tick(); d > test.at {
				t.Errorf("%d: next attempt after %v", test.code, d)
			}
			s.asked("dial 2")
		}
	}
}

func TestReplacedWhileJoiningAnew(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	s.refresh = s.now
	s.Tick()
	s.asked("dial 2")
	s.LegClosed(1, wire.CloseReplaced, "replaced") // by ourselves
	s.asked()
	s.Opened(2, true)
	s.next("H 2 0 262144 00000000")
	if s.State() != Alone {
		t.Errorf("state %v", s.State())
	}
}

func TestWithoutResume(t *testing.T) {
	s := newSingle(t, Config{})
	s.open(0)
	s.LegClosed(1, wire.ClosePeerAway, "")
	s.asked("reset lost")
	if !s.Done() {
		t.Error("goes on without a leg")
	}
}

func TestWindow(t *testing.T) {
	s := newSingle(t, Config{Window: 5 * time.Minute})
	s.acts()
	s.Opened(1, false)
	s.next("H 1 0 262144 00000000")
	for s.State() == Alone && s.now.Sub(s.created) < time.Hour {
		s.tick()
		s.Heard(1) // the hub is there
	}
	if d := s.now.Sub(s.created); d != time.Minute || s.Outcome() != wire.EndLost {
		t.Errorf("without a first pairing %q after %v", s.Outcome(), d)
	}
	s = newSingle(t, Config{Window: 5 * time.Minute})
	s.open(0)
	s.LegClosed(1, 0, "")
	began := s.now
	for s.phase == running && s.now.Sub(began) < time.Hour {
		s.tick()
		s.Failed(s.attempt)
	}
	if d := s.now.Sub(began); d != 5*time.Minute || s.Outcome() != wire.EndLost || !s.Done() {
		t.Errorf("%q after %v, done %v", s.Outcome(), d, s.Done())
	}
	if n := s.c.Budget.Used(); n != 0 {
		t.Errorf("%d bytes of the budget remain", n)
	}
}

func TestRefreshWithoutNewToken(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	dialled := 0
	for s.now.Sub(s.created) < 24*time.Hour {
		s.tick()
		s.Heard(s.leg)
		for _, a := range s.acts() {
			if a[:4] == "dial" {
				dialled++
				if at := s.now.Sub(s.created); dialled == 1 && (at < 18*time.Hour || at > 20*time.Hour) {
					t.Errorf("joins anew after %v", at)
				}
				s.open(0)
			}
		}
	}
	if dialled < 2 || dialled > 6 {
		t.Errorf("%d joins for a new token", dialled)
	}
}

func TestViolations(t *testing.T) {
	hello := fmt.Sprintf("H 1 0 65536 %08x", 0)
	for _, test := range [][]string{
		{"A 0 65536"}, {"E 0"}, {"F"}, {"h"}, {"H 1 0 65535 00000000"}, {"H 1 1 65536 00000000"},
		{"H 1 0 65536 00000001"}, {"Q"}, {"A"}, {""}, {hello, hello}, {hello, "A 1 65536"}, {hello, "A 0 65535"},
		{hello, "E 1"}, {hello, "F"}, {hello, "E 0", "E 1"}, {hello, "A 0 9007199254740992"},
	} {
		s := newSingle(t, Config{Window: time.Minute})
		s.acts()
		s.Opened(1, false)
		for _, text := range test {
			s.message("%s", text)
		}
		if test[0] == "h" { // of a later version
			if s.Outcome() != "" {
				t.Errorf("%q: %s", test, s.Outcome())
			}
			continue
		}
		s.asked("reset protocol")
		s.next("X protocol")
		s.asked("close 1 4004 protocol")
		if s.Outcome() != wire.EndProtocol {
			t.Errorf("%q: outcome %q", test, s.Outcome())
		}
	}
}

func TestCheckDiffers(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	s.write(5000)
	s.next("5000 bytes")
	s.message("A 3000 262144")
	s.LegClosed(1, 0, "")
	s.acts()
	s.Opened(2, false)
	s.next("H 2 0 262144 00000000")
	s.message("H 2 4000 262144 %08x", s.checkAt(4001))
	if s.Outcome() != wire.EndProtocol {
		t.Errorf("outcome %q", s.Outcome())
	}
}

func TestBrokenOffAsFinished(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	s.message("X finished")
	s.asked("close 1 4004 reset", "reset reset")
	if s.Outcome() != wire.EndReset || !s.Done() {
		t.Errorf("outcome %q", s.Outcome())
	}
}

func TestStaleHello(t *testing.T) {
	for _, join := range []int{3, 2} {
		s := newSingle(t, Config{Window: time.Minute})
		s.peerJoin = 2
		s.open(0) // its third join
		s.LegClosed(1, 0, "")
		s.acts()
		s.Opened(2, false)
		s.next("H 2 0 262144 00000000")
		s.message("H %d 0 262144 00000000", join)
		s.asked("drop 2")
		s.tick()
		s.asked("dial 3")
		if s.State() != Joining {
			t.Errorf("join %d: state %v", join, s.State())
		}
	}
}

// finished is an End that is clean, on a leg that is paired.
func finished(t *testing.T) *single {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.write(10)
	s.ReadEOF()
	s.next("10 bytes")
	s.next("E 10")
	s.message("E 0")
	s.ShutdownDone()
	s.next("A 1 262144")
	s.message("A 11 262144")
	if s.State() != Closing || s.Outcome() != wire.EndFinished {
		t.Fatalf("state %v, outcome %q", s.State(), s.Outcome())
	}
	return s
}

func TestBothDone(t *testing.T) {
	s := finished(t)
	s.next("F")
	s.asked()
	s.message("F")
	s.asked("close 1 1000 ")
	if !s.Done() {
		t.Error("not done after both F")
	}
	s = finished(t)
	s.message("F")
	s.asked()
	s.next("F")
	s.asked("close 1 1000 ")
	if !s.Done() {
		t.Error("not done after both F")
	}
}

func TestClosingOnAnotherLeg(t *testing.T) {
	s := finished(t)
	s.next("F")
	s.LegClosed(1, 0, "")
	s.open(11)
	s.next("F") // and nothing else, again
	s.LegClosed(2, wire.CloseEnded, "reset")
	if !s.Done() || s.Outcome() != wire.EndFinished {
		t.Errorf("done %v, outcome %q", s.Done(), s.Outcome())
	}
	s = finished(t)
	s.LegClosed(1, 0, "")
	s.acts()
	s.Refused(2, Refusal{Status: 410, End: wire.EndRevoked})
	s.asked()
	if !s.Done() || s.Outcome() != wire.EndFinished {
		t.Errorf("done %v, outcome %q", s.Done(), s.Outcome())
	}
}

func TestEndNotRepeatedOnceAcknowledged(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.ReadEOF()
	s.next("E 0")
	s.LegClosed(1, 0, "")
	s.open(0)
	s.next("E 0") // again
	s.LegClosed(2, 0, "")
	s.open(1)
	s.next("")
	if s.State() != Open {
		t.Errorf("state %v", s.State())
	}
}

func TestOverflow(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.join = wire.MaxOffset
	s.LegClosed(0, 0, "")
	s.Failed(1)
	s.asked("dial 1", "reset overflow")
	if s.Outcome() != wire.EndOverflow || !s.Done() {
		t.Errorf("outcome %q", s.Outcome())
	}
}

func TestBytesAfterEnd(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	s.brings(10)
	s.message("E 10")
	s.asked()
	s.brings(1)
	s.asked("reset protocol")
}

func TestRefreshRefused(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	s.refresh = s.now
	s.Tick()
	s.asked("dial 2")
	s.Refused(2, Refusal{Status: 503, RetryAfter: time.Hour}) // of no account while there is a leg
	s.asked()
	s.pass(refreshAgain)
	s.Heard(1)
	s.Tick()
	s.asked("ping 1", "dial 3")
	s.Failed(3)
	s.LegClosed(1, 0, "")
	s.asked("dial 4")
}
