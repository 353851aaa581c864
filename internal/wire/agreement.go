package wire

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Agreement on the extended stream, in the control plane alone. Source:
// docs/farport-v1.md, section 1.

// HeaderStream is the service's Offer with its request, and the hub's Grant beside
// HeaderIsAccepted.
const HeaderStream = "Farport-Stream"

const (
	// wordStream begins the one word of a DeviceClientType that is a device's Offer.
	wordStream = "farport-stream/"
	// propertyStream is a Grant in the topic of a StreamRequest.
	propertyStream = "$farport"
	// streamVersion is the only version there is.
	streamVersion = "1"
	// maxOffer bounds an offer or grant in bytes; one of this version has 42.
	maxOffer = 512
	// ows is what may stand beside a header's semicolons and commas (RFC 9110 §5.6.3).
	ows = " \t"
)

// ParamClientType is the parameter of a user name that says what a device runs.
const ParamClientType = "DeviceClientType"

// Offer is what an end is ready for beyond the plain stream. The zero value is none.
type Offer struct {
	Instance string        // InstanceID of the end's process
	Window   time.Duration // resume window, whole seconds, 0 to MaxResumeWindow; 0 is framing without resume
}

// Offered reports whether there is an offer.
func (o Offer) Offered() bool { return o.Instance != "" }

// Header writes the offer as a service's HeaderStream.
func (o Offer) Header() string { return o.text("; ") }

// Word writes the offer as a word of a device's DeviceClientType.
func (o Offer) Word() string { return wordStream + o.text(";") }

func (o Offer) text(separator string) string {
	return streamVersion + separator + "i=" + o.Instance + separator + "w=" + seconds(o.Window)
}

// ParseOffer reads a service's HeaderStream, all values of it. A malformed or doubled
// offer is none.
func ParseOffer(values []string) Offer {
	if len(values) != 1 {
		return Offer{}
	}
	return parseOffer(values[0])
}

// Offer is the device's offer in its ParamClientType. Two of these are none, as one
// would not know which to believe.
func (u UserName) Offer() Offer {
	values := u.Params[ParamClientType]
	if len(values) != 1 {
		return Offer{}
	}
	return FindOffer(values[0])
}

// FindOffer reads a device's offer in its decoded DeviceClientType. A malformed or
// doubled one is none.
func FindOffer(clientType string) (o Offer) {
	found := false
	for word := range strings.SplitSeq(clientType, " ") {
		text, ok := strings.CutPrefix(word, wordStream)
		switch {
		case !ok:
			continue
		case found:
			return Offer{}
		}
		found = true
		o = parseOffer(text)
	}
	return o
}

// parseOffer reads versions and then key=value in any order, unknown keys ignored.
func parseOffer(text string) Offer {
	versions, params, ok := parameters(text)
	if !ok || !hasVersion(versions) {
		return Offer{}
	}
	window, ok := parseWindow(params["w"])
	if !ok || !ValidInstance(params["i"]) {
		return Offer{}
	}
	return Offer{Instance: params["i"], Window: window}
}

// parameters splits "head;k=v;k=v", with optional spaces around each pair, and decodes
// the values. A key given twice is an error.
func parameters(text string) (head string, params map[string]string, ok bool) {
	if len(text) > maxOffer {
		return "", nil, false
	}
	head, rest, more := strings.Cut(text, ";")
	params = make(map[string]string)
	for more {
		var pair string
		pair, rest, more = strings.Cut(rest, ";")
		key, value, isPair := strings.Cut(strings.Trim(pair, ows), "=")
		_, twice := params[key]
		decoded, err := url.PathUnescape(value)
		if !isPair || twice || key == "" || err != nil {
			return "", nil, false
		}
		params[key] = decoded
	}
	return strings.Trim(head, ows), params, true
}

func hasVersion(versions string) (found bool) {
	for v := range strings.SplitSeq(versions, ",") {
		v = strings.Trim(v, ows)
		if n := uint64(0); v == "0" || !parseNumber([]byte(v), &n) {
			return false
		}
		found = found || v == streamVersion
	}
	return found
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

func parseWindow(text string) (time.Duration, bool) {
	var n uint64
	if !parseNumber([]byte(text), &n) || n > uint64(MaxResumeWindow/time.Second) {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}

// Grant is what the hub has made of both ends' offers. The zero value is the plain
// stream.
type Grant struct {
	Extended bool
	Window   time.Duration // 0 is framing without resume

	malformed bool // as a StreamRequest had it; Fits nobody
}

// Agree is the hub's part: what both ends and the hub, which grants up to most, are
// ready for.
func Agree(device, service Offer, most time.Duration) Grant {
	if !device.Offered() || !service.Offered() {
		return Grant{}
	}
	return Grant{Extended: true, Window: min(device.Window, service.Window, most).Truncate(time.Second)}
}

// Fits reports whether the grant is one that an end with this offer can have been given.
// The plain stream always is.
func (g Grant) Fits(o Offer) bool {
	return !g.malformed && (!g.Extended || o.Offered() && g.Window <= o.Window)
}

// Header writes the grant as the hub's HeaderStream; it is not for a plain stream.
func (g Grant) Header() string { return streamVersion + "; w=" + seconds(g.Window) }

// ParseGrant reads the hub's HeaderStream. No header is a plain stream; one that is
// malformed, or does not fit what was offered, is not ok.
func ParseGrant(values []string, offered Offer) (g Grant, ok bool) {
	if len(values) == 0 {
		return Grant{}, true
	}
	version, params, ok := parameters(values[0])
	window, good := parseWindow(params["w"])
	if len(values) > 1 || !ok || !good || version != streamVersion {
		return Grant{}, false
	}
	g = Grant{Extended: true, Window: window}
	if !g.Fits(offered) {
		return Grant{}, false
	}
	return g, true
}

// property writes the grant as a property of a StreamRequest; "" for a plain stream.
func (g Grant) property() string {
	if !g.Extended {
		return ""
	}
	return "&" + propertyStream + "=" + streamVersion + "." + seconds(g.Window)
}

// grantProperty reads that property, of which there may be none. A malformed one must
// not hide the request from a device, which is to reject it.
func grantProperty(props map[string]string) Grant {
	text, ok := props[propertyStream]
	if !ok {
		return Grant{}
	}
	version, w, _ := strings.Cut(text, ".")
	window, ok := parseWindow(w)
	if !ok || version != streamVersion {
		return Grant{malformed: true}
	}
	return Grant{Extended: true, Window: window}
}
