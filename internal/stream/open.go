package stream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/wire"
)

// Buffers of a WebSocket. A write buffer that holds a chunk and its header lets
// the library send a message in one write and one fragment; it is taken from the
// pool for the time of a write only. Reading has no use for more than the library's
// smallest sensible buffer, as larger reads bypass it.
const (
	readBuffer  = 4 << 10
	writeBuffer = wire.Chunk + 14 // RFC 6455 §5.2: 2 + 8 + 4 bytes at most
)

var writeBuffers sync.Pool

// DialOptions say how to reach a streaming endpoint. The zero value is usable.
type DialOptions struct {
	TLS       *tls.Config                           // nil: the system's roots
	Proxy     func(*http.Request) (*url.URL, error) // nil: none
	UserAgent string
	// Timeout bounds connecting and the handshake; zero means 30 s.
	Timeout time.Duration
}

// DialError says that the streaming endpoint answered, but would not take the leg.
type DialError struct {
	Status int // HTTP status
}

func (e *DialError) Error() string {
	return fmt.Sprintf("streaming endpoint answered %d %s", e.Status, http.StatusText(e.Status))
}

// Dial connects a leg: url and token are what the hub handed out. The caller
// closes the Conn. A refusal by the endpoint is a *DialError; redirects are one.
func Dial(ctx context.Context, url, token string, o DialOptions) (*Conn, error) {
	timeout := o.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dialer := websocket.Dialer{
		Proxy:           o.Proxy,
		TLSClientConfig: o.TLS,
		ReadBufferSize:  readBuffer,
		WriteBufferSize: writeBuffer,
		WriteBufferPool: &writeBuffers,
	}
	header := http.Header{"Authorization": {"Bearer " + token}}
	if o.UserAgent != "" {
		header.Set("User-Agent", o.UserAgent)
	}
	ws, resp, err := dialer.DialContext(ctx, url, header)
	if err == websocket.ErrBadHandshake && resp != nil {
		return nil, &DialError{Status: resp.StatusCode}
	}
	if err != nil {
		return nil, err
	}
	return newConn(ws, wire.DrainSilence), nil
}

// Accept turns a request for the streaming endpoint, authorised by the caller,
// into a leg. The first subprotocol offered is echoed, since old SDKs offer MQTT
// and check nothing; compression is declined. The caller closes the Conn. On an
// error the request has been answered.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	upgrader := websocket.Upgrader{
		ReadBufferSize:  readBuffer,
		WriteBufferSize: writeBuffer,
		WriteBufferPool: &writeBuffers,
		// The bearer token stands in a header that no browser page can set.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	var header http.Header
	if offered, _, _ := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), ","); offered != "" {
		header = http.Header{"Sec-WebSocket-Protocol": {strings.TrimSpace(offered)}}
	}
	ws, err := upgrader.Upgrade(w, r, header)
	if err != nil {
		return nil, fmt.Errorf("accept leg: %w", err)
	}
	return newConn(ws, 0), nil
}
