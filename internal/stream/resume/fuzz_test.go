package resume

import (
	"bytes"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// FuzzMessage has the peer of an open pairing send lines of texts and, for those that
// begin with a space, stream bytes: the End never panics, keeps its bounds, and gives
// everything back.
func FuzzMessage(f *testing.F) {
	for _, text := range []string{
		"A 0 262144\nA 100 262144\nE 0\nF", " bytes\nE 6\nA 101 300000\nF", "X reset", "X finished", "H 2 0 262144 00000000",
		"A 9007199254740991 9007199254740991", "E 9007199254740991", "z\nA 50 262144\nA 40 262144", "F\nF", "",
	} {
		f.Add([]byte(text), true)
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, lines []byte, eof bool) {
		pool := counting(t)
		s := newSingle(t, Config{Window: time.Minute})
		s.open(0)
		s.write(100)
		if eof {
			s.ReadEOF()
		}
		for s.Pending() {
			s.Next()
			s.Sent()
		}
		for _, line := range bytes.Split(lines, []byte("\n")) {
			if len(line) > 0 && line[0] == ' ' {
				n := copy(s.LegSpace(), line)
				s.Data(s.leg, n)
			} else {
				s.Message(s.leg, line)
			}
			if b := s.App(); b != nil {
				s.Delivered(len(b))
			}
			s.ShutdownDone()
			for s.Pending() {
				if _, ok := s.Next(); !ok {
					t.Fatal("Pending, but nothing is next")
				}
				s.Sent()
			}
			s.acts()
			if s.limit-s.in.start > wire.MaxWindowBytes || s.out.end > wire.MaxOffset {
				t.Fatalf("promised %d from %d, sends to %d", s.limit, s.in.start, s.out.end)
			}
			if s.Outcome() == wire.EndFinished && (!eof || !s.shown || !s.eofAcked) {
				t.Fatal("finished too soon")
			}
		}
		s.Abort(wire.EndReset)
		for i := 0; !s.Done(); i++ {
			if i > 1000 {
				t.Fatal("no end")
			}
			s.Failed(s.attempt)
			s.acts()
			if !s.Done() {
				s.tick()
			}
		}
		if len(pool.out) != 0 || s.c.Budget.Used() != 0 {
			t.Fatalf("%d chunks and %d bytes of the budget remain", len(pool.out), s.c.Budget.Used())
		}
	})
}
