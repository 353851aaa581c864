package hub_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what takes no time on an idle machine; soon is what a promise of
// "at once" may take: a second, and much more for a busy machine; no time-out of the hub
// is as short.
const (
	patience = 30 * time.Second
	soon     = 10 * time.Second
)

// world is a running hub, spoken to by hand.
type world struct {
	*hubtest.Server
	t *testing.T
}

func newWorld(t *testing.T, o hub.Options) *world {
	t.Helper()
	return &world{hubtest.New(t, o), t}
}

// answer is what the hub answered over HTTPS.
type answer struct {
	status int
	header http.Header
	body   string
}

// fault reads an error and checks what every error has: the name in the header, and
// JSON with a string Message.
func (a answer) fault(t *testing.T) wire.HubError {
	t.Helper()
	var body struct{ Message, ExceptionMessage *string }
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Message == nil || *body.Message == "" || body.ExceptionMessage == nil {
		t.Errorf("%d with body %q: want JSON with a Message (%v)", a.status, a.body, err)
	}
	if got := a.header.Get("Content-Type"); got != "application/json; charset=utf-8" {
		t.Errorf("%d with Content-Type %q", a.status, got)
	}
	e := wire.ParseError(a.status, a.header, []byte(a.body))
	if a.header.Get("iothub-errorcode") == "" || e.TrackingID == "" {
		t.Errorf("%d with error code %q, tracking ID %q", a.status, a.header.Get("iothub-errorcode"), e.TrackingID)
	}
	return e
}

// wants checks an error's name and that it comes with the name's status and, in the
// nested form, number.
func (a answer) wants(t *testing.T, code wire.ErrorCode) wire.HubError {
	t.Helper()
	e := a.fault(t)
	if a.status != code.Status() || e.Name != code.Name || e.Number != 0 && e.Number != code.Number {
		t.Errorf("answer is %d %s %d (%s), want %d %s", a.status, e.Name, e.Number, e.Message, code.Number, code.Name)
	}
	return e
}

// call is one request. auth is the whole Authorization header, "" for none.
type call struct {
	method, path, auth, body string
	header                   http.Header
}

func (w *world) do(ctx context.Context, c call) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, c.method, w.Hub.URL(), strings.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	path, query, _ := strings.Cut(c.path, "?")
	r.URL.Opaque, r.URL.RawQuery = path, query // sent as it is
	for key, values := range c.header {
		r.Header[http.CanonicalHeaderKey(key)] = values
	}
	if c.auth != "" {
		r.Header.Set("Authorization", c.auth)
	}
	got, err := w.Client().Do(r)
	if err != nil {
		return answer{}, err
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	return answer{got.StatusCode, got.Header, string(body)}, err
}

func (w *world) call(c call) answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := w.do(ctx, c)
	if err != nil {
		w.t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	return a
}

// raw sends a request as it is.
func (w *world) raw(request string) answer {
	w.t.Helper()
	config := w.trust()
	config.ServerName = "localhost"
	conn, err := tls.Dial("tcp", w.Hub.Address().String(), config)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		w.t.Fatal(err)
	}
	got, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.t.Fatalf("%.60q: %v", request, err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{got.StatusCode, got.Header, string(body)}
}

// owner is a good Authorization header of iothubowner.
func (w *world) owner() string { return w.policy("iothubowner") }

func (w *world) policy(name string) string {
	w.t.Helper()
	token, err := w.ConnectionString(name).SAS(time.Now().Add(time.Hour))
	if err != nil {
		w.t.Fatal(err)
	}
	return token.Reveal()
}

// as makes a call as iothubowner.
func (w *world) as(method, path, body string, header http.Header) answer {
	w.t.Helper()
	return w.call(call{method: method, path: path, auth: w.owner(), body: body, header: header})
}

// get reads a device's identity.
func (w *world) get(id string) wire.Device {
	w.t.Helper()
	a := w.as("GET", wire.IdentityPath(id), "", nil)
	return w.identity(a)
}

func (w *world) identity(a answer) wire.Device {
	w.t.Helper()
	var d wire.Device
	if err := json.Unmarshal([]byte(a.body), &d); err != nil || a.status != 200 {
		w.t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return d
}

// update writes a device's identity, whatever is there.
func (w *world) update(d wire.Device) wire.Device {
	w.t.Helper()
	body, err := json.Marshal(d)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.identity(w.as("PUT", wire.IdentityPath(d.Name()), string(body), http.Header{"If-Match": {`"*"`}}))
}

func (w *world) disable(id string) {
	w.t.Helper()
	w.update(wire.Device{DeviceID: id, Status: wire.StatusDisabled})
}

// post is a stream initiation under way.
type post struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan answer // closed when the caller gave up
}

// open asks for a stream as the policy service. Of the time-outs "" is left out.
func (w *world) open(device, name, connect, response string) *post {
	w.t.Helper()
	return w.openAs(device, name, "", connect, response)
}

// openOffering is open with offers of a kind of stream.
func (w *world) openOffering(device, name string, offers ...string) *post {
	w.t.Helper()
	return w.post(device, name, "", http.Header{wire.HeaderStream: offers})
}

func (w *world) openAs(device, name, body, connect, response string) *post {
	w.t.Helper()
	header := http.Header{}
	for key, value := range map[string]string{wire.HeaderConnectTimeout: connect, wire.HeaderResponseTimeout: response} {
		if value != "" {
			header.Set(key, value)
		}
	}
	return w.post(device, name, body, header)
}

func (w *world) post(device, name, body string, header http.Header) *post {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p := &post{t: w.t, cancel: cancel, done: make(chan answer, 1)}
	c := call{method: "POST", path: wire.StreamPath(device, name) + "?api-version=2018-10-20-preview", auth: w.policy("service"), body: body, header: header}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer close(p.done)
		if a, err := w.do(ctx, c); err == nil {
			p.done <- a
		}
	}()
	w.t.Cleanup(func() { cancel(); <-gone })
	return p
}

func (p *post) answer() answer {
	p.t.Helper()
	a, ok := <-p.done
	if !ok {
		p.t.Fatal("the hub did not answer the initiation")
	}
	return a
}

// accepted is the answer's URL and token.
func (p *post) accepted() (url, token string) {
	p.t.Helper()
	a := p.answer()
	if a.status != 200 || a.header.Get(wire.HeaderIsAccepted) != "True" {
		p.t.Fatalf("answer is %d %v %s, want an accepted stream", a.status, a.header, a.body)
	}
	return a.header.Get(wire.HeaderStreamURL), a.header.Get(wire.HeaderStreamToken)
}

// trust is a TLS configuration that verifies the hub by its CA.
func (w *world) trust() *tls.Config {
	return w.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}

// sas signs a token by hand: sr as it is, and whatever else is given.
func sas(sr, se string, key credential.Key, more string) string {
	raw, _ := base64.StdEncoding.DecodeString(key.Reveal())
	mac := hmac.New(sha256.New, raw)
	_, _ = io.WriteString(mac, sr+"\n"+se)
	sig := url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return "SharedAccessSignature sr=" + sr + "&sig=" + sig + "&se=" + se + more
}

func keyOf(t *testing.T, text string) credential.Key {
	t.Helper()
	key, err := credential.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// unix is a time as se has it, seconds from now.
func unix(fromNow time.Duration) string {
	return strconv.FormatInt(time.Now().Add(fromNow).Unix(), 10)
}

// eventually waits for what the hub does on its own, without telling anybody.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}
