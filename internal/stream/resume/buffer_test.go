package resume

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// counting has chunks counted during a test.
func counting(t *testing.T) *countingPool {
	old, p := chunks, newCountingPool()
	chunks = p
	t.Cleanup(func() { chunks = old })
	return p
}

// TestBuffer does at random what may be done with a buffer, and compares it with a slice.
func TestBuffer(t *testing.T) {
	pool := counting(t)
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var b buffer
		var want []byte
		var views []*chunk
		var seen, expected [][]byte
		for range 200 {
			switch r.IntN(5) {
			case 0, 1:
				c, room := b.room()
				if len(room) < leastRoom {
					t.Fatalf("room of %d bytes", len(room))
				}
				n := r.IntN(min(len(room), 1+r.IntN(wire.Chunk)) + 1)
				copy(room, pattern(0, b.end, n))
				want = append(want, room[:n]...)
				b.filled(c, n)
			case 2:
				n := r.IntN(len(want) + 1)
				b.drop(b.start + uint64(n))
				want = want[n:]
			case 3:
				if len(want) == 0 {
					continue
				}
				i := r.IntN(len(want))
				v, c := b.view(b.start + uint64(i))
				if !bytes.Equal(v, want[i:i+len(v)]) {
					t.Fatalf("other bytes at %d", i)
				}
				views, seen, expected = append(views, c), append(seen, v), append(expected, bytes.Clone(v))
			case 4:
				if len(views) > 0 {
					last := len(views) - 1
					if !bytes.Equal(seen[last], expected[last]) {
						t.Fatal("bytes change while they are in use")
					}
					views[last].unpin()
					b.trim()
					views, seen, expected = views[:last], seen[:last], expected[:last]
				}
			}
			if b.size() != uint64(len(want)) {
				t.Fatalf("size %d of %d", b.size(), len(want))
			}
			if most := len(want)/(wire.Chunk-leastRoom) + 2 + len(views); len(pool.out) > most {
				t.Fatalf("%d chunks for %d bytes", len(pool.out), len(want))
			}
		}
		c, _ := b.room()
		b.empty()
		b.filled(c, 10) // too late
		if b.size() != 0 || len(b.pieces) != 0 {
			t.Fatalf("%d bytes in %d pieces of an empty buffer", b.size(), len(b.pieces))
		}
		for _, c := range views {
			c.unpin()
		}
		if len(pool.out) != 0 || pool.bad {
			t.Fatalf("%d chunks remain, bad %v", len(pool.out), pool.bad)
		}
	}
}

func TestTail(t *testing.T) {
	var b buffer
	var tl tail
	for _, n := range []int{1, 1023, 1024, 1025, 5, 70_000, 3} {
		for n > 0 {
			c, room := b.room()
			k := min(n, len(room))
			copy(room, pattern(0, b.end, k))
			b.filled(c, k)
			n -= k
		}
		b.copyTo(&tl, b.start, b.end)
		b.drop(b.end)
		last := min(b.end, wire.CheckTail)
		if got, want := tl.check(b.end), crc32.Checksum(pattern(0, b.end-last, int(last)), castagnoli); got != want {
			t.Errorf("at %d: check %08x, want %08x", b.end, got, want)
		}
	}
}

func TestAckTiming(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	s.brings(100)
	s.next("")
	if d := s.Deadline().Sub(s.now); d != ackDelay {
		t.Errorf("acknowledged after %v", d)
	}
	s.pass(ackDelay)
	s.Tick()
	s.next("A 100 262144")
	s.next("")
	s.brings(100) // own bytes do not wait for it, nor it for them
	s.write(10)
	s.next("10 bytes")
	s.next("")
	s.pass(ackDelay)
	s.next("A 200 262144")
	s.brings(128<<10 - 1)
	s.next("")
	s.brings(1) // half the credit
	s.next("A 131272 262144")
	s.brings(100_000)
	s.next("")
	s.reads(131272) // room grows by half the credit
	s.next("A 231272 393416")
	s.message("E 231272")
	s.reads(100_000)
	s.next("") // there is credit enough
	s.ShutdownDone()
	s.next("A 231273 493416") // now
}

// With much credit, acknowledgements are rare.
func TestAckShare(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	s.credit = wire.MaxWindowBytes
	s.brings(1)
	s.reads(1)
	s.pass(ackDelay)
	s.next("A 1 8388609")
	s.brings(4<<20 - 1)
	s.next("")
	s.brings(1)
	s.next("A 4194305 8388609")
}

func TestCreditGrows(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	for range 40 { // all the credit is used, and the reader keeps up
		n := int(s.limit - s.in.end)
		s.brings(n)
		s.reads(n)
	}
	if s.credit != wire.MaxWindowBytes || s.limit-s.in.start != wire.MaxWindowBytes {
		t.Errorf("credit %d, promised %d", s.credit, s.limit-s.in.start)
	}
	s = newSingle(t, Config{Window: time.Minute})
	s.open(0)
	for range 400 { // a little at a time
		s.brings(10_000)
		s.reads(10_000)
		s.pass(fastCredit / 20)
	}
	if s.credit != wire.FirstCredit {
		t.Errorf("credit %d of a slow sender", s.credit)
	}
	s.brings(int(s.limit - s.in.end))
	for range 40 { // the reader does not keep up
		s.reads(1000)
		s.brings(1000)
	}
	if s.credit != wire.FirstCredit {
		t.Errorf("credit %d for a reader that does not keep up", s.credit)
	}
	if s.phase != running {
		t.Errorf("outcome %q", s.Outcome())
	}
}

func TestCreditOverrun(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	s.brings(wire.FirstCredit)
	s.asked()
	s.brings(1)
	s.asked("reset protocol")
}

func TestRoom(t *testing.T) {
	s := newSingle(t, Config{Window: time.Minute})
	s.acts()
	s.write(1 << 20)
	if s.out.size() != wire.EarlyData {
		t.Errorf("%d bytes are read before the hello", s.out.size())
	}
	s.open(0)
	s.message("A 0 %d", 100<<20)
	s.write(100 << 20)
	if s.out.size() != wire.MaxWindowBytes || s.Space() != nil {
		t.Errorf("%d bytes are held", s.out.size())
	}
	s.Abort(wire.EndReset)
	if n := s.c.Budget.Used(); n != 0 {
		t.Errorf("%d bytes of the budget remain", n)
	}
}

func TestBudget(t *testing.T) {
	budget := NewBudget(wire.FirstCredit + 1)
	a := newSingle(t, Config{Window: time.Minute, Budget: budget})
	b := newSingle(t, Config{Window: time.Minute, Budget: budget})
	if a.limit != wire.FirstCredit || b.limit != wire.FirstCredit {
		t.Fatalf("promised %d and %d", a.limit, b.limit)
	}
	c := newSingle(t, Config{Window: time.Minute, Budget: budget})
	if c.limit != wire.EarlyData || budget.Used() != 2*wire.FirstCredit+wire.EarlyData {
		t.Errorf("promised %d, used %d", c.limit, budget.Used())
	}
	c.open(0)
	c.message("A 0 %d", 1<<20)
	c.write(1 << 20)
	if c.out.size() != wire.EarlyData {
		t.Errorf("%d bytes are held", c.out.size())
	}
	for range 10 {
		n := int(c.limit - c.in.end)
		c.brings(n)
		c.reads(n)
	}
	if c.credit != wire.EarlyData {
		t.Errorf("credit grows to %d", c.credit)
	}
	for _, s := range []*single{a, b, c} {
		s.Abort(wire.EndReset)
	}
	if budget.Used() != 0 {
		t.Errorf("%d bytes remain", budget.Used())
	}
}

// list is a pool that forgets nothing.
type list []any

func (l *list) Get() any {
	n := len(*l)
	if n == 0 {
		return &chunk{b: new([wire.Chunk]byte)}
	}
	x := (*l)[n-1]
	*l = (*l)[:n-1]
	return x
}

func (l *list) Put(x any) { *l = append(*l, x) }

// TestAllocations moves bulk between two Ends: nothing is allocated but the texts of
// acknowledgements.
func TestAllocations(t *testing.T) {
	old := chunks
	defer func() { chunks = old }()
	chunks = new(list) // a sync.Pool forgets at random in a race test
	s := newSingle(t, Config{Window: time.Minute})
	s.open(0)
	limit := uint64(100 << 20)
	s.message("A 0 %d", limit)
	var text []byte
	step := func() {
		for range 16 {
			b := s.Space()
			s.Filled(min(len(b), 4000))
			s.brings(4000)
			s.reads(4000)
		}
		for s.Pending() {
			s.Next()
			s.Sent()
		}
		limit += 64000
		text = wire.Control{Verb: wire.VerbAck, Recv: s.sent, Limit: limit}.Append(text[:0])
		s.message("%s", text)
		s.Act()
		s.Deadline()
		s.Tick()
	}
	for range 10 {
		step()
	}
	if n := testing.AllocsPerRun(100, step); n > 6 { // of 16 writes, 16 reads and an A each way
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBulk(b *testing.B) {
	now := time.Now()
	s := New(Config{Window: time.Minute, Now: func() time.Time { return now }})
	s.Act()
	s.Opened(1, false)
	s.Next()
	s.Sent()
	s.Message(1, []byte("H 1 0 9000000000000000 00000000"))
	b.SetBytes(2 * wire.Chunk)
	b.ReportAllocs()
	for b.Loop() {
		s.Filled(len(s.Space()))
		s.Data(1, len(s.LegSpace()))
		s.Delivered(len(s.App()))
		for s.Pending() {
			s.Next()
			s.Sent()
		}
		s.acked(s.sent, s.peerLimit)
	}
}
