package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

const (
	// certificateCheck is how often certificate files are looked at. A change is
	// taken once it has stood that long: two files are rarely replaced at once.
	certificateCheck = 2 * time.Second
	// expiryWarning is how long before its end a certificate is worth a warning.
	// Source: docs/security.md, T25.
	expiryWarning = 30 * 24 * time.Hour
)

// fileCertificate is a server certificate from files. What it was last able to read
// stays in use.
type fileCertificate struct {
	app       *app
	cert, key string
	log       *slog.Logger
	current   atomic.Pointer[tls.Certificate]
	read      filesState
}

// filesState tells two versions of the files apart.
type filesState [2]struct {
	size     int64
	modified time.Time
	mode     fs.FileMode
}

func newFileCertificate(a *app, cert, key string, log *slog.Logger) (*fileCertificate, error) {
	c := &fileCertificate{app: a, cert: cert, key: key, log: log}
	c.read = c.state()
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// get is for tls.Config.GetCertificate.
func (c *fileCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// state is that of files which cannot be read: zero, which is a state too.
func (c *fileCertificate) state() (s filesState) {
	for i, path := range []string{c.cert, c.key} {
		if info, err := os.Stat(path); err == nil {
			s[i].size, s[i].modified, s[i].mode = info.Size(), info.ModTime(), info.Mode()
		}
	}
	return s
}

// load reads the pair. The key's file has to be its owner's alone to write.
func (c *fileCertificate) load() error {
	key, err := os.Open(c.key)
	if err != nil {
		return fmt.Errorf("--tls-key: %w", err)
	}
	defer key.Close()
	if err := c.app.checkMode(key); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.cert, c.key, err)
	}
	if left := time.Until(pair.Leaf.NotAfter); left < expiryWarning {
		c.log.Warn("certificate expires soon", "file", c.cert, "until", pair.Leaf.NotAfter, "days", int(left/(24*time.Hour)))
	}
	c.current.Store(&pair)
	return nil
}

// checkName warns when clients will not trust the certificate.
func (c *fileCertificate) checkName(hubURL string) {
	u, err := url.Parse(hubURL)
	if err != nil {
		return
	}
	if c.current.Load().Leaf.VerifyHostname(u.Hostname()) != nil {
		c.app.term.warn("the certificate %s is not for %q, so clients will not trust it; name the hub with --host", c.cert, u.Hostname())
	}
}

// watch reads the files again when they have changed, and at once when asked to. It
// returns when ctx ends.
func (c *fileCertificate) watch(ctx context.Context, now <-chan os.Signal) {
	ticker := time.NewTicker(certificateCheck)
	defer ticker.Stop()
	last := c.read
	for {
		select {
		case <-ctx.Done():
			return
		case <-now:
			last = c.state()
			c.reload(last)
		case <-ticker.C:
			state := c.state()
			if state == last && state != c.read {
				c.reload(state)
			}
			last = state
		}
	}
}

// reload takes over what the files hold, if it is any good.
func (c *fileCertificate) reload(state filesState) {
	c.read = state
	if err := c.load(); err != nil {
		c.log.Error("new certificate cannot be used, the old one stays", "err", err)
		return
	}
	c.log.Info("certificate read again", "file", c.cert, "until", c.current.Load().Leaf.NotAfter)
}
