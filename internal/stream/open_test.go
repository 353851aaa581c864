package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// serveTLS starts a server with this handler and returns its wss URL and a config
// that trusts it.
func serveTLS(t testing.TB, h http.HandlerFunc) (url string, config *tls.Config) {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quiet
	s.StartTLS()
	t.Cleanup(s.Close)
	return "wss" + strings.TrimPrefix(s.URL, "https") + "/x", s.Client().Transport.(*http.Transport).TLSClientConfig
}

func TestDialRefused(t *testing.T) {
	for _, status := range []int{200, 204, 301, 302, 307, 400, 401, 403, 404, 410, 426, 429, 500, 503, 504} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			var asked atomic.Int64
			url, config := serveTLS(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			})
			c, err := Dial(t.Context(), url, "token", DialOptions{TLS: config})
			refused, ok := errors.AsType[*DialError](err)
			if c != nil || !ok || refused.Status != status {
				t.Fatalf("%v, %v, want status %d", c, err, status)
			}
			if !strings.Contains(err.Error(), fmt.Sprint(status)) {
				t.Errorf("%q does not say so", err)
			}
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestDialSays(t *testing.T) {
	var got http.Header
	url, config := serveTLS(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.WriteHeader(http.StatusForbidden)
	})
	_, err := Dial(t.Context(), url, "k3J.x_9-", DialOptions{TLS: config, UserAgent: "farport/1"})
	if err == nil {
		t.Fatal("dialled")
	}
	if got.Get("Authorization") != "Bearer k3J.x_9-" || got.Get("User-Agent") != "farport/1" {
		t.Errorf("headers %v", got)
	}
	for _, name := range []string{"Sec-Websocket-Extensions", "Sec-Websocket-Protocol", "Cookie", "Origin"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s: %q", name, v)
		}
	}
	if strings.Contains(err.Error(), "k3J") {
		t.Errorf("%q tells the token", err)
	}
}

func TestDialNotWSS(t *testing.T) {
	for _, url := range []string{"ws://127.0.0.1/x", "https://127.0.0.1/x", "127.0.0.1/x", "", "wss://%zz/", "wss://user:secret@127.0.0.1:1/x"} {
		c, err := Dial(t.Context(), url, "token", DialOptions{DialTCP: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("not reached")
		}})
		if c != nil || err == nil {
			t.Errorf("%q was dialled", url)
		}
	}
}

func TestDialUntrusted(t *testing.T) {
	url, _ := serveTLS(t, func(http.ResponseWriter, *http.Request) { t.Error("it got as far as asking") })
	_, err := Dial(t.Context(), url, "token", DialOptions{})
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("dial: %v", err)
	}
}

// answering is a TLS server that answers every request with these bytes, and then
// waits for the client to hang up.
func answering(t *testing.T, answer func(key string) []byte) (url string, config *tls.Config) {
	template := newEndpoint(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", template.TLS.Clone())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = conn.Write(answer(r.Header.Get("Sec-WebSocket-Key")))
				_, _ = io.Copy(io.Discard, conn)
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "wss://" + l.Addr().String() + "/x", template.tls()
}

// acceptKey is the answer to a client's key (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func switching(key string) string {
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + acceptKey(key) + "\r\n"
}

// Frames that come together with the answer are not lost, wherever its lines end.
func TestFirstFramesWithTheAnswer(t *testing.T) {
	for _, pad := range []int{0, 1, 300, headRoom - 1, headRoom, 5000} {
		for _, size := range []int{1, 1000, 100_000} {
			t.Run(fmt.Sprint(pad, size), func(t *testing.T) {
				want := noise(1, size)
				peer := &rawPeer{}
				url, config := answering(t, func(key string) []byte {
					head := switching(key) + "X-Pad: " + strings.Repeat("x", pad) + "\r\n\r\n"
					return append(append([]byte(head), peer.frame(bitFinal|opBinary, want)...), peer.close(wire.CloseNormal, "")...)
				})
				c, err := Dial(t.Context(), url, "token", DialOptions{TLS: config})
				if err != nil {
					t.Fatal(err)
				}
				got, err := readEnd(c)
				if wantEnd(t, err, ""); !bytes.Equal(got, want) {
					t.Errorf("%d bytes, want %d", len(got), size)
				}
				_ = c.CloseWrite()
				c.ws.Conn.Close() // the server does not hang up
				c.Close()
			})
		}
	}
}

func TestDialBadAnswer(t *testing.T) {
	for name, answer := range map[string]func(key string) string{
		"wrong accept key": func(string) string { return switching("another") + "\r\n" },
		"no HTTP":          func(string) string { return "SSH-2.0-OpenSSH_9.6\r\n" },
		"no upgrade":       func(string) string { return "HTTP/1.1 101 Switching Protocols\r\n\r\n" },
		"head without end": func(string) string {
			return "HTTP/1.1 101 Switching Protocols\r\n" + strings.Repeat("X-Y: zzzzzzzzzzzzzzzzzzzzzzzzz\r\n", 3000)
		},
		"line without end": func(string) string { return "HTTP/1.1 101 " + strings.Repeat("x", 100_000) },
	} {
		t.Run(name, func(t *testing.T) {
			url, config := answering(t, func(key string) []byte { return []byte(answer(key)) })
			c, err := Dial(soon(t), url, "token", DialOptions{TLS: config})
			if c != nil || err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(c, err)
			}
		})
	}
}

// A compressed or subprotocol-bound leg that nobody asked for would be misread.
func TestDialGetsNoExtension(t *testing.T) {
	url, config := answering(t, func(key string) []byte {
		return []byte(switching(key) + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n\xc1\x01x")
	})
	c, err := Dial(t.Context(), url, "token", DialOptions{TLS: config})
	if err != nil {
		return // refusing it at once is as good
	}
	_, err = readEnd(c)
	wantEnd(t, err, wire.EndProtocol)
	c.ws.Conn.Close()
	c.Close()
}

func TestDialTimeout(t *testing.T) {
	url, config := answering(t, func(string) []byte { return nil })
	_, err := Dial(t.Context(), url, "token", DialOptions{TLS: config, Timeout: 50 * time.Millisecond})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	url, config = answering(t, func(string) []byte { cancel(cause); return nil })
	if _, err := Dial(ctx, url, "token", DialOptions{TLS: config}); err != cause {
		t.Errorf("cancelled: %v", err)
	}
	// It has refused, but never ends saying so.
	url, config = answering(t, func(string) []byte { return []byte("HTTP/1.1 401 Unauthorized\r\n\r\nbecause") })
	_, err = Dial(t.Context(), url, "token", DialOptions{TLS: config, Timeout: 50 * time.Millisecond})
	if refused, ok := errors.AsType[*DialError](err); !ok || refused.Status != http.StatusUnauthorized {
		t.Errorf("refused: %v", err)
	}
}

// Time stands still in the handshake of TLS, too.
func TestDialTCPHangs(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	_, err := Dial(t.Context(), "wss://h.example.test/x", "token", DialOptions{
		Timeout: 20 * time.Millisecond,
		DialTCP: func(_ context.Context, _, address string) (net.Conn, error) {
			if address != "h.example.test:443" {
				t.Errorf("dialled %q", address)
			}
			return near, nil
		},
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
