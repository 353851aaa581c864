package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"strings"
	"syscall"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/profile"
)

// Exit codes. Scripts count on them.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2
	exitUnauthorized = 3
	exitDevice       = 4
	exitRefused      = 5
	exitTimeout      = 6
	exitHub          = 7
	exitLost         = 8
	exitInterrupted  = 130
)

// exitTexts say what the codes mean, in order.
var exitTexts = []struct {
	code int
	text string
}{
	{exitDone, "done"},
	{exitFailed, "failed"},
	{exitUsage, "bad usage: flag, argument, config file or malformed connection string"},
	{exitUnauthorized, "the hub refused the credentials"},
	{exitDevice, "the device is unknown, offline or disabled"},
	{exitRefused, "the device, or its target, refused the stream"},
	{exitTimeout, "timed out"},
	{exitHub, "the hub is not reachable, or its certificate not trusted"},
	{exitLost, "a stream was lost and could not be resumed"},
	{exitInterrupted, "ended by a second interrupt"},
}

// exitStatus annotates a command with the codes it can end with, besides 0, 1 and
// 130.
func exitStatus(codes ...int) map[string]string {
	has := map[int]bool{exitDone: true, exitFailed: true, exitInterrupted: true}
	for _, c := range codes {
		has[c] = true
	}
	var lines []string
	for _, t := range exitTexts {
		if has[t.code] {
			lines = append(lines, fmt.Sprintf("  %-3d  %s", t.code, t.text))
		}
	}
	return map[string]string{annotationExit: strings.Join(lines, "\n")}
}

// codedError is an error that knows its exit code, and maybe what to do about it.
type codedError struct {
	code int
	hint string
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// usage is an error in how the command was called.
func usage(format string, args ...any) *codedError {
	return &codedError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// verdict is what an error leads to.
type verdict struct {
	target error
	code   int
	hint   string
}

// orDoctor ends the hint where "farport doctor" can tell more.
const orDoctor = `, or run "farport doctor"`

// verdicts are asked in order.
var verdicts = []verdict{
	{hubclient.ErrUnauthorized, exitUnauthorized, "check the shared access key or certificate, whether its policy or device may do this, and this machine's clock"},
	{hubclient.ErrDeviceOffline, exitDevice, `start "farport device-proxy" on the device` + orDoctor},
	{hubclient.ErrDeviceNotFound, exitDevice, `"farport device list" shows the devices, "farport device list ID" the modules of one; IDs are case-sensitive`},
	{hubclient.ErrDeviceExists, exitFailed, `"farport device show ID" shows it; "farport device renew-key ID" gives it a new key`},
	{hubclient.ErrCANotFound, exitFailed, `"farport ca list" shows the CAs`},
	{hubclient.ErrPrecondition, exitFailed, "run the command again"},
	{hubclient.ErrStreamRejected, exitRefused, "the device-proxy has no such service, or its target does not answer; its output on the device says which"},
	{hubclient.ErrThrottled, exitFailed, "wait a moment and try again"},
	{hubclient.ErrForeignEndpoint, exitFailed, "if streams may go to that host, name it with --streaming-host"},
	{hubclient.ErrBadName, exitUsage, "IDs have 1 to 128 letters, digits and some punctuation; stream names letters, digits and -._~"},
	{hubclient.ErrProxyRefused, exitHub, "put user and password into the proxy's URL, http://USER:PASSWORD@HOST:PORT, in $HTTPS_PROXY or $" + variable(flagProxy)},
	{hubclient.ErrProxyFailed, exitHub, `check $HTTPS_PROXY or --proxy, and that the proxy may connect to the hub; "--proxy none" goes around it, and --ca-file is for an https:// one of a private CA` + orDoctor},
	{hubclient.ErrHubUnreachable, exitHub, `check host name and port in the connection string, the network, and that "farport serve" is running` + orDoctor},
	{hubclient.ErrTimeout, exitTimeout, "the device may be stuck or its network slow; try again, or wait longer with --response-timeout"},
	{profile.ErrNotFound, exitFailed, `"farport hub list" shows the stored ones, "farport hub add NAME" stores one`},
	{profile.ErrExists, exitFailed, "--force replaces it"},
	{errNoConfig, exitFailed, "set HOME or XDG_CONFIG_HOME"},
	{errNoState, exitFailed, "set HOME or XDG_STATE_HOME"},
	{profile.ErrDamaged, exitFailed, `"farport hub remove NAME --force" removes it`},
	{profile.ErrBadName, exitUsage, "it is a name of your own, such as work or customer-1"},
	{hub.ErrBadHost, exitUsage, "IPv6 addresses with a port stand in []"},
	{hub.ErrInUse, exitFailed, `another "farport serve" uses this data dir: stop it, or name another one with --data-dir`},
	{syscall.EADDRINUSE, exitFailed, "choose another port; port 0 picks a free one"},
	{syscall.EADDRNOTAVAIL, exitFailed, "the address is not one of this machine's"},
	{context.Canceled, exitFailed, ""},
}

// judge finds the exit code of an error, and what helps.
func judge(err error, command string) (code int, hint string) {
	if e, ok := errors.AsType[*codedError](err); ok {
		if e.hint == "" && e.code == exitUsage {
			return e.code, fmt.Sprintf("run %q", command+" --help")
		}
		return e.code, e.hint
	}
	if _, ok := errors.AsType[*credential.FormatError](err); ok {
		return exitUsage, "it has the form HostName=...;DeviceId=...;SharedAccessKey=... (SharedAccessKeyName=... for a service), in quotes for the shell"
	}
	if e, ok := errors.AsType[*hubclient.UntrustedError](err); ok {
		return exitHub, untrustedHint(e)
	}
	for _, v := range verdicts {
		if errors.Is(err, v.target) {
			return v.code, v.hint
		}
	}
	if e, ok := errors.AsType[*hubclient.EndError](err); ok {
		return endVerdict(e)
	}
	return exitFailed, permissionHint(err)
}

// endVerdict is for a stream that was open and ended otherwise than in good order.
func endVerdict(e *hubclient.EndError) (code int, hint string) {
	if e.Lost() {
		return exitLost, "streams resume after a break between farport's own proxies and hub, within --resume-window of both proxies and the hub"
	}
	return exitFailed, "the target, the other proxy or the hub broke it off; the device-proxy's output and the hub's log say more"
}

func untrustedHint(e *hubclient.UntrustedError) string {
	if e.Fingerprint == "" {
		return "a hub with a private CA needs CaFingerprint=... in the connection string, or --ca-file"
	}
	return "if the hub's operator confirms this CA, add CaFingerprint=" + e.Fingerprint +
		` to the connection string; "farport device connection-string ID" prints one that has it`
}

// permissionHint helps where the system said no.
func permissionHint(err error) string {
	if !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "listen" {
		return "ports below 1024 need root or CAP_NET_BIND_SERVICE; a higher one does not, such as --listen :8443"
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return "run it as the owner of that file or folder"
	}
	return ""
}

// secrets finds the parts of connection strings and tokens that nobody may read.
var secrets = regexp.MustCompile(`(?i)(SharedAccessKey|SharedAccessSignature|sig)=[^.;&"\s][^;&"\s]*`)

// redact makes text fit to be shown: whatever somebody typed in the wrong place
// stays hidden.
func redact(text string) string { return secrets.ReplaceAllString(text, "$1=[redacted]") }
