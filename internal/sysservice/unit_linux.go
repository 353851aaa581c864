package sysservice

import (
	"fmt"
	"strings"
)

// unit is the systemd unit. The process runs as a user of its own that exists only while
// it runs, sees no file that it could change and no home folder, and gets its secrets from
// systemd (systemd.exec(5), LoadCredential=; ${CREDENTIALS_DIRECTORY} and not %d, which
// systemd 247 does not know). It has to dial out, reach local targets, and watch the
// network over netlink. device.env is root's, for variables such as HTTPS_PROXY.
const unit = `# Written by "farport device-proxy install"; installing again replaces it.
[Unit]
Description=` + description + `
Documentation=https://github.com/farportio/farport
After=network.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=%s
%sEnvironmentFile=-/etc/farport/device.env
Restart=always
RestartSec=5
LimitNOFILE=65536
DynamicUser=yes
UMask=0077

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`

// Definition is the text of the service's definition. It holds no secret.
func Definition(s Spec) (string, error) {
	words := []string{unitProgram(s.Executable), command}
	var credentials []string
	for _, f := range s.secrets() {
		if f.text != "" {
			words = append(words, fromCredentials(f.flag, f.name))
			credentials = append(credentials, f.name+":"+secretDir+"/"+f.name)
		}
	}
	for _, f := range s.Files {
		if strings.ContainsAny(f.Path, "\n\r") {
			return "", fmt.Errorf("--%s %q: no name for a unit: %w", f.Flag, f.Path, ErrOutOfReach)
		}
		words = append(words, fromCredentials(f.Flag, f.Flag))
		credentials = append(credentials, f.Flag+":"+strings.ReplaceAll(f.Path, "%", "%%"))
	}
	for _, a := range s.Arguments {
		words = append(words, unitWord(a))
	}
	var load strings.Builder
	for _, c := range credentials {
		load.WriteString("LoadCredential=" + c + "\n")
	}
	return fmt.Sprintf(unit, strings.Join(words, " "), load.String()), nil
}

// fromCredentials is a flag with a file that systemd lays out for the service.
func fromCredentials(flag, name string) string {
	return "--" + flag + "=${CREDENTIALS_DIRECTORY}/" + name
}

// unitProgram is the first word of ExecStart=, where $ stands for itself
// (systemd.service(5), Command lines).
func unitProgram(path string) string { return `"` + unitEscape(path) + `"` }

// unitWord is any other word, to be taken as it is.
func unitWord(s string) string {
	return `"` + strings.ReplaceAll(unitEscape(s), "$", "$$") + `"`
}

// unitEscape is for text in double quotes (systemd.syntax(7), Quoting; systemd.unit(5),
// Specifiers).
func unitEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\' || c == '"':
			b.WriteString(`\` + string(c))
		case c == '%':
			b.WriteString("%%")
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
