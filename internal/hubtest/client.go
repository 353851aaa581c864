package hubtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/wire"
)

// Client speaks HTTPS to the hub, under any of its names: it trusts the hub's CA
// alone and follows no redirect.
func (s *Server) Client() *http.Client { return s.client }

func newClient(t testing.TB, dataDir string, hub net.Addr) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(dataDir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots},
			// The resolver need not know the hub's names.
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, hub.String())
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// AddDevice creates a device with keys of the hub's making, or a module when name is
// DEVICE/MODULE, and returns the connection string with its primary key.
func (s *Server) AddDevice(name string) credential.ConnectionString {
	s.t.Helper()
	owner := s.ConnectionString("iothubowner")
	token, err := owner.SAS(time.Now().Add(time.Hour))
	if err != nil {
		s.t.Fatal(err)
	}
	var d struct {
		DeviceID       string `json:"deviceId"`
		ModuleID       string `json:"moduleId,omitempty"`
		Authentication *struct {
			SymmetricKey struct{ PrimaryKey string }
		} `json:"authentication,omitempty"`
	}
	d.DeviceID, d.ModuleID = wire.SplitTarget(name)
	body, err := json.Marshal(d)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPut, s.Hub.URL()+wire.IdentityPath(name), bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", token.Reveal())
	answer, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&d); err != nil || d.Authentication == nil {
		s.t.Fatalf("create %q: %s, %v", name, answer.Status, err)
	}
	key, err := credential.ParseKey(d.Authentication.SymmetricKey.PrimaryKey)
	if err != nil {
		s.t.Fatal(err)
	}
	cs := owner
	cs.SharedAccessKeyName, cs.SharedAccessKey = "", key
	cs.DeviceID, cs.ModuleID = d.DeviceID, d.ModuleID
	return cs
}
