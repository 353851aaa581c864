package stream

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// An end's CloseWrite lets the other direction drain: the close frame comes when
// the peer has been silent for the drain time.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, wire.DrainSilence)
		ended := readInto(c)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			<-time.After(wire.DrainSilence - time.Second)
			peer.push(t, peer.data("still here"))
		}
		start := time.Now()
		if data := peer.wantClose(t, wire.CloseNormal, ""); data != nil {
			t.Errorf("%q before the close", data)
		}
		near(t, "close frame", time.Since(start), wire.DrainSilence)
		peer.push(t, peer.data("in flight"), peer.close(wire.CloseNormal, ""))
		wantEnd(t, <-ended, "")
	})
}

// The peer closes within the drain time: the answer comes at once.
func TestDrainCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, wire.DrainSilence)
		ended := readInto(c)
		_, _ = c.CloseWrite(), c.CloseWrite() // the second changes nothing
		start := time.Now()
		peer.push(t, peer.close(wire.CloseNormal, ""))
		peer.wantClose(t, wire.CloseNormal, "")
		near(t, "close frame", time.Since(start), 0)
		wantEnd(t, <-ended, "")
	})
}

// A slow reader is no silent peer: while it is busy with what came before, neither
// the drain time nor the time to be given up passes.
func TestSlowReader(t *testing.T) {
	for _, closed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, peer := pipeLeg(t, wire.DrainSilence)
			if closed {
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			go func() {
				for range 5 {
					_, _ = peer.Write(peer.data("chunk"))
				}
				_, _ = peer.Write(peer.close(wire.CloseNormal, ""))
			}()
			go func() { _, _ = io.Copy(io.Discard, peer.in) }()
			buf := make([]byte, 100)
			for range 5 {
				<-time.After(10 * time.Minute)
				if n, err := c.Read(buf); string(buf[:n]) != "chunk" || err != nil {
					t.Fatalf("closed %v: %q, %v", closed, buf[:n], err)
				}
				if c.sentCloseForTest() {
					t.Fatal("took a slow reader for a silent peer")
				}
			}
			_, err := c.Read(buf)
			wantEnd(t, err, "")
			if c.sentCloseForTest() != closed {
				t.Error("close frame sent:", !closed)
			}
		})
	}
}

func (c *Conn) sentCloseForTest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sentClose
}

// The peer has closed, and this side never finishes: it is broken off.
func TestNeverFinishing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, 0)
		ended := readInto(c)
		peer.push(t, peer.close(wire.CloseNormal, ""))
		start := time.Now()
		wantEnd(t, <-ended, "")
		wrote := make(chan error, 1)
		go func() {
			for {
				if _, err := c.Write([]byte("more")); err != nil {
					wrote <- err
					return
				}
				<-time.After(time.Second)
			}
		}()
		peer.wantClose(t, wire.CloseError, "aborted")
		near(t, "broken off", time.Since(start), 2*wire.DrainSilence)
		if err := <-wrote; Reason(err) != wire.EndAborted {
			t.Errorf("write: %v", err)
		}
	})
}

// The peer does not answer our close frame. That it is alive makes it no better.
func TestCloseWithoutAnswer(t *testing.T) {
	for _, pings := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, peer := pipeLeg(t, 0)
			go func() { _, _ = io.Copy(io.Discard, peer.in) }()
			ended := readInto(c)
			_ = c.CloseWrite()
			start := time.Now()
			var wg sync.WaitGroup
			if pings {
				wg.Go(func() {
					for {
						<-time.After(time.Second)
						if _, err := peer.Write(peer.frame(bitFinal|opPing, nil)); err != nil {
							return
						}
					}
				})
			}
			wantEnd(t, <-ended, wire.EndNetwork)
			near(t, "given up", time.Since(start), closeReply)
			c.Close()
			wg.Wait()
		})
	}
}

// But bytes that still come have it wait: they were in flight.
func TestBytesAfterOurClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, 0)
		go func() { _, _ = io.Copy(io.Discard, peer.in) }()
		ended := readInto(c)
		_ = c.CloseWrite()
		for range 10 {
			<-time.After(closeReply - time.Second)
			peer.push(t, peer.data("x"))
		}
		peer.push(t, peer.close(wire.CloseNormal, ""))
		wantEnd(t, <-ended, "")
	})
}
