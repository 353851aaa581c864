package hubclient

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/wire"
)

// accepting answers an initiation.
func accepting(accepted, url, token string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(wire.HeaderIsAccepted, accepted)
		w.Header().Set(wire.HeaderStreamURL, url)
		w.Header().Set(wire.HeaderStreamToken, token)
	}
}

func TestOpen(t *testing.T) {
	hub := &testHub{}
	var asked *http.Request
	hub.api = func(w http.ResponseWriter, r *http.Request) {
		asked = r
		accepting("true", hub.legURL(), testToken)(w, r) // in small letters
		w.WriteHeader(http.StatusAccepted)
	}
	hub.start(t)
	s := hub.service(Options{Proxy: noProxy, UserAgent: "farport/test"})
	leg, err := s.Open(t.Context(), "a+b#c", "ssh", OpenOptions{ConnectTimeout: 1500 * time.Millisecond, ResponseTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	echo(t, leg)
	leg.Close()
	if !hub.resumed.Load() {
		t.Error("the leg did not resume the TLS session of the API")
	}

	for _, tt := range []struct{ what, got, want string }{
		{"method", asked.Method, http.MethodPost},
		{"request URI", asked.RequestURI, "/twins/a+b%23c/streams/ssh?api-version=" + wire.APIVersionService},
		{"connect time-out", asked.Header.Get(wire.HeaderConnectTimeout), "2"},
		{"response time-out", asked.Header.Get(wire.HeaderResponseTimeout), "30"},
		{"user agent", asked.Header.Get("User-Agent"), "farport/test"},
		{"content length", asked.Header.Get("Content-Length"), "0"},
		{"idempotency key", strings.Join(asked.Header.Values("Idempotency-Key"), ","), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is %q, not %q", tt.what, tt.got, tt.want)
		}
	}
	token, err := credential.ParseSAS(asked.Header.Get("Authorization"))
	key, _ := credential.ParseKey(testKey)
	if err != nil || !token.SignedBy(key) || token.Resource != "127.0.0.1" || token.Policy != "service" {
		t.Errorf("token is %v, %v", token, err)
	}
	if left := time.Until(token.Expires); left < 55*time.Minute || left > time.Hour {
		t.Errorf("token is good for %v", left)
	}
}

func TestOpenFails(t *testing.T) {
	hub := &testHub{}
	var answer http.HandlerFunc
	hub.api = func(w http.ResponseWriter, r *http.Request) { answer(w, r) }
	hub.start(t)
	s := hub.service(Options{Proxy: noProxy})
	good := hub.legURL()
	tests := []struct {
		name           string
		device, stream string
		answer         http.HandlerFunc
		want           error // nil: none of the sentinels
		text           string
	}{
		{"rejected", testDevice, "ssh", accepting("False", "", ""), ErrStreamRejected, "device rejected the stream"},
		{"rejected in small letters", testDevice, "ssh", accepting("false", good, testToken), ErrStreamRejected, ""},
		{"somebody else's 200", testDevice, "ssh", func(w http.ResponseWriter, _ *http.Request) {}, nil, wire.HeaderIsAccepted},
		{"no URL", testDevice, "ssh", accepting("True", "", testToken), ErrForeignEndpoint, ""},
		{"plain text", testDevice, "ssh", accepting("True", "ws"+strings.TrimPrefix(good, "wss"), testToken), ErrForeignEndpoint, "is not a wss URL"},
		{"no token", testDevice, "ssh", accepting("True", good, ""), nil, "no stream token"},
		{"token refused", testDevice, "ssh", accepting("True", good, "other"), nil, "streaming endpoint answered 401"},
		{"nobody at the endpoint", testDevice, "ssh", accepting("True", "wss://127.0.0.1:1/bridges/1", testToken), ErrHubUnreachable, "streaming endpoint"},
		{"stream name", testDevice, "a/b", accepting("True", good, testToken), nil, "not a possible name of a stream"},
		{"device ID", "..", "ssh", accepting("True", good, testToken), nil, "not a possible name of a device"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer = tt.answer
			_, err := s.Open(t.Context(), tt.device, tt.stream, OpenOptions{})
			if err == nil {
				t.Fatal("it opened")
			}
			for _, s := range sentinels {
				if got := errors.Is(err, s); got != (s == tt.want) {
					t.Errorf("Is(%v) is %v for %v", s, got, err)
				}
			}
			contains(t, err.Error(), tt.text, `open stream to device "`+tt.device+`" on 127.0.0.1:`)
		})
	}
}

// The service waits for the hub as long as it lets the hub wait for the device, and
// some more.
func TestOpenOwnDeadline(t *testing.T) {
	hub := &testHub{}
	release := make(chan struct{})
	var deadline time.Duration
	hub.api = func(_ http.ResponseWriter, r *http.Request) { <-release }
	hub.start(t)
	defer close(release)
	s := hub.service(Options{Proxy: noProxy})
	s.http.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		at, _ := r.Context().Deadline()
		deadline = time.Until(at).Round(time.Second)
		return nil, errors.New("enough")
	})
	if _, err := s.Open(t.Context(), testDevice, "ssh", OpenOptions{ConnectTimeout: 5 * time.Second, ResponseTimeout: 10 * time.Second}); err == nil {
		t.Fatal("it opened")
	}
	if want := 15*time.Second + wire.ClientSlack; deadline != want {
		t.Errorf("deadline is after %v, not %v", deadline, want)
	}
	if _, err := s.Open(t.Context(), testDevice, "ssh", OpenOptions{}); err == nil {
		t.Fatal("it opened")
	}
	if want := wire.DefaultResponseTimeout + wire.ClientSlack; deadline != want {
		t.Errorf("default deadline is after %v, not %v", deadline, want)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestCallTimesOut(t *testing.T) {
	release := make(chan struct{})
	hub := (&testHub{api: func(http.ResponseWriter, *http.Request) { <-release }}).start(t)
	defer close(release)
	s := hub.service(Options{Proxy: noProxy})

	_, err := s.do(t.Context(), call{method: http.MethodGet, path: "/", timeout: 50 * time.Millisecond})
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("own deadline: %v", err)
	}
	contains(t, err.Error(), "no answer from the hub within 50ms")

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err = s.GetDevice(ctx, testDevice); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("caller's deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err = s.GetDevice(ctx, testDevice); !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) {
		t.Errorf("caller gave up: %v", err)
	}
}

func TestConnectionIsKept(t *testing.T) {
	hub := &testHub{}
	hub.api = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/gone") {
			wire.WriteError(w, wire.ErrDeviceNotFound, strings.Repeat("x", 20<<10), "1", 0)
			return
		}
		_, _ = w.Write([]byte(`{"deviceId":"pi-1"}`))
	}
	hub.start(t)
	s := hub.service(Options{Proxy: noProxy})
	for range 3 {
		if _, err := s.GetDevice(t.Context(), testDevice); err != nil {
			t.Fatal(err)
		}
		if _, err := s.GetDevice(t.Context(), "gone"); !errors.Is(err, ErrDeviceNotFound) {
			t.Fatal(err)
		}
	}
	if n := hub.conns.get(); n != 1 {
		t.Errorf("6 calls took %d connections", n)
	}
}

// A kept connection that the hub has dropped must not fail the next stream.
func TestOpenOnDeadConnection(t *testing.T) {
	hub := &testHub{}
	hub.api = func(w http.ResponseWriter, r *http.Request) { accepting("True", hub.legURL(), testToken)(w, r) }
	hub.start(t)
	s := hub.service(Options{Proxy: noProxy})
	var closing sync.WaitGroup
	defer closing.Wait()
	for range 20 {
		leg, err := s.Open(t.Context(), testDevice, "ssh", OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		closing.Go(func() { leg.Close() })
		hub.server.CloseClientConnections()
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var mu sync.Mutex
	var paths []string
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		paths = append(paths, r.URL.Path)
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}}).start(t)
	_, err := hub.service(Options{Proxy: noProxy}).Twin(t.Context(), testDevice)
	if refused, ok := errors.AsType[*HubError](err); !ok || refused.Status != http.StatusFound {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), "302", "redirect to /elsewhere is not followed")
	if want := []string{wire.TwinPath(testDevice)}; !slices.Equal(paths, want) {
		t.Errorf("asked for %q", paths)
	}
}

func TestAnswerIsBounded(t *testing.T) {
	hub := (&testHub{api: func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"deviceId":"` + strings.Repeat("x", maxAnswer) + `"}`))
	}}).start(t)
	_, err := hub.service(Options{Proxy: noProxy}).GetDevice(t.Context(), testDevice)
	if err == nil {
		t.Fatal("no error")
	}
	contains(t, err.Error(), "more than 65536 bytes")
}

func TestServiceToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cs, err := ParseConnectionString("HostName=hub.example.test;SharedAccessKeyName=service;SharedAccessKey=" + testKey)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewService(cs, Options{})
		if err != nil {
			t.Fatal(err)
		}
		token := func() credential.Secret {
			text, err := s.sas()
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		first := token()
		time.Sleep(serviceTokenLife - serviceTokenRenew - time.Second)
		if token() != first {
			t.Error("the token was renewed early")
		}
		time.Sleep(2 * time.Second)
		if token() == first {
			t.Error("the token was not renewed")
		}
	})
}

func TestNewServiceWantsPolicy(t *testing.T) {
	cs, err := ParseConnectionString("HostName=hub.example.test;DeviceId=pi-1;SharedAccessKey=" + testKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewService(cs, Options{}); err == nil || !strings.Contains(err.Error(), "SharedAccessKeyName") {
		t.Errorf("error is %v", err)
	}
}
