package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/sysservice"
)

type deviceInstallOptions struct {
	deviceProxyOptions
	print bool
}

func newDeviceInstall(a *app) *cobra.Command {
	var o deviceInstallOptions
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Make device-proxy a service of this system",
		Long: `Makes device-proxy a service that runs from boot on, under systemd, launchd or
Windows, starts it and waits until the hub has accepted the device. It takes
device-proxy's own flags. Installing again replaces flags and connection string; what
fails leaves all as it was.

The connection string is copied to a file that only root can read, and so is a --proxy
with a password. On systemd the service runs as a user of its own that can change
nothing, and gets these files, --cert, --key and --ca-file from systemd. A program in
somebody's home folder cannot be started so: put it in /usr/local/bin first.

Without --proxy, the proxy that $HTTPS_PROXY and $NO_PROXY give for the hub is the
service's too.

"farport device create ID --install-command" prints the whole line for a device.`,
		Example: `  sudo farport device-proxy install --connection-string-file device.conn
  sudo farport device-proxy install --connection-string-file - --service ssh=127.0.0.1:22 <device.conn
  farport device-proxy install --print --target 127.0.0.1:3389`,
		Args:        arguments(),
		Annotations: exitStatus(exitUsage, exitUnauthorized),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.take(a, nil); err != nil {
				return err
			}
			if err := a.configure(cmd.Flags()); err != nil {
				return err
			}
			shared := cmd.InheritedFlags()
			return runDeviceInstall(cmd.Context(), a, o, func(f *pflag.Flag) bool { return shared.Lookup(f.Name) == nil })
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.print, "print", false, "only print the service's definition, which holds no secret")
	return cmd
}

func newDeviceUninstall(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "uninstall",
		Short:   "Stop and remove the service",
		Long:    `Stops the service and removes it, with its connection string and other secrets.`,
		Example: `  sudo farport device-proxy uninstall`,
		Args:    arguments(), Annotations: exitStatus(exitUsage),
		RunE: func(cmd *cobra.Command, _ []string) error {
			was, err := sysservice.New().Uninstall(cmd.Context())
			switch {
			case err != nil:
				return serviceError("uninstall the service", err)
			case was:
				a.term.notice("service %s removed, and its secrets", sysservice.Name)
			default:
				a.term.notice("service %s is not installed", sysservice.Name)
			}
			return nil
		},
	}
}

func newDeviceServiceStatus(a *app) *cobra.Command {
	var o outputOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell whether the service runs",
		Long: `Tells whether the service is running, stopped or not installed, and on systemd since
when and whether the hub has accepted the device. Exits 0 when it is running, 1
otherwise.`,
		Example: `  farport device-proxy status
  farport device-proxy status -o json`,
		Args:        arguments(),
		Annotations: exitStatus(exitUsage),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runDeviceServiceStatus(cmd.Context(), a, o) },
	}
	o.addFlags(cmd.Flags(), formatTable)
	completeOutput(cmd)
	return cmd
}

func runDeviceInstall(ctx context.Context, a *app, o deviceInstallOptions, own func(*pflag.Flag) bool) error {
	cs, err := a.deviceString(&o.credentialOptions)
	if err != nil && !(o.print && !o.hasString()) {
		return err
	}
	if err == nil {
		if err := o.takeProxy(a, cs); err != nil {
			return err
		}
	}
	spec, err := o.spec(a, own)
	if err != nil {
		return err
	}
	if o.print {
		text, err := sysservice.Definition(spec)
		if err == nil {
			_, err = io.WriteString(a.term.out, text)
		}
		return serviceError("print the service", err)
	}
	if _, err := newDeviceCertificate(a, cs, o.cert, o.key, a.logger(slog.LevelWarn)); err != nil {
		return err
	}
	spec.Connection = cs.Reveal()
	status, err := sysservice.New().Install(ctx, spec)
	if err != nil {
		return serviceError("install the service", err)
	}
	a.term.notice("service %s installed and running%s", sysservice.Name, detail(status))
	if runtime.GOOS == "linux" && !connected(status) {
		a.term.warn("the hub has not accepted the device yet; the service goes on trying")
		a.term.hint("journalctl -u %s says why", sysservice.Name)
	}
	return nil
}

// spec checks the flags and makes a service of them.
func (o *deviceInstallOptions) spec(a *app, own func(*pflag.Flag) bool) (sysservice.Spec, error) {
	proxy, err := o.proxyOptions(a)
	if err != nil {
		return sysservice.Spec{}, err
	}
	if _, err := a.clientOptions(&o.credentialOptions, o.streamOptions); err != nil {
		return sysservice.Spec{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return sysservice.Spec{}, err
	}
	spec := sysservice.Spec{Executable: program}
	if proxy.Target != "" && proxy.Target != net.JoinHostPort(defaultTargetHost, defaultTargetPort) {
		spec.Arguments = append(spec.Arguments, "--target="+proxy.Target) // maybe from a quickstart's variables
	}
	o.flags.Visit(func(f *pflag.Flag) {
		if err == nil && own(f) {
			err = addFlag(&spec, f)
		}
	})
	return spec, err
}

// hasString reports whether a connection string is given, be it good or bad.
func (o *deviceInstallOptions) hasString() bool {
	return o.connectionString != "" || o.connectionStringFile != ""
}

// takeProxy takes the proxy for the hub from the environment, which the service does not
// have, where none is given.
func (o *deviceInstallOptions) takeProxy(a *app, cs hubclient.ConnectionString) error {
	if o.proxy != "" {
		return nil
	}
	if _, err := a.outbound(&o.credentialOptions); err != nil { // before anything of it is said
		return err
	}
	u, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: cs.Address()}})
	if err != nil || u == nil {
		return err
	}
	a.term.notice("the service uses the HTTP proxy of the environment, %s://%s", u.Scheme, u.Host)
	return a.fromArgument(o.flags, flagProxy, "$HTTPS_PROXY", u.String())
}

// addFlag passes a flag on to the service.
func addFlag(spec *sysservice.Spec, f *pflag.Flag) error {
	switch f.Name {
	case "print", "target", "help", flagConnectionString, flagConnectionStringFile:
		return nil // for install alone, or in the service already
	case flagConfig:
		return nil // the flags that it has are set
	case "ca-file", "cert", "key":
		path, err := filepath.Abs(f.Value.String())
		spec.Files = append(spec.Files, sysservice.File{Flag: f.Name, Path: path})
		return err
	case flagProxy:
		if !hasPassword(f.Value.String()) {
			break
		}
		text, err := yaml.Marshal(map[string]string{f.Name: f.Value.String()})
		spec.Config = string(text) // other users see arguments
		return err
	}
	values := []string{f.Value.String()}
	if many, ok := f.Value.(pflag.SliceValue); ok {
		values = many.GetSlice()
	}
	for _, v := range values {
		spec.Arguments = append(spec.Arguments, "--"+f.Name+"="+v)
	}
	return nil
}

func runDeviceServiceStatus(ctx context.Context, a *app, o outputOptions) error {
	if err := oneOf("output", o.format, formatTable, formatJSON); err != nil {
		return err
	}
	status, err := sysservice.New().Status(ctx)
	if err != nil {
		return serviceError("ask for the service", err)
	}
	err = a.term.result(o, status, func() error {
		since := ""
		if !status.Since.IsZero() {
			since = fmt.Sprintf(" since %s (%s)", status.Since.Local().Format(time.DateTime), formatAgo(status.Since, time.Now()))
		}
		a.term.println(oneLine(sysservice.Name + ": " + string(status.State) + since + detail(status)))
		return nil
	})
	if err != nil || status.State == sysservice.Running {
		return err
	}
	e := &codedError{code: exitFailed, err: fmt.Errorf("service %s is %s", sysservice.Name, status.State)}
	if status.State == sysservice.NotInstalled {
		e.hint = `"farport device-proxy install" makes it`
	}
	return e
}

// detail is the service's own word after what we say of it.
func detail(s sysservice.Status) string {
	if s.Detail == "" {
		return ""
	}
	return ": " + s.Detail
}

// serviceError says what failed, and what helps. nil stays nil.
func serviceError(what string, err error) error {
	if err == nil {
		return nil
	}
	code, hint := exitFailed, ""
	ended, isEnded := errors.AsType[*sysservice.EndedError](err)
	switch {
	case errors.Is(err, sysservice.ErrNotRoot):
		hint = "run it again with sudo"
		if runtime.GOOS == "windows" {
			hint = "run it again as administrator"
		}
	case errors.Is(err, sysservice.ErrNoManager):
		hint = `systemd, launchd and Windows are supported; elsewhere let the system's own start "farport device-proxy"`
	case errors.Is(err, sysservice.ErrOutOfReach):
		hint = "put the program where everybody can run it, and run it from there: sudo install -m 755 farport /usr/local/bin/"
	case isEnded:
		hint = "journalctl -u " + sysservice.Name + " says more"
		if ended.Code == exitUnauthorized {
			code, hint = exitUnauthorized, "the hub refused the credentials; "+hint
		}
	}
	if hint == "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	return &codedError{code, hint, fmt.Errorf("%s: %w", what, err)}
}

func connected(s sysservice.Status) bool {
	return strings.HasPrefix(s.Detail, sysservice.Connected)
}
