//go:build linux

package sdktest

import (
	"io"
	"net"
	"testing"
)

// listen serves each connection to a local TCP port by serve, which may leave it open,
// and returns the address.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// echo sends back what it receives.
func echo(conn net.Conn) { _, _ = io.Copy(conn, conn) }

// banner speaks first, as sshd does, and sends one line back.
func banner(conn net.Conn) {
	_, _ = io.WriteString(conn, "SSH-2.0-banner\r\n")
	line := make([]byte, len("SSH-2.0-client\r\n"))
	_, _ = io.ReadFull(conn, line)
	_, _ = conn.Write(line)
}
