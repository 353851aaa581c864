package resume

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"
)

var schedules = flag.Int("schedules", 0, "run that many schedules of the simulator instead of the default")

// defaultSchedules make more than a million steps.
const defaultSchedules = 800

const seedVariable = "FARPORT_SIM_SEED"

// simulate runs the schedule of a seed; on a failure it tells how it came to it.
func simulate(t *testing.T, seed uint64, real bool) (steps int) {
	t.Helper()
	s := newSim(seed, real, nothing)
	if s.run() == "" {
		return s.steps
	}
	again := newSim(seed, real, nothing)
	again.tracing = true
	again.run()
	last := again.trace
	if most := 400; len(last) > most && os.Getenv(seedVariable) == "" {
		last = last[len(last)-most:]
	}
	t.Fatalf("%s\nplan: %+v\n%s=%d: %s", strings.Join(last, "\n"), s.plan, seedVariable, seed, s.failure)
	return 0
}

// TestSimulator has both ends do with a model of the hub, TestSimulatorCore with the
// hub's own core.
func TestSimulator(t *testing.T)     { simulateMany(t, false) }
func TestSimulatorCore(t *testing.T) { simulateMany(t, true) }

func simulateMany(t *testing.T, real bool) {
	defer func(p pool) { chunks = p }(chunks)
	if text := os.Getenv(seedVariable); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d steps", simulate(t, seed, real))
		return
	}
	n := defaultSchedules
	switch {
	case *schedules > 0:
		n = *schedules
	case testing.Short():
		n /= 10
	}
	steps := 0
	for seed := range n {
		steps += simulate(t, uint64(seed), real)
	}
	t.Logf("%d schedules, %d steps", n, steps)
	if *schedules == 0 && !testing.Short() && steps < 1_000_000 {
		t.Errorf("%d steps only", steps)
	}
}

// TestRules switches off one rule after the other: the simulator notices each within
// what it runs by default.
func TestRules(t *testing.T) {
	if testing.Short() {
		t.Skip("takes thousands of schedules")
	}
	defer func(p pool) { chunks = p }(chunks)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			for seed := range uint64(defaultSchedules) {
				if failure := newSim(seed, false, m.rule).run(); failure != "" {
					t.Logf("schedule %d: %s", seed, failure)
					return
				}
			}
			t.Error("not noticed")
		})
	}
}
