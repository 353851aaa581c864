package stream

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
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
	raw := rawOfHalf(dst)
	if raw == nil {
		return nil
	}
	return func(p []byte) int {
		n := writeReady(raw, p)
		count.Add(int64(n))
		return n
	}
}

func rawOfHalf(h Half) syscall.RawConn {
	if t, ok := h.(*tcp); ok {
		return t.raw
	}
	return nil
}

// takeFrom sends what src brings, and its end. Bytes are read to where they stay until the
// peer has them, and no memory is held while none come.
func (e *Extended) takeFrom(src Half, count *atomic.Int64) error {
	raw := rawOfHalf(src)
	for {
		if err := e.awaitRoom(); err != nil {
			return err
		}
		var n int
		var err error
		if raw != nil {
			n, err = readSpace(raw, e.space, e.filled)
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
			return e.CloseWrite()
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

// awaitRoom waits until something may be read from the application.
func (e *Extended) awaitRoom() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		switch err := e.breach(); {
		case err != nil:
			return err
		case e.closed || e.finished:
			return net.ErrClosed
		case e.core.Room() > 0:
			return nil
		}
		e.writable.Wait()
	}
}
