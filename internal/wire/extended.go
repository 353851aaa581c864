package wire

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The extended stream, farport.v1, as it is on the wire. Source: docs/farport-v1.md,
// whose sections the comments name.

// SubprotocolExtended is what both sides of an extended leg's handshake must select
// (section 2).
const SubprotocolExtended = "farport.v1"

// Headers of a join (section 2).
const (
	// HeaderJoin counts an end's dial attempts for a stream, from 1; on a 409 it is the
	// highest that the hub has admitted. Shape: decimal, to MaxOffset.
	HeaderJoin = "Farport-Join"
	// HeaderInstance is the secret of the instance that a token is bound to. End to hub.
	HeaderInstance = "Farport-Instance"
	// HeaderToken is a token with a later expiry, in the place of the old one. Hub to end.
	HeaderToken = "Farport-Token"
	// HeaderEnd says that the answer is final, and why. Hub to end. Shape: EndReason.
	HeaderEnd = "Farport-End"
)

// Close codes of an extended leg (section 5).
const (
	CloseRestart   = 1012 // the hub restarts: join again
	CloseTryLater  = 1013 // the hub is busy: join later
	ClosePolicy    = 1008 // more than the hub holds for a leg without a partner
	ClosePeerAway  = 4000 // the other side's leg has gone or was replaced: join again
	CloseReplaced  = 4001 // a newer join of this side
	CloseEnded     = 4002 // the stream has ended; the text is the EndReason
	CloseBrokenOff = 4004 // an end aborts the stream; the text is the EndReason
)

// Sizes and offsets of an extended stream (sections 3, 4, 6 and 8).
const (
	MaxControl = 128       // bytes of a control message
	MaxOffset  = 1<<53 - 1 // largest offset, and largest join
	// EarlyData is how much an end may send before the peer's hello, and how much the
	// hub holds for a leg without a partner, with HeldText bytes of control messages.
	EarlyData = 64 << 10
	HeldText  = 512
	// CheckTail is how many of the last bytes a hello's check is over.
	CheckTail = 1024
	// MaxWindowBytes bounds an end's unacknowledged bytes, and those it promises room for.
	MaxWindowBytes = 8 << 20
	// FirstCredit is what an end promises room for at first.
	FirstCredit = 256 << 10
)

// Times of an extended stream (sections 1, 2, 4 and 6).
const (
	// DefaultResumeWindow is how long a stream may be without a connection, and
	// MaxResumeWindow the most that can be agreed on.
	DefaultResumeWindow = 5 * time.Minute
	MaxResumeWindow     = time.Hour
	// ResumeTokenLife is how long a token is good for that may be used again.
	ResumeTokenLife = 24 * time.Hour
	// HubSilence is how long a leg may be silent, while the hub reads it, before the
	// hub gives it up.
	HubSilence = 20 * time.Second
)

// Verb says what a control message is for (section 3).
type Verb byte

// The verbs.
const (
	VerbHello Verb = 'H' // first on each leg
	VerbAck   Verb = 'A'
	VerbEOF   Verb = 'E'
	VerbAbort Verb = 'X'
	VerbDone  Verb = 'F'
	// VerbUnknown is one of a later version, which is ignored.
	VerbUnknown Verb = 0
)

// Control is a control message. Which fields it has depends on the verb.
type Control struct {
	Verb   Verb
	Join   uint64    // H
	Recv   uint64    // H, A: bytes received, and one more once the end was handed on
	Limit  uint64    // H, A: offset that may not be sent yet
	Check  uint32    // H: CRC-32C of the last CheckTail bytes received
	Final  uint64    // E: offset after the last byte
	Reason EndReason // X
}

// Append writes the message as it goes over the wire. A Reason that no extended stream
// ends with goes as what ParseReason makes of it.
func (c Control) Append(b []byte) []byte {
	b = append(b, byte(c.Verb))
	switch c.Verb {
	case VerbHello:
		b = appendNumbers(b, c.Join, c.Recv, c.Limit)
		b = fmt.Appendf(b, " %08x", c.Check)
	case VerbAck:
		b = appendNumbers(b, c.Recv, c.Limit)
	case VerbEOF:
		b = appendNumbers(b, c.Final)
	case VerbAbort:
		b = append(append(b, ' '), ParseReason(string(c.Reason))...)
	}
	return b
}

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = strconv.AppendUint(append(b, ' '), n, 10)
	}
	return b
}

// ErrControl says that a text is no control message.
var ErrControl = errors.New("malformed control message")

// ParseControl reads a control message, exactly as Append writes it. A verb in lower
// case is VerbUnknown; anything else that is no control message is ErrControl.
func ParseControl(text []byte) (Control, error) {
	if len(text) == 0 || len(text) > MaxControl {
		return Control{}, ErrControl
	}
	for _, c := range text {
		if c < ' ' || c > '~' {
			return Control{}, ErrControl
		}
	}
	if text[0] >= 'a' && text[0] <= 'z' {
		return Control{Verb: VerbUnknown}, nil
	}
	c := Control{Verb: Verb(text[0])}
	fields := bytes.Split(text, []byte{' '})
	if len(fields[0]) != 1 {
		return Control{}, ErrControl
	}
	var numbers []*uint64
	switch c.Verb {
	case VerbHello:
		numbers = []*uint64{&c.Join, &c.Recv, &c.Limit}
	case VerbAck:
		numbers = []*uint64{&c.Recv, &c.Limit}
	case VerbEOF:
		numbers = []*uint64{&c.Final}
	case VerbAbort, VerbDone:
	default:
		return Control{}, ErrControl
	}
	rest := fields[1:]
	for _, n := range numbers {
		if len(rest) == 0 || !parseNumber(rest[0], n) {
			return Control{}, ErrControl
		}
		rest = rest[1:]
	}
	switch {
	case c.Verb == VerbHello && len(rest) == 1 && parseCheck(rest[0], &c.Check):
	case c.Verb == VerbAbort && len(rest) == 1 && validReason(rest[0]):
		c.Reason = ParseReason(string(rest[0]))
	case c.Verb != VerbHello && c.Verb != VerbAbort && len(rest) == 0:
	default:
		return Control{}, ErrControl
	}
	return c, nil
}

// parseNumber reads decimal digits without leading zeros, to MaxOffset.
func parseNumber(text []byte, n *uint64) bool {
	if len(text) == 0 || len(text) > 16 || text[0] == '0' && len(text) > 1 {
		return false
	}
	v := uint64(0)
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
		v = v*10 + uint64(c-'0')
	}
	*n = v
	return v <= MaxOffset
}

// parseCheck reads eight hex digits in lower case.
func parseCheck(text []byte, check *uint32) bool {
	v, err := strconv.ParseUint(string(text), 16, 32)
	*check = uint32(v)
	return err == nil && len(text) == 8 && bytes.Equal(text, bytes.ToLower(text))
}

func validReason(text []byte) bool {
	for _, c := range text {
		if (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return len(text) >= 1 && len(text) <= 16
}

// ParseReason reads why an extended stream ended, in a control message, close frame or
// HeaderEnd. An unknown word is EndReset (section 5).
func ParseReason(text string) EndReason {
	switch r := EndReason(text); r {
	case EndFinished, EndReset, EndRefused, EndLost, EndProtocol, EndOverflow, EndShutdown,
		EndInstance, EndRevoked, EndClosed, EndExpired, EndIdle:
		return r
	}
	return EndReset
}

// FormatJoin and ParseJoin write and read HeaderJoin.
func FormatJoin(join uint64) string { return strconv.FormatUint(join, 10) }

// ParseJoin reads HeaderJoin; a join is at least 1.
func ParseJoin(text string) (join uint64, ok bool) {
	if !parseNumber([]byte(text), &join) || join < 1 {
		return 0, false
	}
	return join, true
}

// NewInstance makes the secret of one run of a proxy: 16 random bytes in base64url, 22
// characters. It is good for joining a stream again, and never leaves memory and TLS
// (section 1).
func NewInstance() string {
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(secret[:])
}

// InstanceID is the public name of the instance with that secret (section 1).
func InstanceID(secret string) string {
	sum := sha256.Sum256([]byte("farport instance 1\x00" + secret))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// ValidInstance reports whether id has the shape of an InstanceID. Only the one spelling
// of its bytes counts: the decoder alone would skip line ends.
func ValidInstance(id string) bool {
	b, err := base64.RawURLEncoding.DecodeString(id)
	return err == nil && len(b) == 16 && base64.RawURLEncoding.EncodeToString(b) == id
}
