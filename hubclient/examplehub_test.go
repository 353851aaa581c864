package hubclient_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
)

// exampleHub is a real hub for an Example.
type exampleHub struct {
	server *hubtest.Server
	stop   func()
}

func startHub() exampleHub {
	ctx, cancel := context.WithCancel(context.Background())
	tb := &exampleTB{ctx: ctx}
	tb.Cleanup(cancel)
	server := hubtest.New(tb, hub.Options{})
	tb.Cleanup(func() { hubclient.AwaitStreams(tb) })
	return exampleHub{server, tb.cleanUp}
}

func (h exampleHub) service() hubclient.ConnectionString { return h.server.ConnectionString("service") }

func (h exampleHub) device(id string) hubclient.ConnectionString { return h.server.AddDevice(id) }

// exampleTB is as much of a testing.TB as hubtest needs: an Example gets none. What fails
// becomes a panic, which go test reports.
type exampleTB struct {
	testing.TB
	ctx      context.Context
	cleanups []func()
}

func (t *exampleTB) Helper()                           {}
func (t *exampleTB) Context() context.Context          { return t.ctx }
func (t *exampleTB) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *exampleTB) Failed() bool                      { return false }
func (t *exampleTB) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (t *exampleTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (t *exampleTB) Errorf(format string, args ...any) { t.Fatalf(format, args...) }

func (t *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "farport-example-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// cleanUp does what Cleanup was told, the last first.
func (t *exampleTB) cleanUp() {
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}
