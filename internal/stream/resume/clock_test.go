package resume

import (
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// silence lets time pass without a byte from the leg, and returns how long it took until
// the leg was given up, and when it was pinged first.
func (s *single) silence() (dead, pinged time.Duration) {
	s.t.Helper()
	began, leg := s.now, s.leg
	for s.leg == leg {
		s.tick()
		for a, ok := s.Act(); ok; a, ok = s.Act() {
			if a.Kind == ActPing && pinged == 0 {
				pinged = s.now.Sub(began)
			}
		}
	}
	return s.now.Sub(began), pinged
}

func TestDeadPath(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.acts()
	if dead, pinged := s.silence(); dead != 10*time.Second || pinged != 5*time.Second {
		t.Errorf("idle: dead after %v, pinged after %v", dead, pinged)
	}
	s.open(0)
	s.write(100)
	s.next("100 bytes")
	s.message("A 100 262144")
	if dead, _ := s.silence(); dead != 15*time.Second {
		t.Errorf("when all is acknowledged, and the verdict before was too early: dead after %v", dead)
	}
	want := 5 * time.Second
	s.open(100)
	s.write(100)
	s.next("100 bytes")
	for range 6 { // each verdict is followed by a join at once
		if dead, pinged := s.silence(); dead != want || pinged != min(2*time.Second, want) {
			t.Errorf("busy: dead after %v, pinged after %v; want %v", dead, pinged, want)
		}
		want = min(2*want, time.Minute)
		s.open(100)
		s.next("100 bytes")
	}
	s.pass(59 * time.Second) // at 60 s it would be dead
	s.Heard(s.leg)
	s.message("A 200 262144")
	s.pass(2 * time.Second)
	s.Heard(s.leg) // a minute after the verdict
	s.write(100)
	s.next("100 bytes")
	if dead, _ := s.silence(); dead != 5*time.Second {
		t.Errorf("after a quiet minute: dead after %v", dead)
	}
}

func TestJoinLongAfterVerdict(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.write(100)
	s.next("100 bytes")
	s.silence()
	s.pass(3 * time.Second) // the network was gone indeed
	s.open(0)
	s.next("100 bytes")
	if dead, _ := s.silence(); dead != 5*time.Second {
		t.Errorf("dead after %v", dead)
	}
}

func TestHeardWhileOwed(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.write(100)
	s.next("100 bytes")
	for range 20 { // the hub is there, the peer's application is slow
		s.pass(2 * time.Second)
		s.Tick()
		s.asked("ping 1")
		s.pass(100 * time.Millisecond)
		s.Heard(1)
	}
	if s.State() != Open {
		t.Errorf("state %v", s.State())
	}
}

func TestNetworkChanged(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.NetworkChanged()
	s.asked("ping 1")
	s.pass(time.Second)
	s.NetworkChanged() // the first one's time runs on
	s.asked("ping 1")
	if dead, _ := s.silence(); dead != time.Second {
		t.Errorf("dead %v after the second change", dead)
	}
	if s.attempt != 2 {
		t.Fatalf("attempt %d", s.attempt)
	}
	s.NetworkChanged()
	s.asked("drop 2", "dial 3")
	s.Failed(3)
	s.asked("dial 4")
	s.Failed(4)
	s.asked()
	s.NetworkChanged()
	s.asked("dial 5")
}

func TestBackoff(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.LegClosed(1, 0, "")
	s.asked("dial 2")
	for k := range 20 {
		s.Failed(s.attempt)
		most := min(3*time.Second, 500*time.Millisecond<<min(k, 5))
		if d := s.tick(); d > most {
			t.Errorf("attempt %d after %v, at most %v", s.attempt, d, most)
		}
		s.acts()
	}
}

func TestEchoTimeout(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.Abort(wire.EndShutdown)
	s.next("X shutdown")
	s.asked("close 1 4004 shutdown")
	if d := s.tick(); d != echoTimeout {
		t.Errorf("the echo is waited for %v", d)
	}
	s.asked("drop 1", "dial 2")
	s.Opened(2, false)
	s.next("X shutdown")
	s.asked("close 2 4004 shutdown")
	s.next("")
	s.LegClosed(2, wire.CloseBrokenOff, "shutdown")
	if !s.Done() {
		t.Error("goes on after the echo")
	}
}

func TestLinger(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.ReadEOF()
	s.next("E 0")
	s.message("E 0")
	if !s.AppEOF() {
		t.Fatal("no end to show")
	}
	s.ShutdownDone()
	s.next("A 1 262144")
	s.message("A 1 262144")
	s.next("F")
	if s.State() != Closing || s.Outcome() != wire.EndFinished {
		t.Fatalf("state %v, outcome %q", s.State(), s.Outcome())
	}
	began := s.now
	for !s.shutting {
		s.tick()
		s.Heard(1)
	}
	if d := s.now.Sub(began); d != time.Minute {
		t.Errorf("lingers for %v", d)
	}
	s.acts()
	if d := s.tick(); d != byeTimeout || !s.Done() {
		t.Errorf("done %v after %v more", s.Done(), d)
	}
}

func TestLingerAtMost(t *testing.T) {
	s := newSingle(t, Config{Window: time.Hour})
	s.open(0)
	s.Abort(wire.EndShutdown)
	s.LegClosed(1, 0, "")
	s.LingerAtMost(3 * time.Second)
	began := s.now
	for !s.Done() {
		s.Failed(s.attempt)
		s.acts()
		s.tick()
	}
	if d := s.now.Sub(began); d != 3*time.Second {
		t.Errorf("ended after %v", d)
	}
}
