package main

import (
	"bytes"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/farportio/farport/internal/skip"
)

var update = flag.Bool("update", false, "write completions/, docs/cli and docs/man anew")

// repository is where the folders of generated files are, seen from here.
const repository = "../.."

// generatedFolders hold files that the command tree is written to, and no others.
var generatedFolders = []string{"completions", "docs/cli", "docs/man"}

// The manual and the completions say what the commands say of themselves.
func TestGenerated(t *testing.T) {
	want := generate(t)
	if *update {
		writeGenerated(t, want)
	}
	got := make(map[string]string)
	for _, folder := range generatedFolders {
		entries, err := os.ReadDir(filepath.Join(repository, folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := folder + "/" + e.Name()
			text, err := os.ReadFile(filepath.Join(repository, name))
			if err != nil {
				t.Fatal(err)
			}
			got[name] = string(text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s is not what the commands say", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%s belongs to no command", name)
		}
	}
	if t.Failed() {
		t.Log("go test ./cmd/farport -run TestGenerated -update writes them anew")
	}
}

func writeGenerated(t *testing.T, files map[string]string) {
	for _, folder := range generatedFolders {
		if err := os.RemoveAll(filepath.Join(repository, folder)); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(repository, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(repository, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// newTree is the command tree of a machine without any variables.
func newTree() *cobra.Command {
	none := func(string) (string, bool) { return "", false }
	root := newRoot(&app{term: newTerminal(io.Discard, io.Discard), lookup: none})
	root.DisableAutoGenTag = true
	return root
}

// available are a command and all below it that users see.
func available(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			all = append(all, available(sub)...)
		}
	}
	return all
}

// generate is the text of each generated file.
func generate(t *testing.T) map[string]string {
	files := make(map[string]string)
	for shell, name := range map[string]string{"bash": "farport.bash", "zsh": "_farport", "fish": "farport.fish", "powershell": "farport.ps1"} {
		var script bytes.Buffer
		a := &app{term: newTerminal(&script, io.Discard), lookup: environment(nil)}
		if err := runCompletion(t.Context(), a, newTree(), shell); err != nil {
			t.Fatal(err)
		}
		files["completions/"+name] = script.String()
	}
	for _, cmd := range available(newTree()) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "_")
		files["docs/cli/"+name+".md"] = webPage(t, cmd)
		files["docs/man/"+strings.ReplaceAll(name, "_", "-")+".1"] = manPage(t, cmd)
	}
	return files
}

func webPage(t *testing.T, cmd *cobra.Command) string {
	var page bytes.Buffer
	if err := doc.GenMarkdown(cmd, &page); err != nil {
		t.Fatal(err)
	}
	status := "### Exit status\n\n```\n" + cmd.Annotations[annotationExit] + "\n```\n\n"
	return tidy(before(t, page.String(), "### SEE ALSO\n", status))
}

// manPage has no date: the page is that of its version, which farport itself prints.
func manPage(t *testing.T, cmd *cobra.Command) string {
	var page bytes.Buffer
	long := cmd.Long
	cmd.Long = escapeMarkdown(long)
	defer func() { cmd.Long = long }()
	header := doc.GenManHeader{Section: "1", Source: "farport", Manual: "farport", Date: &time.Time{}}
	if err := doc.GenMan(cmd, &header, &page); err != nil {
		t.Fatal(err)
	}
	status := ".SH EXIT STATUS\n.EX\n" + strings.ReplaceAll(cmd.Annotations[annotationExit], "-", `\-`) + "\n.EE\n\n"
	text := strings.Replace(page.String(), `"Jan 0001"`, `""`, 1)
	return tidy(before(t, text, ".SH SEE ALSO\n", status))
}

// escapeMarkdown leaves text to be shown as it is.
func escapeMarkdown(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", `\<`, "`", "\\`", "[", `\[`, "#", `\#`).Replace(text)
}

// before puts more into a page, in front of a heading that it has to have.
func before(t *testing.T, page, heading, more string) string {
	text, rest, ok := strings.Cut(page, heading)
	if !ok {
		t.Fatalf("no %q in %q", heading, page)
	}
	return text + more + heading + rest
}

// tidy takes off what editors and git complain about.
func tidy(page string) string {
	var lines []string
	for line := range strings.Lines(page) {
		lines = append(lines, strings.TrimRight(line, " \t\n"))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

// The shells themselves read what they will have to complete with.
func TestCompletionSyntax(t *testing.T) {
	for shell, name := range map[string]string{"bash": "farport.bash", "zsh": "_farport", "fish": "farport.fish"} {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				skip.Test(t, shell+" is not installed")
			}
			if out, err := exec.CommandContext(t.Context(), path, "-n", filepath.Join(repository, "completions", name)).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s -n: %v: %s", shell, err, out)
			}
		})
	}
}

// What man uses reads each page without a complaint.
func TestManPages(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		skip.Test(t, "groff is not installed")
	}
	pages, err := filepath.Glob(filepath.Join(repository, "docs/man/*.1"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	// -z: only the complaints, of all kinds
	cmd := exec.CommandContext(t.Context(), groff, append([]string{"-man", "-Kutf8", "-Tutf8", "-ww", "-z", "--"}, pages...)...)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
