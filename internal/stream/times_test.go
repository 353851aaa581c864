package stream

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// near fails unless d is want, or little more.
func near(t testing.TB, what string, d, want time.Duration) {
	t.Helper()
	if d < want || d > want+time.Second/2 {
		t.Errorf("%s after %v, want %v", what, d, want)
	}
}

// readInto reads in the background until the end, and reports that.
func readInto(c *Conn) (ended chan error) {
	ended = make(chan error, 1)
	go func() {
		_, err := readEnd(c)
		ended <- err
	}()
	return ended
}

// A peer that says nothing is pinged twice and given up.
func TestDeadPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, wire.DrainSilence)
		start := time.Now()
		ended := readInto(c)
		for i := range 2 {
			if op, _, err := peer.next(); op != opPing || err != nil {
				t.Fatal(op, err)
			}
			near(t, "ping", time.Since(start), time.Duration(i+1)*wire.PingInterval)
		}
		wantEnd(t, <-ended, wire.EndNetwork)
		near(t, "given up", time.Since(start), wire.DeadAfter)
	})
}

// A dead peer that takes nothing either: the ping that is stuck ends nothing late.
func TestDeadPeerThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pipeLeg(t, wire.DrainSilence)
		start := time.Now()
		wantEnd(t, <-readInto(c), wire.EndNetwork)
		near(t, "given up", time.Since(start), wire.DeadAfter)
		c.Close()
		near(t, "closed", time.Since(start), wire.DeadAfter+lastWords)
	})
}

// What keeps a leg alive for an hour, and how often the peer is pinged meanwhile.
func TestAlivePeer(t *testing.T) {
	for _, test := range []struct {
		name     string
		every    time.Duration
		frame    func(*rawPeer) []byte
		min, max int // pings
	}{
		{"a byte each 30 s", 30 * time.Second, func(p *rawPeer) []byte { return p.data("x") }, 0, 120},
		{"a byte each 74 s", 74 * time.Second, func(p *rawPeer) []byte { return p.data("x") }, 90, 100},
		{"a byte each 10 s", 10 * time.Second, func(p *rawPeer) []byte { return p.data("x") }, 0, 0},
		{"pings", 20 * time.Second, func(p *rawPeer) []byte { return p.frame(bitFinal|opPing, nil) }, 0, 0},
		{"pongs of its own accord", 30 * time.Second, func(p *rawPeer) []byte { return p.frame(bitFinal|opPong, nil) }, 0, 120},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, peer := pipeLeg(t, 0)
				pings := 0
				go func() { // swallows pings and pongs, without an answer
					for {
						op, _, err := peer.next()
						if err != nil {
							return
						}
						if op == opPing {
							pings++
						}
					}
				}()
				ended := readInto(c)
				for start := time.Now(); time.Since(start) < time.Hour; {
					<-time.After(test.every)
					peer.push(t, test.frame(peer))
				}
				select {
				case err := <-ended:
					t.Fatal("given up:", err)
				default:
				}
				synctest.Wait()
				if pings < test.min || pings > test.max {
					t.Errorf("%d pings in an hour, want %d to %d", pings, test.min, test.max)
				}
			})
		})
	}
}

// Pings go out on a leg whose peer is silent, although this side sends all the time.
func TestPingWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, 0)
		start := time.Now()
		ended := readInto(c)
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				if _, err := c.Write(make([]byte, 1000)); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		})
		if _, _, err := peer.until(opPing); err != nil {
			t.Fatal(err)
		}
		near(t, "ping", time.Since(start), wire.PingInterval)
		go func() { _, _ = io.Copy(io.Discard, peer.in) }()
		wantEnd(t, <-ended, wire.EndNetwork)
		near(t, "given up", time.Since(start), wire.DeadAfter)
		c.Close()
		wg.Wait()
	})
}

func TestWriteStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, 0)
		start := time.Now()
		_, err := c.Write(make([]byte, 10))
		wantEnd(t, err, wire.EndNetwork)
		near(t, "given up", time.Since(start), wire.WriteStall)
		if n, err := c.Write([]byte("x")); n != 0 || err == nil {
			t.Error("wrote after a part of a frame:", n, err)
		}
		peer.Conn.Close()
	})
}

// A peer that is slow but takes each message in time may be as slow as it likes.
func TestSlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, 0)
		go func() {
			for data := 0; data < 5; { // pings are between
				<-time.After(wire.WriteStall/2 - time.Second)
				op, _, err := peer.next()
				if err != nil {
					t.Error(err)
					return
				}
				if op == opBinary {
					data++
				}
			}
		}()
		if n, err := c.Write(make([]byte, 5*wire.Chunk)); n != 5*wire.Chunk || err != nil {
			t.Error(n, err)
		}
	})
}

// A ping that finds the connection full is a write like any other: it must not end
// the leg before wire.WriteStall.
func TestPingOnAFullConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, 0)
		ended := readInto(c)
		<-time.After(wire.PingInterval + wire.WriteStall/2) // the ping has been stuck for long
		if op, _, err := peer.next(); op != opPing || err != nil {
			t.Fatal(op, err)
		}
		go func() { _, _ = c.Write([]byte("x")) }()
		if op, b, err := peer.next(); op != opBinary || string(b) != "x" || err != nil {
			t.Fatal(op, b, err)
		}
		peer.push(t, peer.close(wire.CloseNormal, ""))
		wantEnd(t, <-ended, "")
	})
}

// Nor must a pong, which the peer may well ask for while it takes nothing.
func TestPongOnAFullConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, 0)
		ended := readInto(c)
		peer.push(t, peer.frame(bitFinal|opPing, []byte("full")))
		<-time.After(wire.WriteStall / 2)
		if op, b, err := peer.next(); op != opPong || string(b) != "full" || err != nil {
			t.Fatal(op, b, err)
		}
		peer.push(t, peer.close(wire.CloseNormal, ""))
		wantEnd(t, <-ended, "")
	})
}

// Abort lets go of a Read and of a Write that is stuck, and Close does not wait for
// a peer that is.
func TestAbortOfAStuckLeg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := pipeLeg(t, 0)
		start := time.Now()
		ended := readInto(c)
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(make([]byte, 3*wire.Chunk))
			wrote <- err
		}()
		synctest.Wait()
		c.Abort(wire.EndRevoked)
		if err := <-wrote; err == nil {
			t.Error("the stuck write ended well")
		}
		<-ended
		near(t, "let go", time.Since(start), lastWords)
		c.Close()
		near(t, "closed", time.Since(start), lastWords)
	})
}
