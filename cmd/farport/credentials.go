package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
)

const (
	flagConnectionString     = "connection-string"
	flagConnectionStringFile = "connection-string-file"
	flagHub                  = "hub"
	// standardInput is the file name that means it.
	standardInput = "-"
	// maxSecretFile bounds a file with a connection string, in bytes, and maxPEM
	// one with certificates.
	maxSecretFile = 64 << 10
	maxPEM        = 4 << 20
	// quickstartPrefix begins the variables of Azure's tools that have credentials.
	quickstartPrefix = "IOTHUB_"
	// operatorPolicy is the policy of the hub's own machine.
	operatorPolicy = "iothubowner"
)

// Where the Azure tools and quickstarts have their connection strings.
var (
	serviceVariables = []string{"IOTHUB_CONNECTION_STRING", "IOTHUB_SERVICE_CONNECTION_STRING"}
	deviceVariables  = []string{"IOTHUB_DEVICE_CONNECTION_STRING", "IOTHUB_DEVICE_CONN_STRING"}
)

// credentialOptions say who somebody is to the hub, and whom to trust.
type credentialOptions struct {
	connectionString     string
	connectionStringFile string
	caFile               string
	hub                  string // the stored one's name
	proxy                string

	flags     *pflag.FlagSet
	variables []string
}

// addFlags takes the further variables that the connection string may stand in. Those
// of a service have --hub too.
func (o *credentialOptions) addFlags(flags *pflag.FlagSet, variables ...string) {
	o.addGivenFlags(flags, variables...)
	if !o.forService() {
		exclusive(flags, flagConnectionString, flagConnectionStringFile)
		return
	}
	flags.StringVar(&o.hub, flagHub, "", "use the hub that \"farport hub add\" has stored as `NAME`, not the current one")
	exclusive(flags, flagConnectionString, flagConnectionStringFile, flagHub)
}

// addGivenFlags are those that have, or name, the credentials themselves.
func (o *credentialOptions) addGivenFlags(flags *pflag.FlagSet, variables ...string) {
	o.flags, o.variables = flags, variables
	flags.StringVar(&o.connectionString, flagConnectionString, "", "how to reach the hub and sign in `STRING`; seen by others here, so rather use a file or $"+strings.Join(variables, ", $"))
	flags.StringVar(&o.connectionStringFile, flagConnectionStringFile, "", "read the connection string from `FILE`; - is standard input")
	flags.StringVar(&o.caFile, "ca-file", "", "trust the CA certificates in this PEM `FILE` instead of the system's")
	flags.StringVar(&o.proxy, flagProxy, "", "reach the hub through the proxy at `URL`: http://, https:// or socks5://, with user:password@ if it asks; \"none\" is no proxy (default $HTTPS_PROXY, with $NO_PROXY)")
	alsoFrom(flags, flagConnectionString, variables...)
}

// forService tells whether a service or an operator is asked for, and not a device.
func (o *credentialOptions) forService() bool { return o.variables[0] == serviceVariables[0] }

// deviceString is the connection string of a device.
func (a *app) deviceString(o *credentialOptions) (hubclient.ConnectionString, error) {
	cs, found, err := a.given(o)
	switch {
	case err != nil:
		return cs, err
	case !found:
		return cs, o.missing()
	case !cs.IsDevice():
		e := usage("the connection string is for a service, not for a device: it has no DeviceId")
		e.hint = `"farport device connection-string ID" prints a device's`
		return cs, e
	}
	return cs, nil
}

// serviceString is the connection string of a service or operator: the one given, or
// that of the hub named by --hub, of the current one, or of a hub on this machine.
func (a *app) serviceString(o *credentialOptions) (hubclient.ConnectionString, error) {
	cs, err := a.anyString(o)
	if err == nil && cs.IsDevice() {
		e := usage("the connection string is for %s, not for a service", named(hubclient.Target(cs)))
		e.hint = "use one with SharedAccessKeyName, such as connection-strings/service in the hub's data dir"
		return cs, e
	}
	return cs, err
}

// anyString is serviceString without a look at whose it is.
func (a *app) anyString(o *credentialOptions) (hubclient.ConnectionString, error) {
	cs, found, err := a.given(o)
	if err != nil || found {
		return cs, err
	}
	if stored, err := a.storedHub(o); err != nil || stored != nil {
		return a.openHub(stored, err)
	}
	dir, err := a.dataDir()
	if err != nil {
		return cs, o.missing()
	}
	file := hub.ConnectionStringFile(dir, operatorPolicy)
	text, err := a.readSecretFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return cs, o.missing()
	}
	if err != nil {
		return cs, err
	}
	return parse(file, text)
}

// given is the connection string of flags and variables.
func (a *app) given(o *credentialOptions) (cs hubclient.ConnectionString, found bool, err error) {
	switch {
	case o.connectionString != "":
		source := setBy(o.flags, flagConnectionString)
		if source == "" {
			source = "--" + flagConnectionString
			a.warnVisible(source)
		}
		cs, err = parse(source, o.connectionString)
	case o.connectionStringFile != "":
		var text string
		if text, err = a.readSecretFile(o.connectionStringFile); err == nil {
			source := o.connectionStringFile
			if source == standardInput {
				source = "standard input"
			}
			cs, err = parse(source, text)
		}
	default:
		return cs, false, nil
	}
	return cs, true, err
}

// warnVisible tells a person that what they typed can be seen. Scripts have been
// told by the manual.
func (a *app) warnVisible(what string) {
	if a.term.person {
		a.term.warn("%s on the command line can be seen by every user of this machine and stays in the shell's history", what)
	}
}

func parse(source, text string) (hubclient.ConnectionString, error) {
	cs, err := hubclient.ParseConnectionString(text)
	if err != nil {
		return cs, fmt.Errorf("%s: %w", source, err)
	}
	return cs, nil
}

func (o *credentialOptions) missing() error {
	err := usage("no connection string")
	err.hint = "set " + o.variables[0] + ", or name a file with --" + flagConnectionStringFile
	if o.forService() {
		err.hint += "; \"farport hub add NAME\" stores it for good; on the hub's own machine FARPORT_DATA_DIR says where its data dir is"
	}
	return err
}

// readSecretFile reads a file with a secret that others cannot have put there, or
// standard input.
func (a *app) readSecretFile(path string) (string, error) {
	return a.orStopped(func() (string, error) {
		if path == standardInput {
			return readLimited(a.in, "standard input", maxSecretFile)
		}
		return a.readOwnFile(path)
	})
}

// orStopped waits for a read that may never end, of a terminal or a pipe, no longer than
// until the first interrupt.
func (a *app) orStopped(read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	results := make(chan result, 1)
	go func() { // ends with the read, or the process
		text, err := read()
		results <- result{text, err}
	}()
	select {
	case r := <-results:
		return r.text, r.err
	case <-a.stopped:
		return "", errInterrupted
	}
}

func (a *app) readOwnFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", &codedError{exitUsage, permissionHint(err), err}
	}
	defer f.Close()
	if err := a.checkMode(f); err != nil {
		return "", err
	}
	return readLimited(f, path, maxSecretFile)
}

// checkMode refuses a secret's file that others can write, and warns when they can
// read it (security.md T22). Windows has no such modes, pipes no such writers.
func (a *app) checkMode(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := info.Mode()
	switch {
	case runtime.GOOS == "windows" || !mode.IsRegular():
	case a.fromSystemd(f.Name()): // made for us alone; the group's bits are those of an ACL
	case mode.Perm()&0o022 != 0:
		err := usage("%s can be written by others (mode %#o)", f.Name(), mode.Perm())
		err.hint = "check what is in it, then: chmod 600 " + f.Name()
		return err
	case mode.Perm()&0o044 != 0:
		a.term.warn("%s can be read by others (mode %#o); mend it with: chmod 600 %[1]s", f.Name(), mode.Perm())
	}
	return nil
}

// fromSystemd reports whether a file is one that systemd has laid out for this service
// (systemd.exec(5), LoadCredential=).
func (a *app) fromSystemd(path string) bool {
	dir, _ := a.lookup("CREDENTIALS_DIRECTORY")
	return filepath.IsAbs(dir) && filepath.Dir(path) == filepath.Clean(dir)
}

// readLimited reads all there is but the white space around it.
func readLimited(r io.Reader, name string, limit int64) (string, error) {
	text, err := readWhole(r, name, limit)
	return strings.TrimSpace(text), err
}

func readWhole(r io.Reader, name string, limit int64) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return "", usage("read %s: %w", name, err)
	}
	if int64(len(text)) > limit {
		return "", usage("%s is longer than %d bytes", name, limit)
	}
	return string(text), nil
}

// clientOptions are what hubclient needs besides the connection string.
func (a *app) clientOptions(o *credentialOptions, streams streamOptions) (hubclient.Options, error) {
	options := hubclient.Options{StreamingHosts: streams.hosts, ResumeWindow: streams.resumeWindow(), Logger: a.logger(slog.LevelWarn)}
	var err error
	if options.Proxy, err = a.outbound(o); err != nil {
		return options, err
	}
	text, err := a.caCertificates(o)
	if err != nil || text == "" {
		return options, err
	}
	options.RootCAs = x509.NewCertPool()
	options.RootCAs.AppendCertsFromPEM([]byte(text))
	return options, nil
}

// caCertificates are what to trust instead of the system's, in PEM: those of --ca-file,
// or else of the stored hub. "" is none.
func (a *app) caCertificates(o *credentialOptions) (string, error) {
	if o.caFile == "" {
		stored, err := a.storedHub(o)
		if err != nil || stored == nil {
			return "", err
		}
		return stored.CA, nil
	}
	text, err := readPublicFile(o.caFile)
	if err != nil {
		return "", fmt.Errorf("--ca-file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		return "", usage("--ca-file %s: has no certificate in PEM", o.caFile)
	}
	return text, nil
}

// service is a client for operators. The caller closes it.
func (a *app) service(o *credentialOptions, streams streamOptions) (*hubclient.Service, hubclient.ConnectionString, error) {
	cs, err := a.serviceString(o)
	if err != nil {
		return nil, cs, err
	}
	options, err := a.clientOptions(o, streams)
	if err != nil {
		return nil, cs, err
	}
	s, err := hubclient.NewService(cs, options)
	return s, cs, err
}

// dataDir is where a hub on this machine keeps its data, unless it was told
// another place.
func (a *app) dataDir() (string, error) {
	if dir, ok := a.lookup(variable("data-dir")); ok && dir != "" {
		return dir, nil
	}
	return defaultDataDir(a.lookup, runtime.GOOS, os.Geteuid() == 0)
}

// parseKey reads a symmetric key given by hand; "" is none.
func parseKey(flag, text string) (credential.Key, error) {
	if text == "" {
		return credential.Key{}, nil
	}
	key, err := credential.ParseKey(text)
	if err != nil {
		return key, usage("--%s: %w", flag, err)
	}
	return key, nil
}
