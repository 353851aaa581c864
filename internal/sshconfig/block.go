package sshconfig

import (
	"errors"
	"runtime"
	"strings"
	"unicode"
)

// Marker begins what Block returns, and so a file that is farport's own.
const Marker = "# Written by \"farport ssh-config\"; run that again rather than edit this.\n"

// Block is the part of ssh's configuration that makes NAME.farport reach a device. proxy is
// the command line for ProxyCommand up to the host name, knownHosts the words of
// KnownHostsCommand, nil for none.
//
// They must not hold line ends, nor the arguments of knownHosts "${", which ssh takes for a
// variable and knows no escape for: ErrUnfit.
//
// ssh puts the host name into ProxyCommand's line for a shell as it is. It refuses names
// with quotes, $, backslashes and the like since OpenSSH 9.6; older ones only have the
// block's pattern, which leaves names with a ' to fail as unknown hosts, so that nothing
// can leave the quotes that follow --ssh-name (docs/security.md, T19).
func Block(proxy string, knownHosts []string) (string, error) {
	if strings.ContainsFunc(proxy, unicode.IsControl) || len(knownHosts) > 0 && strings.Contains(strings.Join(knownHosts[1:], " "), "${") {
		return "", ErrUnfit
	}
	var b strings.Builder
	b.WriteString(Marker)
	b.WriteString("Host *" + Suffix + ` "!*'*"` + "\n")
	b.WriteString("    ProxyCommand " + proxy + " --ssh-name=" + quoted("%n", runtime.GOOS) + "\n")
	if knownHosts != nil {
		b.WriteString("    KnownHostsCommand " + command(knownHosts) + " --ssh-name=%n " + searched + "\n")
	}
	b.WriteString("    UpdateHostKeys no\n")
	return b.String(), nil
}

// ErrUnfit is returned for words that ssh's configuration cannot hold.
var ErrUnfit = errors.New("ssh's configuration cannot hold a name with a line end or ${")

// searched are the arguments by which ssh tells what it wants to know: the name to print,
// why it asks, and the key that the server has shown.
const searched = "--host=%H --reason=%I --key=%K"

// Options are ssh's for one connection to a device, in the place of Block. knownHosts are
// the words of a command that knows all the keys there are; without it ssh goes by its own
// known_hosts.
func Options(id, proxy string, knownHosts []string) []string {
	name := Name(id) // of letters, digits and -.+_~ alone
	options := []string{
		"ProxyCommand=" + proxy + " --ssh-name=" + quoted(name, runtime.GOOS),
		"HostKeyAlias=" + KeyAlias(id), "UpdateHostKeys=no", "CanonicalizeHostname=no",
	}
	if strings.ToLower(id) != id { // or else one ControlPath with %C or %h stood for two devices
		options = append(options, "HostName="+KeyAlias(id))
	}
	if knownHosts == nil {
		return append(options, "KnownHostsCommand=none")
	}
	return append(options, "KnownHostsCommand="+command(append(knownHosts, "--ssh-name="+name))+" "+searched,
		"StrictHostKeyChecking=yes", "UserKnownHostsFile=none", "GlobalKnownHostsFile=none")
}

// CommandLine writes words as the shell takes them that ssh runs ProxyCommand with.
func CommandLine(words []string) string {
	line := make([]string, len(words))
	for i, w := range words {
		line[i] = Percent(w)
		if w == "" || strings.Trim(w, plain) != "" {
			line[i] = quoted(line[i], runtime.GOOS)
		}
	}
	return strings.Join(line, " ")
}

// plain are the characters that no shell acts on.
const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:="

// quoted is a word in the quotes of a POSIX shell, or of Windows, where a word can have no
// quotes itself.
func quoted(word, goos string) string {
	if goos == "windows" {
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// Percent keeps text from being taken for ssh's tokens.
func Percent(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// command writes the words of a KnownHostsCommand: in the first, the program, ssh looks for
// no tokens.
func command(words []string) string {
	line := word(words[0])
	if len(words) > 1 {
		line += " " + Words(words[1:])
	}
	return line
}

// Words writes words as ssh splits them, for a command that no shell reads.
func Words(words []string) string {
	line := make([]string, len(words))
	for i, w := range words {
		line[i] = word(Percent(w))
	}
	return strings.Join(line, " ")
}

func word(w string) string {
	if w == "" || strings.ContainsAny(w, " \t\"'\\#") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w) + `"`
	}
	return w
}
