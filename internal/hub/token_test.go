package hub

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

var (
	testKey   = tokenKey("0123456789abcdef0123456789abcdef")
	testTime  = time.Unix(1_900_000_000, 0)
	testToken = streamToken{
		Stream: strings.Repeat("a", 32), Side: wire.SideDevice, Device: "pi-1", Generation: "638000000000000000",
		Credential: strings.Repeat("c", 32), Expires: testTime.Unix() + 60,
	}
)

// maxExtendedToken is the most that docs/farport-v1.md, section 1, allows; the C SDK's
// own limit is wire.MaxToken.
const maxExtendedToken = 900

// alphabet is the text of every token that verify could take.
var alphabet = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func TestTokenRoundTrip(t *testing.T) {
	service := testToken
	service.Side, service.Policy = wire.SideService, "iothubowner"
	longest := service
	longest.Device, longest.Policy = strings.Repeat("'", wire.MaxID)+"/"+strings.Repeat("'", wire.MaxID), strings.Repeat("p", wire.MaxID)
	longest = longest.granted(wire.Grant{Extended: true, Window: wire.MaxResumeWindow}, wire.Offer{Instance: wire.InstanceID("x")}, testTime)
	longest.Peer = wire.InstanceID("y")
	certificate := longest // a device's is the longest credential, but it has no policy
	certificate.Side, certificate.Policy, certificate.Peer, certificate.Credential = wire.SideDevice, "", "", byThumbprint+strings.Repeat("F", 64)
	framing := testToken.granted(wire.Grant{Extended: true}, wire.Offer{Instance: wire.InstanceID("x")}, testTime)
	for _, want := range []streamToken{testToken, service, longest, certificate, framing} {
		text := testKey.mint(want).Reveal()
		if !alphabet.MatchString(text) || len(text) > maxExtendedToken {
			t.Errorf("token of %d bytes: %s", len(text), text)
		}
		if got, err := testKey.verify(text, testTime); err != nil || got != want {
			t.Errorf("verify gives %+v, %v; minted %+v", got, err, want)
		}
	}
}

// A token differs in no character from what was minted.
func TestTokenTampered(t *testing.T) {
	text := testKey.mint(testToken).Reveal()
	check := func(tampered string) {
		t.Helper()
		if got, err := testKey.verify(tampered, testTime); err != errBadToken || got != (streamToken{}) {
			t.Errorf("%q is taken as %+v, %v", tampered, got, err)
		}
	}
	for i := range len(text) {
		for _, c := range "A_z.\n\r =\x00é" {
			if string(c) != text[i:i+1] {
				check(text[:i] + string(c) + text[i+1:])
			}
			check(text[:i] + string(c) + text[i:])
		}
		check(text[:i])
		check(text[i+1:])
		check(text[:i] + text[i+1:])
	}
	check(text + "\n")
	check(text + "A")
	check(text + "." + text)
	check(strings.ToUpper(text))
	body, mac, _ := strings.Cut(text, ".")
	check(mac + "." + body)
	// Headers of other formats choose no algorithm here.
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	check(none + "." + body + ".")
	check(none + "." + body + "." + mac)
	check(body + ".")
	if _, err := tokenKey("another key, of the same 32 byte").verify(text, testTime); err != errBadToken {
		t.Errorf("another hub's key: %v", err)
	}
}

func TestTokenExpiry(t *testing.T) {
	text := testKey.mint(testToken).Reveal()
	for at, ok := range map[time.Duration]bool{0: true, 59 * time.Second: true, 60*time.Second - 1: true, 60 * time.Second: false, time.Hour: false, -time.Hour: true} {
		if _, err := testKey.verify(text, testTime.Add(at)); (err == nil) != ok {
			t.Errorf("after %s: %v", at, err)
		}
	}
	// A token is good until the stream's time is over, also when that is short.
	for _, life := range []time.Duration{time.Millisecond, 999 * time.Millisecond, time.Second, 1500 * time.Millisecond} {
		for _, fraction := range []time.Duration{0, 1, 999_999_999} {
			created := testTime.Add(fraction)
			token := testToken
			token.Expires = expiry(created.Add(life))
			text := testKey.mint(token).Reveal()
			if _, err := testKey.verify(text, created.Add(life-1)); err != nil {
				t.Errorf("life of %s from %s: over too soon", life, created)
			}
			if _, err := testKey.verify(text, created.Add(life+time.Second)); err == nil {
				t.Errorf("life of %s from %s: not over a second later", life, created)
			}
		}
	}
}

// What is granted changes a plain token in nothing, and makes one that can be used again
// good for as long as the contract says.
func TestTokenGranted(t *testing.T) {
	offer := wire.Offer{Instance: wire.InstanceID("x"), Window: time.Hour}
	if got := testToken.granted(wire.Grant{}, offer, testTime); got != testToken {
		t.Errorf("a plain stream's token is %+v", got)
	}
	if text, _ := json.Marshal(testToken); strings.Contains(string(text), `"n"`) || strings.Contains(string(text), `"w"`) || strings.Contains(string(text), `"m"`) {
		t.Errorf("a plain stream's token is %s", text)
	}
	want := testToken
	want.Instance, want.Minted = offer.Instance, testTime.UnixMilli()
	if got := testToken.granted(wire.Grant{Extended: true}, offer, testTime); got != want {
		t.Errorf("without resume it is %+v", got)
	}
	want.Window, want.Expires = 300, testTime.Add(24*time.Hour).Unix()
	if got := testToken.granted(wire.Grant{Extended: true, Window: 5 * time.Minute}, offer, testTime); got != want {
		t.Errorf("with resume it is %+v", got)
	}
}

func TestTokenIsRedacted(t *testing.T) {
	if text := testKey.mint(testToken).String(); strings.Contains(text, ".") {
		t.Errorf("a token prints as %s", text)
	}
}

// Only what mint made is taken, and as what it was minted for.
func FuzzToken(f *testing.F) {
	good := testKey.mint(testToken).Reveal()
	for _, seed := range []string{good, good + "=", good + "\n", good[:40], "", ".", "..", "eyJhbGciOiJub25lIn0.e30.", strings.ToLower(good), good + "." + good} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := testKey.verify(text, testTime)
		if err != nil {
			if got != (streamToken{}) {
				t.Errorf("a refused token says %+v", got)
			}
			return
		}
		if again := testKey.mint(got).Reveal(); again != text {
			t.Errorf("%q is taken, mint would make %q", text, again)
		}
	})
}

// What was minted is read back, whatever is in it.
func FuzzTokenContents(f *testing.F) {
	f.Add("0123", "device", "pi-1", "1", "service", "c0ffee", int64(1_900_000_060), "R-CFK-I5lsX17IfEpIYX5A", int64(300), int64(1_899_999_999_999))
	f.Add("", "", "-.+%_#*?!(),=@$':", "<&>", "\x00\u202e", "\"\\", int64(-1), "", int64(0), int64(0))
	f.Fuzz(func(t *testing.T, stream, side, device, generation, policy, credential string, expires int64, instance string, window, minted int64) {
		want := streamToken{
			Stream: stream, Side: wire.Side(side), Device: device, Generation: generation, Policy: policy, Credential: credential,
			Expires: expires, Instance: instance, Window: window, Minted: minted,
		}
		text := testKey.mint(want).Reveal()
		if !alphabet.MatchString(text) {
			t.Fatalf("token %q", text)
		}
		got, err := testKey.verify(text, testTime)
		if expires <= testTime.Unix() || len(text) > wire.MaxToken {
			if err == nil {
				t.Errorf("%q is taken", text)
			}
			return
		}
		// JSON has no room for what is not UTF-8.
		var valid streamToken
		whole, _ := json.Marshal(want)
		_ = json.Unmarshal(whole, &valid)
		if err != nil || got != valid {
			t.Errorf("verify gives %+v, %v; minted %+v", got, err, want)
		}
	})
}
