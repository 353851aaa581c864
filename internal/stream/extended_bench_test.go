package stream

import (
	"io"
	"net"
	"net/http"
	"strings"
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

// path is a TCP connection through two Pipes.
type path struct {
	near, far *net.TCPConn
	done      chan error
}

func (p *path) send(b testing.TB, data []byte) {
	wrote := make(chan error, 1)
	go func() {
		_, err := p.near.Write(data)
		wrote <- err
	}()
	if _, err := io.CopyN(io.Discard, onlyReader{p.far}, int64(len(data))); err != nil {
		b.Fatal(err)
	}
	if err := <-wrote; err != nil {
		b.Fatal(err)
	}
}

type onlyReader struct{ io.Reader }

func (p *path) ping(b testing.TB) {
	var buf [1]byte
	for _, dir := range [][2]*net.TCPConn{{p.near, p.far}, {p.far, p.near}} {
		if _, err := dir[0].Write(buf[:]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(dir[1], buf[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// newPath puts Pipes around two ends of a stream.
func newPath(b testing.TB, near, far Stream) *path {
	app1, own1 := tcpPair(b)
	app2, own2 := tcpPair(b)
	p := &path{near: app1, far: app2, done: make(chan error, 2)}
	go func() { p.done <- Pipe(b.Context(), TCP(own1), near, new(Meter)) }()
	go func() { p.done <- Pipe(b.Context(), TCP(own2), far, new(Meter)) }()
	b.Cleanup(func() {
		_ = app1.CloseWrite()
		_ = app2.CloseWrite()
		<-p.done
		<-p.done
	})
	return p
}

func extendedPath(b testing.TB) *path {
	r := newRelay(b)
	service, device := r.pair(b, "s", r.options())
	return newPath(b, service, device)
}

// plainPath is the same with plain legs, relayed by Copy.
func plainPath(b testing.TB) *path {
	near, far := plainPair(b)
	return newPath(b, near, far)
}

// plainPair returns two ends of a plain stream through a relay.
func plainPair(b testing.TB) (near, far *Conn) {
	legs := make(chan *Conn, 2)
	e := newEndpoint(b)
	e.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if c, err := Accept(w, req); err == nil {
			legs <- c
		}
	})
	dial := func() *Conn {
		c, err := Dial(b.Context(), "wss"+strings.TrimPrefix(e.URL, "https")+"/x", "token", DialOptions{TLS: e.tls()})
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	near, far = dial(), dial()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = Pipe(b.Context(), <-legs, <-legs, new(Meter))
	}()
	b.Cleanup(func() {
		closeBoth(near, far)
		<-done
	})
	return near, far
}
