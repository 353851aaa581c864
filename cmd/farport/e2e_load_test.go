//go:build unix

package main_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hubtest"
)

// long is whether the tests of faults run at their full length, which takes some quarters
// of an hour.
func long() bool { return os.Getenv("FARPORT_TEST_LONG") != "" }

// load is connections that are kept busy in both directions, with bytes that tell of
// themselves: each follows from connection, direction and offset.
type load struct {
	t      *testing.T
	target string // address of the far end's listener
	flows  []flow // two for each connection: up and down
	pace   pace
	stop   chan struct{} // closed: who sends ends in good order
}

// pace is how a load sends: up to chunk bytes at once, and then it waits for up to pause.
type pace struct {
	chunk int
	pause time.Duration
}

// flow is one direction of one connection.
type flow struct {
	key       hubtest.Pattern
	sent, got atomic.Int64
	wg        sync.WaitGroup // until both ends of it are done
	end       error          // why reading ended: io.EOF
	broken    error          // why sending ended too early
}

// newLoad makes a load of n connections, without any yet. Its target listens where the
// caller is, be that in a network namespace.
func newLoad(t *testing.T, n int, p pace) *load {
	t.Helper()
	l := &load{t: t, flows: make([]flow, 2*n), pace: p, stop: make(chan struct{})}
	for i := range l.flows {
		l.flows[i].key = hubtest.Pattern(rand.Uint64())
		l.flows[i].wg.Add(2)
	}
	l.target = hubtest.Serve(t, l.serve)
	return l
}

// connect makes the connections, one after another, by dial, and starts to send.
func (l *load) connect(dial func() (net.Conn, error)) {
	l.t.Helper()
	for i := range len(l.flows) / 2 {
		conn, err := dial()
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { _ = conn.Close() })
		if err := binary.Write(conn, binary.BigEndian, uint32(i)); err != nil {
			l.t.Fatal(err)
		}
		go l.carry(conn.(*net.TCPConn), &l.flows[2*i], &l.flows[2*i+1])
	}
}

// serve is the far end. The first bytes say which connection it is.
func (l *load) serve(conn *net.TCPConn) {
	var i uint32
	if err := binary.Read(conn, binary.BigEndian, &i); err == nil && int(i) < len(l.flows)/2 {
		l.carry(conn, &l.flows[2*i+1], &l.flows[2*i])
	}
}

// carry is one end of a connection until both directions have ended.
func (l *load) carry(conn *net.TCPConn, out, in *flow) {
	var wg sync.WaitGroup
	wg.Go(func() {
		out.broken = out.send(conn, l.pace, l.stop)
		out.wg.Done()
	})
	in.end = in.receive(conn)
	in.wg.Done()
	wg.Wait()
}

func (f *flow) send(conn *net.TCPConn, p pace, stop <-chan struct{}) error {
	buf := make([]byte, p.chunk)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return conn.CloseWrite()
		case <-timer.C:
		}
		part := buf[:rand.IntN(p.chunk)+1]
		f.key.Fill(part, f.sent.Load())
		n, err := conn.Write(part)
		f.sent.Add(int64(n))
		if err != nil {
			return err
		}
		timer.Reset(rand.N(p.pause))
	}
}

func (f *flow) receive(conn *net.TCPConn) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if wrong := f.key.Wrong(buf[:n], f.got.Load()); wrong >= 0 {
			return fmt.Errorf("byte %d is wrong", wrong)
		}
		f.got.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

// flowing waits until bytes have arrived on every connection in both directions, counted
// from the call, and returns how long that took.
func (l *load) flowing(within time.Duration) time.Duration {
	l.t.Helper()
	began := time.Now()
	before := make([]int64, len(l.flows))
	for i := range l.flows {
		before[i] = l.flows[i].got.Load()
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(within); ; {
		still := 0
		for i := range l.flows {
			if l.flows[i].got.Load() == before[i] {
				still++
			}
		}
		if still == 0 {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-late:
			l.t.Errorf("%d of %d directions stand still for %v", still, len(l.flows), within)
			return time.Since(began)
		}
	}
}

// finish ends all connections in good order and checks that every byte has arrived.
func (l *load) finish(within time.Duration) {
	l.t.Helper()
	close(l.stop)
	late := time.After(within)
	var total int64
	for i := range l.flows {
		f := &l.flows[i]
		name := fmt.Sprintf("connection %d, %s", i/2, [...]string{"up", "down"}[i%2])
		ended := make(chan struct{})
		go func() {
			f.wg.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-late:
			l.t.Fatalf("%s: goes on %v after it was to end; %d bytes sent, %d arrived", name, within, f.sent.Load(), f.got.Load())
		}
		if sent, got := f.sent.Load(), f.got.Load(); f.end != io.EOF || f.broken != nil || sent != got {
			l.t.Errorf("%s: %d bytes sent, %d arrived; sending ended with %v, reading with %v", name, sent, got, f.broken, f.end)
		}
		total += f.got.Load()
	}
	l.t.Logf("%d connections, %d bytes checked", len(l.flows)/2, total)
}
