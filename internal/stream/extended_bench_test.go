//go:build unix

package stream

import (
	"syscall"
	"testing"
	"time"
)

// BenchmarkExtendedPipe sends bulk through two Pipes and a relay, over plain and over
// extended legs in turns, and reports what the latter cost of the former: throughput and
// CPU time as ratios, extended by plain.
func BenchmarkExtendedPipe(b *testing.B) {
	plain, extended := plainPath(b), extendedPath(b)
	chunk := noise(1, 64<<20)
	var took, cpu [2]time.Duration
	for i := range 2 * b.N {
		path := [2]*path{plain, extended}[i%2]
		start, used := time.Now(), cpuTime(b)
		path.send(b, chunk)
		if i > 1 || b.N == 1 { // the first is to warm up
			took[i%2] += time.Since(start)
			cpu[i%2] += cpuTime(b) - used
		}
	}
	b.ReportMetric(float64(took[0])/float64(took[1]), "speed-ratio")
	b.ReportMetric(float64(cpu[1])/float64(cpu[0]), "cpu-ratio")
	b.ReportMetric(float64(b.N-1)*float64(len(chunk))/1e6/took[0].Seconds(), "plain-MB/s")
}

// BenchmarkExtendedPing is the same for one byte there and back.
func BenchmarkExtendedPing(b *testing.B) {
	plain, extended := plainPath(b), extendedPath(b)
	var took, cpu [2]time.Duration
	for i := range 2 * b.N {
		path := [2]*path{plain, extended}[i%2]
		start, used := time.Now(), cpuTime(b)
		for range 200 {
			path.ping(b)
		}
		if i > 1 || b.N == 1 {
			took[i%2] += time.Since(start)
			cpu[i%2] += cpuTime(b) - used
		}
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "time-ratio")
	b.ReportMetric(float64(cpu[1])/float64(cpu[0]), "cpu-ratio")
	b.ReportMetric(float64(took[0].Microseconds())/200/float64(b.N-1), "plain-µs")
}

func cpuTime(b testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
