//go:build unix

package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/farportio/farport/internal/skip"
)

// bashCompletion is the library that completions/farport.bash builds on, where Debian
// has it.
const bashCompletion = "/usr/share/bash-completion/bash_completion"

// pressTab is a program for bash: it completes the line in $LINE as the tab key does,
// and prints what bash would offer.
const pressTab = `
. ` + bashCompletion + `
. "$SCRIPT"
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMP_KEY=9
eval "COMP_WORDS=($LINE)"
case $LINE in *" ") COMP_WORDS+=("") ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }
complete -p farport >/dev/null || exit 1
__start_farport farport "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
`

// scriptTab is "tab LINE": standard output is what bash offers for the line.
func scriptTab(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tab LINE")
	}
	ts.Setenv("LINE", args[0])
	ts.Check(ts.Exec("bash", "--norc", "-c", pressTab))
}

// bash completes with the script that is packed.
func TestBashCompletes(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		skip.Test(t, "bash is not installed")
	}
	if _, err := os.Stat(bashCompletion); err != nil {
		skip.Test(t, "bash-completion is not installed")
	}
	runScripts(t, "testdata/bash")
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
