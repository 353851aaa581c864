package hubtest

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Echo starts a TCP server on 127.0.0.1 that sends back what it gets and keeps
// half-close: it ends its direction once the client has ended its own. It returns
// the address.
func Echo(t testing.TB) string {
	t.Helper()
	return Serve(t, func(c *net.TCPConn) {
		if _, err := io.Copy(c, c); err == nil {
			_ = c.CloseWrite()
		}
	})
}

// Serve starts a TCP server on 127.0.0.1 that hands each connection to handle,
// which need not close it. It returns the address; the end of the test closes all.
func Serve(t testing.TB, handle func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	accepting := make(chan struct{})
	var handlers sync.WaitGroup
	go func() {
		defer close(accepting)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				handle(c.(*net.TCPConn))
			})
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		<-accepting
		handlers.Wait()
	})
	return l.Addr().String()
}
