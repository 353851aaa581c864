package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/farportio/farport/hubclient"
)

// deviceCertificate is what a device signs in with instead of a key: from files that
// are read again for a connection when they have changed.
type deviceCertificate struct {
	app       *app
	cert, key string
	log       *slog.Logger

	mu   sync.Mutex
	pair *tls.Certificate
	read filesState // what pair was read from
}

// newDeviceCertificate checks the flags against the connection string. It returns nil
// for a device that signs in with a key.
func newDeviceCertificate(a *app, cs hubclient.ConnectionString, cert, key string, log *slog.Logger) (*deviceCertificate, error) {
	switch {
	case (cert == "") != (key == ""):
		return nil, usage("--cert and --key go together: one is missing")
	case cert == "" && cs.X509:
		err := usage("the connection string says x509=true, but there is no certificate")
		err.hint = "name its files with --cert and --key"
		return nil, err
	case cert == "":
		return nil, nil
	case !cs.X509:
		err := usage("--cert and --key are for a connection string with x509=true")
		err.hint = `"farport device connection-string ID" prints one for a device that was created with --x509-thumbprint or --x509-ca`
		return nil, err
	}
	c := &deviceCertificate{app: a, cert: cert, key: key, log: log}
	if _, err := c.get(); err != nil {
		return nil, fmt.Errorf("certificate: %w", err) // as hubclient has it
	}
	return c, nil
}

// get is for hubclient.DeviceOptions.
func (c *deviceCertificate) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state := filesNow(c.cert, c.key); c.pair == nil || state != c.read {
		pair, err := c.app.readPair(c.cert, c.key, c.log)
		if err != nil {
			return nil, err
		}
		c.pair, c.read = pair, state
	}
	if until := c.pair.Leaf.NotAfter; time.Now().After(until) {
		return nil, &codedError{
			exitFailed, "renew it; a new one in these files is taken for the next connection",
			fmt.Errorf("%s expired on %s", c.cert, until.UTC().Format(time.DateOnly)),
		}
	}
	return c.pair, nil
}
