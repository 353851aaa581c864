//go:build unix

package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// echoer is the near end of something that sends back what it gets.
type echoer interface {
	io.ReadWriter
	SetDeadline(time.Time) error
}

// echo sends payload and checks that exactly that comes back.
func echo(to echoer, payload []byte) error {
	if err := to.SetDeadline(time.Now().Add(soon)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := to.Write(payload)
		sent <- err
	}()
	got := make([]byte, len(payload))
	n, err := io.ReadFull(to, got)
	if err != nil {
		_ = to.SetDeadline(time.Now()) // wakes the write
	}
	if err := errors.Join(<-sent, err); err != nil {
		return fmt.Errorf("echo of %d bytes: %d came back: %w", len(payload), n, err)
	}
	if !bytes.Equal(got, payload) {
		return fmt.Errorf("echo of %d bytes: others came back", len(payload))
	}
	return nil
}

// echoSession is a process that sends its standard input back, such as an ssh of
// cat.
type echoSession struct {
	*process
	in, out *os.File
}

func startEcho(t *testing.T, cmd *exec.Cmd) *echoSession {
	t.Helper()
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = in.Close(), out.Close() // may be closed already
	})
	cmd.Stdin, cmd.Stdout = stdin, stdout
	s := &echoSession{start(t, cmd), in, out}
	_, _ = stdin.Close(), stdout.Close() // the process has its own
	return s
}

func (s *echoSession) Read(p []byte) (int, error)  { return s.out.Read(p) }
func (s *echoSession) Write(p []byte) (int, error) { return s.in.Write(p) }

func (s *echoSession) SetDeadline(at time.Time) error {
	return errors.Join(s.in.SetDeadline(at), s.out.SetDeadline(at))
}

// dial connects to a service-proxy.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// dialEcho connects to an echo server behind a service-proxy, and waits until its
// stream stands.
func dialEcho(t *testing.T, address string) net.Conn {
	t.Helper()
	conn := dial(t, address)
	if err := echo(conn, []byte("are you there?")); err != nil {
		t.Fatal(err)
	}
	return conn
}

// broken waits for a connection to end, which has to look like an accident: a
// reset, not an end of file that could pass for all there was.
func broken(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read from a connection whose stream was cut: %d bytes, error %v; want a reset", n, err)
	}
}
