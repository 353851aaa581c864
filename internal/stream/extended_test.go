package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// sendAll writes all of b and ends the direction.
func sendAll(s Stream, b []byte) error {
	if _, err := s.Write(b); err != nil {
		return err
	}
	return s.CloseWrite()
}

func TestExtendedBothWays(t *testing.T) {
	r := newRelay(t)
	for _, size := range []int{0, 1, 1000, wire.Chunk + 1, 6<<20 + 3} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			service, device := r.pair(t, fmt.Sprint(size), r.options())
			exchange(t, service, device, noise(1, size), noise(2, size))
			wantFinished(t, service, device)
		})
	}
}

// exchange sends both ways at once, with the ends, and checks what arrives.
func exchange(t *testing.T, a, b Stream, ab, ba []byte) {
	t.Helper()
	var wg sync.WaitGroup
	for _, dir := range []struct {
		from, to Stream
		b        []byte
	}{{a, b, ab}, {b, a, ba}} {
		wg.Go(func() {
			if err := sendAll(dir.from, dir.b); err != nil {
				t.Error("send:", err)
			}
		})
		wg.Go(func() {
			got, err := readEnd(dir.to)
			if err != io.EOF || !bytes.Equal(got, dir.b) {
				t.Errorf("got %d bytes and %v, want %d and EOF", len(got), err, len(dir.b))
			}
		})
	}
	wg.Wait()
}

// wantFinished checks that both ends learn that all was delivered, and are gone at once.
func wantFinished(t *testing.T, streams ...*Extended) {
	t.Helper()
	for _, e := range streams {
		if err := e.settle(); err != nil {
			t.Error(err)
		}
		select {
		case <-e.Ended():
		case <-soon(t).Done():
			t.Error("a finished stream lingers")
		}
	}
}

// The path is cut again and again, anywhere; no byte is lost, doubled or changed.
func TestExtendedOutlivesCuts(t *testing.T) {
	r := newRelay(t)
	service, device := r.pair(t, "s", r.options())
	var wg sync.WaitGroup
	up, down := noise(1, 8<<20), noise(2, 8<<20)
	for i, dir := range []struct {
		from, to *Extended
		b        []byte
	}{{service, device, up}, {device, service, down}} {
		wg.Go(func() {
			if err := sendAll(dir.from, dir.b); err != nil {
				t.Error("write:", err)
			}
		})
		wg.Go(func() {
			var got []byte
			var err error
			buf := make([]byte, 10_000)
			for cuts := 0; err == nil; {
				var n int
				n, err = dir.to.Read(buf)
				if got = append(got, buf[:n]...); len(got) < (cuts+1)*623457 {
					continue
				}
				if cuts++; i == 0 && cuts%4 == 0 {
					r.restart()
				} else {
					r.cut()
				}
			}
			if err != io.EOF || !bytes.Equal(got, dir.b) {
				t.Errorf("got %d bytes and %v, want %d and EOF", len(got), err, len(dir.b))
			}
		})
	}
	wg.Wait()
	wantFinished(t, service, device)
	if n := r.joined(); n < 10 {
		t.Errorf("joined %d times only", n)
	}
}

// Each direction ends on its own, and an end is shown across a cut.
func TestExtendedHalfClose(t *testing.T) {
	r := newRelay(t)
	service, device := r.pair(t, "s", r.options())
	if err := sendAll(service, []byte("question")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(device); string(got) != "question" || err != nil {
		t.Fatal(string(got), err)
	}
	r.cut()
	want := noise(3, 3<<20)
	go func() { _ = sendAll(device, want) }()
	got, err := io.ReadAll(service)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := service.Write([]byte("x")); err == nil {
		t.Error("written behind the end")
	}
	wantFinished(t, service, device)
}

func TestExtendedAbort(t *testing.T) {
	r := newRelay(t)
	for _, test := range []struct{ reason, want wire.EndReason }{
		{wire.EndReset, wire.EndReset}, {wire.EndShutdown, wire.EndShutdown}, {wire.EndAborted, wire.EndReset}, {wire.EndFinished, wire.EndReset},
	} {
		t.Run(string(test.reason), func(t *testing.T) {
			service, device := r.pair(t, string(test.reason), r.options())
			if _, err := service.Write(noise(1, 100_000)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(device, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			go func() {
				_, err := readEnd(service)
				failed <- err
			}()
			device.Abort(test.reason)
			wantEnd(t, <-failed, test.want)
			_, err := device.Read(make([]byte, 1))
			wantEnd(t, err, test.want)
			if _, err := service.Write([]byte("x")); Reason(err) != test.want {
				t.Error(err)
			}
		})
	}
}

// An end that breaks off while it has no leg tells the other one when it has.
func TestExtendedAbortWhileCut(t *testing.T) {
	r := newRelay(t)
	service, device := r.pair(t, "s", r.options())
	exchangeOne(t, service, device)
	r.refuseWith(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	r.cut()
	device.Abort(wire.EndReset)
	time.Sleep(50 * time.Millisecond)
	r.refuseWith(nil)
	_, err := readEnd(service)
	wantEnd(t, err, wire.EndReset)
}

// exchangeOne sees to it that both ends are paired.
func exchangeOne(t *testing.T, a, b Stream) {
	t.Helper()
	for _, dir := range [][2]Stream{{a, b}, {b, a}} {
		if _, err := dir[0].Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(dir[1], make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExtendedClose(t *testing.T) {
	r := newRelay(t)
	t.Run("bytes under way are delivered", func(t *testing.T) {
		service, device := r.pair(t, "a", r.options())
		want := noise(1, 6<<20)
		go func() {
			_, _ = service.Write(want)
			_ = service.Close()
		}()
		buf := make([]byte, 1)
		if _, err := io.ReadFull(device, buf); err != nil {
			t.Fatal(err)
		}
		r.cut()
		got, err := readEnd(device)
		if err != io.EOF || !bytes.Equal(append(buf, got...), want) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		_ = device.Close()
		wantFinished(t, service, device)
	})
	t.Run("with bytes unread", func(t *testing.T) {
		service, device := r.pair(t, "b", r.options())
		exchangeOne(t, service, device)
		if _, err := service.Write([]byte("unread")); err != nil {
			t.Fatal(err)
		}
		waitUnread(t, device)
		_ = device.Close()
		_, err := readEnd(service)
		wantEnd(t, err, wire.EndReset)
	})
	t.Run("and bytes later", func(t *testing.T) {
		service, device := r.pair(t, "c", r.options())
		_ = device.Close()
		if _, err := readEnd(service); err != io.EOF {
			t.Fatal(err)
		}
		_, err := service.Write([]byte("too late"))
		for err == nil {
			_, err = service.Write([]byte("too late"))
			time.Sleep(time.Millisecond)
		}
		wantEnd(t, err, wire.EndReset)
	})
	t.Run("used after", func(t *testing.T) {
		service, device := r.pair(t, "d", r.options())
		_ = service.Close()
		_ = service.Close()
		_, err := service.Read(make([]byte, 1))
		_, err2 := service.Write(nil)
		for _, err := range []error{err, err2, service.CloseWrite(), service.SetDeadline(time.Now())} {
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		_ = device.Close()
		wantFinished(t, service, device)
	})
}

func waitUnread(t *testing.T, e *Extended) {
	for ctx := soon(t); ctx.Err() == nil; time.Sleep(time.Millisecond) {
		e.mu.Lock()
		some := e.unread()
		e.mu.Unlock()
		if some {
			return
		}
	}
	t.Fatal("nothing has come")
}

// The other end does not come back: both are lost, whatever they wait for.
func TestExtendedLost(t *testing.T) {
	r := newRelay(t)
	o := r.options()
	o.Window = time.Second
	service, device := r.pair(t, "s", o)
	exchangeOne(t, service, device)
	r.refuseWith(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	start := time.Now()
	r.cut()
	_, err := readEnd(service)
	wantEnd(t, err, wire.EndLost)
	if e, ok := errors.AsType[*EndError](err); !ok || !e.Lost() {
		t.Error(err)
	}
	if d := time.Since(start); d < time.Second || d > 3*time.Second {
		t.Errorf("after %v", d)
	}
	if _, err := device.Write([]byte("x")); Reason(err) != wire.EndLost && err != nil {
		t.Error(err)
	}
	wantEnd(t, device.settle(), wire.EndLost)
}

// Without a window the loss of a leg is the loss of the stream.
func TestExtendedWithoutResume(t *testing.T) {
	r := newRelay(t)
	o := r.options()
	o.Window = 0
	service, device := r.pair(t, "s", o)
	exchange(t, service, device, noise(1, 100_000), noise(2, 100_000))
	wantFinished(t, service, device)
	service, device = r.pair(t, "t", o)
	exchangeOne(t, service, device)
	r.cut()
	wantEnd(t, service.settle(), wire.EndLost)
	wantEnd(t, device.settle(), wire.EndLost)
}

func TestJoinAnswers(t *testing.T) {
	answer := func(status int, header ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			return true
		}
	}
	for name, test := range map[string]struct {
		refuse func(http.ResponseWriter, *http.Request) bool
		status int
		end    wire.EndReason
	}{
		"refused": {answer(401, wire.HeaderEnd, "refused"), 401, wire.EndRefused},
		"revoked": {answer(410, wire.HeaderEnd, "revoked"), 410, wire.EndRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			r.refuse = test.refuse
			e, err := r.open(t.Context(), "s", "service", r.options())
			refused, ok := errors.AsType[*JoinError](err)
			if e != nil || !ok || refused.Status != test.status || refused.End != test.end {
				t.Errorf("%v, %v", e, err)
			}
		})
	}
	for name, refuse := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"busy": answer(503, "Retry-After", "0"), "not a hub": answer(404), "repeated": answer(409, wire.HeaderJoin, "1"), "401 of a proxy": answer(401),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			r.refuse = func(w http.ResponseWriter, req *http.Request) bool { return r.joins == 1 && refuse(w, req) }
			service, device := r.pair(t, "s", r.options())
			exchangeOne(t, service, device)
		})
	}
	t.Run("someone else", func(t *testing.T) {
		r := newRelay(t)
		r.refuse = answer(409, wire.HeaderJoin, "5")
		_, err := r.open(t.Context(), "s", "service", r.options())
		refused, ok := errors.AsType[*JoinError](err)
		if !ok || refused.Highest != 5 {
			t.Error(err)
		}
	})
	t.Run("until the context ends", func(t *testing.T) {
		r := newRelay(t)
		r.refuse = answer(502)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := r.open(ctx, "s", "service", r.options())
		if _, ok := errors.AsType[*JoinError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// Nobody answers for as long as the first pairing may take: the error says why.
func TestJoinGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("no way there")
		o := JoinOptions{Secret: wire.NewInstance(), Window: 5 * time.Minute}
		o.DialTCP = func(context.Context, string, string) (net.Conn, error) { return nil, cause }
		start := time.Now()
		e, err := Join(t.Context(), "wss://example.com/s", "s.service", o)
		wantEnd(t, err, wire.EndLost)
		if e != nil || !errors.Is(err, cause) {
			t.Errorf("%v, %v", e, err)
		}
		near(t, "given up", time.Since(start), wire.HandshakeTimeout)
	})
}

// What the hub ends is ended at both ends.
func TestExtendedEndedByTheHub(t *testing.T) {
	r := newRelay(t)
	service, device := r.pair(t, "s", r.options())
	exchangeOne(t, service, device)
	r.endStream("s", wire.EndClosed)
	wantEnd(t, service.settle(), wire.EndClosed)
	wantEnd(t, device.settle(), wire.EndClosed)
	wantFree(t, service, device)
}

// wantFree checks that ended streams go on their own.
func wantFree(t *testing.T, streams ...*Extended) {
	for _, e := range streams {
		select {
		case <-e.Ended():
		case <-soon(t).Done():
			t.Error("an ended stream lingers")
		}
	}
}

// A reader that takes nothing stops the writer, within the bounds; nothing is lost.
func TestExtendedSlowReader(t *testing.T) {
	r := newRelay(t)
	service, device := r.pair(t, "s", r.options())
	exchangeOne(t, service, device)
	_ = service.SetWriteDeadline(time.Now().Add(time.Second))
	want := noise(1, 12<<20)
	n, err := service.Write(want)
	if !errors.Is(err, os.ErrDeadlineExceeded) || n > wire.MaxWindowBytes+wire.FirstCredit {
		t.Fatalf("wrote %d bytes, %v", n, err)
	}
	r.cut()
	_ = service.SetWriteDeadline(time.Time{})
	go func() { _ = sendAll(service, want[n:]) }()
	got, err := readEnd(device)
	if err != io.EOF || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_ = device.CloseWrite()
	if _, err := readEnd(service); err != io.EOF {
		t.Error(err)
	}
	wantFinished(t, service, device)
}

// Waiting and resuming are told, in turns.
func TestExtendedTells(t *testing.T) {
	r := newRelay(t)
	changes := make(chan Change, 10)
	o := r.options()
	service, err := r.open(t.Context(), "s", "service", o)
	if err != nil {
		t.Fatal(err)
	}
	o.Changed = func(c Change) { changes <- c }
	device, err := r.open(t.Context(), "s", "device", o)
	if err != nil {
		t.Fatal(err)
	}
	defer wantGone(t, service, device)
	exchangeOne(t, service, device)
	r.refuseWith(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	start := time.Now()
	r.cut()
	if c := <-changes; !c.Waiting || c.Since.Before(start) || c.Since.After(time.Now()) {
		t.Error(c)
	}
	if d := time.Since(start); d < tellAfter || d > tellAfter+time.Second {
		t.Errorf("after %v", d)
	}
	r.refuseWith(nil)
	service.NetworkChanged()
	device.NetworkChanged()
	if c := <-changes; c.Waiting {
		t.Error(c)
	}
	exchangeOne(t, service, device)
}
