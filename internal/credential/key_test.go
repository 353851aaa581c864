package credential

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// The key of the test vectors in docs/protocol.md, SAS tokens.
const vectorKey = "ZXhhbXBsZS1rZXktZm9yLXRlc3QtdmVjdG9ycy0wMSE="

func mustKey(t testing.TB, text string) Key {
	t.Helper()
	k, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func base64OfSize(n int) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n))
}

func TestParseKey(t *testing.T) {
	for _, text := range []string{vectorKey, base64OfSize(16), base64OfSize(64)} {
		if got := mustKey(t, text); got.Reveal() != text || got.IsZero() {
			t.Errorf("ParseKey(%q) reveals %q, zero %v", text, got.Reveal(), got.IsZero())
		}
	}
	bad := []string{
		"", "not base64, but secret", base64OfSize(15), base64OfSize(65),
		strings.TrimRight(vectorKey, "="), vectorKey[:8] + "\n" + vectorKey[8:], vectorKey + "\r\n",
		base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32)),
	}
	for _, text := range bad {
		k, err := ParseKey(text)
		if err == nil || !k.IsZero() {
			t.Errorf("ParseKey(%q) = a key", text)
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("ParseKey(%q): error holds the text: %v", text, err)
		}
	}
}

func TestKeyIdentity(t *testing.T) {
	a, same, b := mustKey(t, vectorKey), mustKey(t, vectorKey), NewKey()
	if !a.Equal(same) || a != same || a.ID() != same.ID() {
		t.Error("one key read twice differs")
	}
	if a.Equal(b) || a == b || a.ID() == b.ID() || NewKey() == b {
		t.Error("two keys are the same")
	}
	if raw, err := base64.StdEncoding.DecodeString(b.Reveal()); err != nil || len(raw) != 32 {
		t.Errorf("NewKey has %d bytes, %v", len(raw), err)
	}
	if id := a.ID(); len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		t.Errorf("ID %q is not 32 hex digits", id)
	}
	var zero Key
	if !zero.IsZero() || zero.Reveal() != "" || zero.ID() != "" || zero.String() != "" {
		t.Error("the zero key is something")
	}
	if zero.Equal(Key{}) || zero.Equal(a) || a.Equal(zero) {
		t.Error("the zero key equals something")
	}
}

// TestRedaction shows every secret in every way a program shows things, and looks
// for the real text, plain, in hex and as bytes.
func TestRedaction(t *testing.T) {
	key := mustKey(t, vectorKey)
	token := Sign("hub.example.test/devices/pi-1", "service", key, vectorExpiry)
	sas, err := ParseSAS(token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	withKey := mustParse(t, "HostName=hub.example.test;DeviceId=pi-1;SharedAccessKey="+vectorKey)
	withToken := mustParse(t, "HostName=hub.example.test;DeviceId=pi-1;SharedAccessSignature="+token.Reveal())
	secret := Secret("hunter2-hunter2")
	type nested struct {
		Any     any
		Key     Key
		Secret  Secret
		String  ConnectionString
		Pointer *ConnectionString
		key     Key // fmt cannot call methods on it
		sas     SAS
	}
	values := map[string]any{
		"key": key, "token": token, "SAS": sas, "string with key": withKey, "string with token": withToken, "secret": secret,
		"pointer": &withKey, "slice": []any{key, secret, sas, withToken},
		"map":    map[string]any{"k": key, "s": secret, "c": withKey, "t": sas},
		"nested": nested{secret, key, token, withToken, &withKey, key, sas},
		"error":  fmt.Errorf("%v, %w", key, fmt.Errorf("%s", withToken)),
	}
	raw, _ := base64.StdEncoding.DecodeString(vectorKey)
	signature := []byte(*sas.signature)
	var forbidden []string
	for _, plain := range []string{vectorKey, string(raw), string(signature), base64.StdEncoding.EncodeToString(signature), token.Reveal(), secret.Reveal()} {
		decimal := strings.Trim(fmt.Sprint([]byte(plain)), "[]")
		forbidden = append(forbidden, plain, escape(plain), fmt.Sprintf("%x", plain), fmt.Sprintf("%X", plain), decimal)
	}
	for name, value := range values {
		for way, text := range shown(t, value) {
			for _, f := range forbidden {
				if strings.Contains(text, f) {
					t.Errorf("%s by %s shows a secret: %s", name, way, text)
				}
			}
		}
	}
}

// shown returns value as text, by the way it was made.
func shown(t *testing.T, value any) map[string]string {
	t.Helper()
	ways := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		ways[verb] = fmt.Sprintf(verb, value)
	}
	if s, ok := value.(fmt.Stringer); ok {
		ways["String"] = s.String()
	}
	var text, jsonText bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).With("with", value).Info("m", "a", value, slog.Group("g", "b", value))
	slog.New(slog.NewJSONHandler(&jsonText, nil)).With("with", value).Info("m", "a", value, slog.Group("g", "b", value))
	ways["slog text"], ways["slog JSON"] = text.String(), jsonText.String()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	ways["json"] = string(data)
	return ways
}

func TestRedactedForm(t *testing.T) {
	for _, tc := range []struct {
		value any
		want  string
	}{
		{Secret("x"), "[redacted]"},
		{Secret(""), "[redacted]"},
		{mustKey(t, vectorKey), "[redacted]"},
		{Key{}, ""},
	} {
		data, err := json.Marshal(tc.value)
		if got := fmt.Sprintf("%#v", tc.value); got != tc.want || err != nil || string(data) != `"`+tc.want+`"` {
			t.Errorf("%T shows as %q and %s (%v), want %q", tc.value, got, data, err, tc.want)
		}
	}
}
