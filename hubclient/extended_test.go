package hubclient

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// The same for streams that the whole chain has agreed on.

func TestNetConnExtended(t *testing.T) { testNetConn(t, extendedStream) }

func TestConnErrorsExtended(t *testing.T) { testConnErrors(t, extendedStream) }

// What plain streams cannot: the other end reads the end of one direction, and goes on
// in the other.
func TestHalfCloseExtended(t *testing.T) {
	e := newEnds(t, extendedStream)
	service, device := e.mustPair(t, e.listen(t, "echo"))
	if _, ok := service.(*conn).Stream.(*stream.Extended); !ok {
		t.Fatalf("the stream is a %T", service.(*conn).Stream)
	}
	if err := service.(*conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(device); len(got) > 0 || err != nil {
		t.Fatalf("device reads %q, %v", got, err)
	}
	go func() {
		_, _ = io.WriteString(device, "late")
		_ = device.(*conn).CloseWrite()
	}()
	if got, err := io.ReadAll(service); string(got) != "late" || err != nil {
		t.Fatalf("service reads %q, %v", got, err)
	}
}

// joined are the joins that a hub has seen.
type joined struct {
	mu      sync.Mutex
	headers []http.Header
}

// refuse answers that the stream has ended.
func (j *joined) refuse(w http.ResponseWriter, r *http.Request) {
	j.mu.Lock()
	j.headers = append(j.headers, r.Header.Clone())
	j.mu.Unlock()
	w.Header().Set(wire.HeaderEnd, string(wire.EndRevoked))
	w.WriteHeader(http.StatusGone)
}

// check looks at the one join that there was, which must have kept to the offer.
func (j *joined) check(t *testing.T, offer wire.Offer, shown string, err error) {
	t.Helper()
	refused, ok := errors.AsType[*stream.JoinError](err)
	if !ok || refused.End != wire.EndRevoked {
		t.Errorf("error is %v", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.headers) != 1 {
		t.Fatalf("%d joins", len(j.headers))
	}
	h := j.headers[0]
	secret := h.Get(wire.HeaderInstance)
	if h.Get("Authorization") != "Bearer "+testToken || h.Get(wire.HeaderJoin) != "1" || wire.InstanceID(secret) != offer.Instance {
		t.Errorf("joined with %v after offer %+v", h, offer)
	}
	if strings.Contains(shown+err.Error(), secret) {
		t.Errorf("the secret shows in %s%v", shown, err)
	}
}

// A grant makes either side join as the instance that it offered.
func TestGrantJoins(t *testing.T) {
	var shown bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&shown, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var j joined
	a := newAsker(t)
	offers := make(chan wire.Offer, 1)
	a.api = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/joins/") {
			j.refuse(w, r)
			return
		}
		offers <- wire.ParseOffer(r.Header[wire.HeaderStream])
		w.Header().Set(wire.HeaderIsAccepted, wire.Accepted)
		w.Header().Set(wire.HeaderStreamURL, "wss://"+a.address()+"/joins/1")
		w.Header().Set(wire.HeaderStreamToken, testToken)
		w.Header().Set(wire.HeaderStream, wire.Grant{Extended: true, Window: 10 * time.Second}.Header())
	}
	s := a.service(Options{Proxy: noProxy, Logger: logger})
	_, err := s.Open(bounded(t), testDevice, "ssh", OpenOptions{})
	j.check(t, <-offers, shown.String(), err)

	j.headers = nil
	instance := NewInstance()
	d := a.dial(DeviceOptions{Options: Options{Logger: logger}, Instance: instance})
	a.asks <- wire.StreamRequest{
		RID: "1", Name: "ssh", URL: "wss://" + a.address() + "/joins/1", Token: testToken, Grant: wire.Grant{Extended: true},
	}.Topic()
	r, err := d.Next(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Accept(bounded(t))
	d.Close()
	j.check(t, wire.Offer{Instance: instance.String()}, shown.String(), err)
}
