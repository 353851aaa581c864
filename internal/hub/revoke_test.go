package hub_test

import (
	"sync"
	"testing"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// takeAway are the ways to take a device's access away.
func takeAway(w *world) map[string]func(id string) {
	return map[string]func(id string){
		"disable": w.disable,
		"delete":  func(id string) { w.as("DELETE", wire.IdentityPath(id), "", nil) },
		"renew": func(id string) {
			w.update(wire.Device{DeviceID: id, Authentication: &wire.Authentication{SymmetricKey: wire.SymmetricKey{PrimaryKey: credential.NewKey().Reveal()}}})
		},
	}
}

// Taking access away ends what is open, within a second, and nobody else's.
func TestRevoke(t *testing.T) {
	w := newWorld(t, hub.Options{})
	bystander := w.device(w.AddDevice("bystander"))
	undisturbed := w.stream(bystander)
	for how, take := range takeAway(w) {
		t.Run(how, func(t *testing.T) {
			cs := w.AddDevice(how)
			d := w.device(cs)
			open := w.stream(d)
			// One that has been accepted, one whose device's leg has joined, one that waits.
			accepted := w.open(how, "accepted", "", "")
			a := d.next()
			d.answer(a, 200)
			url, token := accepted.accepted()
			joined := w.open(how, "joined", "", "")
			j := d.next()
			early := w.leg(j.URL, j.Token)
			waits := w.open(how, "waits", "30", "30")
			d.next()

			take(how)
			ends(t, open.device, wire.EndRevoked)
			ends(t, open.service, wire.EndRevoked)
			ends(t, early, wire.EndRevoked)
			d.ended()
			// As a device that has gone, or that may not: the control connection ends too.
			if e := joined.answer().fault(t); e.Status != 404 {
				t.Errorf("the service that waits for the answer hears %+v", e)
			}
			if how != "renew" { // then the device may come with its new key
				waits.answer().wants(t, wire.ErrDeviceNotFound)
			}
			w.Log.WaitFor(t, "device session ends", "client="+how, "reason=revoked")
			w.Log.WaitFor(t, "stream ended", "device="+how, "name=shell", "reason=revoked", "joined=true")

			for name, c := range map[string]pair{
				"device": {url: a.URL, deviceToken: a.Token}, "service": {url: url, deviceToken: token},
			} {
				if ws, got := w.tryLeg(c.url, "Bearer "+c.deviceToken); ws != nil {
					t.Errorf("%s's leg could join afterwards", name)
				} else if got.status != 401 && got.status != 410 {
					t.Errorf("%s's leg: %d", name, got.status)
				}
			}
			if _, code, err := w.connect(w.login(cs)); code != 5 || err != nil {
				t.Errorf("the device signs in again: CONNACK %d, %v", code, err)
			}
		})
	}
	bystander.ping()
	undisturbed.echo(t)
}

// Only what the replaced key let in goes: not streams and connections of the other
// key, nor those of a policy.
func TestRenewOneKey(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	keys := w.get("pi-1").Authentication.SymmetricKey
	byPrimary := w.stream(w.device(cs))
	secondary := cs
	secondary.SharedAccessKey = keyOf(t, keys.SecondaryKey)
	d := w.device(secondary)
	bySecondary := w.stream(d)

	renew := func(primary, second string) {
		w.update(wire.Device{DeviceID: "pi-1", Authentication: &wire.Authentication{SymmetricKey: wire.SymmetricKey{PrimaryKey: primary, SecondaryKey: second}}})
	}
	renew("", "") // nothing changes
	renew(credential.NewKey().Reveal(), keys.SecondaryKey)
	ends(t, byPrimary.service, wire.EndRevoked)
	ends(t, byPrimary.device, wire.EndRevoked)
	d.ping()
	bySecondary.echo(t)

	renew("", credential.NewKey().Reveal())
	ends(t, bySecondary.service, wire.EndRevoked)
	d.ended()
}

func TestRenewSparesPolicy(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.AddDevice("pi-1")
	key := w.ConnectionString("device").SharedAccessKey
	d := w.connected(login{id: "pi-1", password: sas("localhost%2Fdevices%2Fpi-1", unix(time.Hour), key, "&skn=device")})
	d.subscribe()
	p := w.stream(d)
	takeAway(w)["renew"]("pi-1")
	d.ping()
	p.echo(t)
	w.disable("pi-1")
	d.ended()
	ends(t, p.device, wire.EndRevoked)
}

// An update that changes no right disturbs nobody.
func TestUpdateDisturbsNobody(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	p := w.stream(d)
	reason := "checked"
	w.update(wire.Device{DeviceID: "pi-1", Status: wire.StatusEnabled, StatusReason: &reason})
	d.ping()
	p.echo(t)
}

// A device that signs in while it is disabled is refused or thrown out, whichever
// comes first.
func TestDisableWhileConnecting(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	for range 15 {
		w.update(wire.Device{DeviceID: "pi-1", Status: wire.StatusEnabled})
		l := w.login(cs)
		var d *device
		var code byte
		var wg sync.WaitGroup
		wg.Go(func() { d, code, _ = w.connect(l) })
		w.disable("pi-1")
		wg.Wait()
		if d != nil {
			d.ended()
		} else if code != 5 && code != 0 {
			t.Errorf("CONNACK %d", code)
		}
	}
}

// A leg that joins while its key is renewed does not stay.
func TestRenewWhileJoining(t *testing.T) {
	w := newWorld(t, hub.Options{})
	for range 15 {
		cs := w.AddDevice("pi-1")
		d := w.device(cs)
		asked := w.open("pi-1", "shell", "", "")
		r := d.next()
		var wg sync.WaitGroup
		wg.Go(func() {
			if ws, _ := w.tryLeg(r.URL, "Bearer "+r.Token); ws != nil {
				ends(t, ws, wire.EndRevoked)
			}
		})
		takeAway(w)["renew"]("pi-1")
		wg.Wait()
		d.ended()
		asked.answer()
		w.as("DELETE", "/devices/pi-1", "", nil)
	}
}

// A leg stays bound to the key it came with, also when the stream is accepted by
// another connection of the device, with another key.
func TestRevokeLegOfEarlierConnection(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cs := w.AddDevice("pi-1")
	keys := w.get("pi-1").Authentication.SymmetricKey
	d := w.device(cs)
	asked := w.open("pi-1", "shell", "30", "30")
	r := d.next()
	leg := w.leg(r.URL, r.Token)
	secondary := cs
	secondary.SharedAccessKey = keyOf(t, keys.SecondaryKey)
	d2 := w.device(secondary)
	d2.answer(d2.next(), 200)
	url, token := asked.accepted()
	service := w.leg(url, token)
	relayed(t, leg, service)
	takeAway(w)["renew"]("pi-1") // the primary key
	ends(t, leg, wire.EndRevoked)
	ends(t, service, wire.EndRevoked)
	d2.ping()
}
