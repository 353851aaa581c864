//go:build unix

package main

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/farportio/farport/internal/skip"
)

// bashCompletion is the library that completions/farport.bash builds on, where Debian
// has it.
const bashCompletion = "/usr/share/bash-completion/bash_completion"

// pressTab has, by shell, the words of a program that completes the line in $LINE as the tab
// key does, and prints what it would offer, one a line.
var pressTab = map[string][]string{
	"bash": {"bash", "--norc", "-c", `
. ` + bashCompletion + `
. "$COMPLETIONS/farport.bash"
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMP_KEY=9
# words as readline has them: = and : stand alone
eval "COMP_WORDS=($(sed 's/[=:]/ & /g' <<<"$LINE"))"
case $LINE in *" ") COMP_WORDS+=("") ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }
complete -p farport >/dev/null || exit 1
__start_farport farport "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
`},
	// In a terminal of its own, with the real key's widget, as nothing else completes.
	"zsh": {"zsh", "-f", "-c", `
zmodload zsh/zpty
zpty shell "TMOUT=20 ZDOTDIR=$WORK/.zsh zsh -d -i" # a shell that waits 20 s for a line ends
while zpty -r shell screen; do said+=$screen; done
cat $WORK/.offered || { print -r -- $said >&2; exit 1 }
`},
	"fish": {"fish", "--no-config", "-c", "source $COMPLETIONS/farport.fish; complete -C $LINE"},
}

// zshrc is for an interactive zsh that completes $LINE once, and keeps what is offered.
const zshrc = `
PROMPT= HISTFILE=
fpath=($COMPLETIONS $fpath)
autoload -Uz compinit
compinit -C -d $WORK/.zcompdump # made once
typeset -a offered
compadd() {
	local -a words
	if [[ ${@[1,(i)--]} != *-[OAD]\ * ]]; then
		builtin compadd -A words "$@"
		offered+=("${words[@]}")
	fi
	builtin compadd "$@"
}
zle-line-init() {
	BUFFER=$LINE CURSOR=$#LINE
	zle expand-or-complete
	print -rl -- "${offered[@]}" >$WORK/.offered
	exit
}
zle -N zle-line-init
`

// scriptTab is "tab LINE": standard output is what the shell $TAB offers for the line.
func scriptTab(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tab LINE")
	}
	shell := pressTab[ts.Getenv("TAB")]
	if err := os.Remove(ts.MkAbs(".offered")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		ts.Fatalf("%v", err)
	}
	ts.Check(os.MkdirAll(ts.MkAbs(".zsh"), 0o700))
	ts.Check(os.WriteFile(ts.MkAbs(".zsh/.zshrc"), []byte(zshrc), 0o600))
	ts.Setenv("LINE", args[0])
	ts.Check(ts.Exec(shell[0], shell[1:]...))
}

// scriptOffered is "offered REGEXP ARG...": it waits until farport completes the arguments
// with a line that matches.
func scriptOffered(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: offered REGEXP ARG...")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(scriptWait); ; time.Sleep(50 * time.Millisecond) {
		ts.Check(ts.Exec("farport", append([]string{"__completeNoDesc"}, args[1:]...)...))
		out := ts.ReadFile("stdout")
		if pattern.MatchString(out) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s is not among %s", args[0], out)
		}
	}
}

// Shells complete with the scripts that are packed.
func TestShellsComplete(t *testing.T) {
	for shell := range pressTab {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil {
				skip.Test(t, shell+" is not installed")
			}
			if _, err := os.Stat(bashCompletion); err != nil && shell == "bash" {
				skip.Test(t, "bash-completion is not installed")
			}
			t.Setenv("TAB", shell)
			runScripts(t, "testdata/tab")
		})
	}
}

// A hub that does not answer is given up, without a word.
func TestCompletionIsBounded(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	env := func(name string) (string, bool) {
		return "HostName=" + silent.Addr().String() + ";SharedAccessKeyName=service;SharedAccessKey=d3Jvbmc=", name == "IOTHUB_CONNECTION_STRING"
	}
	var out, printed bytes.Buffer
	done := make(chan int)
	go func() {
		done <- run(t.Context(), []string{"__completeNoDesc", "device", "show", ""}, streams{nil, &out, &printed}, env)
	}()
	select {
	case code := <-done:
		if code != exitDone || out.String() != ":4\n" || strings.Contains(printed.String(), "error") {
			t.Errorf("exit code %d, printed %q and %q", code, &out, &printed)
		}
	case <-time.After(5 * completionWait):
		t.Fatal("still waits")
	}
}
