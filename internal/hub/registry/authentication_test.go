package registry

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/farportio/farport/internal/wire"
)

var (
	sha1A   = strings.Repeat("aB", 20)
	sha256B = strings.Repeat("0f", 32)
)

// certs is an authentication with thumbprints, nil for an empty one.
func certs(kind, primary, secondary string) *wire.Authentication {
	set := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return &wire.Authentication{Type: kind, X509Thumbprint: wire.X509Thumbprint{PrimaryThumbprint: set(primary), SecondaryThumbprint: set(secondary)}}
}

// names has each kind of identity; both follow the same rules.
var names = map[string]wire.Device{
	"device": {DeviceID: "pi-1"},
	"module": {DeviceID: "pi-1", ModuleID: "m"},
}

// openFor returns a registry in which the identity can be created.
func openFor(t *testing.T, d wire.Device) *Registry {
	r := open(t)
	if d.ModuleID != "" {
		mustCreate(t, r, wire.Device{DeviceID: d.DeviceID})
	}
	return r
}

func TestCreateX509(t *testing.T) {
	t.Parallel()
	empty := ""
	for name, c := range map[string]struct {
		sent *wire.Authentication
		want []string
	}{
		"one":             {certs(wire.AuthSelfSigned, sha1A, ""), []string{strings.ToUpper(sha1A)}},
		"only the second": {certs(wire.AuthSelfSigned, "", sha256B), []string{strings.ToUpper(sha256B)}},
		"two":             {certs(wire.AuthSelfSigned, sha1A, sha256B), []string{strings.ToUpper(sha1A), strings.ToUpper(sha256B)}},
		"authority":       {certs(wire.AuthCA, "", ""), nil},
		"empty text":      {&wire.Authentication{Type: wire.AuthCA, X509Thumbprint: wire.X509Thumbprint{PrimaryThumbprint: &empty}}, nil},
	} {
		for kind, d := range names {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				r := openFor(t, d)
				d.Authentication = c.sent
				created := mustCreate(t, r, d)
				a := created.Authentication
				if a.Type != c.sent.Type || a.SymmetricKey != (wire.SymmetricKey{}) || both(a.X509Thumbprint) != both(c.sent.X509Thumbprint) {
					t.Errorf("created %s", text(created))
				}
				if p := a.X509Thumbprint.PrimaryThumbprint; p != nil && *p == "" {
					t.Error("an empty thumbprint is not null")
				}
				if got := Thumbprints(created); !slices.Equal(got, c.want) || len(DeviceKeys(created)) != 0 {
					t.Errorf("thumbprints %q, want %q, and %d keys", got, c.want, len(DeviceKeys(created)))
				}
				if got, err := r.Get(t.Context(), d.Name()); err != nil || text(got) != text(created) {
					t.Errorf("Get = %s, %v; created was %s", text(got), err, text(created))
				}
			})
		}
	}
}

func TestInvalidAuthentication(t *testing.T) {
	t.Parallel()
	key := wire.SymmetricKey{SecondaryKey: keyA}
	withKey := func(a *wire.Authentication) *wire.Authentication {
		a.SymmetricKey = key
		return a
	}
	const thumbprint = "authentication.x509Thumbprint"
	for name, c := range map[string]struct {
		sent  *wire.Authentication
		field string
	}{
		"unknown":                 {certs("x509", "", ""), "authentication.type"},
		"other case":              {certs("selfsigned", sha1A, ""), "authentication.type"},
		"thumbprint without type": {certs("", sha1A, ""), "authentication.type"},
		"thumbprint of sas":       {certs(wire.AuthSAS, "", sha1A), thumbprint},
		"thumbprint of CA":        {certs(wire.AuthCA, sha1A, ""), thumbprint},
		"no thumbprint":           {certs(wire.AuthSelfSigned, "", ""), thumbprint},
		"short":                   {certs(wire.AuthSelfSigned, sha1A[1:], ""), thumbprint + ".primaryThumbprint"},
		"long":                    {certs(wire.AuthSelfSigned, sha256B+"0", ""), thumbprint + ".primaryThumbprint"},
		"between":                 {certs(wire.AuthSelfSigned, sha1A+sha1A[:8], ""), thumbprint + ".primaryThumbprint"},
		"colons":                  {certs(wire.AuthSelfSigned, sha1A, "aa:"+sha1A[3:]), thumbprint + ".secondaryThumbprint"},
		"no hex":                  {certs(wire.AuthSelfSigned, "g"+sha1A[1:], ""), thumbprint + ".primaryThumbprint"},
		"blank":                   {certs(wire.AuthSelfSigned, sha1A[1:]+" ", ""), thumbprint + ".primaryThumbprint"},
		"key of selfSigned":       {withKey(certs(wire.AuthSelfSigned, sha1A, "")), "authentication.symmetricKey"},
		"key of CA":               {withKey(certs(wire.AuthCA, "", "")), "authentication.symmetricKey"},
	} {
		for kind, d := range names {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				r := openFor(t, d)
				sent := d
				sent.Authentication = c.sent
				_, err := r.Create(t.Context(), sent)
				wantInvalid(t, err, c.field)
				before := mustCreate(t, r, d)
				_, err = r.Update(t.Context(), sent, "*")
				wantInvalid(t, err, c.field)
				if after, err := r.Get(t.Context(), d.Name()); err != nil || text(after) != text(before) {
					t.Errorf("it is now %s, %v", text(after), err)
				}
			})
		}
	}
}

// TestChangeType goes through all changes of type: the old type's secrets go at once.
func TestChangeType(t *testing.T) {
	t.Parallel()
	sas := func() *wire.Authentication { return &wire.Authentication{Type: wire.AuthSAS} }
	for kind, d := range names {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := openFor(t, d)
			first := mustCreate(t, r, d)
			update := func(a *wire.Authentication) wire.Device {
				t.Helper()
				d.Authentication = a
				updated, err := r.Update(t.Context(), d, "*")
				if err != nil {
					t.Fatal(err)
				}
				if got, err := r.Get(t.Context(), d.Name()); err != nil || text(got) != text(updated) {
					t.Errorf("Get = %s, %v; updated was %s", text(got), err, text(updated))
				}
				if updated.GenerationID != first.GenerationID {
					t.Error("the generation changed")
				}
				return updated
			}
			wantThumbprints := func(d wire.Device, want ...string) {
				t.Helper()
				if keys := DeviceKeys(d); len(keys) != 0 || d.Authentication.SymmetricKey != (wire.SymmetricKey{}) {
					t.Errorf("keys are left: %s", text(d))
				}
				if got := Thumbprints(d); !slices.Equal(got, want) {
					t.Errorf("thumbprints %q, want %q", got, want)
				}
			}
			wantThumbprints(update(certs(wire.AuthSelfSigned, sha1A, "")), strings.ToUpper(sha1A))
			wantThumbprints(update(certs(wire.AuthSelfSigned, "", sha256B)), strings.ToUpper(sha1A), strings.ToUpper(sha256B))
			wantThumbprints(update(certs(wire.AuthSelfSigned, "", "")), strings.ToUpper(sha1A), strings.ToUpper(sha256B))
			wantThumbprints(update(certs("", "", "")), strings.ToUpper(sha1A), strings.ToUpper(sha256B))
			wantThumbprints(update(nil), strings.ToUpper(sha1A), strings.ToUpper(sha256B))
			if got := update(certs(wire.AuthCA, "", "")); got.Authentication.Type != wire.AuthCA || both(got.Authentication.X509Thumbprint) != [2]string{} {
				t.Errorf("with a CA: %s", text(got))
			}
			d.Authentication = certs(wire.AuthSelfSigned, "", "")
			_, err := r.Update(t.Context(), d, "*")
			wantInvalid(t, err, "authentication.x509Thumbprint") // the old ones are gone
			d.Authentication = &wire.Authentication{SymmetricKey: wire.SymmetricKey{PrimaryKey: keyA}}
			_, err = r.Update(t.Context(), d, "*")
			wantInvalid(t, err, "authentication.symmetricKey") // no type means that of the identity

			fresh := update(sas())
			keys := DeviceKeys(fresh)
			if len(keys) != 2 || keys[0].Equal(keys[1]) || len(Thumbprints(fresh)) != 0 || keyText(fresh) == keyText(first) {
				t.Errorf("with keys again: %d keys, or the old ones, or thumbprints", len(keys))
			}
			if kept := update(sas()); keyText(kept) != keyText(fresh) {
				t.Error("the keys did not stay")
			}
			given := sas()
			given.SymmetricKey.PrimaryKey = keyB
			update(certs(wire.AuthCA, "", ""))
			if got := update(given); got.Authentication.SymmetricKey.PrimaryKey != keyB || len(DeviceKeys(got)) != 2 {
				t.Error("the given key was not taken, or the other one not made")
			}
		})
	}
}

func TestThumbprints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		auth *wire.Authentication
		want int
	}{
		"none":       {nil, 0},
		"other type": {certs(wire.AuthSAS, sha1A, sha256B), 0},
		"authority":  {certs(wire.AuthCA, sha1A, sha256B), 0},
		"no type":    {certs("", sha1A, sha256B), 0},
		"empty":      {certs(wire.AuthSelfSigned, "", ""), 0},
		"one broken": {certs(wire.AuthSelfSigned, "?", sha256B), 1},
		"two":        {certs(wire.AuthSelfSigned, sha1A, sha256B), 2},
	} {
		got := Thumbprints(wire.Device{Authentication: c.auth})
		if len(got) != c.want || slices.ContainsFunc(got, func(s string) bool { return s == "" || s != strings.ToUpper(s) }) {
			t.Errorf("%s: %q, want %d", name, got, c.want)
		}
	}
}

// TestStaleType checks that an update of another type needs the etag like any other.
func TestStaleType(t *testing.T) {
	t.Parallel()
	r := open(t)
	old := mustCreate(t, r, wire.Device{DeviceID: "pi-1"})
	sent := wire.Device{DeviceID: "pi-1", Authentication: certs(wire.AuthCA, "", "")}
	if _, err := r.Update(t.Context(), sent, old.ETag); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Update(t.Context(), wire.Device{DeviceID: "pi-1", Authentication: old.Authentication}, old.ETag); !errors.Is(err, ErrPrecondition) {
		t.Errorf("the old keys came back, or %v", err)
	}
}
