package stream

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Deadlines interrupt reading and writing anywhere, and nothing is lost or broken by them:
// what Write has counted arrives, and no more.
func TestDeadlinesBreakNoFrame(t *testing.T) {
	for name, pair := range map[string]func() (a, b *Conn){
		"TLS": func() (a, b *Conn) {
			hub, end := newLeg(t)
			return end, hub
		},
		"no TLS": func() (a, b *Conn) {
			c, d := tcpPair(t)
			a = newConn(newFrameConn(c, newReader(c), true), 0)
			b = newConn(newFrameConn(d, newReader(d), false), 0)
			t.Cleanup(func() { closeBoth(a, b) })
			return a, b
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair()
			a.drain = 0 // nobody reads there
			want := noise(1, 24<<20)
			wrote := make(chan error, 1)
			interrupted := 0
			go func() {
				at := 0
				for at < len(want) {
					_ = a.SetWriteDeadline(time.Now().Add(3 * time.Millisecond))
					n, err := a.Write(want[at:min(at+300_000, len(want))])
					if at += n; errors.Is(err, os.ErrDeadlineExceeded) {
						interrupted++
					} else if err != nil {
						wrote <- err
						return
					}
				}
				_ = a.SetWriteDeadline(time.Time{})
				wrote <- a.CloseWrite()
			}()
			time.Sleep(50 * time.Millisecond) // there is no room any more
			var got []byte
			buf := make([]byte, 100_000)
			for i := 0; ; i++ {
				_ = b.SetReadDeadline(time.Now().Add(time.Duration(i%5) * 200 * time.Microsecond))
				n, err := b.Read(buf)
				got = append(got, buf[:n]...)
				if err != nil && err != os.ErrDeadlineExceeded {
					wantEnd(t, err, "")
					break
				}
			}
			if err := <-wrote; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes, want %d", len(got), len(want))
			}
			if interrupted == 0 {
				t.Error("nothing was interrupted")
			}
		})
	}
}

// A peer that is silent is noticed although the application reads for a second at a time.
func TestDeadlinesDoNotHideSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, peer := pipeLeg(t, 0)
		go func() { // takes the pings
			for {
				if _, _, err := peer.next(); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		var err error
		for err = os.ErrDeadlineExceeded; err == os.ErrDeadlineExceeded; {
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, err = c.Read(make([]byte, 1))
		}
		wantEnd(t, err, wire.EndNetwork)
		near(t, "given up", time.Since(start), wire.DeadAfter)
	})
}

// Neither a passed deadline nor the rest of a frame holds up Abort and Close.
func TestCloseBehindADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := newConn(newFrameConn(near, bufio.NewReaderSize(near, headRoom), false), 0)
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := c.Write(make([]byte, 100)); n != 100 || err != nil {
			t.Error(n, err) // it has begun
		}
		if n, err := c.Write(make([]byte, 100)); n != 0 || err != os.ErrDeadlineExceeded {
			t.Error(n, err)
		}
		start := time.Now()
		_ = c.Close()
		if d := time.Since(start); d > 3*lastWords {
			t.Errorf("closing took %v", d)
		}
		if err := c.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}
