package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/internal/atomicfile"
	"github.com/farportio/farport/internal/sshconfig"
)

type sshConfigOptions struct {
	credentialOptions
	service string
	file    string
}

func (o *sshConfigOptions) addFlags(flags *pflag.FlagSet) {
	o.credentialOptions.addFlags(flags, serviceVariables...)
	addSSHService(flags, &o.service)
	flags.StringVar(&o.file, "file", "", "write it to `FILE`, which is farport's own, rather than to standard output")
}

func newSSHConfig(a *app) *cobra.Command {
	var o sshConfigOptions
	cmd := &cobra.Command{
		Use:   "ssh-config",
		Short: "Make plain ssh DEVICE.farport work",
		Long: `Prints the part of ssh's configuration by which ssh, scp, sftp, rsync and all that build
on them reach DEVICE.farport through the hub, with the checks of "farport ssh". Where
the credentials come from is put in as given here by flags; a connection string itself
never is.

With --file it is written to a file of its own, which ~/.ssh/config has to include
before its first Host line. A file that is not farport's is left alone.

In NAME.farport, ~ and two hexadecimal digits stand for a character of an ID that ssh
takes for something else: pi~2fssh.farport is the module pi/ssh.`,
		Example: `  farport ssh-config --file ~/.ssh/farport.conf
  farport ssh-config --connection-string-file ~/.config/farport/service.conn >>~/.ssh/config
  ssh pi@pi-1.farport`,
		Args:        arguments(),
		Annotations: exitStatus(exitUsage),
		RunE:        func(*cobra.Command, []string) error { return runSSHConfig(a, o) },
	}
	o.addFlags(cmd.Flags())
	a.completeServices(cmd)
	return cmd
}

func runSSHConfig(a *app, o sshConfigOptions) error {
	if o.connectionString != "" && setBy(o.flags, flagConnectionString) == "" {
		err := usage("a connection string is not written to ssh's configuration")
		err.hint = "name a file with --" + flagConnectionStringFile + ", or set " + serviceVariables[0] + " where ssh is run"
		return err
	}
	if setBy(o.flags, flagProxy) == "" && hasPassword(o.proxy) {
		err := usage("a proxy's password is not written to ssh's configuration")
		err.hint = "set " + variable(flagProxy) + " where ssh is run"
		return err
	}
	again, err := newAgain(&o.credentialOptions)
	if err != nil {
		return err
	}
	var known []string
	if o.service == serviceSSH {
		known = again.knownHosts()
	}
	block := sshconfig.Block(again.proxy(o.service), known)
	if o.file == "" {
		a.term.println(strings.TrimSuffix(block, "\n"))
		return nil
	}
	if err := writeOwn(o.file, block, sshconfig.Marker); err != nil {
		return err
	}
	path, err := filepath.Abs(o.file)
	if err != nil {
		return err
	}
	a.term.hint("put this line before the first Host of ~/.ssh/config: Include %s", sshconfig.Words([]string{path}))
	return nil
}

// writeOwn writes a file of mode 0600 that begins with marker, whole or not at all. One
// that has the text is not touched; one that begins otherwise is somebody else's.
func writeOwn(path, text, marker string) error {
	old, err := os.ReadFile(path)
	switch {
	case err == nil && string(old) == text:
		return nil
	case err == nil && len(old) > 0 && !bytes.HasPrefix(old, []byte(marker)):
		err := usage("%s is not a file that farport has written", path)
		err.hint = "name another one, and include it there"
		return err
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return atomicfile.Write(path, []byte(text), 0o600)
}
