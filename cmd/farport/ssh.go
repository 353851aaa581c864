package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/internal/hostkey"
	"github.com/farportio/farport/internal/sshconfig"
)

// serviceSSH is the stream's name for a device's sshd.
const serviceSSH = "ssh"

type sshOptions struct {
	credentialOptions
	service string
	login   string
	device  string
}

func (o *sshOptions) addFlags(flags *pflag.FlagSet) {
	o.credentialOptions.addFlags(flags, serviceVariables...)
	addSSHService(flags, &o.service)
	flags.StringVarP(&o.login, "login", "l", "", "`USER` to log in as; an @ in the argument is then the ID's")
}

func addSSHService(flags *pflag.FlagSet, service *string) {
	flags.StringVar(service, "service", serviceSSH, "`NAME` of the service on the device; the host keys of \"ssh\" alone are known to the hub")
}

func newSSH(a *app) *cobra.Command {
	var o sshOptions
	cmd := &cobra.Command{
		Use:   "ssh [USER@]DEVICE [-- SSH-ARGUMENT...]",
		Short: "Log in to a device with the system's ssh",
		Long: `Runs the system's ssh through the hub: the settings in ssh's own configuration count,
those for DEVICE.farport too, and the exit code is ssh's. What follows -- are options
for ssh and the command to run.

The server has to show a host key that the device has reported to the hub and that is
the same as the first time. If it has changed, "farport device host-keys" shows and
approves it. A device that reports none is left to ssh's own known_hosts.

"farport ssh-config" lets ssh, scp, sftp and rsync do this by themselves.`,
		Example: `  farport ssh pi@pi-1
  farport ssh pi@pi-1 -- uptime
  farport ssh pi-1 -- -L 8080:localhost:80 -N
  farport ssh -l pi gateway/module`,
		ValidArgsFunction: a.completeDevices,
		Args: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if dash > 1 || dash < 0 && len(args) > 1 {
				return meantForSSH(usage("unexpected argument %s", quote(args[1])))
			}
			if len(args) == 0 {
				return usage("DEVICE is missing")
			}
			return nil
		},
		Annotations: exitStatus(exitUsage, exitUnauthorized, exitDevice, exitTimeout, exitHub),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.take(args[0], cmd.Flags().Changed("login"))
			rest := args[1:]
			if cmd.ArgsLenAtDash() == 0 && len(rest) > 0 && rest[0] == "--" { // farport ssh -- -ID -- ...
				rest = rest[1:]
			}
			return runSSH(cmd.Context(), a, o, rest)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if _, ok := errors.AsType[*pflag.NotExistError](err); ok { // ssh has it, maybe
			return meantForSSH(usage("%v", err))
		}
		return flagError(err)
	})
	a.completeServices(cmd)
	return cmd
}

// meantForSSH helps those who call farport ssh as they call ssh.
func meantForSSH(err *codedError) error {
	err.hint = "what is meant for ssh stands after --"
	return err
}

// take splits [USER@]DEVICE at the last @, as ssh does.
func (o *sshOptions) take(argument string, whole bool) {
	o.device = argument
	if at := strings.LastIndexByte(argument, '@'); at >= 0 && !whole {
		o.login, o.device = argument[:at], argument[at+1:]
	}
}

func runSSH(ctx context.Context, a *app, o sshOptions, more []string) error {
	if err := checkService(o.service); err != nil {
		return err
	}
	program, err := exec.LookPath("ssh")
	if err != nil {
		return &codedError{exitFailed, "install OpenSSH's client: apt-get install openssh-client", fmt.Errorf("find ssh: %w", err)}
	}
	again, err := newAgain(&o.credentialOptions)
	if err != nil {
		return err
	}
	again.args = append(again.args, a.shared()...)
	known, err := a.askHostKeys(ctx, &o.credentialOptions, o.device, o.service)
	if err != nil {
		return err
	}
	switch {
	case o.service != serviceSSH:
		a.term.notice("the hub knows no host keys of service %s; ssh goes by its own known_hosts", quote(o.service))
	case len(known) == 0:
		a.term.notice("%s", unknownHostKeys(o.device))
	}
	args := []string{"ssh"}
	for _, option := range sshconfig.Options(o.device, again.proxy(o.service), again.knownKeys(known)) {
		args = append(args, "-o", option)
	}
	if o.login != "" {
		args = append(args, "-l", o.login)
	}
	args = append(args, sshconfig.Name(o.device))
	return become(program, append(args, more...), replaced(os.Environ(), again.env))
}

// again is how ssh starts this farport.
type again struct {
	program   string
	args, env []string // for its credentials
}

func newAgain(o *credentialOptions) (again, error) {
	if o.connectionStringFile == standardInput {
		return again{}, usage("ssh needs standard input: --connection-string-file cannot be -")
	}
	program, err := os.Executable()
	args, env := o.again()
	return again{program, args, env}, err
}

// proxy is the command line for ProxyCommand, but for the host name.
func (g again) proxy(service string) string {
	return sshconfig.CommandLine(append([]string{g.program, "service-proxy", "--stdio", "--service=" + service}, g.args...))
}

// knownHosts are the words of a KnownHostsCommand that asks the hub.
func (g again) knownHosts() []string {
	return append([]string{g.program, "ssh-known-hosts"}, g.args...)
}

// knownKeys are those of one that knows the keys, nil if there are none.
func (g again) knownKeys(keys hostkey.Set) []string {
	if len(keys) == 0 {
		return nil
	}
	words := []string{g.program, "ssh-known-hosts"}
	for _, line := range keys.Lines() {
		words = append(words, "--known="+line)
	}
	return words
}

// deviceOfHost is the device that ssh knows by a host name.
func deviceOfHost(name string) (string, error) {
	id, ok := sshconfig.ID(name)
	if !ok {
		return "", usage("--ssh-name %s: must be NAME%s", quote(name), sshconfig.Suffix)
	}
	return id, nil
}
