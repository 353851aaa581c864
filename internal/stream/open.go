package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/wire"
)

// DialOptions say how to reach a streaming endpoint. The zero value is usable.
type DialOptions struct {
	TLS *tls.Config // nil: the system's roots
	// DialTCP connects to HOST:PORT; nil means directly. It may lead through a proxy.
	DialTCP   func(ctx context.Context, network, address string) (net.Conn, error)
	UserAgent string
	// Timeout bounds connecting and the handshakes; zero means 30 s.
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
	ws, resp, err := dial(ctx, url, http.Header{"Authorization": {"Bearer " + token}}, o)
	switch {
	case err != nil:
		return nil, err
	case ws == nil:
		return nil, &DialError{Status: resp.StatusCode}
	}
	return newConn(ws, wire.DrainSilence), nil
}

// dial makes the handshakes of a leg. It returns no frameConn if the endpoint has
// refused it.
func dial(ctx context.Context, url string, header http.Header, o DialOptions) (*frameConn, *http.Response, error) {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	conn, err := dialTLS(ctx, url, o)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() }) // wakes the handshake
	head := &headConn{Conn: conn, in: bufio.NewReaderSize(conn, headRoom)}
	dialer := websocket.Dialer{
		NetDialTLSContext: func(context.Context, string, string) (net.Conn, error) { return head, nil },
		WriteBufferSize:   headRoom, // nothing is written through it
	}
	if o.UserAgent != "" {
		header.Set("User-Agent", o.UserAgent)
	}
	// Given ctx, the library fails by a deadline of its own, before ctx says why.
	_, resp, err := dialer.DialContext(context.WithoutCancel(ctx), url, header)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		if errors.Is(err, websocket.ErrBadHandshake) && resp != nil {
			return nil, resp, nil
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, nil, err
	}
	return newFrameConn(conn, head.in, true), resp, nil
}

// dialTLS connects to the host of a wss URL, with what makes legs fast below TLS.
func dialTLS(ctx context.Context, rawURL string, o DialOptions) (*tls.Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "wss" {
		return nil, fmt.Errorf("stream URL %q is not a wss URL", rawURL)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	dial := o.DialTCP
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		config = o.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	config.DynamicRecordSizingDisabled = true // a leg carries bulk
	conn, err := dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	secure := tls.Client(newRecordConn(conn), config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// headConn gives an HTTP client the head of a response line by line, so that what
// follows it, the peer's first frames, stays in the reader that the frames are read
// from.
type headConn struct {
	net.Conn
	in   *bufio.Reader
	size int  // bytes of the head so far
	line int  // characters of the current line so far
	done bool // the empty line has been given
}

// maxHead bounds the head of a response, which net/http does not.
const maxHead = 32 << 10

// Read returns a line, or a part of one. After the head it returns what there is:
// that is the body of a refusal.
func (h *headConn) Read(p []byte) (int, error) {
	if h.done {
		return h.in.Read(p)
	}
	if h.size > maxHead {
		return 0, errors.New("head of the response is too long")
	}
	if _, err := h.in.Peek(1); err != nil {
		return 0, err
	}
	ahead, _ := h.in.Peek(min(h.in.Buffered(), len(p))) // buffered: cannot fail
	if i := bytes.IndexByte(ahead, '\n'); i >= 0 {
		ahead = ahead[:i+1]
	}
	n := copy(p, ahead)
	h.size += n
	switch text := bytes.TrimRight(p[:n], "\r\n"); {
	case p[n-1] != '\n':
		h.line += len(text)
	case h.line+len(text) == 0:
		h.done = true
	default:
		h.line = 0
	}
	_, err := h.in.Discard(n)
	return n, err
}

// Accept turns a request for the streaming endpoint, authorised by the caller,
// into a leg. The first subprotocol offered is echoed, since old SDKs offer MQTT
// and check nothing; compression is declined. The caller closes the Conn. On an
// error the request has been answered.
func Accept(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	var header http.Header
	if offered, _, _ := strings.Cut(r.Header.Get("Sec-WebSocket-Protocol"), ","); offered != "" {
		header = http.Header{"Sec-WebSocket-Protocol": {strings.TrimSpace(offered)}}
	}
	ws, err := accept(w, r, header)
	if err != nil {
		return nil, err
	}
	return newConn(ws, 0), nil
}

// accept makes the handshake of a leg, and answers for an error of it.
func accept(w http.ResponseWriter, r *http.Request, header http.Header) (*frameConn, error) {
	upgrader := websocket.Upgrader{
		WriteBufferSize: headRoom, // the answer is written through it, and nothing else
		// The bearer token stands in a header that no browser page can set.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	// It refuses a client that sends before the answer, so no byte is lost in its buffer.
	ws, err := upgrader.Upgrade(w, r, header)
	if err != nil {
		return nil, fmt.Errorf("accept leg: %w", err)
	}
	conn := ws.NetConn()
	return newFrameConn(conn, bufio.NewReaderSize(conn, headRoom), false), nil
}
