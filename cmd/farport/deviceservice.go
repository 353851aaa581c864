package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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

The connection string is copied to a file that only root can read. On systemd the
service runs as a user of its own that can change nothing, and gets the connection
string, --cert, --key and --ca-file from systemd. A program in somebody's home folder
cannot be started so: put it in /usr/local/bin first.

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
		Long:    `Stops the service and removes it and the connection string that it was given.`,
		Example: `  sudo farport device-proxy uninstall`,
		Args:    arguments(), Annotations: exitStatus(exitUsage),
		RunE: func(cmd *cobra.Command, _ []string) error {
			was, err := sysservice.New().Uninstall(cmd.Context())
			switch {
			case err != nil:
				return serviceError("uninstall the service", err)
			case was:
				a.term.notice("service %s removed, and its connection string", sysservice.Name)
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
	cs, err := a.deviceString(&o.credentialOptions)
	if err != nil {
		return err
	}
	if _, err := newDeviceCertificate(a, cs, o.cert, o.key, a.logger(slog.LevelWarn)); err != nil {
		return err
	}
	spec.Secret = cs.Reveal()
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

// addFlag passes a flag on to the service.
func addFlag(spec *sysservice.Spec, f *pflag.Flag) error {
	switch f.Name {
	case "print", "target", "help", flagConnectionString, flagConnectionStringFile:
		return nil // for install alone, or in the service already
	case "hub", "config":
		return nil // what they name has been read: the connection string, and other flags
	case "ca-file", "cert", "key":
		path, err := filepath.Abs(f.Value.String())
		spec.Files = append(spec.Files, sysservice.File{Flag: f.Name, Path: path})
		return err
	case "proxy":
		if hasPassword(f.Value.String()) {
			e := usage("--proxy: the password would be seen by every user of this machine")
			e.hint = "on systemd write HTTPS_PROXY=... to /etc/farport/device.env with mode 0600, and install without --proxy"
			return e
		}
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
