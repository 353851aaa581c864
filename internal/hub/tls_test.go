package hub_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net"
	"net/http"
	"testing"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// fingerprint is a certificate's name in a connection string.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Both ports speak TLS 1.2 at least and present the CA at the end of the chain,
// under whatever name they are called.
func TestTLS(t *testing.T) {
	w := newWorld(t, hub.Options{Hosts: []string{"hub.example.test"}})
	ca := w.call(call{method: "GET", path: "/ca.pem"})
	block, _ := pem.Decode([]byte(ca.body))
	if block == nil || ca.header.Get("Content-Type") != "application/x-pem-file" {
		t.Fatalf("ca.pem is %q %s", ca.header, ca.body)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca.body))
	for _, address := range []net.Addr{w.Hub.Address(), w.Hub.MQTTAddress()} {
		for _, name := range []string{"hub.example.test", "localhost", "127.0.0.1", "::1", ""} {
			for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
				config := &tls.Config{RootCAs: roots, ServerName: name, MinVersion: version, MaxVersion: version}
				if name == "" {
					config.ServerName = "elsewhere.example.test"
					config.InsecureSkipVerify = true //nolint:gosec // what is presented is what the test looks at
				}
				conn, err := tls.Dial("tcp", address.String(), config)
				if (err == nil) != ok {
					t.Errorf("%s as %q with version %x: %v", address, name, version, err)
				}
				if err != nil {
					continue
				}
				chain := conn.ConnectionState().PeerCertificates
				if len(chain) != 2 || !bytes.Equal(chain[1].Raw, block.Bytes) {
					t.Errorf("%s presents %d certificates, want the hub's and the CA's", address, len(chain))
				}
				conn.Close()
			}
		}
	}
	if cs := w.ConnectionString("service"); cs.CAFingerprint != fingerprint(block.Bytes) {
		t.Errorf("connection string has CA %s", cs.CAFingerprint)
	}
}

func TestALPN(t *testing.T) {
	w := newWorld(t, hub.Options{})
	config := w.trust()
	config.ServerName, config.NextProtos = "localhost", []string{"h2", "http/1.1"}
	conn, err := tls.Dial("tcp", w.Hub.Address().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("protocol is %q: a WebSocket needs HTTP/1.1", p)
	}
}

// Plain HTTP gets no answer of the hub's.
func TestNoPlainText(t *testing.T) {
	w := newWorld(t, hub.Options{})
	got, err := http.Get("http://" + w.Hub.Address().String() + wire.PathHealth)
	if err != nil {
		return
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP is answered %s", got.Status)
	}
}

// With a certificate that the world trusts there is nothing to pin.
func TestOwnCertificate(t *testing.T) {
	w := newWorld(t, hub.Options{})
	config := w.trust()
	config.ServerName = "localhost"
	pair, err := tls.LoadX509KeyPair(w.DataDir+"/server.pem", w.DataDir+"/server-key.pem")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	dir := t.TempDir()
	h, err := hub.Open(t.Context(), hub.Options{
		DataDir: dir, Listen: "127.0.0.1:0",
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { asked++; return &pair, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	other := run(t, h)
	defer other.stop()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer client.CloseIdleConnections()
	got, err := client.Get(h.URL() + "/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	got.Body.Close()
	if got.StatusCode != http.StatusNotFound || asked == 0 {
		t.Errorf("ca.pem is answered %s; the certificate was asked for %d times", got.Status, asked)
	}
	cs, err := h.ConnectionString(t.Context(), "service")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains([]byte(cs.Reveal()), []byte("CaFingerprint")) {
		t.Error("the connection string pins a CA")
	}
	if _, ok := files(t, dir)["server.pem"]; ok {
		t.Error("a certificate was made that nobody needs")
	}
}
