package main

import (
	"cmp"
	"crypto/sha1" // for its size: what Azure calls a thumbprint
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/credential"
)

// authenticationOptions say how a new identity signs in.
type authenticationOptions struct {
	primaryKey, secondaryKey string
	thumbprints              []string
	byCA                     bool

	flags *pflag.FlagSet
}

func (o *authenticationOptions) addFlags(flags *pflag.FlagSet) {
	o.flags = flags
	flags.StringVar(&o.primaryKey, "primary-key", "", "`KEY` in base64, 16 to 64 bytes, instead of a new one")
	flags.StringVar(&o.secondaryKey, "secondary-key", "", "likewise, the second `KEY`")
	flags.StringArrayVar(&o.thumbprints, "x509-thumbprint", nil, "sign in with the certificate of this SHA-1 or SHA-256 thumbprint: 40 or 64 `HEX`; given again: a second one")
	flags.BoolVar(&o.byCA, "x509-ca", false, "sign in with a certificate of a CA that the hub knows")
	for _, key := range []string{"primary-key", "secondary-key"} {
		exclusive(flags, key, "x509-thumbprint")
		exclusive(flags, key, "x509-ca")
	}
	exclusive(flags, "x509-thumbprint", "x509-ca")
}

// authentication checks the flags; nil leaves the keys to the hub.
func (o *authenticationOptions) authentication(a *app) (*hubclient.Authentication, error) {
	if o.byCA {
		return &hubclient.Authentication{Type: hubclient.AuthCA}, nil
	}
	if len(o.thumbprints) > 0 {
		return o.selfSigned()
	}
	primary, err := parseKey("primary-key", o.primaryKey)
	if err != nil {
		return nil, err
	}
	secondary, err := parseKey("secondary-key", o.secondaryKey)
	if err != nil || primary.IsZero() && secondary.IsZero() {
		return nil, err
	}
	for _, flag := range []string{"primary-key", "secondary-key"} {
		if o.flags.Changed(flag) && setBy(o.flags, flag) == "" {
			a.warnVisible("--" + flag)
		}
	}
	return symmetric(primary, secondary), nil
}

// symmetric are keys to sign in with; the hub makes those that are not given.
func symmetric(primary, secondary credential.Key) *hubclient.Authentication {
	text := func(k credential.Key) string {
		if k.IsZero() {
			return ""
		}
		return k.Reveal()
	}
	return &hubclient.Authentication{
		Type:         hubclient.AuthSAS,
		SymmetricKey: hubclient.SymmetricKey{PrimaryKey: text(primary), SecondaryKey: text(secondary)},
	}
}

// selfSigned are thumbprints of certificates to sign in with.
func (o *authenticationOptions) selfSigned() (*hubclient.Authentication, error) {
	if len(o.thumbprints) > 2 {
		return nil, usage("--x509-thumbprint can be given twice, not %d times", len(o.thumbprints))
	}
	authentication := &hubclient.Authentication{Type: hubclient.AuthSelfSigned}
	x509 := &authentication.X509Thumbprint
	for i, where := range []**string{&x509.PrimaryThumbprint, &x509.SecondaryThumbprint}[:len(o.thumbprints)] {
		thumbprint, err := parseThumbprint(o.thumbprints[i])
		if err != nil {
			return nil, err
		}
		*where = &thumbprint
	}
	return authentication, nil
}

// parseThumbprint reads a thumbprint with or without the colons and spaces that
// programs print in it. It is returned as Azure shows it, in capitals.
func parseThumbprint(text string) (string, error) {
	digits := strings.NewReplacer(":", "", " ", "").Replace(text)
	sum, err := hex.DecodeString(digits)
	if err != nil || len(sum) != sha1.Size && len(sum) != sha256.Size {
		e := usage("--x509-thumbprint %s: must be 40 hex digits (SHA-1) or 64 (SHA-256)", quote(text))
		e.hint = "openssl x509 -in cert.pem -noout -fingerprint -sha256 prints it, after the ="
		return "", e
	}
	return strings.ToUpper(digits), nil
}

// kindOf says how d signs in: as the hub's JSON has it, "sas" where it says nothing.
func kindOf(d hubclient.Identity) string {
	if d.Authentication == nil {
		return hubclient.AuthSAS
	}
	return cmp.Or(d.Authentication.Type, hubclient.AuthSAS)
}

// hasCertificate reports whether d signs in with a certificate, and so has no keys.
func hasCertificate(d hubclient.Identity) bool {
	kind := kindOf(d)
	return kind == hubclient.AuthSelfSigned || kind == hubclient.AuthCA
}

func hasThumbprint(d hubclient.Identity) bool { return kindOf(d) == hubclient.AuthSelfSigned }

func primaryThumbprint(d hubclient.Identity) string {
	return thumbprintText(d.Authentication.X509Thumbprint.PrimaryThumbprint)
}

func secondaryThumbprint(d hubclient.Identity) string {
	return thumbprintText(d.Authentication.X509Thumbprint.SecondaryThumbprint)
}

func thumbprintText(thumbprint *string) string {
	if thumbprint == nil {
		return "-"
	}
	return *thumbprint
}

// keyOf is a key of d as base64 text, "" when it has none.
func keyOf(d hubclient.Identity, which string) string {
	switch {
	case d.Authentication == nil || hasCertificate(d):
		return ""
	case which == keySecondary:
		return d.Authentication.SymmetricKey.SecondaryKey
	}
	return d.Authentication.SymmetricKey.PrimaryKey
}

func primaryKey(d hubclient.Identity) string   { return keyOf(d, keyPrimary) }
func secondaryKey(d hubclient.Identity) string { return keyOf(d, keySecondary) }
