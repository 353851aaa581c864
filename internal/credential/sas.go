package credential

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ClockGrace is how far the clocks of a hub and of whoever signs may differ, so
// how long a token is taken after its expiry. Source: docs/protocol.md, SAS tokens.
const ClockGrace = 5 * time.Minute

// maxSAS bounds a token in bytes; maxExpiryDigits bounds se. Source:
// docs/security.md, T4.
const (
	maxSAS          = 4 << 10
	maxExpiryDigits = 12
)

// sasScheme begins every token.
const sasScheme = "SharedAccessSignature"

// SAS is a parsed SAS token. Nothing in it is to be believed before SignedBy,
// ExpiredAt and Covers have all been asked.
type SAS struct {
	Resource string    // sr, exactly as written in the token
	Policy   string    // skn, decoded; "" when the token is signed with an identity's own key
	Expires  time.Time // se

	expiry    string  // se, exactly as written
	signature *string // the MAC's bytes, behind a pointer that fmt does not follow
}

// ParseSAS reads a token of at most 4 KiB: "SharedAccessSignature " and the
// parts sr, sig, se and perhaps skn in any order. Unknown parts are ignored; a
// part given twice, missing or malformed is an error, which names the part and
// never holds a value.
func ParseSAS(text string) (SAS, error) {
	if len(text) > maxSAS {
		return SAS{}, fmt.Errorf("SAS token: longer than %d bytes", maxSAS)
	}
	scheme, fields, ok := strings.Cut(text, " ")
	if !ok || !strings.EqualFold(scheme, sasScheme) {
		return SAS{}, fmt.Errorf("SAS token: does not start with %q", sasScheme+" ")
	}
	parts, err := splitSAS(fields)
	if err != nil {
		return SAS{}, err
	}
	return parts.token()
}

// sasParts are a token's parts as written, by name.
type sasParts map[string]string

func splitSAS(fields string) (sasParts, error) {
	if !isGraphic(fields) {
		return nil, errors.New("SAS token: holds a space, a control character or one outside ASCII")
	}
	parts := sasParts{}
	for field := range strings.SplitSeq(fields, "&") {
		name, value, _ := strings.Cut(field, "=")
		if _, twice := parts[name]; twice {
			return nil, errors.New("SAS token: a part is given twice")
		}
		parts[name] = value
	}
	for _, name := range []string{"sr", "sig", "se"} {
		if parts[name] == "" {
			return nil, fmt.Errorf("SAS token: %s is missing", name)
		}
	}
	return parts, nil
}

func (p sasParts) token() (SAS, error) {
	t := SAS{Resource: p["sr"], expiry: p["se"]}
	seconds, err := strconv.ParseUint(t.expiry, 10, 63) // takes no sign
	if err != nil || len(t.expiry) > maxExpiryDigits {
		return SAS{}, fmt.Errorf("SAS token: se is not a time of 1 to %d digits", maxExpiryDigits)
	}
	t.Expires = time.Unix(int64(seconds), 0)
	if t.signature, err = parseSignature(p["sig"]); err != nil {
		return SAS{}, err
	}
	t.Policy, err = url.PathUnescape(p["skn"])
	if err != nil || !isGraphic(t.Policy) {
		return SAS{}, errors.New("SAS token: skn is malformed")
	}
	return t, nil
}

func parseSignature(escaped string) (*string, error) {
	malformed := errors.New("SAS token: sig is not an HMAC-SHA256 in base64")
	text, err := url.PathUnescape(escaped)
	// The length leaves no room for the line ends that Go's base64 would skip.
	if err != nil || len(text) != base64.StdEncoding.EncodedLen(sha256.Size) {
		return nil, malformed
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != sha256.Size {
		return nil, malformed
	}
	signature := string(raw)
	return &signature, nil
}

// isGraphic reports whether s holds visible ASCII alone.
func isGraphic(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// SignedBy reports whether k signed the token. It takes the same time whatever
// the answer, also for the zero Key, which signs nothing: a hub that does not
// know who asks checks against that.
func (t SAS) SignedBy(k Key) bool {
	want := sign(t.Resource, t.expiry, k)
	return t.signature != nil && hmac.Equal([]byte(*t.signature), want) && !k.IsZero()
}

// ExpiredAt reports whether the token is no longer to be taken at now, ClockGrace
// allowed for.
func (t SAS) ExpiredAt(now time.Time) bool { return now.After(t.Expires.Add(ClockGrace)) }

// String names the token's resource, policy and expiry, not its signature.
func (t SAS) String() string {
	return fmt.Sprintf("SAS token for %q, policy %q, until %s", t.Resource, t.Policy, t.Expires.UTC().Format(time.RFC3339))
}

// Format writes String whatever the verb.
func (t SAS) Format(f fmt.State, _ rune) { io.WriteString(f, t.String()) }

// LogValue returns String for log/slog.
func (t SAS) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Sign returns a token for resource, as Resource makes it, that holds until
// expires, to the second. policy is the name of the shared access policy whose
// key signs; "" when the key is an identity's own.
func Sign(resource, policy string, key Key, expires time.Time) Secret {
	sr, se := escape(resource), strconv.FormatInt(expires.Unix(), 10)
	sig := base64.StdEncoding.EncodeToString(sign(sr, se, key))
	token := sasScheme + " sr=" + sr + "&sig=" + escape(sig) + "&se=" + se
	if policy != "" {
		token += "&skn=" + escape(policy)
	}
	return Secret(token)
}

// sign returns the HMAC-SHA256 over a resource and an expiry as written.
func sign(resource, expiry string, k Key) []byte {
	mac := hmac.New(sha256.New, k.raw())
	io.WriteString(mac, resource+"\n"+expiry)
	return mac.Sum(nil)
}

// escape percent-encodes all but A-Za-z0-9-._~ , with upper-case hex.
func escape(s string) string {
	// QueryEscape writes a space as "+", which is a character of IDs here.
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
