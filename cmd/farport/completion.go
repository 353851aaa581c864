package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

// shells are those that cobra can write a completion script for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a completion script for bash, zsh, fish or powershell",
		Long: `Prints a script that teaches bash, zsh, fish or powershell the commands and flags of
farport.

bash needs its bash-completion package. In every shell the completions are there
from the next session on.`,
		Example: `  farport completion bash >/etc/bash_completion.d/farport
  farport completion zsh >"${fpath[1]}/_farport"
  farport completion fish >~/.config/fish/completions/farport.fish
  farport completion powershell | Out-String | Invoke-Expression`,
		Args:      arguments("SHELL"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCompletion(cmd.Context(), a, cmd.Root(), args[0])
		},
		Annotations: exitStatus(exitUsage),
	}
}

func runCompletion(_ context.Context, a *app, root *cobra.Command, shell string) error {
	write := map[string]func(io.Writer) error{
		"bash":       func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":        root.GenZshCompletion,
		"fish":       func(w io.Writer) error { return root.GenFishCompletion(w, true) },
		"powershell": root.GenPowerShellCompletionWithDesc,
	}[shell]
	if write == nil {
		return usage("no completions for %s: it is bash, zsh, fish or powershell", quote(shell))
	}
	return write(a.term.out)
}
