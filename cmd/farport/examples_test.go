//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// exampleCall finds the calls of farport in a line for a shell: at its beginning,
// after a pipe, in a substitution, and as ssh's ProxyCommand.
var exampleCall = regexp.MustCompile(`(?:^|\| |\$\(|ProxyCommand=')(?:sudo )?(?:\w+=\S+ )*farport ([^|<>)&;]*)`)

// examples are the lines of a command's examples, without what explains them.
func examples(cmd *cobra.Command) (lines []string) {
	for line := range strings.Lines(cmd.Example) {
		line = uncommented(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// uncommented is a line without what explains it.
func uncommented(line string) string {
	line, _, _ = strings.Cut(strings.TrimSpace(line), "   ")
	line, _, _ = strings.Cut(line, " # ")
	return line
}

// Every call in an example names a command, and flags and arguments that it has.
func TestExamplesParse(t *testing.T) {
	for _, cmd := range available(newTree()) {
		found := false
		for _, line := range examples(cmd) {
			for _, call := range exampleCall.FindAllStringSubmatch(line, -1) {
				found = true
				if err := parseCall(shellWords(call[1])); err != nil {
					t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
				}
			}
		}
		if !found {
			t.Errorf("%s: no example calls farport", cmd.CommandPath())
		}
	}
	for call, broken := range map[string]bool{
		"device show pi-1": false, "device show": true, "device show pi-1 --bogus": true,
		"device shew pi-1": true, "serve --host 'a b'": false, "bogus": true,
	} {
		if err := parseCall(shellWords(call)); (err != nil) != broken {
			t.Errorf("parseCall(%q): %v", call, err)
		}
	}
}

// So do the calls in the documents that people wrote.
func TestDocumentsParse(t *testing.T) {
	pages, err := filepath.Glob(filepath.Join(repository, "docs/*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	for _, page := range append(pages, filepath.Join(repository, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		fenced := false
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if call := exampleCall.FindStringSubmatch(uncommented(line)); fenced && call != nil {
				if err := parseCall(shellWords(call[1])); err != nil {
					t.Errorf("%s: %q: %v", filepath.Base(page), line, err)
				}
			}
		}
	}
}

// Each command that does something is called in a script.
func TestEveryCommandHasScript(t *testing.T) {
	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%d scripts: %v", len(scripts), err)
	}
	var all strings.Builder
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, cmd := range available(newTree()) {
		name := strings.TrimPrefix(cmd.CommandPath(), "farport ")
		call := regexp.MustCompile(`(?m)^(?:!? ?(?:exec|exits \d+) farport|run \S+) ` + regexp.QuoteMeta(name) + `(?: |$)`)
		if !cmd.HasSubCommands() && !call.MatchString(all.String()) {
			t.Errorf("no script in testdata/script calls %s", cmd.CommandPath())
		}
	}
}

// parseCall does what farport does with its arguments before it runs a command.
func parseCall(args []string) error {
	cmd, rest, err := newTree().Find(args)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// shellWords splits a line as a shell does; it knows quotes but no escapes, and ends a
// quote with the line.
func shellWords(line string) (words []string) {
	word, quote, open := "", rune(0), false
	for _, r := range line {
		switch {
		case r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ':
			if open || word != "" {
				words = append(words, word)
			}
			word, open = "", false
		default:
			word += string(r)
		}
	}
	if open || word != "" {
		words = append(words, word)
	}
	return words
}

// exampleRuns are the commands whose examples are run, and what is there before.
// Those of the others wait for connections, or start programs: other tests do that.
var exampleRuns = map[string]string{
	"farport ca list":                  "hub start",
	"farport completion":               "mkdir $HOME/.config/fish/completions",
	"farport device connection-string": "hub start pi-1",
	"farport device create":            "hub start",
	"farport device delete":            "hub start pi-1\nexec farport device create pi-1/ssh",
	"farport device list":              "hub start pi-1",
	"farport device renew-key":         "hub start pi-1",
	"farport device show":              "hub start pi-1",
	"farport device update":            "hub start pi-1",
	"farport devicestream show":        "hub start",
	"farport sas-token":                "hub start pi-1",
	"farport version":                  "",
}

// otherPrograms are in examples that are not run, as this machine lacks them or
// their files.
var otherPrograms = []string{"ssh ", "curl ", "openssl ", "/etc/", "fpath", "Invoke-Expression"}

// The examples do what the page says, against a real hub.
func TestExamplesRun(t *testing.T) {
	dir := t.TempDir()
	for _, cmd := range available(newTree()) {
		before, ok := exampleRuns[cmd.CommandPath()]
		if !ok {
			continue
		}
		script := before + "\n"
		ran := 0
		for i, line := range examples(cmd) {
			if slices.ContainsFunc(otherPrograms, func(p string) bool { return strings.Contains(line, p) }) {
				continue
			}
			ran++
			script += fmt.Sprintf("exec sh %d.sh\n! stderr error\n", i)
		}
		if ran == 0 {
			t.Errorf("%s: none of its examples runs", cmd.CommandPath())
		}
		for i, line := range examples(cmd) {
			script += fmt.Sprintf("-- %d.sh --\n%s\n", i, line)
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".txtar"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runScripts(t, dir)
}
