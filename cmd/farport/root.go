package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is what every command gets.
type app struct {
	sharedOptions
	in     io.Reader
	term   *terminal
	lookup lookup // the environment

	stopped <-chan struct{} // closed by the first interrupt
}

// sharedOptions are the flags that every command has.
type sharedOptions struct {
	verbose   bool
	quiet     bool
	noColor   bool
	logFormat string
}

func (o *sharedOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "log each step")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "print warnings and errors only")
	flags.BoolVar(&o.noColor, "no-color", false, "print without colour, as with NO_COLOR set")
	flags.StringVar(&o.logFormat, "log-format", "text", "how logs are written: `text|json`")
	exclusive(flags, "verbose", "quiet")
}

// shared are the flags of every command as they say how it talks to people, for another
// farport that talks to the same ones.
func (o *sharedOptions) shared() (args []string) {
	for _, f := range []struct {
		name string
		on   bool
	}{{"--quiet", o.quiet}, {"--no-color", o.noColor}} {
		if f.on {
			args = append(args, f.name)
		}
	}
	return args
}

// errInterrupted is all that a command says that was told to end before it was done.
var errInterrupted = errors.New("interrupted")

// run is one invocation. It returns the exit code.
func run(ctx context.Context, args []string, s streams, env lookup) int {
	a := &app{in: s.in, term: newTerminal(s.out, s.err), lookup: env, stopped: ctx.Done()}
	if on, ok := env("NO_COLOR"); ok && on != "" {
		a.term.noColor()
	}
	if name, _ := env("TERM"); name == "dumb" {
		a.term.dumb()
	}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(resultWriter{a.term})
	root.SetErr(s.err)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = a.term.lostResult()
	}
	if err == nil {
		return exitDone
	}
	code, hint := judge(err, command.CommandPath())
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted // who did it knows of what
	}
	a.term.fail(err, hint)
	return code
}

func newRoot(a *app) *cobra.Command {
	root := group("farport", "SSH and RDP to machines behind NAT, through one outbound port")
	root.Long = `farport reaches machines that have nothing open but outbound port 443.

The hub ("farport serve") is the meeting point. On the device, "farport
device-proxy" stands beside sshd or the RDP server and connects out to the hub.
"farport service-proxy" opens a local port, or a ProxyCommand, whose connections
come out at the device. It speaks the Device Streams protocol of Azure IoT Hub, so
either proxy works with an Azure hub, and the hub with Azure's SDKs.

Every flag can also be set by a variable: FARPORT_ and its name, in capitals and
with "_" for "-" (--data-dir: FARPORT_DATA_DIR). The flag wins. serve and the two proxies
also read a file, --config, over which both win.

Results go to standard output, all else to standard error. On a terminal, what takes
longer than half a second says so in a line that is gone when it is done; elsewhere, and
with TERM=dumb, there are only whole lines. --quiet leaves results, warnings and errors;
NO_COLOR or --no-color, the colour.`
	root.Example = `  farport quickstart                         the whole of it on this machine
  farport serve --host hub.example.com       run the hub
  farport device create pi-1                 register a device
  farport device connection-string pi-1      what the device needs to connect
  farport device-proxy                       on the device: forward to its sshd
  farport ssh pi@pi-1                        here: log in
  farport service-proxy -d pi-1 -L 2222      or open a local port: ssh -p 2222 pi@127.0.0.1`
	root.Version = versionText()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelp())
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	a.addFlags(root.PersistentFlags())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd.Flags()) }
	root.AddCommand(
		newServe(a), newDeviceProxy(a), newServiceProxy(a),
		newSSH(a), newSSHConfig(a), newSSHKnownHosts(a), newRDP(a),
		newDevice(a), newDeviceStream(a), newCA(a), newSASToken(a), newHub(a),
		newDoctor(a), newPing(a),
		newQuickstart(a), newCompletion(a), newVersion(a),
	)
	a.completeHubFlags(root)
	return root
}

// prepare completes the flags from the environment. Commands with a config file go on
// with configure.
func (a *app) prepare(flags *pflag.FlagSet) error {
	if err := checkGiven(flags); err != nil {
		return err
	}
	if err := applyEnvironment(flags, a.lookup); err != nil {
		return err
	}
	return a.settle()
}

// settle sets up what depends on the shared flags, as they are by now.
func (a *app) settle() error {
	if a.noColor {
		a.term.noColor()
	}
	a.term.quiet = a.quiet
	return oneOf("log-format", a.logFormat, "text", "json")
}

// logger writes records from level on to standard error, all of them with -v.
func (a *app) logger(level slog.Level) *slog.Logger {
	switch {
	case a.verbose:
		level = slog.LevelDebug
	case a.quiet:
		level = max(level, slog.LevelWarn)
	}
	options := &slog.HandlerOptions{Level: level}
	if a.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.term, options))
	}
	return slog.New(slog.NewTextHandler(a.term, options))
}

// newHelp is "farport help COMMAND...", for whom it comes more easily than --help.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:    "help [COMMAND...]",
		Short:  "Say what a command does, as its --help",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			about := cmd.Root()
			for _, name := range args {
				under := about
				about = nil
				for _, sub := range under.Commands() {
					if sub.Name() == name {
						about = sub
					}
				}
				if about == nil {
					return unknownCommand(under, name)
				}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		Annotations: exitStatus(exitUsage),
	}
}

// unknownCommand says which commands have a name like that.
func unknownCommand(under *cobra.Command, name string) error {
	err := usage("unknown command %s for %q", quote(name), under.CommandPath())
	if near := under.SuggestionsFor(name); len(near) > 0 {
		err.hint = fmt.Sprintf("did you mean %s?", strings.Join(near, " or "))
	}
	return err
}

// group is a command that only holds others. By itself it shows its help.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
		SuggestionsMinimumDistance: 2,

		RunE:        func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations: exitStatus(exitUsage),
	}
}

// oneOf checks a flag with a fixed set of values.
func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return usage("--%s %s: must be %s", flag, quote(value), strings.Join(allowed, " or "))
}

// annotationExit is where a command keeps its exit status text, for its help and
// for the manual.
const annotationExit = "exit-status"

const usageTemplate = `Usage:
  {{if or (not .HasAvailableSubCommands) (ne .Use .Name)}}{{.UseLine}}{{end}}
{{- if and .HasAvailableSubCommands (ne .Use .Name)}}
  {{end}}{{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- if .HasAvailableSubCommands}}

Commands:
{{- range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- with index .Annotations "` + annotationExit + `"}}

EXIT STATUS
{{.}}{{end}}
{{- if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" says more about a command.{{end}}
`
