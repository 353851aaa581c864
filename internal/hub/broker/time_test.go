package broker

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// TestStrangers: who does not log in is dropped after ten seconds, however busy
// it looks.
func TestStrangers(t *testing.T) {
	for name, send := range map[string]func(d *raw){
		"silent": func(*raw) {},
		"dripping": func(d *raw) {
			for _, b := range connect("pi-1", nil) {
				if _, err := d.conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
		"all but one byte": func(d *raw) {
			c := connect("pi-1", nil)
			d.send(c[:len(c)-1])
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, nil)
				d := h.pipe(t)
				began := time.Now()
				send(d)
				d.closed()
				if took := time.Since(began); took < strangerTimeout || took > strangerTimeout+time.Second {
					t.Errorf("dropped after %v", took)
				}
			})
		})
	}
}

func TestKeepAlive(t *testing.T) {
	for asked, silence := range map[uint16]time.Duration{
		45:    67 * time.Second, // mochi halves whole seconds
		240:   360 * time.Second,
		1177:  1765 * time.Second,
		1178:  wire.MaxDeviceSilence,
		1179:  wire.MaxDeviceSilence,
		65535: wire.MaxDeviceSilence,
		0:     wire.MaxDeviceSilence,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHarness(t, nil)
			d := h.pipe(t)
			if code := d.login("pi-1", func(pk *packets.Packet) { pk.Connect.Keepalive = asked }); code != 0 {
				t.Fatalf("CONNACK %d", code)
			}
			time.Sleep(silence - time.Second)
			d.ping() // one sign of life is enough
			began := time.Now()
			d.closed()
			if took := time.Since(began); took != silence {
				t.Errorf("keep-alive %d: dropped after %v, want %v", asked, took, silence)
			}
		})
	}
}

func TestExpiry(t *testing.T) {
	for name, expires := range map[string]time.Duration{"in twenty minutes": 20 * time.Minute, "already": -time.Minute, "never": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, func(o *Options) {
					o.Authenticate = func(_ context.Context, l Login) (Identity, error) {
						id := Identity{Name: l.ClientID}
						if expires != 0 {
							id.Expires = time.Now().Add(expires)
						}
						return id, nil
					}
				})
				d := h.pipe(t)
				began := time.Now()
				d.send(connect("pi-1", func(pk *packets.Packet) { pk.Connect.Keepalive = 0 }))
				_, _ = io.Copy(io.Discard, d.r) // CONNACK, perhaps, and the end
				want := max(expires, 0)
				if expires == 0 {
					want = wire.MaxDeviceSilence
				}
				if took := time.Since(began); took != want {
					t.Errorf("ended after %v, want %v", took, want)
				}
				h.expect(t, "connected")
				h.expect(t, "disconnected")
			})
		})
	}
}

// TestEvictionRest: two programs with one identity push each other out once a
// second, not as fast as they can connect.
func TestEvictionRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, nil)
		began := time.Now()
		for i, want := range []time.Duration{0, 0, 1, 2, 3} {
			d := h.pipe(t)
			if code := d.login("pi-1", nil); code != 0 {
				t.Fatalf("CONNACK %d", code)
			}
			if took := time.Since(began); took != want*evictionRest {
				t.Errorf("login %d after %v, want %v", i, took, want*evictionRest)
			}
		}
		// A device that comes back after a real end does not wait.
		began = time.Now()
		h.EndWhere(func(Identity) bool { return true }, wire.EndRevoked)
		synctest.Wait()
		if code := h.pipe(t).login("pi-1", nil); code != 0 || time.Since(began) != 0 {
			t.Errorf("CONNACK %d after %v", code, time.Since(began))
		}
	})
}

// TestCallbackOrder: a slow callback of the older session is waited for.
func TestCallbackOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		note := func(s string) {
			mu.Lock()
			order = append(order, s)
			mu.Unlock()
		}
		h := newHarness(t, func(o *Options) {
			o.Connected = func(s *Session) { note("connected " + s.identity.CredentialID) }
			o.Disconnected = func(s *Session) {
				time.Sleep(time.Minute)
				note("disconnected " + s.identity.CredentialID)
			}
			o.Authenticate = func(_ context.Context, l Login) (Identity, error) {
				return Identity{Name: l.ClientID, CredentialID: l.Password.Reveal()}, nil
			}
		})
		login := func(password string) *raw {
			d := h.pipe(t)
			d.send(connect("pi-1", func(pk *packets.Packet) { pk.Connect.Password = []byte(password) }))
			return d
		}
		a := login("a")
		a.read()
		_ = a.conn.Close()
		synctest.Wait() // the hub is in Disconnected now
		if h.Session("pi-1") != nil {
			t.Error("ended session is still offered")
		}
		b := login("b")
		if head, _ := b.r.ReadByte(); head != packets.Connack<<4 {
			t.Errorf("packet %x", head)
		}
		_ = h.Close()
		mu.Lock()
		defer mu.Unlock()
		want := []string{"connected a", "disconnected a", "connected b", "disconnected b"}
		if len(order) != len(want) {
			t.Fatalf("callbacks %q", order)
		}
		for i := range want {
			if order[i] != want[i] {
				t.Errorf("callbacks %q, want %q", order, want)
			}
		}
	})
}

// TestSlowAuthenticate: its time is bounded, and Close does not wait for it.
func TestSlowAuthenticate(t *testing.T) {
	for name, c := range map[string]struct {
		closeAfter time.Duration
		want       time.Duration
	}{
		"time-out": {time.Hour, strangerTimeout},
		"close":    {3 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t, func(o *Options) {
					o.Authenticate = func(ctx context.Context, _ Login) (Identity, error) {
						<-ctx.Done()
						return Identity{}, ctx.Err()
					}
				})
				timer := time.AfterFunc(c.closeAfter, func() { _ = h.Close() })
				defer timer.Stop()
				began := time.Now()
				d := h.pipe(t)
				d.send(connect("pi-1", nil))
				b, err := d.r.ReadByte()
				if took := time.Since(began); took != c.want {
					t.Errorf("ended after %v", took)
				}
				if closed := name == "close"; (err != nil) != closed || !closed && b != packets.Connack<<4 {
					t.Errorf("read %x, %v", b, err)
				}
			})
		})
	}
}

// TestStalledWrite: a device that reads nothing is given up in the end.
func TestStalledWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, nil)
		d := h.pipe(t)
		s := h.ready(t, d, "pi-1")
		began := time.Now()
		if _, err := s.Initiate(t.Context(), shell); !errors.Is(err, ErrGone) {
			t.Errorf("Initiate: %v", err)
		}
		if took := time.Since(began); took != wire.WriteStall {
			t.Errorf("given up after %v", took)
		}
	})
}
