package main

import (
	"bytes"
	"errors"
	"io"
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
	flags.StringVar(&o.file, "file", "", "write it to `FILE`, which is farport's own; - is standard output")
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
	if err := checkService(o.service); err != nil {
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
	block, err := sshconfig.Block(again.proxy(o.service), known)
	if err != nil {
		return usage("%w", err)
	}
	if o.file == "" || o.file == standardInput {
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
	a.term.hint("put this line before the first Host of ~/.ssh/config: Include %s", sshconfig.Include(path))
	return nil
}

// writeOwn writes a file of mode 0600 that begins with marker, whole or not at all. One
// that has the text is not touched; one that begins otherwise is somebody else's, and so is
// what is no regular file. A link stays, and what it leads to is written.
func writeOwn(path, text, marker string) error {
	path, err := followLinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return atomicfile.Write(path, []byte(text), 0o600)
	}
	if err != nil {
		return err
	}
	theirs := usage("%s is not a file that farport has written", path)
	theirs.hint = "name another one, and include it there"
	if !info.Mode().IsRegular() {
		return theirs
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	old, err := io.ReadAll(io.LimitReader(f, maxConfig))
	switch {
	case err != nil:
		return err
	case string(old) == text:
		return nil
	case len(old) > 0 && !bytes.HasPrefix(old, []byte(marker)):
		return theirs
	}
	return atomicfile.Write(path, []byte(text), 0o600)
}

// followLinks is the file that a path leads to, which need not be there.
func followLinks(path string) (string, error) {
	const most = 40 // as Linux has it
	for range most {
		to, err := os.Readlink(path)
		if err != nil {
			return path, nil // no link, or what comes next says why
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return "", usage("%s: too many links", path)
}
