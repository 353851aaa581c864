package hubclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/farportio/farport/internal/skip"
)

// newDeviceCertificate is a self-signed certificate of testDevice.
func newDeviceCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	signed := sign(t, testCA{}, func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtKeyUsage = testDevice, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	c := signed.chain()
	c.Leaf = signed.cert
	return &c
}

func always(c *tls.Certificate) func() (*tls.Certificate, error) {
	return func() (*tls.Certificate, error) { return c, nil }
}

// asking makes a hub ask for certificates. It names a CA that has signed none of them,
// as a hub may that knows devices by their thumbprints too.
func (h *testHub) asking(t *testing.T) *testHub {
	other := newTestCA(t)
	h.x509 = true
	h.tls = func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequestClientCert, rootsOf(other) }
	return h
}

// x509String is the connection string of a device, or a module of it, with a
// certificate.
func (h *testHub) x509String(device, module string) ConnectionString {
	h.t.Helper()
	text := "HostName=" + h.address() + ";DeviceId=" + device + ";x509=true;CaFingerprint=sha256:" + fingerprint(h.ca.cert)
	if module != "" {
		text += ";ModuleId=" + module
	}
	cs, err := ParseConnectionString(text)
	if err != nil {
		h.t.Fatal(err)
	}
	return cs
}

// The certificate goes to the control connection alone, and nothing else does: no
// password, and no wish not to be asked for it.
func TestCertificateLogin(t *testing.T) {
	for _, transport := range []Transport{MQTTWS, MQTT} {
		t.Run(fmt.Sprint(transport), func(t *testing.T) {
			hub := (&testHub{}).asking(t)
			connects := make(chan *packets.ConnectPacket, 2)
			presented := make(chan *x509.Certificate, 2)
			hub.device = func(s *deviceSession) {
				connects <- s.signIn(packets.Accepted)
				presented <- s.certificate()
				s.subscribe(0, 0)
				s.ask(request(1, hub.legURL()))
				s.drain()
			}
			hub.start(t)
			first, second := newDeviceCertificate(t), newDeviceCertificate(t)
			left := []*tls.Certificate{first, second}
			o := DeviceOptions{Transport: transport, MQTTPort: hub.listenMQTT(), Options: Options{Proxy: noProxy}}
			o.GetCertificate = func() (*tls.Certificate, error) {
				next := left[0]
				left = left[1:]
				return next, nil
			}
			for _, want := range []*tls.Certificate{first, second} { // a renewed one is taken
				d, err := DialDevice(t.Context(), hub.x509String(testDevice, "m1"), o)
				if err != nil {
					t.Fatal(err)
				}
				c := <-connects
				if c.PasswordFlag || len(c.Password) > 0 {
					t.Errorf("CONNECT has a password of %d bytes", len(c.Password))
				}
				if c.ClientIdentifier != "pi-1/m1" || !strings.HasPrefix(c.Username, "127.0.0.1/pi-1/m1/?api-version=") {
					t.Errorf("CONNECT is from %q as %q", c.ClientIdentifier, c.Username)
				}
				if got := <-presented; got == nil || fingerprint(got) != fingerprint(want.Leaf) {
					t.Errorf("presented %v", got)
				}
				if !d.RenewAt().IsZero() {
					t.Errorf("to be renewed at %v", d.RenewAt())
				}
				r, err := d.Next(bounded(t))
				if err != nil {
					t.Fatal(err)
				}
				leg, err := r.Accept(bounded(t))
				if err != nil {
					t.Fatal(err)
				}
				echo(t, leg)
				leg.Close()
				if hub.known.Load() || hub.resumed.Load() {
					t.Errorf("leg has a certificate: %v, resumed the session: %v", hub.known.Load(), hub.resumed.Load())
				}
				d.Close()
			}
		})
	}
}

// What cannot work is said before anybody is asked.
func TestCertificateLoginFails(t *testing.T) {
	broken := errors.New("open device.pem: no such file")
	tests := []struct {
		name, credentials string
		get               func() (*tls.Certificate, error)
		want              error
		text              string
	}{
		{"no certificate", "x509=true", nil, nil, "no certificate to sign in with"},
		{"not wanted", "SharedAccessKey=" + testKey, always(newDeviceCertificate(t)), nil, "does not say x509=true"},
		{"cannot be read", "x509=true", func() (*tls.Certificate, error) { return nil, broken }, broken, "certificate: open device.pem"},
		{"nil", "x509=true", always(nil), nil, "certificate: there is none"},
		{"empty", "x509=true", always(&tls.Certificate{}), nil, "certificate: there is none"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cs, err := ParseConnectionString("HostName=hub.example.test;DeviceId=pi-1;ModuleId=m1;" + tt.credentials)
			if err != nil {
				t.Fatal(err)
			}
			asked := false
			proxy := func(*http.Request) (*url.URL, error) { asked = true; return nil, errors.New("no") }
			_, err = DialDevice(t.Context(), cs, DeviceOptions{GetCertificate: tt.get, Options: Options{Proxy: proxy}})
			if err == nil || asked {
				t.Fatalf("error is %v; network was used: %v", err, asked)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error is %v", err)
			}
			contains(t, err.Error(), tt.text, `connect module "pi-1/m1" to hub.example.test: `)
		})
	}
}

// When something on the way ends TLS, the hub never sees the certificate.
func TestCertificateRefused(t *testing.T) {
	const hint = "nobody asked for the certificate"
	for _, asks := range []bool{true, false} {
		hub := &testHub{x509: true, device: func(s *deviceSession) { s.signIn(packets.ErrRefusedNotAuthorised); s.drain() }}
		if asks {
			hub.asking(t)
		}
		hub.start(t)
		_, err := DialDevice(t.Context(), hub.x509String(testDevice, ""), DeviceOptions{
			GetCertificate: always(newDeviceCertificate(t)), Options: Options{Proxy: noProxy},
		})
		if !errors.Is(err, ErrUnauthorized) {
			t.Fatalf("error is %v", err)
		}
		contains(t, err.Error(), `connect device "pi-1" to `, "(CONNACK 5")
		if hinted := strings.Contains(err.Error(), hint); hinted == asks {
			t.Errorf("asked for the certificate: %v; error is %v", asks, err)
		}
	}
}

// A key signs in without a certificate, even if the hub asks for one.
func TestKeyPresentsNoCertificate(t *testing.T) {
	hub := (&testHub{}).asking(t)
	hub.x509 = false
	presented := make(chan *x509.Certificate, 1)
	hub.device = func(s *deviceSession) {
		s.ready()
		presented <- s.certificate()
		s.drain()
	}
	hub.start(t)
	hub.dial(DeviceOptions{})
	if got := <-presented; got != nil {
		t.Errorf("presented %v", got.Subject)
	}
}

// Azure may ask for the certificate in TLS 1.2 when the connection stands already. No
// Go server can do that, but OpenSSL's.
func TestRenegotiation(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ca := newTestCA(t)
	server, address := startOpenSSL(ctx, t, ca.leaf(t, nil))

	l := &login{certificate: newDeviceCertificate(t)}
	h := &hub{trust: newTrust("", rootsOf(ca)), proxy: noProxy}
	config := h.trust.config("127.0.0.1")
	l.present(config)
	present, asked := config.GetClientCertificate, make(chan struct{})
	config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		close(asked)
		return present(r)
	}
	conn, err := h.dialTLSWith(ctx, "tcp", address, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if l.asked.Load() {
		t.Error("asked for the certificate at once")
	}
	server("R") // asks for it
	go func() {
		select {
		case <-asked:
			server("hello")
		case <-ctx.Done():
		}
	}()
	got := make([]byte, len("hello"))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" || !l.asked.Load() {
		t.Errorf("asked for the certificate: %v; read %q, %v", l.asked.Load(), got, err)
	}
}

// startOpenSSL serves one connection in TLS 1.2 until ctx ends. Lines said to it go to
// the client, but for those that are commands.
func startOpenSSL(ctx context.Context, t *testing.T, leaf testCA) (say func(string), address string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		skip.Test(t, "needs openssl: "+err.Error())
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.cert.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	file := filepath.Join(t.TempDir(), "server.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	server := exec.CommandContext(ctx, "openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2", "-naccept", "1", "-cert", file)
	in, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		reading.Wait()
		_ = server.Wait() // it was killed
	})
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		if a, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
			address = a
		}
	}
	reading.Go(func() { _, _ = io.Copy(io.Discard, out) })
	return func(line string) { _, _ = io.WriteString(in, line+"\n") }, address
}
