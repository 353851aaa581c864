package hubclient

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
)

// httpProxy is an HTTP proxy that answers CONNECT with status, and carries bytes
// after a 200.
type httpProxy struct {
	addr string
	mu   sync.Mutex
	seen []*http.Request
}

func newHTTPProxy(t *testing.T, status string) *httpProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &httpProxy{addr: listener.Addr().String()}
	var working sync.WaitGroup
	working.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			working.Go(func() { p.serve(conn, status) })
		}
	})
	t.Cleanup(func() { listener.Close(); working.Wait() })
	return p
}

func (p *httpProxy) serve(conn net.Conn, status string) {
	defer conn.Close()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	p.mu.Lock()
	p.seen = append(p.seen, r)
	p.mu.Unlock()
	_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\n\r\n")
	target, err := net.Dial("tcp", r.Host)
	if err != nil {
		return
	}
	defer target.Close()
	var copying sync.WaitGroup
	copying.Go(func() { _, _ = io.Copy(target, conn); target.Close() })
	_, _ = io.Copy(conn, target)
	conn.Close()
	copying.Wait()
}

// use makes the proxy the one for everything.
func (p *httpProxy) use(user *url.Userinfo) func(*http.Request) (*url.URL, error) {
	return http.ProxyURL(&url.URL{Scheme: "http", Host: p.addr, User: user})
}

func (p *httpProxy) requests() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

func TestThroughHTTPProxy(t *testing.T) {
	hub := &testHub{}
	hub.api = func(w http.ResponseWriter, r *http.Request) { accepting("True", hub.legURL(), testToken)(w, r) }
	hub.start(t)
	proxy := newHTTPProxy(t, "200 OK")
	s := hub.service(Options{Proxy: proxy.use(url.UserPassword("me", "secret"))})
	leg, err := s.Open(t.Context(), testDevice, "ssh", OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	echo(t, leg)
	leg.Close()
	s.Close()
	seen := proxy.requests()
	if len(seen) != 2 {
		t.Fatalf("%d connections through the proxy, not API and leg", len(seen))
	}
	for _, r := range seen {
		user, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
		if r.Method != http.MethodConnect || r.Host != hub.address() || user != "me" || password != "secret" {
			t.Errorf("proxy was asked for %s %s by %q", r.Method, r.Host, user)
		}
	}
}

// Every failure says at which hop it was.
func TestHops(t *testing.T) {
	hub := (&testHub{api: func(http.ResponseWriter, *http.Request) {}}).start(t)
	nobody := "127.0.0.1:1"
	refuses := newHTTPProxy(t, "407 Proxy \x1b[31mAuthentication").use(url.UserPassword("me", "secret"))
	hangsUp := hangUp(t)
	tests := []struct {
		name  string
		host  string
		proxy func(*http.Request) (*url.URL, error)
		text  []string
	}{
		{"DNS", "no-such-host.invalid", noProxy, []string{`DNS look-up "no-such-host.invalid": `}},
		{"TCP", nobody, noProxy, []string{`TCP connection "127.0.0.1:1": connection refused`}},
		{"proxy is not there", hub.address(), http.ProxyURL(&url.URL{Scheme: "http", Host: nobody}), []string{`HTTP proxy "127.0.0.1:1": connection refused`}},
		{"proxy's name", hub.address(), http.ProxyURL(&url.URL{Scheme: "http", Host: "no-such-host.invalid"}), []string{`HTTP proxy "no-such-host.invalid:80": `}},
		{"proxy refuses", hub.address(), refuses, []string{`HTTP proxy `, `answered 407 Proxy Authentication Required`}},
		{"proxy hangs up", hub.address(), http.ProxyURL(&url.URL{Scheme: "http", Host: hangsUp}), []string{`HTTP proxy `, "closed by the other end"}},
		{"kind of proxy", hub.address(), http.ProxyURL(&url.URL{Scheme: "ftp", Host: nobody}), []string{"ftp:// proxies cannot be used"}},
		{"SOCKS proxy is not there", hub.address(), http.ProxyURL(&url.URL{Scheme: "socks5", Host: nobody}), []string{`SOCKS proxy "127.0.0.1:1": connection refused`}},
		{"proxy setting", hub.address(), func(*http.Request) (*url.URL, error) { return nil, errors.New("bad setting") }, []string{"HTTP proxy", "bad setting"}},
		{"no TLS", hangsUp, noProxy, []string{`TLS handshake `, "closed by the other end"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cs, err := ParseConnectionString("HostName=" + tt.host + ";SharedAccessKeyName=service;SharedAccessKey=" + testKey)
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewService(cs, Options{Proxy: tt.proxy})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_, err = s.GetDevice(t.Context(), testDevice)
			if !errors.Is(err, ErrHubUnreachable) || errors.Is(err, ErrTimeout) || errors.Is(err, ErrUntrusted) {
				t.Fatalf("error is %v", err)
			}
			contains(t, err.Error(), tt.text...)
		})
	}
}

// hangUp accepts connections and closes them after the first bytes.
func hangUp(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return listener.Addr().String()
}

func TestHubHangsUp(t *testing.T) {
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}}).start(t)
	_, err := hub.service(Options{Proxy: noProxy}).GetDevice(t.Context(), testDevice)
	if !errors.Is(err, ErrHubUnreachable) {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), `HTTPS connection "`+hub.address()+`": closed by the other end`)
}

func TestUntrustedHubAndLeg(t *testing.T) {
	hub, other := &testHub{}, (&testHub{}).start(t)
	hub.api = func(w http.ResponseWriter, r *http.Request) {
		accepting("True", other.legURL(), testToken)(w, r)
	}
	hub.start(t)
	s := hub.service(Options{Proxy: noProxy})
	_, leg := s.Open(t.Context(), testDevice, "ssh", OpenOptions{})
	cs := hub.connectionString("")
	cs.CAFingerprint = ""
	unpinned, err := NewService(cs, Options{Proxy: noProxy})
	if err != nil {
		t.Fatal(err)
	}
	defer unpinned.Close()
	_, api := unpinned.Open(t.Context(), testDevice, "ssh", OpenOptions{})
	for _, tt := range []struct {
		err error
		ca  testCA
	}{{leg, other.ca}, {api, hub.ca}} {
		untrusted, ok := errors.AsType[*UntrustedError](tt.err)
		if !ok || !errors.Is(tt.err, ErrUntrusted) || errors.Is(tt.err, ErrHubUnreachable) {
			t.Fatalf("error is %v", tt.err)
		}
		if untrusted.Host != "127.0.0.1" || untrusted.Fingerprint != "sha256:"+fingerprint(tt.ca.cert) {
			t.Errorf("host %q presented %s", untrusted.Host, untrusted.Fingerprint)
		}
	}
}

func TestDialIsCancelled(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and stays silent
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	silent := listener.Addr().String()
	for name, proxy := range map[string]func(*http.Request) (*url.URL, error){
		"TLS":   noProxy,
		"proxy": http.ProxyURL(&url.URL{Scheme: "http", Host: silent}),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = conn.Read(make([]byte, 1))
				cancel()
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}()
			h := &hub{trust: newTrust("", nil), proxy: proxy}
			if _, err := h.dialTLS(ctx, "tcp", silent); !errors.Is(err, context.Canceled) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestAuthority(t *testing.T) {
	for host, want := range map[string]string{
		"hub.example.test":      "hub.example.test",
		"hub.example.test:443":  "hub.example.test",
		"hub.example.test:8443": "hub.example.test:8443",
		"[::1]":                 "[::1]",
		"[::1]:4430":            "[::1]:4430",
	} {
		cs, err := ParseConnectionString("HostName=" + host + ";SharedAccessKeyName=service;SharedAccessKey=" + testKey)
		if err != nil {
			t.Fatal(err)
		}
		if got := newHub(cs, Options{}, NewInstance()).authority(); got != want {
			t.Errorf("authority of %s is %s", host, got)
		}
	}
}
