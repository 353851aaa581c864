// Package hubtest runs a real hub in a test, as httptest does for HTTP: its own
// data dir, its own CA, ports of the system's choice on 127.0.0.1. Only tests
// import it.
package hubtest

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
)

// Server is a running hub. It stops when the test ends.
type Server struct {
	Hub     *hub.Hub
	DataDir string
	// Log has what the hub logged, at level debug.
	Log *Log

	t      testing.TB
	stop   func()
	client *http.Client
}

// New starts a hub. Of the options, DataDir, Listen, MQTTListen and Logger are
// filled in where they are zero; ShutdownGrace is none unless given.
func New(t testing.TB, o hub.Options) *Server {
	t.Helper()
	s := &Server{t: t, Log: new(Log)}
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.MQTTListen == "" {
		o.MQTTListen = "127.0.0.1:0"
	}
	if o.ShutdownGrace == 0 {
		o.ShutdownGrace = -1
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(s.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s.DataDir = o.DataDir
	h, err := hub.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("start hub: %v", err)
	}
	s.Hub = h
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("hub: %v", err)
		}
	})
	s.client = newClient(t, s.DataDir, h.Address())
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		s.Stop()
		if t.Failed() {
			t.Logf("hub's log:\n%s", s.Log)
		}
	})
	return s
}

// Stop stops the hub, as SIGTERM would, and waits for it.
func (s *Server) Stop() { s.stop() }

// ConnectionString is a built-in policy's.
func (s *Server) ConnectionString(policy string) credential.ConnectionString {
	s.t.Helper()
	text, err := os.ReadFile(hub.ConnectionStringFile(s.DataDir, policy))
	if err != nil {
		s.t.Fatal(err)
	}
	cs, err := credential.ParseConnectionString(strings.TrimSpace(string(text)))
	if err != nil {
		s.t.Fatal(err)
	}
	return cs
}

// MQTTPort is the port of MQTT in TLS.
func (s *Server) MQTTPort() int { return s.Hub.MQTTAddress().(*net.TCPAddr).Port }
