package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/hub/store"
)

// What lies in a data dir. Everything but the two certificates is of mode 0600.
const (
	fileStore     = "hub.db"
	fileCA        = "ca.pem"
	fileCAKey     = "ca-key.pem"
	fileServer    = "server.pem"
	fileServerKey = "server-key.pem"
	// dirStrings holds one connection string per built-in policy. It is written
	// last on the first start, so that it also tells a data dir that was in use.
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
		if _, err := os.Stat(d.file(dirStrings)); err == nil {
			return fmt.Errorf("data dir %s has been in use but its registry %s is missing: restore the file from a backup, or name an empty data dir", d.path, fileStore)
		}
		bolt, err = store.CreateBolt(path)
	}
	if err != nil {
		return fmt.Errorf("open registry: %w", err)
	}
	d.store, d.registry = bolt, registry.New(bolt)
	if err := d.registry.CreateBuiltins(ctx); err != nil {
		return errors.Join(fmt.Errorf("registry %s: %w", path, err), bolt.Close())
	}
	return nil
}

// openCA reads the private CA's certificate, or makes a CA.
func (d *dataDir) openCA() error {
	d.ca = &authority{keyFile: d.file(fileCAKey)}
	text, err := os.ReadFile(d.file(fileCA))
	if err == nil {
		block, _ := pem.Decode(text)
		if block == nil {
			return fmt.Errorf("private CA %s: not a PEM certificate; restore the file from a backup", d.file(fileCA))
		}
		if d.ca.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("private CA %s: %w; restore the file from a backup", d.file(fileCA), err)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("private CA: %w", err)
	}
	if _, err := os.Stat(d.file(dirStrings)); err == nil {
		return fmt.Errorf("data dir %s has been in use but its CA certificate %s is missing: restore the file from a backup, as clients trust that CA", d.path, fileCA)
	}
	cert, key, err := newAuthority()
	if err != nil {
		return fmt.Errorf("make private CA: %w", err)
	}
	d.ca.cert = cert
	if err := writeFile(d.file(fileCAKey), key, 0o600); err != nil {
		return err
	}
	return writeFile(d.file(fileCA), encodeCert(cert.Raw), 0o644)
}

// serverCertificate is the certificate that was made for these names, or a new one.
func (d *dataDir) serverCertificate(hosts []string) (*ownCertificate, error) {
	own := &ownCertificate{ca: d.ca, hosts: hosts}
	pair, err := tls.LoadX509KeyPair(d.file(fileServer), d.file(fileServerKey))
	if err == nil && d.ca.serves(&pair, hosts, time.Now()) {
		own.cert = &pair
		return own, nil
	}
	cert, err := d.ca.issue(hosts)
	if err != nil {
		return nil, fmt.Errorf("make server certificate: %w", err)
	}
	key, err := encodeKey(cert.PrivateKey)
	if err != nil {
		return nil, err
	}
	if err := writeFile(d.file(fileServerKey), key, 0o600); err != nil {
		return nil, err
	}
	own.cert = cert
	return own, writeFile(d.file(fileServer), encodeCert(cert.Certificate...), 0o644)
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
		if err := writeFile(ConnectionStringFile(d.path, p.Name), []byte(text.Reveal()+"\n"), 0o600); err != nil {
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

// writeFile replaces a file as a whole: a reader sees the old content or the new,
// also after a crash. Links are replaced, not followed.
func writeFile(path string, data []byte, mode os.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // made with O_EXCL and 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in the folder last. Not every file system can.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	_ = dir.Sync()
	return dir.Close()
}
