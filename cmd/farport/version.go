package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type versionOptions struct{ outputOptions }

func (o *versionOptions) addFlags(flags *pflag.FlagSet) { o.outputOptions.addFlags(flags, formatTable) }

// build is what `farport version -o json` prints.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion(a *app) *cobra.Command {
	var o versionOptions
	cmd := &cobra.Command{
		Use:         "version",
		Short:       "Print the version",
		Long:        `Prints farport's version, the commit it was built from, Go's version and the platform.`,
		Example:     "  farport version\n  farport version -o json",
		Args:        arguments(),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runVersion(cmd.Context(), a, o) },
		Annotations: exitStatus(exitUsage),
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func runVersion(_ context.Context, a *app, o versionOptions) error {
	return a.term.result(o.outputOptions, thisBuild(), func() error {
		a.term.println(versionText())
		return nil
	})
}

func versionText() string {
	b := thisBuild()
	commit := ""
	if b.Commit != "" {
		commit = "commit " + b.Commit + ", "
	}
	return fmt.Sprintf("farport %s (%s%s, %s)", b.Version, commit, b.Go, b.Platform)
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok {
		b.Version = cmp.Or(b.Version, info.Main.Version)
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value[:min(len(s.Value), 12)]
			}
		}
	}
	b.Version = cmp.Or(b.Version, "(devel)")
	return b
}
