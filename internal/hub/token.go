package hub

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/wire"
)

// streamToken is what a stream token says: a bearer token for one side of one
// stream. On the wire it is base64url(JSON) "." base64url(HMAC-SHA256 of the
// first part), of A-Za-z0-9-_. only, as the C SDK takes it undecoded from a topic
// (docs/protocol.md, Stream request). The key is the hub's own, so the token
// binds the hub too. That it is used once is the rendezvous's care.
type streamToken struct {
	Stream     string    `json:"s"`
	Side       wire.Side `json:"d"`
	Device     string    `json:"i"`
	Generation string    `json:"g"`
	Policy     string    `json:"p,omitempty"` // service side only
	Credential string    `json:"c"`           // ID of the key that let this side in
	Expires    int64     `json:"e"`           // Unix seconds

	// Of an extended stream (docs/farport-v1.md, section 1), else zero. With a Window the
	// token is good for many joins, of which each must be newer than the last.
	Instance string `json:"n,omitempty"` // wire.InstanceID of the end; "" is a plain stream
	Window   int64  `json:"w,omitempty"` // seconds; 0 is framing without resume
	Minted   int64  `json:"m,omitempty"` // of the stream, Unix milliseconds
	Peer     string `json:"o,omitempty"` // service side only: the device's Instance
}

// tokenSecret is the name of the MAC key in the registry, tokenKeySize its size.
const (
	tokenSecret  = "stream-token"
	tokenKeySize = 32
)

// tokenKey mints and verifies stream tokens.
type tokenKey []byte

var errBadToken = errors.New("stream token is not valid")

func (k tokenKey) mint(t streamToken) credential.Secret {
	text, _ := json.Marshal(t) // strings and a number: cannot fail
	body := base64.RawURLEncoding.EncodeToString(text)
	return credential.Secret(body + "." + k.mac(body))
}

// verify reads a token back. Anything but an unexpired token of this hub is
// errBadToken; which of the reasons it was is nobody's business.
func (k tokenKey) verify(token string, now time.Time) (streamToken, error) {
	var t streamToken
	body, mac, ok := strings.Cut(token, ".")
	if !ok || len(token) > wire.MaxToken {
		return t, errBadToken
	}
	// Compared as text: decoding it would let other spellings of the same bytes in.
	if !hmac.Equal([]byte(mac), []byte(k.mac(body))) {
		return t, errBadToken
	}
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || json.Unmarshal(text, &t) != nil {
		return streamToken{}, errBadToken
	}
	if now.Unix() >= t.Expires {
		return streamToken{}, errBadToken
	}
	return t, nil
}

// mac signs a token's first part, in base64url.
func (k tokenKey) mac(body string) string {
	h := hmac.New(sha256.New, k)
	h.Write([]byte("farport stream token 1\x00" + body))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// granted is t for what the hub has granted to the side that made this offer, of a
// stream that was created then. A token that may be used again gets its longer life.
func (t streamToken) granted(g wire.Grant, offer wire.Offer, created time.Time) streamToken {
	if !g.Extended {
		return t
	}
	t.Instance, t.Window, t.Minted = offer.Instance, int64(g.Window/time.Second), created.UnixMilli()
	if g.Window > 0 {
		t.Expires = expiry(created.Add(wire.ResumeTokenLife))
	}
	return t
}

// expiry is when a token for a stream that must be joined by t expires. It is
// rounded up to the token's seconds: the rendezvous keeps the time to the moment.
func expiry(t time.Time) int64 { return t.Add(time.Second - 1).Unix() }
