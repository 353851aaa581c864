package main

import (
	"crypto/tls"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"
)

// expiryWarning is how long before its end a certificate is worth a warning. Source:
// docs/security.md, T25.
const expiryWarning = 30 * 24 * time.Hour

// filesState tells two versions of a certificate's and its key's file apart.
type filesState [2]struct {
	size     int64
	modified time.Time
	mode     fs.FileMode
}

// filesNow is that of files which cannot be read: zero, which is a state too.
func filesNow(cert, key string) (s filesState) {
	for i, path := range []string{cert, key} {
		if info, err := os.Stat(path); err == nil {
			s[i].size, s[i].modified, s[i].mode = info.Size(), info.ModTime(), info.Mode()
		}
	}
	return s
}

// readPair reads a certificate with its chain, and its key, both PEM. The key's file
// has to be its owner's alone to write. It warns when the certificate expires soon.
func (a *app) readPair(cert, key string, log *slog.Logger) (*tls.Certificate, error) {
	keyPEM, err := a.readOwnFile(key)
	if err != nil {
		return nil, err
	}
	certPEM, err := readPublicFile(cert)
	if err != nil {
		return nil, err
	}
	if err := refuseEncrypted(key, keyPEM); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		return nil, usage("%s with key %s: %w", cert, key, err)
	}
	if left := time.Until(pair.Leaf.NotAfter); left < expiryWarning {
		log.Warn("certificate expires soon", "file", cert, "until", pair.Leaf.NotAfter, "days", int(left/(24*time.Hour)))
	}
	return &pair, nil
}

// refuseEncrypted is for keys with a pass phrase: there is nobody to ask for it.
func refuseEncrypted(path, keyPEM string) error {
	if !strings.Contains(keyPEM, "ENCRYPTED") {
		return nil
	}
	err := usage("key %s is encrypted", path)
	err.hint = "take the pass phrase off a copy that only you can read: (umask 077; openssl pkey -in " + path + " -out plain.pem)"
	return err
}

// readPublicFile reads a file of certificates.
func readPublicFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", &codedError{exitUsage, permissionHint(err), err}
	}
	defer f.Close()
	return readLimited(f, path, maxPEM)
}
