package registry

import (
	"encoding/hex"
	"strings"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/wire"
)

// Lengths of a thumbprint in hex digits: of SHA-1 and of SHA-256.
const (
	sha1Digits   = 40
	sha256Digits = 64
)

// DeviceKeys returns the keys d may sign with: none, one or two. Only an identity of
// type sas has any.
func DeviceKeys(d wire.Device) []credential.Key {
	if d.Authentication == nil || d.Authentication.Type != wire.AuthSAS {
		return nil
	}
	var keys []credential.Key
	for _, text := range []string{d.Authentication.SymmetricKey.PrimaryKey, d.Authentication.SymmetricKey.SecondaryKey} {
		if key, err := credential.ParseKey(text); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// Thumbprints returns the thumbprints of the certificates d may show, in upper-case
// hex, 40 digits meaning SHA-1 and 64 SHA-256: none, one or two. Only an identity of
// type selfSigned has any.
func Thumbprints(d wire.Device) []string {
	if d.Authentication == nil || d.Authentication.Type != wire.AuthSelfSigned {
		return nil
	}
	var thumbprints []string
	for _, text := range both(d.Authentication.X509Thumbprint) {
		if validThumbprint(text) {
			thumbprints = append(thumbprints, strings.ToUpper(text))
		}
	}
	return thumbprints
}

// both returns the two thumbprints, "" for one that is not set.
func both(x wire.X509Thumbprint) [2]string {
	var texts [2]string
	for i, t := range []*string{x.PrimaryThumbprint, x.SecondaryThumbprint} {
		if t != nil {
			texts[i] = *t
		}
	}
	return texts
}

func validThumbprint(text string) bool {
	_, err := hex.DecodeString(text)
	return err == nil && (len(text) == sha1Digits || len(text) == sha256Digits)
}

// mergeAuthentication returns current, nil for a new identity, with what sent sets;
// sent may be nil. A type left empty stays, or is sas. Of the same type, a secret left
// empty stays; of another one, all the old ones go. Missing keys are made. Error:
// *InvalidError.
func mergeAuthentication(current, sent *wire.Authentication) (*wire.Authentication, error) {
	if current == nil {
		current = &wire.Authentication{Type: wire.AuthSAS}
	}
	if sent == nil {
		sent = &wire.Authentication{}
	}
	if sent.Type == "" && both(sent.X509Thumbprint) != [2]string{} {
		return nil, &InvalidError{"authentication.type", "must be " + wire.AuthSelfSigned + " where thumbprints are given"}
	}
	merged := *current
	if sent.Type != "" && sent.Type != current.Type {
		merged = wire.Authentication{Type: sent.Type}
	}
	if err := checkAuthentication(merged.Type, *sent); err != nil {
		return nil, err
	}
	merged.SymmetricKey = mergeKeys(merged.SymmetricKey, sent.SymmetricKey)
	merged.X509Thumbprint = mergeThumbprints(merged.X509Thumbprint, sent.X509Thumbprint)
	switch merged.Type {
	case wire.AuthSAS:
		merged.SymmetricKey = fillKeys(merged.SymmetricKey)
	case wire.AuthSelfSigned:
		if both(merged.X509Thumbprint) == [2]string{} {
			return nil, &InvalidError{"authentication.x509Thumbprint", "needs at least one thumbprint"}
		}
	}
	return &merged, nil
}

// checkAuthentication checks what was sent for an identity that is or becomes of the
// given type.
func checkAuthentication(kind string, sent wire.Authentication) error {
	switch kind {
	case wire.AuthSAS, wire.AuthSelfSigned, wire.AuthCA:
	default:
		return &InvalidError{"authentication.type", "must be " + wire.AuthSAS + ", " + wire.AuthSelfSigned + " or " + wire.AuthCA}
	}
	if kind != wire.AuthSAS && sent.SymmetricKey != (wire.SymmetricKey{}) {
		return &InvalidError{"authentication.symmetricKey", "must be empty with the type " + kind}
	}
	thumbprints := both(sent.X509Thumbprint)
	if kind != wire.AuthSelfSigned && thumbprints != [2]string{} {
		return &InvalidError{"authentication.x509Thumbprint", "must be empty with the type " + kind}
	}
	if err := checkKey("primaryKey", sent.SymmetricKey.PrimaryKey); err != nil {
		return err
	}
	if err := checkKey("secondaryKey", sent.SymmetricKey.SecondaryKey); err != nil {
		return err
	}
	for i, name := range []string{"primaryThumbprint", "secondaryThumbprint"} {
		if thumbprints[i] != "" && !validThumbprint(thumbprints[i]) {
			return &InvalidError{"authentication.x509Thumbprint." + name, "must be 40 or 64 hex digits, the SHA-1 or SHA-256 of a certificate"}
		}
	}
	return nil
}

func checkKey(name, text string) error {
	if text == "" {
		return nil
	}
	if _, err := credential.ParseKey(text); err != nil {
		return &InvalidError{"authentication.symmetricKey." + name, err.Error()}
	}
	return nil
}

func mergeKeys(current, sent wire.SymmetricKey) wire.SymmetricKey {
	if sent.PrimaryKey != "" {
		current.PrimaryKey = sent.PrimaryKey
	}
	if sent.SecondaryKey != "" {
		current.SecondaryKey = sent.SecondaryKey
	}
	return current
}

func fillKeys(k wire.SymmetricKey) wire.SymmetricKey {
	for _, key := range []*string{&k.PrimaryKey, &k.SecondaryKey} {
		if *key == "" {
			*key = credential.NewKey().Reveal()
		}
	}
	return k
}

// mergeThumbprints keeps thumbprints as they were sent; they are compared without
// case.
func mergeThumbprints(current, sent wire.X509Thumbprint) wire.X509Thumbprint {
	texts := both(sent)
	if texts[0] != "" {
		current.PrimaryThumbprint = &texts[0]
	}
	if texts[1] != "" {
		current.SecondaryThumbprint = &texts[1]
	}
	return current
}
