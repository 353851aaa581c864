package hub_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // thumbprints may be SHA-1
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// authority is somebody who signs certificates.
type authority struct {
	t     *testing.T
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain [][]byte // from cert up to below a root, DER
}

// template is a certificate that lasts an hour.
func template(commonName string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: commonName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
}

func ca(commonName string) *x509.Certificate {
	c := template(commonName)
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	return c
}

// sign makes a certificate, signed by a, or by itself when a is nil.
func sign(t *testing.T, a *authority, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, by := c, key
	if a != nil {
		parent, by = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made, key
}

func newAuthority(t *testing.T, by *authority, name string) *authority {
	t.Helper()
	cert, key := sign(t, by, ca(name))
	a := &authority{t: t, cert: cert, key: key}
	if by != nil {
		a.chain = append([][]byte{cert.Raw}, by.chain...)
	}
	return a
}

// issue makes a certificate for a device, with the intermediates it takes.
func (a *authority) issue(c *x509.Certificate) *tls.Certificate {
	a.t.Helper()
	cert, key := sign(a.t, a, c)
	return &tls.Certificate{Certificate: append([][]byte{cert.Raw}, a.chain...), PrivateKey: key}
}

func selfSigned(t *testing.T, c *x509.Certificate) *tls.Certificate {
	t.Helper()
	cert, key := sign(t, nil, c)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// addX509 creates an identity of one of the two kinds.
func (w *world) addX509(name, authentication string) wire.Device {
	w.t.Helper()
	device, module := wire.SplitTarget(name)
	body := fmt.Sprintf(`{"deviceId":%q,"authentication":%s}`, device, authentication)
	if module != "" {
		body = fmt.Sprintf(`{"deviceId":%q,"moduleId":%q,"authentication":%s}`, device, module, authentication)
	}
	return w.identity(w.as("PUT", wire.IdentityPath(name), body, nil))
}

// thumbprints is the authentication of a certificate known by its thumbprint.
func thumbprints(primary, secondary string) string {
	return fmt.Sprintf(`{"type":"selfSigned","x509Thumbprint":{"primaryThumbprint":%q,"secondaryThumbprint":%q}}`, primary, secondary)
}

func sha1Of(c *tls.Certificate) string   { return fmt.Sprintf("%x", sha1.Sum(c.Certificate[0])) } //nolint:gosec // as above
func sha256Of(c *tls.Certificate) string { return fmt.Sprintf("%X", sha256.Sum256(c.Certificate[0])) }

// signIn tries a login on both listeners.
func (w *world) signIn(what string, l login, want bool) {
	w.t.Helper()
	for _, l.ws = range []bool{false, true} {
		d, code, err := w.connect(l)
		if err != nil || (code == packets.Accepted) != want {
			w.t.Errorf("%s (in a WebSocket: %v): CONNACK %d, %v; want %v", what, l.ws, code, err, want)
		}
		if d != nil {
			d.ping()
			d.conn.Close()
		}
	}
}

func TestThumbprints(t *testing.T) {
	w := newWorld(t, hub.Options{})
	first, second, other := selfSigned(t, template("x")), selfSigned(t, template("y")), selfSigned(t, template("x"))
	w.addX509("sha1", thumbprints(sha1Of(first), sha256Of(second)))
	w.addX509("sha256", thumbprints(sha256Of(first), ""))
	w.AddDevice("keys")
	w.AddDevice("pi-1")
	w.addX509("pi-1/m", thumbprints(sha256Of(first), ""))
	w.addX509("signed", `{"type":"certificateAuthority"}`)
	w.signIn("SHA-1", login{id: "sha1", cert: first}, true)
	w.signIn("secondary", login{id: "sha1", cert: second}, true)
	w.signIn("SHA-256", login{id: "sha256", cert: first}, true)
	w.signIn("module", login{id: "pi-1/m", cert: first}, true)
	w.signIn("another certificate", login{id: "sha1", cert: other}, false)
	w.signIn("another device's", login{id: "sha256", cert: second}, false)
	w.signIn("no certificate", login{id: "sha1"}, false)
	w.signIn("an identity with keys", login{id: "keys", cert: first}, false)
	w.signIn("an identity by CA", login{id: "signed", cert: first}, false)
	w.signIn("no such device", login{id: "none", cert: first}, false)
	w.signIn("its device", login{id: "pi-1", cert: first}, false)

	// A certificate beside a token is nobody's business.
	key := w.AddDevice("both").SharedAccessKey
	w.signIn("token and certificate", login{id: "both", password: sas("localhost/devices/both", unix(time.Hour), key, ""), cert: other}, true)
	w.signIn("wrong token and right certificate", login{id: "sha1", password: sas("localhost/devices/sha1", unix(time.Hour), key, ""), cert: first}, false)
	// A policy may connect as any device.
	policy := w.ConnectionString("device").SharedAccessKey
	w.signIn("policy", login{id: "sha1", password: sas("localhost/devices/sha1", unix(time.Hour), policy, "&skn=device")}, true)

	// Dates do not matter here: the thumbprint is all that was agreed on.
	old := template("old")
	old.NotAfter = time.Now().Add(-time.Minute)
	expired := selfSigned(t, old)
	w.addX509("old", thumbprints(sha256Of(expired), ""))
	w.signIn("expired", login{id: "old", cert: expired}, true)
}

// What a connection keeps of a stranger's certificates is bounded.
func TestLongChains(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cert := selfSigned(t, template("x"))
	w.addX509("pi-1", thumbprints(sha256Of(cert), ""))
	large := template("large")
	large.DNSNames = slices.Repeat([]string{strings.Repeat("x", 60) + ".example"}, 200)
	filler := selfSigned(t, large).Certificate[0] // some 14 KiB
	cert.Certificate = append(cert.Certificate, filler, filler)
	w.signIn("two more certificates", login{id: "pi-1", cert: cert}, true)
	cert.Certificate = append(cert.Certificate, filler)
	if d, code, err := w.connect(login{id: "pi-1", cert: cert}); err == nil {
		d.conn.Close()
		t.Errorf("%d bytes of certificates: CONNACK %d", len(cert.Certificate)*len(filler), code)
	}
}

// A stranger's certificate does not fill the log.
func TestLongNamesInTheLog(t *testing.T) {
	w := newWorld(t, hub.Options{})
	w.addX509("pi-1", `{"type":"certificateAuthority"}`)
	name := strings.Repeat("x", 8<<10)
	signer, namesake := newAuthority(t, nil, name), newAuthority(t, nil, name)
	cert := signer.issue(template("pi-1"))
	cert.Certificate = append(cert.Certificate, namesake.cert.Raw)
	w.signIn("a namesake's signature", login{id: "pi-1", cert: cert}, false)
	if line := w.Log.WaitFor(t, "device refused", "no registered CA"); len(line) > 1000 {
		t.Errorf("logged %d bytes", len(line))
	}
}

// A resumed TLS session proves what the first one did, and no more.
func TestResumedSessionsAreVerified(t *testing.T) {
	w := newWorld(t, hub.Options{})
	cert := selfSigned(t, template("x"))
	w.addX509("pi-1", thumbprints(sha256Of(cert), ""))
	w.addX509("pi-2", thumbprints(strings.Repeat("0", 64), ""))
	tickets := tls.NewLRUClientSessionCache(1)
	resumed := false
	for range 3 {
		d := w.connected(login{id: "pi-1", cert: cert, tickets: tickets})
		d.ping()
		resumed = d.conn.(*tls.Conn).ConnectionState().DidResume
	}
	if !resumed {
		t.Fatal("the session was not resumed; the test sees nothing")
	}
	if _, code, err := w.connect(login{id: "pi-2", cert: cert, tickets: tickets}); err != nil || code == packets.Accepted {
		t.Errorf("another device on a resumed session: CONNACK %d, %v", code, err)
	}
	w.as("DELETE", "/devices/pi-1", "", nil)
	if _, code, err := w.connect(login{id: "pi-1", cert: cert, tickets: tickets}); err != nil || code == packets.Accepted {
		t.Errorf("a deleted device on a resumed session: CONNACK %d, %v", code, err)
	}
}

// register registers a CA with proof, and returns its fingerprint.
func (w *world) register(a *authority) string {
	w.t.Helper()
	code := w.verificationCode(a)
	proof, _ := sign(w.t, a, template(code))
	got := w.propose(a, pemOf(proof.Raw))
	var registered wire.CA
	if err := json.Unmarshal([]byte(got.body), &registered); err != nil || got.status != 200 {
		w.t.Fatalf("register CA: %d %s", got.status, got.body)
	}
	return registered.Fingerprint
}

func (w *world) propose(a *authority, proof string) answer {
	w.t.Helper()
	body, err := json.Marshal(wire.CAProposal{Certificate: pemOf(a.cert.Raw), Proof: proof})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.as("POST", wire.PathCAs, string(body), nil)
}

func (w *world) verificationCode(a *authority) string {
	w.t.Helper()
	got := w.propose(a, "")
	var proposed wire.CA
	if err := json.Unmarshal([]byte(got.body), &proposed); err != nil || got.status != 200 || proposed.VerificationCode == "" || len(proposed.VerificationCode) > 64 {
		w.t.Fatalf("propose CA: %d %s", got.status, got.body)
	}
	return proposed.VerificationCode
}

func TestSignedByCA(t *testing.T) {
	w := newWorld(t, hub.Options{})
	root, stranger := newAuthority(t, nil, "root"), newAuthority(t, nil, "root")
	factory := newAuthority(t, root, "factory")
	w.register(root)
	const signed = `{"type":"certificateAuthority"}`
	w.addX509("pi-1", signed)
	w.addX509("pi-1/m", signed)
	w.addX509("Pi+1#,'$", signed)
	w.signIn("by the root", login{id: "pi-1", cert: root.issue(template("pi-1"))}, true)
	w.signIn("by an intermediate", login{id: "pi-1", cert: factory.issue(template("pi-1"))}, true)
	w.signIn("odd ID", login{id: "Pi+1#,'$", cert: root.issue(template("Pi+1#,'$"))}, true)
	w.signIn("module", login{id: "pi-1/m", cert: root.issue(template("pi-1/m"))}, true)
	w.signIn("module, named as its device", login{id: "pi-1/m", cert: root.issue(template("pi-1"))}, false)
	w.signIn("another device's", login{id: "pi-1", cert: root.issue(template("pi-2"))}, false)
	w.signIn("other letter case", login{id: "pi-1", cert: root.issue(template("PI-1"))}, false)
	w.signIn("a CA nobody registered", login{id: "pi-1", cert: stranger.issue(template("pi-1"))}, false)
	w.signIn("signed by itself", login{id: "pi-1", cert: selfSigned(t, template("pi-1"))}, false)
	cut := factory.issue(template("pi-1"))
	cut.Certificate = cut.Certificate[:1]
	w.signIn("intermediate left out", login{id: "pi-1", cert: cut}, false)
	planted := stranger.issue(template("pi-1"))
	planted.Certificate = append(planted.Certificate, stranger.cert.Raw, root.cert.Raw)
	w.signIn("with a root of its own", login{id: "pi-1", cert: planted}, false)

	for what, change := range map[string]func(*x509.Certificate){
		"expired":           func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"not yet valid":     func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) },
		"for servers":       func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"two CNs":           func(c *x509.Certificate) { c.Subject.ExtraNames = twoNames("pi-2", "pi-1") },
		"the same CN twice": func(c *x509.Certificate) { c.Subject.ExtraNames = twoNames("pi-1", "pi-1") },
		"ID as DNS name":    func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "", []string{"pi-1"} },
		"CN with more":      func(c *x509.Certificate) { c.Subject.CommonName = "pi-1\x00" },
	} {
		c := template("pi-1")
		change(c)
		w.signIn(what, login{id: "pi-1", cert: root.issue(c)}, false)
	}
	leaf := root.issue(template("leaf"))
	parsed, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	byLeaf := &authority{t: t, cert: parsed, key: leaf.PrivateKey.(*ecdsa.PrivateKey), chain: leaf.Certificate}
	w.signIn("signed by a device's certificate", login{id: "pi-1", cert: byLeaf.issue(template("pi-1"))}, false)
}

func twoNames(a, b string) []pkix.AttributeTypeAndValue {
	oid := asn1.ObjectIdentifier{2, 5, 4, 3}
	return []pkix.AttributeTypeAndValue{{Type: oid, Value: a}, {Type: oid, Value: b}}
}

// Taking back the certificate, or the CA, ends what was opened with it.
func TestCertificatesAreRevoked(t *testing.T) {
	w := newWorld(t, hub.Options{})
	root, second := newAuthority(t, nil, "root"), newAuthority(t, nil, "second")
	fingerprint := w.register(root)
	w.register(second)
	w.addX509("pi-1", `{"type":"certificateAuthority"}`)
	w.addX509("pi-2", `{"type":"certificateAuthority"}`)
	own := selfSigned(t, template("x"))
	w.addX509("pi-3", thumbprints(sha256Of(own), ""))
	connect := func(id string, cert *tls.Certificate) (*device, pair) {
		d := w.connected(login{id: id, cert: cert})
		d.subscribe()
		return d, w.stream(d)
	}
	first, cut := connect("pi-1", root.issue(template("pi-1")))
	_, goesOn := connect("pi-2", second.issue(template("pi-2")))
	third, byThumbprint := connect("pi-3", own)

	if got := w.as("DELETE", wire.CAPath(fingerprint), "", nil); got.status != 204 {
		t.Fatalf("remove CA: %d %s", got.status, got.body)
	}
	ends(t, cut.device, wire.EndRevoked)
	ends(t, cut.service, wire.EndRevoked)
	first.ended()
	goesOn.echo(t)
	byThumbprint.echo(t)
	w.signIn("removed CA", login{id: "pi-1", cert: root.issue(template("pi-1"))}, false)

	d := w.get("pi-3")
	other := sha256Of(selfSigned(t, template("y")))
	d.Authentication.X509Thumbprint.PrimaryThumbprint = &other
	w.update(d)
	ends(t, byThumbprint.device, wire.EndRevoked)
	third.ended()
	goesOn.echo(t)
}

// A CA is registered by who can sign with it.
func TestRegisterCA(t *testing.T) {
	w := newWorld(t, hub.Options{})
	root, other := newAuthority(t, nil, "root\x1b[31m"), newAuthority(t, nil, "other")
	code := w.verificationCode(root)
	signedFor := func(by *authority, code string) string {
		proof, _ := sign(t, by, template(code))
		return pemOf(proof.Raw)
	}
	elsewhere := newWorld(t, hub.Options{})
	selfMade := selfSigned(t, template(code))
	for what, proof := range map[string]string{
		"garbage":              "garbage",
		"the CA itself":        pemOf(root.cert.Raw),
		"another code":         signedFor(root, "0"+code),
		"no code":              signedFor(root, "root"),
		"another CA's code":    signedFor(root, w.verificationCode(other)),
		"another hub's code":   signedFor(root, elsewhere.verificationCode(root)),
		"signed by another CA": signedFor(other, code),
		"signed by itself":     pemOf(selfMade.Certificate[0]),
		"two certificates":     signedFor(root, code) + signedFor(root, code),
	} {
		if e := w.propose(root, proof).wants(t, wire.ErrArgumentInvalid); !strings.HasPrefix(e.Message, "proof: ") {
			t.Errorf("%s: %s", what, e.Message)
		}
	}
	for what, body := range map[string]string{
		"no CA":            mustJSON(t, wire.CAProposal{Certificate: pemOf(selfMade.Certificate[0])}),
		"garbage":          mustJSON(t, wire.CAProposal{Certificate: "garbage"}),
		"two certificates": mustJSON(t, wire.CAProposal{Certificate: pemOf(root.cert.Raw) + pemOf(other.cert.Raw)}),
		"nothing":          `{}`,
	} {
		if got := w.as("POST", wire.PathCAs, body, nil); got.status != 400 {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	if got := w.as("GET", wire.PathCAs, "", nil); got.body != "[]" {
		t.Errorf("registered without proof: %s", got.body)
	}
	fingerprint := w.register(root)
	if again := w.register(root); again != fingerprint || fingerprint != fmt.Sprintf("%x", sha256.Sum256(root.cert.Raw)) {
		t.Errorf("fingerprints %s, %s", fingerprint, again)
	}
	var list []wire.CA
	got := w.as("GET", wire.PathCAs, "", nil)
	if err := json.Unmarshal([]byte(got.body), &list); err != nil || len(list) != 1 || list[0].Certificate != pemOf(root.cert.Raw) || list[0].Created.IsZero() || list[0].VerificationCode != "" {
		t.Errorf("list: %s", got.body)
	}
	w.as("DELETE", wire.CAPath(strings.Repeat("0", 64)), "", nil).wants(t, wire.ErrNotFound)
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
