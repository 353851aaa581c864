package stream

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// deliverTo writes what comes to dst, and its end, until that. What dst takes at once is
// written by the leg's reader, straight from where it was read to.
func (e *Extended) deliverTo(dst Half, count *atomic.Int64) error {
	sink := sinkOf(dst, count)
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if err := e.breach(); err != nil {
			return err
		}
		if e.closed {
			return net.ErrClosed
		}
		if !e.delivering {
			if b := e.core.App(); b != nil {
				n, err := e.write(func() (int, error) { return dst.Write(b) })
				count.Add(int64(n))
				if err != nil {
					return err
				}
				continue
			}
			if e.core.AppEOF() {
				return e.endOf(dst)
			}
		}
		e.sink = sink
		e.readable.Wait()
		e.sink = nil
	}
}

// write has what core.App has returned written, without holding mu.
func (e *Extended) write(write func() (int, error)) (int, error) {
	e.delivering = true
	e.mu.Unlock()
	n, err := write()
	e.mu.Lock()
	e.delivering = false
	e.core.Delivered(n)
	e.pursue()
	return n, err
}

// endOf ends dst, which tells the peer that all of it was delivered.
func (e *Extended) endOf(dst Half) error {
	e.mu.Unlock()
	err := dst.CloseWrite()
	e.mu.Lock()
	if err != nil {
		return err
	}
	e.core.ShutdownDone()
	e.sawEOF = true
	e.pursue()
	return nil
}

// deliver hands on what has come: to the sink what it takes at once, the rest to whoever
// waits for it.
func (e *Extended) deliver() {
	for e.sink != nil && !e.delivering {
		b := e.core.App()
		if b == nil {
			break
		}
		sink := e.sink
		if n, _ := e.write(func() (int, error) { return sink(b), nil }); n < len(b) {
			break
		}
	}
	if !e.delivering && (e.unread() || e.core.AppEOF()) {
		e.readable.Broadcast()
	}
}

// sinkOf writes to dst what can be written without waiting; nil where there is no way to.
func sinkOf(dst Half, count *atomic.Int64) func([]byte) int {
	t, ok := dst.(*tcp)
	if !ok || t.raw == nil {
		return nil
	}
	return func(p []byte) int {
		n := writeReady(t.raw, p)
		count.Add(int64(n))
		return n
	}
}

// takeFrom sends what src brings, and its end. Bytes are read to where they stay until the
// peer has them, and no memory is held while none come.
func (e *Extended) takeFrom(src Half, count *atomic.Int64) error {
	t, _ := src.(*tcp)
	if t != nil && t.raw == nil {
		t = nil
	}
	for {
		if err := e.awaitRoom(t); err != nil {
			return err
		}
		var n int
		var err error
		if t != nil {
			n, err = readSpace(t.raw, e.space, e.filled)
			err = t.orReset(err)
		} else if p := e.space(); p != nil {
			n, err = src.Read(p)
			e.filled(n)
		}
		count.Add(int64(n))
		e.mu.Lock()
		e.flush()
		e.mu.Unlock()
		switch {
		case err == io.EOF:
			if err := e.CloseWrite(); err != nil || t == nil {
				return err
			}
			return e.watch(t, func() bool { return e.over })
		case err != nil:
			return err
		}
	}
}

func (e *Extended) space() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.core.Space()
}

func (e *Extended) filled(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.core.Filled(n)
}

// awaitRoom waits until something may be read from the application. A reset of its
// connection, which may be nil, is noticed meanwhile.
func (e *Extended) awaitRoom(t *tcp) error {
	room := func() bool { return e.over || e.closed || e.finished || e.core.Room() > 0 }
	if t != nil {
		if err := e.watch(t, room); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for !room() {
		e.writable.Wait()
	}
	if err := e.breach(); err != nil {
		return err
	}
	if e.closed || e.finished {
		return net.ErrClosed
	}
	return nil
}

// watch waits until something is so, by what wakeWriters is called for, and fails if the
// connection is reset meanwhile. Nothing is read.
func (e *Extended) watch(t *tcp, until func() bool) error {
	for {
		e.mu.Lock()
		if until() {
			e.mu.Unlock()
			return nil
		}
		e.wakePump = func() { _ = t.SetReadDeadline(time.Unix(1, 0)) } // long ago
		e.mu.Unlock()
		err := awaitReset(t.raw)
		e.mu.Lock()
		e.wakePump = nil
		e.mu.Unlock()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		_ = t.SetReadDeadline(time.Time{})
	}
}

// wakeWriters wakes who waits for room, or for the end. mu is held.
func (e *Extended) wakeWriters() {
	e.writable.Broadcast()
	if e.wakePump != nil {
		e.wakePump()
	}
}
