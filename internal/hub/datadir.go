package hub

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/farportio/farport/internal/atomicfile"
	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/hub/store"
)

// What lies in a data dir, in the order in which a first start makes it: one that
// was cut short is taken up by the next, but what is missing before something that
// is there was lost. Everything but the two certificates is of mode 0600.
const (
	fileStore     = "hub.db"
	fileCAKey     = "ca-key.pem"
	fileCA        = "ca.pem"
	fileServerKey = "server-key.pem"
	fileServer    = "server.pem"
	// dirStrings holds one connection string per built-in policy.
	dirStrings = "connection-strings"
)

// ConnectionStringFile is where a hub with this data dir keeps the connection
// string of a built-in policy: one line, mode 0600.
func ConnectionStringFile(dataDir, policy string) string {
	return filepath.Join(dataDir, dirStrings, policy)
}

// dataDir is an open data dir: the registry, and the private CA.
type dataDir struct {
	path     string
	store    store.Store
	registry *registry.Registry
	ca       *authority
}

// openDataDir opens a data dir, or makes a new one of an empty or missing folder.
// A folder that has been in use but lacks its registry is refused, never filled
// anew. Another process's data dir is store.ErrInUse.
func openDataDir(ctx context.Context, path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make data dir: %w", err)
	}
	d := &dataDir{path: path}
	if err := d.openStore(ctx); err != nil {
		return nil, err
	}
	if err := d.openCA(); err != nil {
		return nil, errors.Join(err, d.store.Close())
	}
	return d, nil
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) openStore(ctx context.Context) error {
	path := d.file(fileStore)
	bolt, err := store.OpenBolt(path)
	if errors.Is(err, fs.ErrNotExist) {
		if d.hasAny(fileCAKey, fileCA, fileServerKey, fileServer, dirStrings) {
			return fmt.Errorf("data dir %s has been in use but its registry %s is missing: restore the file from a backup, or name an empty data dir", d.path, fileStore)
		}
		if err := makeStore(ctx, path); err != nil {
			return fmt.Errorf("make registry: %w", err)
		}
		bolt, err = store.OpenBolt(path)
	}
	if err != nil {
		return fmt.Errorf("open registry: %w", err)
	}
	d.store, d.registry = bolt, registry.New(bolt)
	return nil
}

// hasAny reports whether one of the names is there.
func (d *dataDir) hasAny(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		_, err := os.Lstat(d.file(name))
		return err == nil
	})
}

// makeStore makes a registry with the built-in policies. It gets its name when it is
// complete, so that a start which is cut short leaves none.
func makeStore(ctx context.Context, path string) error {
	unfinished := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+newID())
	bolt, err := store.CreateBolt(unfinished)
	if err != nil {
		return err
	}
	if err = errors.Join(registry.New(bolt).CreateBuiltins(ctx), bolt.Close()); err == nil {
		err = publish(unfinished, path)
	}
	if left := os.Remove(unfinished); left != nil && !errors.Is(left, fs.ErrNotExist) {
		err = errors.Join(err, left)
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// publish gives a file its name. Another process that was faster keeps it.
func publish(unfinished, path string) error {
	err := os.Link(unfinished, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return os.Rename(unfinished, path) // not every file system has links
}

// openCA reads the private CA's certificate, or makes a CA.
func (d *dataDir) openCA() error {
	d.ca = &authority{keyFile: d.file(fileCAKey)}
	text, err := os.ReadFile(d.file(fileCA))
	if err == nil {
		return d.checkCA(text)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("private CA: %w", err)
	}
	if d.hasAny(fileServerKey, fileServer, dirStrings) {
		return fmt.Errorf("data dir %s has been in use but its CA certificate %s is missing: restore the file from a backup, as clients trust that CA", d.path, fileCA)
	}
	cert, key, err := newAuthority()
	if err != nil {
		return fmt.Errorf("make private CA: %w", err)
	}
	d.ca.cert = cert
	if err := atomicfile.Write(d.file(fileCAKey), key, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(d.file(fileCA), encodeCert(cert.Raw), 0o644)
}

// checkCA takes the CA's certificate as it was read. Its key may be kept elsewhere
// until a server certificate is to be made; one that is there has to be its own.
func (d *dataDir) checkCA(text []byte) (err error) {
	if d.ca.cert, err = parseAuthority(text); err != nil {
		return fmt.Errorf("private CA %s: %w; restore the file from a backup", d.file(fileCA), err)
	}
	if _, err := d.ca.readKey(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; restore the file from a backup", err)
	}
	return nil
}

// serverCertificate is the certificate that was made for these names, or a new one.
func (d *dataDir) serverCertificate(hosts []string, log *slog.Logger) (*ownCertificate, error) {
	pair, err := d.readServer()
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w; restore %s and %s from a backup, or remove both and new ones are made",
			err, d.file(fileServer), d.file(fileServerKey))
	}
	if pair == nil || !serves(pair, hosts, time.Now()) {
		if pair, err = d.makeServer(hosts, pair); err != nil {
			return nil, fmt.Errorf("make server certificate: %w", err)
		}
	}
	return &ownCertificate{ca: d.ca, hosts: hosts, log: log, cert: pair}, nil
}

// readServer reads the server certificate and its key, nil when one is missing.
func (d *dataDir) readServer() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(d.file(fileServer), d.file(fileServerKey))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = pair.Leaf.CheckSignatureFrom(d.ca.cert)
	}
	if err == nil && (len(pair.Certificate) != 2 || !bytes.Equal(pair.Certificate[1], d.ca.cert.Raw)) {
		err = errors.New("the chain does not end with the private CA's certificate")
	}
	return &pair, err
}

// makeServer makes a server certificate. The key of the one before, if there is one,
// stays: two files cannot be replaced at once, but one can.
func (d *dataDir) makeServer(hosts []string, before *tls.Certificate) (*tls.Certificate, error) {
	var key crypto.Signer
	var err error
	if before != nil {
		key = before.PrivateKey.(crypto.Signer)
	} else if key, err = newKey(); err != nil {
		return nil, err
	}
	cert, err := d.ca.issue(hosts, key)
	if err == nil && before == nil {
		err = d.writeServerKey(key)
	}
	if err != nil {
		return nil, err
	}
	return cert, atomicfile.Write(d.file(fileServer), encodeCert(cert.Certificate...), 0o644)
}

// writeServerKey writes a new key. A certificate that is there is another key's.
func (d *dataDir) writeServerKey(key crypto.PrivateKey) error {
	text, err := encodeKey(key)
	if err != nil {
		return err
	}
	if err := os.Remove(d.file(fileServer)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.Write(d.file(fileServerKey), text, 0o600)
}

// writeConnectionStrings writes a file per policy. hostName may carry a port;
// fingerprint is the private CA's, "" for a certificate that the world trusts.
func (d *dataDir) writeConnectionStrings(ctx context.Context, hostName, fingerprint string) error {
	policies, err := d.registry.Policies(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.file(dirStrings), 0o700); err != nil {
		return fmt.Errorf("write connection strings: %w", err)
	}
	for _, p := range policies {
		text, err := connectionString(p, hostName, fingerprint)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(ConnectionStringFile(d.path, p.Name), []byte(text.Reveal()+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func connectionString(p registry.Policy, hostName, fingerprint string) (credential.Secret, error) {
	text := "HostName=" + hostName + ";SharedAccessKeyName=" + p.Name + ";SharedAccessKey=" + p.Primary.Reveal()
	if fingerprint != "" {
		text += ";CaFingerprint=sha256:" + fingerprint
	}
	if _, err := credential.ParseConnectionString(text); err != nil {
		return "", fmt.Errorf("host name %q: %w", hostName, err)
	}
	return credential.Secret(text), nil
}
