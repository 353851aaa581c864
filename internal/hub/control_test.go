package hub_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/wire"
)

func TestSignIn(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	w.AddDevice("pi-2")
	off := w.AddDevice("off")
	w.disable("off")
	foreign := hubtest.New(t, hub.Options{}).AddDevice("pi-1").SharedAccessKey
	key, in := cs.SharedAccessKey, unix(time.Hour)
	policy := func(name string) credential.Key { return w.ConnectionString(name).SharedAccessKey }
	const own = "localhost%2Fdevices%2Fpi-1"
	// The good ones come first: each replaces the one before, which has to stand for
	// a second when it replaced one itself.
	for _, c := range []struct {
		name, id, password string
		ok                 bool
	}{
		{"its key", "pi-1", sas(own, in, key, ""), true},
		{"its key, for the hub", "pi-2", sas("localhost", in, policy("device"), "&skn=device"), true},
		{"wrong key", "pi-1", sas(own, in, credential.NewKey(), ""), false},
		{"another hub's key", "pi-1", sas(own, in, foreign, ""), false},
		{"another hub's name", "pi-1", sas("other.example.test%2Fdevices%2Fpi-1", in, key, ""), false},
		{"another device's resource", "pi-1", sas("localhost%2Fdevices%2Fpi-2", in, key, ""), false},
		{"another device", "pi-2", sas(own, in, key, ""), false},
		{"another device for its resource", "pi-2", sas("localhost%2Fdevices%2Fpi-2", in, key, ""), false},
		{"a prefix", "pi-1", sas("localhost%2Fdevices%2Fpi", in, key, ""), false},
		{"the module's resource", "pi-1", sas(own+"%2Fmodules%2Fm", in, key, ""), false},
		{"expired", "pi-1", sas(own, unix(-credential.ClockGrace-2*time.Second), key, ""), false},
		{"no password", "pi-1", "", false},
		{"garbage", "pi-1", "garbage", false},
		{"disabled", "off", sas("localhost%2Fdevices%2Foff", in, off.SharedAccessKey, ""), false},
		{"disabled, by policy", "off", sas("localhost", in, policy("device"), "&skn=device"), false},
		{"unknown", "pi-9", sas("localhost%2Fdevices%2Fpi-9", in, key, ""), false},
		{"unknown, by policy", "pi-9", sas("localhost", in, policy("device"), "&skn=device"), false},
		{"service policy", "pi-1", sas("localhost", in, policy("service"), "&skn=service"), false},
		{"registry policy", "pi-1", sas("localhost", in, policy("registryReadWrite"), "&skn=registryReadWrite"), false},
		{"policy's name, device's key", "pi-1", sas(own, in, key, "&skn=device"), false},
		{"device's name, policy's key", "pi-1", sas(own, in, policy("device"), ""), false},
		{"policy for another device", "pi-1", sas("localhost%2Fdevices%2Fpi-2", in, policy("device"), "&skn=device"), false},
		{"module", "pi-1/m1", sas(own+"%2Fmodules%2Fm1", in, key, ""), false},
	} {
		for _, ws := range []bool{false, true} {
			if c.ok && ws {
				continue
			}
			d, code, err := w.connect(login{id: c.id, password: c.password, ws: ws})
			if want := map[bool]byte{false: 5}[c.ok]; err != nil || code != want {
				t.Errorf("%s: CONNACK %d, %v; want %d", c.name, code, err, want)
			}
			if d != nil {
				d.ping()
			}
		}
	}
	// Client ID and user name name the same device.
	if _, code, _ := w.connect(login{id: "pi-1", clientID: "pi-2", password: sas(own, in, key, "")}); code != 5 {
		t.Errorf("client ID of another device: CONNACK %d", code)
	}
}

// Spellings of the host and the token that old tools and SDKs use.
func TestSignInSpellings(t *testing.T) {
	w := newWorld(t, hub.Options{})
	owner := w.ConnectionString("iothubowner").SharedAccessKey
	for i, c := range []struct{ host, sr string }{
		{"localhost", "localhost/devices/%s"},
		{"LocalHost:18883", "LOCALHOST%%3A18883%%2Fdevices%%2F%s"},
		{"localhost", "localhost%%3a18883%%2fdevices%%2f%s"},
		{"127.0.0.1", "localhost%%2Fdevices%%2F%s%%2Fapi-version%%3D2016-11-14"},
		{"elsewhere", "127.0.0.1/devices/%s"},
	} {
		id := fmt.Sprintf("pi-%d", i)
		key := w.AddDevice(id).SharedAccessKey
		sr := fmt.Sprintf(c.sr, id)
		w.connected(login{host: c.host, id: id, password: sas(sr, unix(time.Hour), key, "")}).ping()
		id += "-by-policy"
		w.AddDevice(id)
		sr = fmt.Sprintf(c.sr, id)
		w.connected(login{host: c.host, id: id, password: sas(sr, unix(time.Hour), owner, "&skn=iothubowner"), ws: true}).ping()
	}
}

// A device has one control connection; the newer one wins. Streams go on.
func TestNewerConnectionWins(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	first := w.device(cs)
	p := w.stream(first)
	second := w.device(cs)
	first.ended()
	p.echo(t)
	if d := w.get("pi-1"); d.ConnectionState != wire.Connected {
		t.Errorf("device is %s", d.ConnectionState)
	}
	w.stream(second).echo(t)
	w.DropControl("pi-1")
	second.ended()
	w.Log.WaitFor(t, "device disconnected", "device=pi-1")
	if d := w.get("pi-1"); d.ConnectionState != wire.Disconnected {
		t.Errorf("device is %s", d.ConnectionState)
	}
	p.echo(t)
}

// The end of its token ends a control connection; streams go on.
func TestTokenExpiryEndsConnection(t *testing.T) {
	w := newWorld(t, hub.Options{})
	key := w.AddDevice("pi-1").SharedAccessKey
	d := w.connected(login{id: "pi-1", password: sas("localhost%2Fdevices%2Fpi-1", unix(2*time.Second-credential.ClockGrace), key, "")})
	d.subscribe()
	p := w.stream(d)
	select {
	case <-d.gone:
	case <-time.After(patience):
		t.Fatal("the connection outlives its token")
	}
	p.echo(t)
	w.Log.WaitFor(t, "device session ends", "token expired")
}

// Many devices that sign in at once do not get into each other's way: each is let
// in at its first attempt.
func TestSignInTogether(t *testing.T) {
	w := newWorld(t, hub.Options{})
	key := w.ConnectionString("device").SharedAccessKey
	const devices = 60
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range devices {
		id := fmt.Sprintf("pi-%d", i)
		w.AddDevice(id)
		l := login{id: id, password: sas("localhost", unix(time.Hour), key, "&skn=device"), ws: i%2 == 0}
		wg.Go(func() {
			<-start
			if _, code, err := w.connect(l); code != 0 || err != nil {
				t.Errorf("%s: CONNACK %d, %v", id, code, err)
			}
		})
	}
	close(start)
	wg.Wait()
}
