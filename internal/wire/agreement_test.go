package wire

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

const testID = "2cqZ_9aByJ20xH5BvtXhuw"

var testOffer = Offer{testID, 5 * time.Minute}

// TestOfferWritten has the forms of docs/farport-v1.md, section 1.
func TestOfferWritten(t *testing.T) {
	if got := testOffer.Word(); got != "farport-stream/1;i="+testID+";w=300" {
		t.Errorf("word %q", got)
	}
	if got := testOffer.Header(); got != "1; i="+testID+"; w=300" {
		t.Errorf("header %q", got)
	}
	for _, window := range []time.Duration{0, time.Second, 1900 * time.Millisecond, MaxResumeWindow} {
		o := Offer{testID, window}
		want := Offer{testID, window.Truncate(time.Second)}
		if got := ParseOffer([]string{o.Header()}); got != want {
			t.Errorf("%+v became %+v by %q", o, got, o.Header())
		}
		if got := FindOffer("farport/1 (linux; arm64) " + o.Word()); got != want {
			t.Errorf("%+v became %+v by %q", o, got, o.Word())
		}
	}
}

func TestParseOffer(t *testing.T) {
	const i = "i=" + testID
	for text, taken := range map[string]bool{
		"1; " + i + "; w=300":                  true,
		"1;" + i + ";w=300":                    true,
		"1 ;\t" + i + " ;  w=300\t":            true,
		" 1; w=300; " + i:                      true,
		"2,1; " + i + "; w=300":                true,
		"1, 2, 17; " + i + "; w=300":           true,
		"1; " + i + "; w=300; x=; later=a%3Bb": true,
		"1; i=" + strings.Replace(testID, "_", "%5F", 1) + "; w=%33%30%30": true,
		"1; i=" + strings.Replace(testID, "_", "%5f", 1) + "; w=300":       true,

		"":                                         false,
		"1":                                        false,
		"2; " + i + "; w=300":                      false,
		"01; " + i + "; w=300":                     false,
		"0,1; " + i + "; w=300":                    false,
		"1,; " + i + "; w=300":                     false,
		"1 2; " + i + "; w=300":                    false,
		"v1; " + i + "; w=300":                     false,
		"1; " + i:                                  false,
		"1; w=300":                                 false,
		"1; i=; w=300":                             false,
		"1; " + i + "A; w=300":                     false,
		"1; i=\"" + testID + "\"; w=300":           false,
		"1; i=" + testID[:20] + "%0A%0D; w=300":    false,
		"1; I=" + testID + "; w=300":               false,
		"1; i =" + testID + "; w=300":              false,
		"1; i= " + testID + "; w=300":              false,
		"1; " + i + "; w=":                         false,
		"1; " + i + "; w=3601":                     false,
		"1; " + i + "; w=-1":                       false,
		"1; " + i + "; w=0300":                     false,
		"1; " + i + "; w=1.5":                      false,
		"1; " + i + "; w=300s":                     false,
		"1; " + i + "; w=99999999999999999999":     false,
		"1; " + i + "; w=300; w=300":               false,
		"1; " + i + "; w=300; x=1; x=2":            false,
		"1; " + i + "; w=300; flag":                false,
		"1; " + i + "; w=300; =x":                  false,
		"1; " + i + "; w=300;":                     false,
		"1; " + i + "; w=300; x=%zz":               false,
		"1; " + i + "; w=300; x=%":                 false,
		"1; " + i + "; w=300, 1; " + i + "; w=300": false, // two headers that a proxy joined
		"1; " + i + "; w=300; x=" + strings.Repeat("x", 500): false,
		"1;\u00a0" + i + "; w=300":                           false,
	} {
		want := Offer{}
		if taken {
			want = testOffer
		}
		if got := ParseOffer([]string{text}); got != want {
			t.Errorf("%q is %+v", text, got)
		}
		if word := strings.ReplaceAll(text, " ", ""); !strings.ContainsAny(text, " \t") && FindOffer("agent farport-stream/"+word) != want {
			t.Errorf("%q is not the same as a word", text)
		}
	}
	good := testOffer.Header()
	if got := ParseOffer([]string{good, good}); got.Offered() || ParseOffer(nil).Offered() {
		t.Errorf("two headers are %+v", got)
	}
}

func TestFindOffer(t *testing.T) {
	word := testOffer.Word()
	for text, taken := range map[string]bool{
		word:                                   true,
		"farport/0.3.0 (linux; arm64) " + word: true,
		word + " more words":                   true,
		"a  " + word + "  ":                    true,

		"":                                      false,
		"iothubclient/1.9.0 (native; Linux)":    false,
		"farport-stream/":                       false,
		"farport-stream/2;i=" + testID + ";w=1": false,
		word + " " + word:                       false,
		"farport-stream/x " + word:              false,
		word + " farport-stream/":               false,
		"x" + word:                              false,
		strings.ToUpper(word):                   false,
		strings.ReplaceAll(word, ";", "; "):     false,
		"a\n" + word:                            false,
		url.QueryEscape(word):                   false, // escaped twice
	} {
		if got := FindOffer(text); got.Offered() != taken || taken && got != testOffer {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

// A device's offer comes through its user name, and harms nothing else in it.
func TestUserNameOffer(t *testing.T) {
	u := UserName{Host: "hub.example.test", DeviceID: "pi-1", Params: url.Values{
		"api-version": {APIVersionDevice}, ParamClientType: {"farport/1 (linux; arm) " + testOffer.Word()},
	}}
	const want = "hub.example.test/pi-1/?api-version=2020-09-30&DeviceClientType=farport%2F1%20%28linux%3B%20arm%29%20farport-stream%2F1%3Bi%3D" + testID + "%3Bw%3D300"
	if got := u.String(); got != want {
		t.Errorf("user name %q", got)
	}
	got, ok := ParseUserName(want)
	if !ok || !sameUser(got, u) || got.Offer() != testOffer {
		t.Errorf("%+v with offer %+v", got, got.Offer())
	}
	if got, ok = ParseUserName(want + "&DeviceClientType=x"); !ok || got.Offer().Offered() {
		t.Errorf("two client types offer %+v", got.Offer())
	}
	if got, ok = ParseUserName("hub.example.test/pi-1"); !ok || got.Offer().Offered() {
		t.Errorf("no client type offers %+v", got.Offer())
	}
}

func TestAgree(t *testing.T) {
	of := func(seconds int) Offer { return Offer{testID, time.Duration(seconds) * time.Second} }
	for _, test := range []struct {
		device, service Offer
		most            time.Duration
		want            Grant
	}{
		{of(300), of(300), time.Hour, Grant{Extended: true, Window: 300 * time.Second}},
		{of(10), of(300), time.Hour, Grant{Extended: true, Window: 10 * time.Second}},
		{of(300), of(20), time.Hour, Grant{Extended: true, Window: 20 * time.Second}},
		{of(300), of(300), 30 * time.Second, Grant{Extended: true, Window: 30 * time.Second}},
		{of(300), of(300), 1500 * time.Millisecond, Grant{Extended: true, Window: time.Second}},
		{of(0), of(300), time.Hour, Grant{Extended: true}},
		{of(300), of(0), time.Hour, Grant{Extended: true}},
		{of(300), of(300), 0, Grant{Extended: true}},
		{Offer{}, of(300), time.Hour, Grant{}},
		{of(300), Offer{}, time.Hour, Grant{}},
		{Offer{}, Offer{}, time.Hour, Grant{}},
	} {
		got := Agree(test.device, test.service, test.most)
		if got != test.want {
			t.Errorf("%+v, %+v and %s agree on %+v", test.device, test.service, test.most, got)
		}
		if !got.Fits(test.device) || !got.Fits(test.service) {
			t.Errorf("%+v does not fit those who agreed on it", got)
		}
	}
}

func TestGrant(t *testing.T) {
	for text, want := range map[string]Grant{
		"1; w=300":      {Extended: true, Window: 300 * time.Second},
		"1;w=0;later=x": {Extended: true},
	} {
		if got, ok := ParseGrant([]string{text}, testOffer); !ok || got != want {
			t.Errorf("%q is %+v, %v", text, got, ok)
		}
		if got, ok := ParseGrant([]string{text}, Offer{}); ok || got != (Grant{}) {
			t.Errorf("%q, unasked, is %+v, %v", text, got, ok)
		}
		if got, ok := ParseGrant([]string{want.Header()}, testOffer); !ok || got != want {
			t.Errorf("%+v became %+v, %v", want, got, ok)
		}
	}
	if got, ok := ParseGrant(nil, Offer{}); !ok || got != (Grant{}) {
		t.Errorf("no header is %+v, %v", got, ok)
	}
	for _, text := range []string{"", "1", "2; w=1", "1,2; w=1", "1; w=", "1; w=301", "1; w=x", "1; w=1; w=1", "1.300"} {
		if got, ok := ParseGrant([]string{text}, testOffer); ok || got != (Grant{}) {
			t.Errorf("%q is %+v, %v", text, got, ok)
		}
	}
	if _, ok := ParseGrant([]string{"1; w=1", "1; w=1"}, testOffer); ok {
		t.Error("two headers are one grant")
	}
}

// A plain request is as it always was; one that grants what cannot be read is still a
// request, as the device is to reject it.
func TestStreamRequestGrant(t *testing.T) {
	extended := example
	extended.Grant = Grant{Extended: true, Window: 5 * time.Minute}
	if got := extended.Topic(); got != exampleTopic+"&$farport=1.300" {
		t.Errorf("topic %q", got)
	}
	for property, want := range map[string]Grant{
		"1.300":  extended.Grant,
		"1.0":    {Extended: true},
		"1.3600": {Extended: true, Window: time.Hour},
	} {
		r, ok := ParseStreamRequest(exampleTopic + "&$farport=" + property)
		if !ok || r.Grant != want || r.Grant.Fits(Offer{}) || !r.Grant.Fits(Offer{testID, MaxResumeWindow}) {
			t.Errorf("%q is %+v, %v", property, r.Grant, ok)
		}
	}
	if r, ok := ParseStreamRequest(exampleTopic); !ok || r.Grant != (Grant{}) || !r.Grant.Fits(Offer{}) {
		t.Errorf("a plain request grants %+v, %v", r.Grant, ok)
	}
	for _, property := range []string{"", "1", "1.", ".300", "2.300", "1.3601", "1.300.1", "1.x", "1.0300", "1;300", "%31.300"} {
		r, ok := ParseStreamRequest(exampleTopic + "&$farport=" + property)
		if !ok || r.Grant.Fits(Offer{testID, MaxResumeWindow}) || r.RID != example.RID {
			t.Errorf("%q is %+v, %v", property, r, ok)
		}
	}
	if !extended.Grant.Fits(testOffer) || extended.Grant.Fits(Offer{testID, 299 * time.Second}) {
		t.Error("300 s fit an offer of 299 s, or not one of 300 s")
	}
}

// An offer is taken in one way only, whoever wrote it.
func FuzzOffer(f *testing.F) {
	for _, text := range []string{testOffer.Word(), testOffer.Header(), "farport/1 " + testOffer.Word(), "1,2;w=0;i=" + testID, "1; i=%41; w=1", "farport-stream/1;x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, o := range []Offer{FindOffer(text), ParseOffer([]string{text})} {
			if !o.Offered() {
				if o != (Offer{}) {
					t.Errorf("%q is %+v", text, o)
				}
				continue
			}
			if !ValidInstance(o.Instance) || o.Window < 0 || o.Window > MaxResumeWindow || o.Window%time.Second != 0 {
				t.Errorf("%q is %+v", text, o)
			}
			if FindOffer(o.Word()) != o || ParseOffer([]string{o.Header()}) != o {
				t.Errorf("%q: %+v is not read back", text, o)
			}
		}
	})
}

func FuzzGrant(f *testing.F) {
	for _, text := range []string{"1; w=300", "1.300", "1;w=0;x=%20", "2.1", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if g, ok := ParseGrant([]string{text}, testOffer); ok {
			if !g.Extended || !g.Fits(testOffer) {
				t.Errorf("%q is %+v", text, g)
			}
			if again, ok := ParseGrant([]string{g.Header()}, testOffer); !ok || again != g {
				t.Errorf("%+v became %+v, %v", g, again, ok)
			}
		}
		if g := grantProperty(map[string]string{propertyStream: text}); g.Fits(Offer{testID, MaxResumeWindow}) && g.property() != "&"+propertyStream+"="+text {
			t.Errorf("%q is %+v, written %q", text, g, g.property())
		}
	})
}
