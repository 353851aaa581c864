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

// parameters splits "head;k=v;k=v", with optional spaces behind each semicolon, and
// decodes the values. A key given twice is an error.
func parameters(text string) (head string, params map[string]string, ok bool) {
	if len(text) > 512 {
		return "", nil, false
	}
	head, rest, more := strings.Cut(text, ";")
	params = make(map[string]string)
	for more {
		var pair string
		pair, rest, more = strings.Cut(rest, ";")
		key, value, isPair := strings.Cut(strings.TrimSpace(pair), "=")
		_, twice := params[key]
		decoded, err := url.PathUnescape(value)
		if !isPair || twice || key == "" || err != nil {
			return "", nil, false
		}
		params[key] = decoded
	}
	return strings.TrimSpace(head), params, true
}

func hasVersion(versions string) (found bool) {
	for v := range strings.SplitSeq(versions, ",") {
		v = strings.TrimSpace(v)
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
	ok := parseNumber([]byte(text), &n) && n <= uint64(MaxResumeWindow/time.Second)
	return time.Duration(n) * time.Second, ok
}

// Grant is what the hub has made of both ends' offers. The zero value is the plain
// stream.
type Grant struct {
	Extended bool
	Window   time.Duration // 0 is framing without resume
}

// Agree is the hub's part: what both ends and the hub, which grants up to most, are
// ready for.
func Agree(device, service Offer, most time.Duration) Grant {
	if !device.Offered() || !service.Offered() {
		return Grant{}
	}
	return Grant{Extended: true, Window: min(device.Window, service.Window, most).Truncate(time.Second)}
}

// Header writes the grant as the hub's HeaderStream; it is not for a plain stream.
func (g Grant) Header() string { return streamVersion + "; w=" + seconds(g.Window) }

// ParseGrant reads the hub's HeaderStream. No header is a plain stream; one that is
// malformed, or grants what was not offered, is not ok.
func ParseGrant(values []string, offered Offer) (g Grant, ok bool) {
	if len(values) == 0 {
		return Grant{}, true
	}
	version, params, ok := parameters(values[0])
	window, good := parseWindow(params["w"])
	if len(values) > 1 || !ok || !good || version != streamVersion || !offered.Offered() || window > offered.Window {
		return Grant{}, false
	}
	return Grant{Extended: true, Window: window}, true
}

// property writes the grant as a property of a StreamRequest; "" for a plain stream.
func (g Grant) property() string {
	if !g.Extended {
		return ""
	}
	return "&" + propertyStream + "=" + streamVersion + "." + seconds(g.Window)
}

// parseGrantProperty reads that property's value; "" is a plain stream.
func parseGrantProperty(text string) (Grant, bool) {
	if text == "" {
		return Grant{}, true
	}
	version, w, _ := strings.Cut(text, ".")
	window, ok := parseWindow(w)
	return Grant{Extended: true, Window: window}, ok && version == streamVersion
}
