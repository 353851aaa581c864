package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// certificateCheck is how often certificate files are looked at. A change is taken
// once it has stood that long: two files are rarely replaced at once.
const certificateCheck = 2 * time.Second

// fileCertificate is a server certificate from files. What it was last able to read
// stays in use.
type fileCertificate struct {
	app       *app
	cert, key string
	log       *slog.Logger
	current   atomic.Pointer[tls.Certificate]
	read      filesState
}

func newFileCertificate(a *app, cert, key string, log *slog.Logger) (*fileCertificate, error) {
	c := &fileCertificate{app: a, cert: cert, key: key, log: log}
	c.read = filesNow(c.cert, c.key)
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// get is for tls.Config.GetCertificate.
func (c *fileCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// load reads the pair.
func (c *fileCertificate) load() error {
	pair, err := c.app.readPair(c.cert, c.key, c.log)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c.current.Store(pair)
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
			last = filesNow(c.cert, c.key)
			c.reload(last)
		case <-ticker.C:
			state := filesNow(c.cert, c.key)
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
