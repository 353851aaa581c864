package main

import (
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Arguments of the Azure quickstarts' proxies. Source: docs/azure.md, The quickstarts'
// habits.
const (
	argumentConnectionString = "CONNECTION-STRING"
	argumentPort             = "PORT"
)

// arguments are a command's positional arguments, by the names its help gives them.
// Those in [] may be left out; they come last.
func arguments(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) && !strings.HasPrefix(names[len(args)], "[") {
			return usage("%s is missing", strings.Join(names[len(args):], " and "))
		}
		if len(args) > len(names) {
			return usage("unexpected argument %s", quote(args[len(names)]))
		}
		return nil
	}
}

// argument is the i-th argument, "" when it was left out.
func argument(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// checkPort checks the argument that is a port; "" is none.
func checkPort(text string, least uint64) error {
	if n, err := strconv.ParseUint(text, 10, 16); text != "" && (err != nil || n < least) {
		return usage("%s %s: must be %d to 65535", argumentPort, quote(text), least)
	}
	return nil
}

// fromArgument gives a flag the value of a positional argument, which name stands for
// in messages. The flag itself, its variables and what excludes it win over it, as
// the variables do in the Azure quickstarts.
func (a *app) fromArgument(flags *pflag.FlagSet, flag, name, value string) error {
	f := flags.Lookup(flag)
	if value == "" || f.Changed || conflicts(flags, f) != "" {
		return nil
	}
	if flag == flagConnectionString {
		a.warnVisible(name)
	}
	f.Annotations = annotate(f, annotationFrom, []string{name})
	return flags.Set(flag, value)
}

// shellArgument is a positional argument as this system's shells and farport take it.
func shellArgument(s string) string {
	if strings.HasPrefix(s, "-") {
		return "-- " + shellWord(s)
	}
	return shellWord(s)
}

// shellWord is a word as this system's shells take it.
func shellWord(s string) string { return shellWordOn(runtime.GOOS, s) }

// shellLine is a command line as a system's shells take it.
func shellLine(goos string, words []string) string {
	line := make([]string, len(words))
	for i, w := range words {
		line[i] = shellWordOn(goos, w)
	}
	if goos == "windows" && strings.ContainsAny(line[0][:1], `"'`) {
		line[0] = "& " + line[0] // PowerShell's: a word in quotes is no command
	}
	return strings.Join(line, " ")
}

// shellWordOn is a word as a POSIX shell takes it, or on Windows both cmd and PowerShell: in
// double quotes. What these do not take alike is written for PowerShell.
func shellWordOn(goos, s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:+="
	isPlain := func(also string) bool { return s != "" && strings.Trim(s, plain+also) == "" }
	switch {
	case goos != "windows":
		if isPlain(",@%") {
			return s
		}
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	case isPlain(`\`) && (s[0] != '-' || !strings.ContainsAny(s, ".:")): // PowerShell splits -a.b
		return s
	case strings.ContainsAny(s, "\"$`%!") || strings.HasSuffix(s, `\`):
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return `"` + s + `"`
}
