package hub

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/hub/rendezvous"
	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/wire"
)

// open is a hub that is not run, with one device.
func open(t *testing.T, device string) (*Hub, wire.Device) {
	t.Helper()
	h, err := Open(t.Context(), Options{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	d, err := h.registry.Create(t.Context(), wire.Device{DeviceID: device})
	if err != nil {
		t.Fatal(err)
	}
	return h, d
}

// initiation is a request for a stream to pi-1, signed with the key of the policy
// service.
func initiation(host string, key credential.Key) *http.Request {
	r := httptest.NewRequest(http.MethodPost, wire.StreamPath("pi-1", "shell"), nil)
	r.Header.Set("Authorization", credential.Sign(host, "service", key, time.Now().Add(time.Hour)).Reveal())
	return r
}

// askBus answers for a device by itself.
type askBus struct {
	Bus
	ask func(Request) (Answer, error)
}

func (b askBus) Ask(_ context.Context, _ string, _ time.Duration, r Request) (Answer, error) {
	return b.ask(r)
}

// A device accepts, and before the service has heard of it the key that the device
// came with is replaced.
func TestRenewedWhileAccepting(t *testing.T) {
	h, d := open(t, "pi-1")
	key := registry.DeviceKeys(d)[0]
	policy, err := h.registry.Policy(t.Context(), "service")
	if err != nil {
		t.Fatal(err)
	}
	for _, renew := range []bool{false, true} {
		h.bus = askBus{h.bus, func(Request) (Answer, error) {
			if renew {
				keys := wire.SymmetricKey{PrimaryKey: credential.NewKey().Reveal()}
				if _, err := h.registry.Update(t.Context(), wire.Device{DeviceID: "pi-1", Authentication: &wire.Authentication{SymmetricKey: keys}}, "*"); err != nil {
					t.Error(err)
				}
				h.identityChanged("pi-1")
			}
			return Answer{Accepted: true, Credential: key.ID()}, nil
		}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, initiation("localhost", policy.Primary))
		if want := map[bool]int{false: http.StatusOK, true: http.StatusNotFound}[renew]; w.Code != want {
			t.Errorf("key renewed %t: %d %s, want %d", renew, w.Code, w.Body, want)
		}
	}
}

// slowStore makes every look at one device wait until it is told to go on.
type slowStore struct {
	store.Store
	asked, goOn, over chan struct{}
}

func (s slowStore) Get(ctx context.Context, kind store.Kind, key string) (store.Record, error) {
	if kind == store.KindDevice && key == "slow" {
		select {
		case s.asked <- struct{}{}:
			<-s.goOn
		case <-s.over:
		}
	}
	return s.Store.Get(ctx, kind, key)
}

// A device that signs in is not judged anew because others do so meanwhile: in a
// storm of them nobody would get in.
func TestSignInOvertaken(t *testing.T) {
	h, d := open(t, "slow")
	other, err := h.registry.Create(t.Context(), wire.Device{DeviceID: "other"})
	if err != nil {
		t.Fatal(err)
	}
	s := slowStore{h.data.store, make(chan struct{}), make(chan struct{}), make(chan struct{})}
	h.registry = registry.New(s)
	over := sync.OnceFunc(func() { close(s.over) })
	defer over()
	signIn := func(d wire.Device) net.Conn {
		near, far := net.Pipe()
		h.conns.Go(func() { h.broker.ServeConn(far) })
		hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
		hello.ProtocolName, hello.ProtocolVersion, hello.Keepalive = "MQTT", 4, 60
		hello.ClientIdentifier = d.DeviceID
		hello.UsernameFlag, hello.Username = true, "localhost/"+d.DeviceID
		token := credential.Sign("localhost/devices/"+d.DeviceID, "", registry.DeviceKeys(d)[0], time.Now().Add(time.Hour))
		hello.PasswordFlag, hello.Password = true, []byte(token.Reveal())
		if err := hello.Write(near); err != nil {
			t.Error(err)
		}
		return near
	}
	slow := signIn(d)
	defer slow.Close()
	<-s.asked
	fast := signIn(other)
	defer fast.Close()
	if p, err := packets.ReadPacket(fast); err != nil || p.(*packets.ConnackPacket).ReturnCode != 0 {
		t.Fatalf("the other device: %v, %v", p, err)
	}
	acked := make(chan error, 1)
	go func() { _, err := packets.ReadPacket(slow); acked <- err }()
	s.goOn <- struct{}{}
	select {
	case err := <-acked:
		if err != nil {
			t.Error(err)
		}
	case <-s.asked:
		t.Error("the device was looked at again")
		over()
		s.goOn <- struct{}{}
		<-acked
	}
}

// records is a store of some records, to be read only.
type records struct {
	store.Store
	values map[string]any
}

func (r records) Get(_ context.Context, kind store.Kind, key string) (store.Record, error) {
	v, ok := r.values[string(kind)+" "+key]
	if !ok {
		return store.Record{}, store.ErrNotFound
	}
	text, err := json.Marshal(v)
	return store.Record{Key: key, Value: text, Revision: 1}, err
}

// A call that waits for a device may take longer than others, with a body or without.
func TestLongCall(t *testing.T) {
	for _, body := range []string{"", "payload"} {
		synctest.Test(t, func(t *testing.T) {
			key := credential.NewKey()
			keys := wire.SymmetricKey{PrimaryKey: key.Reveal(), SecondaryKey: key.Reveal()}
			h := bare(t, records{values: map[string]any{
				"policy service": map[string]any{"rights": registry.ServiceConnect, "primaryKey": key.Reveal(), "secondaryKey": key.Reveal()},
				"device pi-1":    wire.Device{DeviceID: "pi-1", Status: wire.StatusEnabled, Authentication: &wire.Authentication{Type: wire.AuthSAS, SymmetricKey: keys}},
			}}, io.Discard)
			h.o.HandshakeTimeout = 10 * time.Minute
			h.bus = newLocalBus(nil)
			h.rendezvous = rendezvous.New(rendezvous.Options{HandshakeTimeout: h.o.HandshakeTimeout, Ended: h.streamEnded})
			l := newPipes()
			var wg sync.WaitGroup
			wg.Go(func() { _ = h.server.Serve(l) })
			c := l.dial()
			start := time.Now()
			r := initiation("hub.example.test", key)
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			r.Header.Set(wire.HeaderConnectTimeout, "250")
			wg.Go(func() { _ = r.Write(c) })
			a, err := http.ReadResponse(bufio.NewReader(c), r)
			if took := time.Since(start); err != nil || a.StatusCode != http.StatusNotFound || took != 250*time.Second {
				t.Errorf("with body %q: %v, %v after %s", body, a, err, took)
			}
			c.Close()
			_ = h.server.Close()
			h.rendezvous.Close()
			wg.Wait()
		})
	}
}

// An identity that has changed and cannot be read allows nothing.
func TestUnreadableIdentity(t *testing.T) {
	h, d := open(t, "pi-1")
	good := h.registry
	h.registry = registry.New(brokenStore{})
	defer func() { h.registry = good }()
	ctx, err := h.rendezvous.Create(t.Context(), rendezvous.Stream{ID: "1", Device: "pi-1", Generation: d.GenerationID, Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	h.identityChanged("pi-2")
	if n := len(h.rendezvous.List()); n != 1 {
		t.Errorf("another device's change left %d streams", n)
	}
	h.identityChanged("pi-1")
	<-ctx.Done()
	if ended, ok := errors.AsType[*rendezvous.EndedError](context.Cause(ctx)); !ok || ended.Reason != wire.EndRevoked {
		t.Errorf("the stream ended with %v", context.Cause(ctx))
	}
}
