package stream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// path is a TCP connection through two Pipes.
type path struct {
	near, far *net.TCPConn
	pipes     sync.WaitGroup
	errs      [2]error // how the Pipes have ended
}

// how waits for the Pipes, and returns how they have ended.
func (p *path) how(t testing.TB) [2]error {
	t.Helper()
	done := make(chan struct{})
	go func() {
		p.pipes.Wait()
		close(done)
	}()
	select {
	case <-done:
		return p.errs
	case <-time.After(30 * time.Second):
		t.Fatal("the Pipes do not end")
		return p.errs
	}
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
	p := &path{near: app1, far: app2}
	p.pipes.Go(func() { p.errs[0] = Pipe(b.Context(), TCP(own1), near, new(Meter)) })
	p.pipes.Go(func() { p.errs[1] = Pipe(b.Context(), TCP(own2), far, new(Meter)) })
	b.Cleanup(func() {
		_ = app1.CloseWrite()
		_ = app2.CloseWrite()
		p.pipes.Wait()
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

// Two applications over TCP talk through it as they would without it, while the path is
// cut under them.
func TestExtendedPipe(t *testing.T) {
	r := newRelay(t)
	service, device := r.pair(t, "s", r.options())
	p := newPath(t, service, device)
	up, down := noise(1, 6<<20), noise(2, 6<<20)
	var wg sync.WaitGroup
	for _, dir := range []struct {
		from, to *net.TCPConn
		b        []byte
	}{{p.near, p.far, up}, {p.far, p.near, down}} {
		wg.Go(func() {
			if _, err := dir.from.Write(dir.b); err != nil {
				t.Error(err)
			}
			_ = dir.from.CloseWrite()
		})
		wg.Go(func() {
			var got []byte
			var err error
			buf := make([]byte, 100_000)
			for cut := 1; err == nil; {
				var n int
				n, err = dir.to.Read(buf)
				if got = append(got, buf[:n]...); len(got) > cut*999_999 {
					cut++
					r.cut()
					time.Sleep(10 * time.Millisecond) // what is sent now has to wait
				}
			}
			if err != io.EOF || !bytes.Equal(got, dir.b) {
				t.Errorf("%d bytes and %v, want %d", len(got), err, len(dir.b))
			}
		})
	}
	wg.Wait()
	for _, err := range p.how(t) {
		if err != nil {
			t.Error(err)
		}
	}
	wantFree(t, service, device)
}

// Half-close over TCP: the question ends, the answer comes, and its end.
func TestExtendedPipeHalfClose(t *testing.T) {
	r := newRelay(t)
	service, device := r.pair(t, "s", r.options())
	p := newPath(t, service, device)
	if _, err := p.near.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	_ = p.near.CloseWrite()
	if got, err := io.ReadAll(p.far); string(got) != "question" || err != nil {
		t.Fatal(string(got), err)
	}
	r.cut()
	go func() {
		_, _ = p.far.Write([]byte("answer"))
		_ = p.far.CloseWrite()
	}()
	if got, err := io.ReadAll(p.near); string(got) != "answer" || err != nil {
		t.Fatal(string(got), err)
	}
	for _, err := range p.how(t) {
		if err != nil {
			t.Error(err)
		}
	}
}

// A reset on one side is one on the other: while bytes flow, while there is no room for
// more, after an end, and while there is no path.
func TestExtendedPipeReset(t *testing.T) {
	for name, before := range map[string]func(r *relay, p *path){
		"idle": func(*relay, *path) {},
		"full": func(_ *relay, p *path) {
			_ = p.near.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			_, _ = p.near.Write(make([]byte, 64<<20)) // the far side takes nothing
		},
		"ended": func(_ *relay, p *path) {
			_ = p.near.CloseWrite()
			_, _ = io.Copy(io.Discard, p.far)
		},
		"suspended": func(r *relay, _ *path) {
			r.refuseWith(func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(http.StatusBadGateway)
				return true
			})
			r.cut()
			time.AfterFunc(300*time.Millisecond, func() { r.refuseWith(nil) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			service, device := r.pair(t, "s", r.options())
			exchangeOne(t, service, device)
			p := newPath(t, service, device)
			before(r, p)
			_ = p.near.SetLinger(0)
			_ = p.near.Close()
			for _, err := range p.how(t) {
				if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) && Reason(err) != wire.EndReset {
					t.Error(err)
				}
			}
			_, err := io.Copy(io.Discard, p.far)
			if name == "ended" { // it has read the end before
				for err = nil; err == nil; {
					_, err = p.far.Write([]byte("x"))
				}
			}
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("the other application saw %v", err)
			}
		})
	}
}

// The stream is lost: both applications see a reset, never an end.
func TestExtendedPipeLost(t *testing.T) {
	r := newRelay(t)
	o := r.options()
	o.Window = time.Second
	service, device := r.pair(t, "s", o)
	exchangeOne(t, service, device)
	p := newPath(t, service, device)
	r.refuseWith(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	r.cut()
	wantReset(t, p.near)
	wantReset(t, p.far)
	for _, err := range p.how(t) {
		wantEnd(t, err, wire.EndLost)
	}
}
