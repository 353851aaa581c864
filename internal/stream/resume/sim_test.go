package resume

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// The simulator: two Ends with their applications, a hub and the legs between them, in
// a time of its own. All that happens is drawn from one seed.

// The sides of a stream.
const (
	service = 0
	device  = 1
)

// sim is one schedule.
type sim struct {
	seed  uint64
	rand  *rand.Rand
	start time.Time
	now   time.Duration
	queue queue
	steps int
	plan  plan
	rule  rule // the one that is switched off
	sides [2]*side
	pool  *countingPool

	// The hub, what there is of it or only a model, and what it is known for.
	real     bool
	hub      anyHub
	hubUp    bool
	closed   bool // by the operator
	revoked  bool
	instance int // of the device's control connection; the first is 1
	underWay int // joins that have not come to the hub

	budget  *Budget
	calm    bool // no more faults
	calmAt  time.Duration
	failure string
	trace   []string
	tracing bool
}

// anyHub is a hub as the legs and the faults see it.
type anyHub interface {
	take(*conn, *item) bool // what has come from an end; false: not now
	room(*conn)             // more can be written
	kill()                  // and started again some time later
	stop()                  // the same, with SIGTERM
	recover()               // it is up again by now
	operatorClose()
	revoke()
	control(instance int) // connected, of the device
}

type event struct {
	at  time.Duration
	seq int
	do  func()
}

type queue struct {
	events []event
	seq    int
}

func (q *queue) Len() int { return len(q.events) }
func (q *queue) Less(i, j int) bool {
	a, b := q.events[i], q.events[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}
func (q *queue) Swap(i, j int) { q.events[i], q.events[j] = q.events[j], q.events[i] }
func (q *queue) Push(x any)    { q.events = append(q.events, x.(event)) }
func (q *queue) Pop() any {
	last := len(q.events) - 1
	e := q.events[last]
	q.events[last] = event{}
	q.events = q.events[:last]
	return e
}

// after has something done later.
func (s *sim) after(d time.Duration, do func()) {
	s.queue.seq++
	heap.Push(&s.queue, event{at: s.now + max(d, 0), seq: s.queue.seq, do: do})
}

// upTo is a random time.
func (s *sim) upTo(d time.Duration) time.Duration {
	return time.Duration(s.rand.Int64N(int64(d) + 1))
}

// chance is true so many times of a hundred.
func (s *sim) chance(percent int) bool { return s.rand.IntN(100) < percent }

func (s *sim) clock() time.Time { return s.start.Add(s.now) }

func (s *sim) failf(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf(format, args...)
		s.logf("FAILURE: %s", s.failure)
	}
}

func (s *sim) logf(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%12v ", s.now)+fmt.Sprintf(format, args...))
	}
}

// plan is what a schedule is made of.
type plan struct {
	window  time.Duration
	latency time.Duration // of a leg one way, at most
	rate    int           // bytes/s to one side; 0: no bound
	slow    int           // the side with that rate
	faults  time.Duration // until when there are any
	count   int           // of them
	kinds   []fault
	delayed int // percent of the joins that take seconds
	doubled int // percent of the joins that are repeated on the way
	renews  bool
	life    time.Duration // how long the applications stay idle at first
	apps    [2]appPlan
}

// appPlan is what an application does.
type appPlan struct {
	total      uint64 // bytes that it writes
	most       int    // at a time
	pace       time.Duration
	readMost   int
	readPace   time.Duration
	stopped    time.Duration // until then it does not read
	writeFirst bool          // it reads once it has written all
	answer     bool          // it ends when the peer has ended
	eofDelay   time.Duration
}

type fault int

const (
	cutLegs fault = iota
	blackLegs
	networkChange
	killHub
	stopHub
	abortApp
	killEnd
	operatorClose
	revoke
	outage
	renewal // an end joins anew, make before break
	sleep   // of a machine
)

func newPlan(r *rand.Rand) plan {
	upTo := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d) + 1)) }
	p := plan{window: 5 * time.Minute, latency: upTo(100 * time.Millisecond), renews: r.IntN(4) > 0}
	switch r.IntN(12) {
	case 0:
		p.window = 0
	case 1:
		p.window = 40 * time.Second
	}
	p.faults = upTo(20*time.Second) + 10*time.Millisecond
	if r.IntN(3) == 0 {
		p.faults = upTo(time.Second) + 10*time.Millisecond
	}
	if r.IntN(10) > 0 {
		p.count = r.IntN(12)
	}
	p.kinds = []fault{cutLegs, cutLegs, cutLegs, blackLegs, networkChange, killHub, stopHub, outage, renewal, renewal, sleep}
	if r.IntN(3) == 0 {
		p.kinds = append(p.kinds, abortApp, abortApp, killHub)
	}
	switch r.IntN(16) {
	case 0, 1:
		p.kinds = append(p.kinds, killEnd)
	case 2, 3:
		p.kinds = append(p.kinds, operatorClose, operatorClose, killHub, killHub)
	case 4:
		p.kinds = append(p.kinds, revoke)
	}
	if r.IntN(4) == 0 {
		p.delayed = 5 + r.IntN(30)
	}
	if r.IntN(4) == 0 {
		p.doubled = 5 + r.IntN(30)
	}
	if r.IntN(14) == 0 {
		p.rate, p.slow, p.window = 1200+r.IntN(1+r.IntN(4000)), r.IntN(2), 5*time.Minute
		if r.IntN(2) == 0 {
			p.rate = 1200 + r.IntN(400)
		}
		if r.IntN(2) == 0 {
			p.count = 0
		}
	}
	if r.IntN(200) == 0 && p.window > 0 {
		p.life, p.rate = 17*time.Hour+upTo(8*time.Hour), 0
	}
	first := r.IntN(8) // one at most writes all before it reads, or waits for the end
	for i := range p.apps {
		a := &p.apps[i]
		switch r.IntN(8) {
		case 0:
		case 1:
			a.total = 1
		case 2, 3:
			a.total = r.Uint64N(3000)
		case 4, 5:
			a.total = r.Uint64N(70_000)
		case 6:
			a.total = r.Uint64N(500_000)
		default:
			a.total = r.Uint64N(1_500_000)
		}
		if p.rate > 0 {
			a.total = min(a.total, 400_000)
		}
		if p.rate > 0 && p.slow != i && r.IntN(2) == 0 {
			a.total = 50_000 + r.Uint64N(300_000)
		}
		a.most = 1 + int(a.total/(1+r.Uint64N(40)))
		a.readMost = 1 + r.IntN(100_000)
		a.pace, a.readPace = upTo(20*time.Millisecond), upTo(20*time.Millisecond)
		if r.IntN(3) == 0 {
			a.pace = upTo(p.faults)
		}
		if r.IntN(4) == 0 {
			a.readPace, a.readMost = upTo(300*time.Millisecond), 1000+r.IntN(60_000)
			if r.IntN(2) == 0 {
				a.stopped = upTo(30 * time.Second)
			}
		}
		if p.rate > 0 && p.slow == i && r.IntN(2) == 0 { // never idle
			a.total, a.most, a.pace = 3000, 40, 4*time.Second
		}
		a.writeFirst = first == i && p.rate == 0
		a.answer = first == 2+i
		if r.IntN(3) == 0 {
			a.eofDelay = upTo(25 * time.Second)
		}
	}
	return p
}

// newSim makes the schedule of a seed.
func newSim(seed uint64, real bool, off rule) *sim {
	r := rand.New(rand.NewPCG(seed, 0x6661727))
	s := &sim{seed: seed, rand: r, start: time.Unix(1_700_000_000, 0), plan: newPlan(r), real: real, rule: off}
	return s
}

// run goes through the schedule until nothing is left, and says what went wrong.
func (s *sim) run() string {
	s.pool = newCountingPool()
	chunks = s.pool
	s.budget = NewBudget(DefaultBudget)
	if s.chance(5) {
		s.budget = NewBudget(1)
	}
	s.hubUp, s.instance = true, 1
	if s.real {
		s.hub = newCoreHub(s)
	} else {
		s.hub = newHub(s)
	}
	for i := range s.sides {
		s.sides[i] = newSide(s, i)
	}
	for _, w := range s.sides {
		w.drain()
	}
	s.faults()
	limit := s.plan.life + s.plan.faults + 2*s.plan.window + 30*time.Minute
	for s.failure == "" && s.queue.Len() > 0 && !(s.calm && s.sides[0].over() && s.sides[1].over()) {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		s.steps++
		e.do()
		s.invariants()
		if s.now > limit || s.steps > 400_000 {
			s.failf("no end after %v and %d steps", s.now, s.steps)
		}
	}
	if s.failure == "" {
		s.outcomes()
	}
	return s.failure
}

// faults spreads the faults over their time.
func (s *sim) faults() {
	for range s.plan.count {
		kind := s.plan.kinds[s.rand.IntN(len(s.plan.kinds))]
		s.after(s.plan.life+s.upTo(s.plan.faults), func() { s.fault(kind) })
	}
	s.after(s.plan.life+s.plan.faults, s.relax)
}

// relax is the end of the faults.
func (s *sim) relax() {
	s.calm, s.calmAt = true, s.now
	s.hub.recover()
	for _, w := range s.sides {
		w.offline = false
		w.allowed = 3 + s.underWay
		w.dials = 0
		w.wake()
	}
	s.logf("no more faults")
}

func (s *sim) fault(kind fault) { s.strike(s.sides[s.rand.IntN(2)], kind) }

// more has another fault follow soon.
func (s *sim) more(w *side, kind fault, d time.Duration) {
	s.after(s.upTo(d), func() { s.strike(w, kind) })
}

func (s *sim) strike(w *side, kind fault) {
	if s.calm || w.dead || w.asleep {
		return
	}
	s.logf("fault %d at %d", kind, w.side)
	switch kind {
	case cutLegs:
		for _, c := range w.open() {
			c.cut()
		}
	case blackLegs:
		for _, c := range w.open() {
			c.up.black = c.up.black || s.chance(70)
			c.down.black = c.down.black || s.chance(70)
		}
	case networkChange:
		w.e.NetworkChanged()
		w.drain()
	case killHub:
		s.hub.kill()
	case stopHub:
		s.hub.stop()
	case abortApp:
		w.abort()
		if s.chance(50) { // the worst moment
			s.more(w.peer(), outage, 0)
			s.more(w, cutLegs, 300*time.Millisecond)
			s.more(w, killHub, 4*time.Second)
		}
	case killEnd:
		w.kill()
	case operatorClose:
		if s.chance(50) {
			s.more(w, outage, 0)
			s.more(w, killHub, 4*time.Second)
		}
		s.after(s.upTo(time.Second), s.hub.operatorClose)
	case revoke:
		s.hub.revoke()
	case renewal:
		if !w.e.refresh.IsZero() && s.plan.renews {
			w.e.refresh = s.clock()
			w.arm()
		}
	case sleep:
		w.fallAsleep(s.upTo(40 * time.Second))
	case outage:
		w.offline = true
		for _, c := range w.open() {
			c.up.black, c.down.black = true, true
		}
		s.after(s.upTo(5*time.Second), func() {
			w.offline = false
			if !w.dead && !w.asleep && s.chance(50) {
				w.e.NetworkChanged()
				w.drain()
			}
		})
	}
}

// honest reports that nobody has ended the stream on purpose, or died.
func (s *sim) honest() bool {
	return !s.closed && !s.revoked && !s.sides[0].aborted && !s.sides[1].aborted &&
		!s.sides[0].dead && !s.sides[1].dead
}

func name(reason wire.EndReason) string {
	if reason == "" {
		return "none"
	}
	return string(reason)
}
