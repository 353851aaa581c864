package hubclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// serveProxy serves each connection to it, within TLS if config is not nil, and returns
// its address.
func serveProxy(t *testing.T, config *tls.Config, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	working.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if config != nil {
				conn = tls.Server(conn, config)
			}
			working.Go(func() { defer conn.Close(); serve(conn) })
		}
	})
	t.Cleanup(func() { listener.Close(); working.Wait() })
	return listener.Addr().String()
}

// Both transports of the control connection go through a proxy, also one within TLS.
func TestDeviceThroughProxy(t *testing.T) {
	ca := newTestCA(t)
	for _, kind := range []string{proxyHTTP, proxyHTTPS} {
		for _, transport := range []Transport{MQTTWS, MQTT} {
			t.Run(fmt.Sprint(kind, " ", transport), func(t *testing.T) {
				hub := (&testHub{device: func(s *deviceSession) { s.ready(); s.drain() }}).start(t)
				var config *tls.Config
				if kind == proxyHTTPS {
					config = &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, nil).chain(ca)}}
				}
				p := &httpProxy{}
				p.addr = serveProxy(t, config, func(conn net.Conn) { p.serve(conn, "200 OK") })
				o := DeviceOptions{Transport: transport, MQTTPort: hub.listenMQTT(), Options: Options{
					RootCAs: rootsOf(ca), Proxy: http.ProxyURL(&url.URL{Scheme: kind, Host: p.addr, User: url.UserPassword("me", "secret")}),
				}}
				d, err := DialDevice(bounded(t), hub.connectionString(testDevice), o)
				if err != nil {
					t.Fatal(err)
				}
				d.Close()
				if seen := p.requests(); len(seen) != 1 || seen[0].Header.Get("Proxy-Authorization") == "" {
					t.Errorf("the proxy saw %d requests", len(seen))
				}
			})
		}
	}
}

// API and leg in TLS in TLS.
func TestLegThroughHTTPSProxy(t *testing.T) {
	hub := &testHub{}
	hub.api = func(w http.ResponseWriter, r *http.Request) { accepting("True", hub.legURL(), testToken)(w, r) }
	hub.start(t)
	ca := newTestCA(t)
	p := &httpProxy{}
	p.addr = serveProxy(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, nil).chain(ca)}}, func(conn net.Conn) { p.serve(conn, "200 OK") })
	through := http.ProxyURL(&url.URL{Scheme: proxyHTTPS, Host: p.addr})
	leg, err := hub.service(Options{Proxy: through, RootCAs: rootsOf(ca)}).Open(bounded(t), testDevice, "ssh", OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	echo(t, leg)
	leg.Close()
	_, err = hub.service(Options{Proxy: through}).GetDevice(bounded(t), testDevice)
	if _, ofHub := errors.AsType[*UntrustedError](err); ofHub || !errors.Is(err, ErrUntrusted) || !errors.Is(err, ErrProxyFailed) {
		t.Errorf("a proxy whose certificate nobody vouches for: %v", err)
	}
	contains(t, err.Error(), `HTTP proxy "`+p.addr+`": certificate of "127.0.0.1" is not trusted: `)
}

// answered is what a client says to a proxy that answers CONNECT with text.
func answered(t *testing.T, text string) (net.Conn, error) {
	t.Helper()
	addr := serveProxy(t, nil, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, _ = io.WriteString(conn, text)
		_, _ = io.Copy(io.Discard, conn)
	})
	h := &hub{trust: newTrust("", nil), proxy: http.ProxyURL(&url.URL{Scheme: proxyHTTP, Host: addr, User: url.UserPassword("me", "s-cret")})}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return h.dialTCP(ctx, "tcp", "hub.example.test:443")
}

func TestProxyDisagrees(t *testing.T) {
	for name, text := range map[string]string{
		"endless head":  "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1<<20),
		"endless line":  "HTTP/1.1 200 " + strings.Repeat("x", 4<<20),
		"no HTTP":       "SSH-2.0-x\r\n\r\n",
		"echo password": "HTTP/1.1 407 me:s-cret\r\nX: bWU6cy1jcmV0\r\nContent-Length: 6\r\n\r\ns-cret",
		"403":           "HTTP/1.1 403 Forbidden\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := answered(t, text)
			if err == nil {
				conn.Close()
				t.Fatal("it connected")
			}
			if !errors.Is(err, ErrHubUnreachable) || strings.Contains(err.Error(), "s-cret") || len(err.Error()) > 500 {
				t.Errorf("error is %.500s", err)
			}
		})
	}
}

// A 2xx has no body, whatever its head says (RFC 9110 section 9.3.6).
func TestProxyAgrees(t *testing.T) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.0 200 Connection established\r\n\r\n",
		"HTTP/1.1 201 Created\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		conn, err := answered(t, text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if _, raw := conn.(*net.TCPConn); !raw {
			t.Errorf("%q: legs are slow over a %T", text, conn)
		}
		conn.Close()
	}
}

// What comes right behind the proxy's answer is the hub's.
func TestNothingIsLostBehindTheAnswer(t *testing.T) {
	conn, err := answered(t, "HTTP/1.1 200 OK\r\n\r\nhello")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
}
