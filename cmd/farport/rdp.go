package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/rdp"
)

// rdpService is the stream's name of RDP.
const rdpService = "rdp"

func newRDP(a *app) *cobra.Command {
	cmd := group("rdp", "Reach a device's desktop with this machine's RDP client")
	cmd.Example = `  farport rdp connect kiosk-7 -u admin
  farport rdp file kiosk-7 -u admin --file kiosk-7.rdp`
	cmd.AddCommand(newRDPConnect(a), newRDPFile(a))
	return cmd
}

// rdpTarget is what both commands are told of the far desktop.
type rdpTarget struct {
	device  string
	service string
	user    string
}

func (o *rdpTarget) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.service, "service", rdpService, "`NAME` of the service on the device")
	flags.StringVarP(&o.user, "user", "u", "", "`NAME` to sign in with on the device; DOMAIN\\NAME too; the client asks for the password")
}

func (o *rdpTarget) check(flags *pflag.FlagSet) error {
	switch {
	case !hubclient.ValidTarget(o.device):
		return fmt.Errorf("%s is %w of a device", quote(o.device), hubclient.ErrBadName)
	case o.service == "":
		return usage("--service must not be empty")
	case flags.Changed("user") && !rdp.ValidUser(o.user):
		return usage("--user %s: must not be empty or hold control characters", quote(o.user))
	}
	return nil
}

// forward is the command that makes the forward for a .rdp file or a shown command.
func (o *rdpTarget) forward(port int) string {
	return fmt.Sprintf("farport service-proxy -d %s -L %d=%s", shellWord(o.device), port, shellWord(o.service))
}

// rdpSystem is this machine, as far as RDP clients depend on it.
func (a *app) rdpSystem() rdp.System {
	release, _ := os.ReadFile("/etc/os-release") // most systems have none
	return rdp.System{
		GOOS:      runtime.GOOS,
		Lookup:    a.lookup,
		LookPath:  exec.LookPath,
		Exists:    func(path string) bool { _, err := os.Stat(path); return err == nil },
		OSRelease: string(release),
	}
}
