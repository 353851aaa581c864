//go:build unix

package tcptest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/farportio/farport/internal/hubtest"
)

const (
	// patience bounds each connection of a row; reaching it is seen as "timeout".
	patience = 45 * time.Second
	// stuck is how long a write makes no progress before it counts as blocked.
	stuck = 2 * time.Second
	// fullBy is what all buffers of a chain may hold: 8 MiB for each end and direction
	// (farport-v1.md section 8), and the kernel's of three TCP connections.
	fullBy = 64 << 20
)

// peer is one end of a connection. What it does and what it sees is kept as words: those
// of its writing and of its reading apart, since these are two goroutines' where both go
// on at once.
type peer struct {
	t             *testing.T
	name          string
	conn          *net.TCPConn
	out, in       hubtest.Pattern
	wrote, read   int64
	writes, reads []string
}

func newPeer(t *testing.T, name string, conn *net.TCPConn, out, in hubtest.Pattern) *peer {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience + quiet())); err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, name: name, conn: conn, out: out, in: in}
}

// String is all that the peer did and saw.
func (p *peer) String() string {
	var parts []string
	for _, way := range []struct {
		verb  string
		words []string
	}{{"writes ", p.writes}, {"reads ", p.reads}} {
		if len(way.words) > 0 {
			parts = append(parts, way.verb+strings.Join(way.words, ", "))
		}
	}
	return p.name + " " + strings.Join(parts, "; ")
}

// class is how an operation ended, in a word: the same words for a connection that is
// direct and for one that is not.
func class(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, io.EOF):
		return "EOF"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return err.Error()
}

// bytes is a number of bytes in words.
func bytes(n int64) string {
	switch {
	case n == 1:
		return "1 byte"
	case n > 0 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n > 0 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// send writes the next n bytes.
func (p *peer) send(n int64) {
	if err := p.put(n); err != nil {
		p.writes = append(p.writes, "broken: "+class(err))
		return
	}
	p.writes = append(p.writes, bytes(n))
}

func (p *peer) put(n int64) error {
	buf := make([]byte, min(n, 256<<10))
	for n > 0 {
		part := buf[:min(n, int64(len(buf)))]
		p.out.Fill(part, p.wrote)
		done, err := p.conn.Write(part)
		p.wrote += int64(done)
		n -= int64(done)
		if err != nil {
			return err
		}
	}
	return nil
}

// fin ends the writing direction.
func (p *peer) fin() {
	p.writes = append(p.writes, "FIN")
	if err := p.conn.CloseWrite(); err != nil {
		p.t.Errorf("%s: CloseWrite: %v", p.name, err)
	}
}

// reset closes with a linger time of 0, which is how a program sends an RST.
func (p *peer) reset() {
	p.writes = append(p.writes, "RST")
	_ = p.conn.SetLinger(0)
	_ = p.conn.Close()
}

// close closes both directions at once. With bytes unread, the kernel makes it an RST.
func (p *peer) close() {
	p.writes = append(p.writes, "close")
	_ = p.conn.Close()
}

// sendUntilBroken writes until that fails.
func (p *peer) sendUntilBroken() {
	for {
		if err := p.put(1 << 10); err != nil {
			p.writes = append(p.writes, "until "+class(err))
			return
		}
		if p.wrote > 1<<30 {
			p.writes = append(p.writes, "a GiB and is not told")
			return
		}
	}
}

// sendUntilStuck writes until nothing more goes, which has to come.
func (p *peer) sendUntilStuck(within time.Duration) {
	word := "until full"
	for {
		_ = p.conn.SetWriteDeadline(time.Now().Add(within))
		err := p.put(64 << 10)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			word = "broken: " + class(err)
			break
		}
		if p.wrote > fullBy {
			word = "more than " + bytes(fullBy) + " that nobody reads"
			break
		}
	}
	_ = p.conn.SetWriteDeadline(time.Now().Add(patience))
	p.writes = append(p.writes, word)
}

// take reads up to n bytes and checks them.
func (p *peer) take(n int64) error {
	buf := make([]byte, min(n, 256<<10))
	for n > 0 {
		got, err := p.conn.Read(buf[:min(n, int64(len(buf)))])
		if wrong := p.in.Wrong(buf[:got], p.read); wrong >= 0 {
			p.t.Errorf("%s: byte %d is wrong", p.name, wrong)
			return fmt.Errorf("wrong byte at %d", wrong)
		}
		p.read += int64(got)
		n -= int64(got)
		if err != nil {
			return err
		}
	}
	return nil
}

// receive reads the next n bytes.
func (p *peer) receive(n int64) {
	if err := p.take(n); err != nil {
		p.reads = append(p.reads, fmt.Sprintf("less than %s: %s", bytes(n), class(err)))
		return
	}
	p.reads = append(p.reads, bytes(n))
}

// receiveEnd reads until the direction ends. How much came before a reset is a matter of
// luck, with TCP as well.
func (p *peer) receiveEnd() {
	before := p.read
	err := p.take(1 << 40)
	if n := p.read - before; n > 0 && err == io.EOF {
		p.reads = append(p.reads, bytes(n))
	}
	p.reads = append(p.reads, class(err))
}

// receiveAll reads until the direction ends, which has to be after all that other wrote.
func (p *peer) receiveAll(other *peer) {
	err := p.take(1 << 40)
	word := "all"
	if p.read != other.wrote {
		word = fmt.Sprintf("%d bytes of %d", p.read, other.wrote)
	}
	p.reads = append(p.reads, word, class(err))
}
