//go:build unix

package tcptest

import (
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// refusedDial is the name of the row whose target does not listen.
const refusedDial = "refused-dial"

// row is one behaviour of TCP.
type row struct {
	name string // of the stream, too
	text string // for docs/tcp.md
	play func(client, target *peer)
	// again is how often the row is played, for races; zero means once. All must be seen
	// alike.
	again int
}

// both are the plays of a row in which client and target may change places.
func both(name, text string, play func(a, b *peer)) []row {
	return []row{
		{name: name + "-client", text: "client: " + text, play: play},
		{name: name + "-target", text: "target: " + text, play: func(client, target *peer) { play(target, client) }},
	}
}

// rows is the table of TCP's behaviours.
func rows() []row {
	all := []row{
		{name: "nothing", text: "no byte at all", play: func(c, g *peer) {
			c.fin()
			g.receiveEnd()
			g.fin()
			c.receiveEnd()
		}},
		{name: "one-byte", text: "one byte each way", play: echo(1)},
		{name: "64-KiB-less-1", text: "a byte less than a message", play: echo(64<<10 - 1)},
		{name: "64-KiB", text: "a message", play: echo(64 << 10)},
		{name: "64-KiB-and-1", text: "a byte more than a message", play: echo(64<<10 + 1)},
		{name: "both-ways", text: "several MiB both ways at once", play: func(c, g *peer) {
			const size = 8 << 20
			at(
				func() { c.send(size); c.fin() }, func() { c.receiveEnd() },
				func() { g.send(size); g.fin() }, func() { g.receiveEnd() },
			)
		}},
		{name: "request-answer", text: "FIN as the end of a request, the answer after it", play: func(c, g *peer) {
			at(func() { c.send(3 << 20); c.fin() }, g.receiveEnd)
			at(func() { g.send(3 << 20); g.close() }, c.receiveEnd)
		}},
		{name: "simultaneous-close", text: "both end at the same time", again: 20, play: func(c, g *peer) {
			at(func() { c.send(1000); c.fin(); c.receiveEnd() }, func() { g.send(1000); g.fin(); g.receiveEnd() })
		}},
		{name: "idle", text: "idle for long, then bytes", play: func(c, g *peer) {
			echo(10)(c, g)
			time.Sleep(quiet())
			echo(10)(c, g)
			c.fin()
			g.receiveEnd()
			g.fin()
			c.receiveEnd()
		}},
		{name: "urgent", text: "urgent data between other", play: urgent},
		{name: "client-reset-unread", text: "client: RST while bytes wait for it", again: 10, play: resetUnread},
		{name: "killed-clean", text: "target process killed, all read", play: func(c, g *peer) {
			c.send(1000)
			g.receive(1000)
			g.kill()
			c.receiveEnd()
			c.sendUntilBroken()
		}},
		{name: "killed-unread", text: "target process killed, bytes unread", play: func(c, g *peer) {
			c.send(1000)
			g.receive(100)
			g.kill()
			c.receiveEnd()
		}},
		{name: refusedDial, text: "target that does not listen"},
	}
	return slices.Concat(all,
		both("half-close", "FIN, while bytes still come, after a long silence", func(a, b *peer) {
			a.send(5)
			a.fin()
			b.receiveEnd()
			b.send(1 << 20)
			time.Sleep(quiet())
			at(func() { b.send(3); b.fin() }, func() { a.receive(1<<20 + 3); a.receiveEnd() })
		}),
		both("reset-idle", "RST on an idle connection", func(a, b *peer) {
			echo(1)(a, b)
			at(b.receiveEnd, a.reset)
		}),
		both("reset-receiving", "RST while bytes come in", func(a, b *peer) {
			at(b.sendUntilBroken, func() { _ = a.take(1 << 20); a.reset() })
		}),
		both("reset-sending", "RST while bytes go out", func(a, b *peer) {
			at(b.receiveEnd, func() { a.send(4 << 20); a.reset() })
		}),
		both("reset-after-fin", "FIN, then RST", func(a, b *peer) {
			a.fin()
			b.receiveEnd()
			a.reset()
			b.sendUntilBroken()
		}),
		both("reset-after-other-fin", "RST after FIN of the other", func(a, b *peer) {
			b.fin()
			a.receiveEnd()
			at(b.receiveEnd, a.reset)
		}),
		both("close-unread", "close with bytes unread", func(a, b *peer) {
			b.send(1000)
			a.receive(10)
			a.close()
			b.receiveEnd()
		}),
		both("write-after-close", "writes after close of the other", func(a, b *peer) {
			echo(100)(b, a)
			b.close()
			a.receiveEnd()
			a.sendUntilBroken()
		}),
		both("linger", "SO_LINGER, close with bytes on their way", func(a, b *peer) {
			_ = a.conn.SetLinger(20)
			at(func() { a.send(1 << 20); a.close() }, b.receiveEnd)
		}),
		both("slow", "reads slowly", func(a, b *peer) {
			at(func() { b.send(2 << 20); b.fin() }, func() {
				for range 64 {
					_ = a.take(32 << 10)
					time.Sleep(5 * time.Millisecond)
				}
				a.reads = append(a.reads, bytes(a.read))
				a.receiveEnd()
			})
		}),
		both("stop-and-go", "does not read, so that the other has to wait, then reads", func(a, b *peer) {
			b.sendUntilStuck(stuck)
			at(func() { _ = b.put(1000); b.fin() }, func() { a.receiveAll(b) })
		}),
	)
}

// at does things at the same time.
func at(things ...func()) {
	var wg sync.WaitGroup
	for _, f := range things {
		wg.Go(f)
	}
	wg.Wait()
}

// echo sends n bytes from a to b and as many back.
func echo(n int64) func(a, b *peer) {
	return func(a, b *peer) {
		at(func() { a.send(n) }, func() { b.receive(n) })
		at(func() { b.send(n) }, func() { a.receive(n) })
	}
}

// urgent sends "a", an urgent "!" and "b". TCP keeps the "!" apart unless the reader
// asks for it in line; a proxy drops it. What counts is that nothing else is hurt.
func urgent(c, g *peer) {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		c.t.Fatal(err)
	}
	_, _ = c.conn.Write([]byte("a"))
	_ = raw.Write(func(fd uintptr) bool {
		err = syscall.Sendto(int(fd), []byte("!"), syscall.MSG_OOB, nil)
		return true
	})
	if err != nil {
		c.t.Fatalf("urgent data: %v", err)
	}
	_, _ = c.conn.Write([]byte("b"))
	c.writes = append(c.writes, "a, urgent !, b")
	c.fin()
	got, err := io.ReadAll(g.conn)
	text := strings.Replace(string(got), "!", "", 1)
	g.reads = append(g.reads, text[:min(len(text), 10)]+" and maybe !")
	if err != nil {
		g.reads = append(g.reads, class(err))
	}
}

// resetUnread: the client does not read, so that whoever writes to it waits, and then
// resets. The target, which by then only reads, must not see an EOF.
func resetUnread(c, g *peer) {
	c.send(64 << 10)
	g.receive(64 << 10)
	g.sendUntilStuck(200 * time.Millisecond)
	at(g.receiveEnd, c.reset)
}

// kill hands the connection to another process and kills that.
func (p *peer) kill() {
	p.t.Helper()
	f, err := p.conn.File()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command("sleep", "600")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	_, _ = f.Close(), p.conn.Close() // the other process has its own
	p.writes = append(p.writes, "killed")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// refused dials a port that nobody listens on. The answer of a service-proxy comes later
// than the kernel's.
func refused(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, err = io.Copy(io.Discard, conn)
		if err == nil {
			err = io.EOF
		}
	}
	return "client " + class(err)
}
