package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var vectorExpiry = time.Unix(1900000000, 0)

// vectors are those of docs/protocol.md, SAS tokens.
var vectors = []struct{ sr, sig string }{
	{"hub.example.test%2Fdevices%2Fpi-1", "DW2cIFOWdbhQMsUdB/97pwSrTMi1sXiYKPIiQli/f54="},
	{"hub.example.test/devices/pi-1", "lTSyOQk4yfeYZ3lYUiXcRD28JW+3syipshgacrg0lII="},
	{"hub.example.test%2Fdevices%2Fpi-1%2Fmodules%2Fm1", "JB2e0HK9fKSm7doMB5vFbeiR2/C4oz9gtpJ5a8xRAjo="},
	{"hub.example.test", "4HhDJcRRHNLVShXUsGzhK0cjvZ9bg6yOA4VHu6MpzfU="},
	{"localhost%3A18883%2Fdevices%2Fpi-1", "Ry7I0jgAWPuaxWanrmAitQNs4obVIyfLBYHubo2ivZw="},
}

func TestVectors(t *testing.T) {
	key := mustKey(t, vectorKey)
	lower := regexp.MustCompile(`%[0-9A-F]{2}`)
	for _, v := range vectors {
		upper := url.QueryEscape(v.sig)
		for _, sig := range []string{upper, lower.ReplaceAllStringFunc(upper, strings.ToLower), v.sig} {
			sas, err := ParseSAS("SharedAccessSignature sr=" + v.sr + "&sig=" + sig + "&se=1900000000")
			if err != nil || !sas.SignedBy(key) {
				t.Errorf("sr %q, sig %q: not accepted (%v)", v.sr, sig, err)
			}
		}
		if strings.Contains(v.sr, "/") {
			continue // nothing we write is raw
		}
		plain, err := url.PathUnescape(v.sr)
		if err != nil {
			t.Fatal(err)
		}
		want := "SharedAccessSignature sr=" + v.sr + "&sig=" + upper + "&se=1900000000"
		if got := Sign(plain, "", key, vectorExpiry); got.Reveal() != want {
			t.Errorf("Sign(%q) = %s, want %s", plain, got.Reveal(), want)
		}
		if got := Sign(plain, "a b+c=d", key, vectorExpiry).Reveal(); got != want+"&skn=a%20b%2Bc%3Dd" {
			t.Errorf("Sign(%q) with a policy = %s", plain, got)
		}
	}
}

func TestParseSAS(t *testing.T) {
	sig := url.QueryEscape(vectors[3].sig)
	for _, tc := range []struct{ parts, policy string }{
		{"sr=hub.example.test&sig=SIG&skn=service&se=1900000000", "service"}, // Node's order
		{"sr=hub.example.test&sig=SIG&se=1900000000&skn=", ""},               // as C writes it
		{"skn=a%2Bb+c%252F&se=1900000000&x=1&sig=SIG&y&sr=hub.example.test", "a+b+c%2F"},
		{"SE=1&se=1900000000&Sig=&sig=SIG&sr=hub.example.test", ""}, // other names, so unknown
	} {
		for _, scheme := range []string{"SharedAccessSignature ", "sharedaccesssignature "} {
			sas, err := ParseSAS(scheme + strings.Replace(tc.parts, "SIG", sig, 1))
			if err != nil || !sas.SignedBy(mustKey(t, vectorKey)) || !sas.Expires.Equal(vectorExpiry) {
				t.Errorf("%s: not accepted (%v)", tc.parts, err)
			}
			if sas.Resource != "hub.example.test" || sas.Policy != tc.policy {
				t.Errorf("%s: resource %q, policy %q", tc.parts, sas.Resource, sas.Policy)
			}
		}
	}
}

func TestParseSASRefuses(t *testing.T) {
	sig := url.QueryEscape(vectors[3].sig)
	const good = "SharedAccessSignature sr=hub.example.test&sig=SIG&se=1900000000"
	withSig := func(sig string) string { return strings.Replace(good, "SIG", sig, 1) }
	for _, tc := range []struct{ text, problem string }{
		{"", "does not start"},
		{"SharedAccessSignature", "does not start"},
		{"Bearer sr=hub.example.test&sig=SIG&se=1900000000", "does not start"},
		{strings.Replace(good, " ", "  ", 1), "holds a space"},
		{good + " ", "holds a space"},
		{good + "\n", "holds a space"},
		{good + "&x=\x00", "control character"},
		{good + "&x=\u00e4", "outside ASCII"},
		{good + "&x=" + strings.Repeat("a", 4096), "longer than 4096"},
		{"SharedAccessSignature sig=SIG&se=1900000000", "sr is missing"},
		{"SharedAccessSignature sr=&sig=SIG&se=1900000000", "sr is missing"},
		{"SharedAccessSignature sr=h&se=1900000000", "sig is missing"},
		{"SharedAccessSignature sr=h&sig=SIG", "se is missing"},
		{"SharedAccessSignature SR=h&sig=SIG&se=1900000000", "sr is missing"},
		{good + "&sr=hub.example.test", "twice"},
		{good + "&sig=SIG", "twice"},
		{good + "&se=1900000000", "twice"},
		{good + "&skn=a&skn=a", "twice"},
		{good + "&x=1&x=2", "twice"},
		{good + "&skn=%zz", "skn is malformed"},
		{good + "&skn=a%0ab", "skn is malformed"},
		{strings.Replace(good, "1900000000", "-1", 1), "se is not"},
		{strings.Replace(good, "1900000000", "+1900000000", 1), "se is not"},
		{strings.Replace(good, "1900000000", "1_900", 1), "se is not"},
		{strings.Replace(good, "1900000000", "0x7fffffff", 1), "se is not"},
		{strings.Replace(good, "1900000000", "1e9", 1), "se is not"},
		{strings.Replace(good, "1900000000", "1900000000.0", 1), "se is not"},
		{strings.Replace(good, "1900000000", "%31900000000", 1), "se is not"},
		{strings.Replace(good, "1900000000", "0001900000000", 1), "se is not"},
		{withSig("AAAA"), "sig is not"},
		{withSig("%zz" + sig), "sig is not"},
		{withSig(url.QueryEscape(strings.TrimSuffix(vectors[3].sig, "="))), "sig is not"},
		{withSig(url.QueryEscape(vectors[3].sig[:20] + "\n" + vectors[3].sig[20:])), "sig is not"},
		{withSig(url.QueryEscape(strings.Replace(vectors[3].sig, "U=", "V=", 1))), "sig is not"}, // a stray bit
		{withSig(url.QueryEscape(url.QueryEscape(vectors[3].sig))), "sig is not"},
		{withSig(hex.EncodeToString(make([]byte, 22))), "sig is not"},
	} {
		text := strings.ReplaceAll(tc.text, "SIG", sig)
		sas, err := ParseSAS(text)
		if err == nil || !strings.Contains(err.Error(), tc.problem) {
			t.Errorf("ParseSAS(%.100q) = %v, want an error with %q", text, err, tc.problem)
		} else if strings.Contains(err.Error(), sig) || strings.Contains(err.Error(), vectors[3].sig) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParseSAS(%.100q): error shows too much: %v", text, err)
		}
		if sas != (SAS{}) {
			t.Errorf("ParseSAS(%.100q) returns a token beside its error", text)
		}
	}
}

func TestSignedBy(t *testing.T) {
	key := mustKey(t, vectorKey)
	parse := func(text string) SAS {
		t.Helper()
		sas, err := ParseSAS(text)
		if err != nil {
			t.Fatal(err)
		}
		return sas
	}
	good := Sign("hub.example.test/devices/pi-1", "", key, vectorExpiry).Reveal()
	if sas := parse(good); !sas.SignedBy(key) || sas.SignedBy(NewKey()) || sas.SignedBy(Key{}) {
		t.Error("accepted by the wrong keys")
	}
	for name, text := range map[string]string{
		"later se":       strings.Replace(good, "1900000000", "1900000001", 1),
		"se not as text": strings.Replace(good, "1900000000", "01900000000", 1),
		"other device":   strings.Replace(good, "pi-1", "pi-2", 1),
		"other escapes":  strings.ReplaceAll(good, "example.test%2Fdevices", "example.test%2fdevices"),
		"raw sr":         strings.Replace(good, "hub.example.test%2Fdevices%2Fpi-1", "hub.example.test/devices/pi-1", 1),
	} {
		if text == good || parse(text).SignedBy(key) {
			t.Errorf("%s: still signed", name)
		}
	}
	// Anybody can compute what the zero key signs.
	if forged := parse(Sign("hub.example.test", "", Key{}, vectorExpiry).Reveal()); forged.SignedBy(Key{}) {
		t.Error("the zero key signs")
	}
	if (SAS{}).SignedBy(key) {
		t.Error("a token without signature is signed")
	}
}

func TestExpiredAt(t *testing.T) {
	sas := SAS{Expires: vectorExpiry}
	for after, want := range map[time.Duration]bool{
		-time.Hour: false, 0: false, 5 * time.Minute: false, 5*time.Minute + 1: true, time.Hour: true,
	} {
		if got := sas.ExpiredAt(vectorExpiry.Add(after)); got != want {
			t.Errorf("%v after its expiry: expired %v, want %v", after, got, want)
		}
	}
}

// FuzzSAS hands ParseSAS a token as it is, and one put together from the parts and
// properly signed; it may accept no more than accepts does.
func FuzzSAS(f *testing.F) {
	for _, v := range vectors {
		f.Add("SharedAccessSignature sr="+v.sr+"&sig="+url.QueryEscape(v.sig)+"&se=1900000000", v.sr, "1900000000", "")
	}
	for _, sr := range []string{"hub/..", "h%2f%2F", "h%", "h%zz", "h\n1", "", "h&se=1", "h%26se=1"} {
		f.Add("SharedAccessSignature sr="+sr+"&sig=&se=1", sr, "1900000000", "&skn=service")
	}
	for _, se := range []string{"", "-1", "+1", " 1", "1e9", "1_0", "0", "999999999999", "9999999999999", "01900000000", "1&se=2"} {
		f.Add("", "hub.example.test", se, "&x&y=1")
	}
	for _, tail := range []string{"&sr=other", "&sig=", "&se=2", "&skn=a&skn=b", "&skn=%00", "&&", "&Sr=x", "#", "&sig"} {
		f.Add("SharedAccessSignature "+tail[1:], "hub.example.test", "1900000000", tail)
	}
	key := mustKey(f, vectorKey)
	now := vectorExpiry.Add(-time.Minute)
	f.Fuzz(func(t *testing.T, text, sr, se, tail string) {
		sig := url.QueryEscape(base64.StdEncoding.EncodeToString(sign(sr, se, key)))
		for _, token := range []string{text, "SharedAccessSignature sr=" + sr + "&sig=" + sig + "&se=" + se + tail} {
			sas, err := ParseSAS(token)
			if err == nil && sas.SignedBy(key) && !sas.ExpiredAt(now) && !accepts(token, vectorKey, now.Unix()) {
				t.Errorf("%q is accepted", token)
			}
		}
	})
}

// accepts is a verifier that shares no code with the real one.
func accepts(token, key string, now int64) bool {
	token = strings.ToLower(token[:min(len(token), 22)]) + token[min(len(token), 22):]
	match := regexp.MustCompile(`^sharedaccesssignature ([!-~]+)$`).FindStringSubmatch(token)
	if match == nil || len(token) > 4096 {
		return false
	}
	count, value := map[string]int{}, map[string]string{}
	for _, field := range strings.Split(match[1], "&") {
		pair := append(strings.SplitN(field, "=", 2), "")
		count[pair[0]]++
		value[pair[0]] = pair[1]
	}
	for _, n := range count {
		if n > 1 {
			return false
		}
	}
	secret, _ := base64.StdEncoding.DecodeString(key)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(value["sr"] + "\n" + value["se"]))
	sig, ok := decodeOnce(value["sig"])
	se, err := strconv.ParseInt(value["se"], 10, 64)
	return ok && err == nil && regexp.MustCompile(`^[0-9]{1,12}$`).MatchString(value["se"]) && value["sr"] != "" &&
		sig == base64.StdEncoding.EncodeToString(mac.Sum(nil)) && now <= se+300
}

// decodeOnce undoes percent-encoding; false when an escape is malformed.
func decodeOnce(s string) (string, bool) {
	ok := true
	plain := regexp.MustCompile(`%.{0,2}`).ReplaceAllStringFunc(s, func(escape string) string {
		b, err := hex.DecodeString(escape[1:])
		if err != nil || len(b) != 1 {
			ok = false
		}
		return string(b)
	})
	return plain, ok
}
