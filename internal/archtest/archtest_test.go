// Package archtest keeps the shape of the tree: who may import whom, where each
// library is at home, that packages say what they are for, and that files stay
// small. A rule that has to change is changed here, with its reason.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// module is the path that our own imports begin with.
const module = "github.com/farportio/farport"

// maxLines is the most that a Go file may have, maxTestLines a test's.
const (
	maxLines     = 400
	maxTestLines = 600
)

// topLevel are the names that may stand at the top of the tree, besides what
// .gitignore names.
var topLevel = []string{
	".ci", ".git", ".github", ".gitignore", ".golangci.yaml", ".goreleaser.yaml", "LICENSE", "README.md",
	"cmd", "completions", "docs", "go.mod", "go.sum", "hubclient", "internal", "proxy",
}

// mayImport lists, for each package, the packages of ours that it may import, tests
// aside. A package that is not here may import nothing of ours.
var mayImport = map[string][]string{
	"cmd/farport":                  {"proxy", "hubclient", "internal/credential", "internal/hub", "internal/hub/cluster", "internal/atomicfile", "internal/hostkey", "internal/sshconfig", "internal/doctor", "internal/profile", "internal/sysservice", "internal/rdp"},
	"proxy":                        {"hubclient", "internal/stream", "internal/backoff", "internal/netwatch", "internal/wire"},
	"internal/doctor":              {"hubclient", "internal/wire"}, // checks what hubclient's users will meet
	"hubclient":                    {"internal/wire", "internal/credential", "internal/stream"},
	"internal/stream":              {"internal/wire", "internal/backoff", "internal/stream/resume"},
	"internal/stream/resume":       {"internal/wire"},
	"internal/profile":             {"internal/credential", "internal/atomicfile"},
	"internal/hub":                 {"internal/wire", "internal/atomicfile", "internal/credential", "internal/stream", "internal/hub/registry", "internal/hub/store", "internal/hub/rendezvous", "internal/hub/broker", "internal/hub/portal", "internal/hub/query"},
	"internal/hub/registry":        {"internal/wire", "internal/credential", "internal/stream", "internal/hub/store"},
	"internal/hub/store":           {"internal/wire", "internal/credential", "internal/stream"},
	"internal/hub/store/storetest": {"internal/hub/store"},
	"internal/hub/query":           {"internal/wire"},
	"internal/hub/rendezvous":      {"internal/wire", "internal/credential", "internal/stream", "internal/hub/pairing"},
	"internal/hub/pairing":         {"internal/wire"},
	"internal/hub/broker":          {"internal/wire", "internal/credential", "internal/stream"},
	"internal/hub/portal":          {"internal/wire", "internal/credential", "internal/stream", "internal/hub/registry"},
	"internal/hub/cluster":         {"internal/hub", "internal/hub/store"},
	// Both know only ssh, and nothing of a hub.
	"internal/hostkey":    {"internal/atomicfile"},
	"internal/sshconfig":  {},
	"internal/hubtest":    {"internal/hub", "internal/credential", "internal/wire"},
	"internal/netwatch":   {},
	"internal/skip":       {},
	"internal/sysservice": {"internal/atomicfile"},
}

// onlyTests are the packages of ours that only tests may import.
var onlyTests = []string{"internal/hubtest", "internal/skip", "internal/hub/store/storetest"}

// never are imports of the standard library that a package has to do without.
var never = map[string][]string{
	"internal/credential": {"net/http"},
}

// homes lists, for each library by the start of its import path, the packages that
// may import it. Tests may import all of them.
var homes = map[string][]string{
	// hubclient speaks MQTT in a WebSocket: paho's own dialer knows no context and
	// drops what a hub answers instead of 101.
	"github.com/gorilla/websocket":        {"internal/stream", "internal/hub/broker", "hubclient"},
	"github.com/mochi-mqtt/server/v2":     {"internal/hub/broker"},
	"github.com/eclipse/paho.mqtt.golang": {"hubclient"},
	"go.etcd.io/bbolt":                    {"internal/hub/store"},
	"github.com/nats-io/nats.go":          {"internal/hub/cluster"},
	"golang.org/x/crypto/acme":            {"internal/hub"},
	"golang.org/x/crypto/ssh":             {"internal/hostkey"},
	"golang.org/x/time":                   {"internal/hub"},
	"github.com/prometheus/client_golang": {"internal/hub"},
	"github.com/spf13/cobra":              {"cmd/farport"},
	"github.com/spf13/pflag":              {"cmd/farport"},
	"github.com/mattn/go-isatty":          {"cmd/farport"},
	"github.com/schollz/progressbar/v3":   {"cmd/farport"},
	"github.com/rivo/uniseg":              {"cmd/farport"}, // how wide text is on a screen; progressbar's own
	"golang.org/x/term":                   {"cmd/farport"}, // the same
	"go.yaml.in/yaml/v3":                  {"cmd/farport"},
	"github.com/coreos/go-systemd/v22":    {"cmd/farport"},
	"github.com/kardianos/service":        {"internal/sysservice"},
	"github.com/zalando/go-keyring":       {"cmd/farport"},
	"golang.org/x/net/proxy":              {"hubclient"}, // SOCKS
	// For tests alone.
	"github.com/spf13/cobra/doc":      nil,
	"github.com/rogpeppe/go-internal": nil,
	"go.uber.org/goleak":              nil,
	"golang.org/x/net/nettest":        nil,
	"golang.org/x/sys":                nil,
	// Whether a terminal is another job's.
	"golang.org/x/sys/unix": {"cmd/farport"},
	// Rights of a file with a secret, and whether somebody is an administrator.
	"golang.org/x/sys/windows":          {"internal/sysservice"},
	"github.com/nats-io/nats-server/v2": nil,
	"github.com/Shopify/toxiproxy/v2":   nil,
	"github.com/rs/zerolog":             nil, // toxiproxy asks for a logger of this kind
	"github.com/chromedp/chromedp":      nil,
}

func TestTree(t *testing.T) {
	broken, err := check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Error(b)
	}
}

// check returns a line for each rule that the tree breaks.
func check(tree fs.FS) (broken []string, err error) {
	if broken, err = checkTop(tree); err != nil {
		return nil, err
	}
	files, err := parse(tree)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		broken = append(broken, f.check()...)
	}
	return append(broken, checkComments(files)...), nil
}

// checkTop looks at the names at the top of the tree.
func checkTop(tree fs.FS) (broken []string, err error) {
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil, err
	}
	text, err := fs.ReadFile(tree, ".gitignore")
	if err != nil {
		return nil, err
	}
	ignored := strings.Fields(string(text))
	for _, e := range entries {
		byGit := slices.ContainsFunc(ignored, func(pattern string) bool {
			match, err := path.Match(strings.Trim(pattern, "/"), e.Name())
			return match && err == nil
		})
		if !byGit && !slices.Contains(topLevel, e.Name()) {
			broken = append(broken, e.Name()+": not a name for the top of the tree")
		}
	}
	return broken, nil
}

// file is what the rules are about.
type file struct {
	name, dir string
	test      bool
	doc       string
	imports   []string
	lines     int
}

// parse reads all Go files, those for other systems and of tests too.
func parse(tree fs.FS) (files []file, err error) {
	set := token.NewFileSet()
	err = fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if e.IsDir() {
			if base == "testdata" || base != "." && strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(base) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(set, name, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, file{
			name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			doc: parsed.Doc.Text(), imports: importPaths(parsed), lines: strings.Count(string(text), "\n"),
		})
		return nil
	})
	return files, err
}

func importPaths(f *ast.File) (paths []string) {
	for _, spec := range f.Imports {
		p, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
		paths = append(paths, p)
	}
	return paths
}

// check holds one file against the rules for files.
func (f file) check() (broken []string) {
	most := maxLines
	if f.test {
		most = maxTestLines
	}
	if f.lines > most {
		broken = append(broken, fmt.Sprintf("%s: has %d lines, more than %d", f.name, f.lines, most))
	}
	for _, p := range f.imports {
		own, isOwn := strings.CutPrefix(p, module+"/")
		first, _, _ := strings.Cut(p, "/")
		why := ""
		switch {
		case isOwn:
			why = f.mayImport(own)
		case strings.Contains(first, "."):
			why = f.mayUse(p)
		case p == "C":
			why = "the tree is pure Go"
		case !f.test && slices.Contains(never[f.dir], p):
			why = "this package has to do without it"
		}
		if why != "" {
			broken = append(broken, fmt.Sprintf("%s: imports %s: %s", f.name, p, why))
		}
	}
	return broken
}

// mayImport says why the file may not import a package of ours, "" if it may.
// Tests may import all of them.
func (f file) mayImport(own string) string {
	switch {
	case f.test:
		return ""
	case slices.Contains(onlyTests, own):
		return "only tests may"
	case !slices.Contains(mayImport[f.dir], own):
		return "not on the list of what " + f.dir + " may import"
	}
	return ""
}

// mayUse says why the file may not import from a library, "" if it may.
func (f file) mayUse(p string) string {
	library := ""
	for l := range homes {
		if (p == l || strings.HasPrefix(p, l+"/")) && len(l) > len(library) {
			library = l
		}
	}
	switch {
	case library == "":
		return "a library without a home"
	case f.test || slices.Contains(homes[library], f.dir):
		return ""
	case len(homes[library]) == 0:
		return "only tests may"
	}
	return "at home in " + strings.Join(homes[library], ", ")
}

// checkComments looks for the comment that says what a package is for.
func checkComments(files []file) (broken []string) {
	has := make(map[string]bool)
	for _, f := range files {
		begins := "Package " + path.Base(f.dir) + " "
		if strings.HasPrefix(f.dir, "cmd/") {
			begins = "Command " + path.Base(f.dir) + " "
		}
		has[f.dir] = has[f.dir] || strings.HasPrefix(f.doc, begins)
	}
	for dir, ok := range has {
		if !ok {
			broken = append(broken, dir+": has no package comment")
		}
	}
	slices.Sort(broken)
	return broken
}

// TestCheck breaks each rule in a tree of its own, so that a rule that has stopped
// to work is noticed.
func TestCheck(t *testing.T) {
	const doc = "// Package %[1]s is.\npackage %[1]s\n"
	source := func(name string, imports ...string) string {
		text := fmt.Sprintf(doc, name)
		for _, p := range imports {
			text += "import _ " + strconv.Quote(p) + "\n"
		}
		return text
	}
	for name, tt := range map[string]struct {
		file, text string
		want       string // "" means that no rule is broken
	}{
		"allowed of ours":        {"proxy/a.go", source("proxy", module+"/hubclient", "net/http"), ""},
		"not allowed of ours":    {"proxy/a.go", source("proxy", module+"/internal/hub"), "proxy/a.go: imports " + module + "/internal/hub: not on the list of what proxy may import"},
		"may import nothing":     {"internal/wire/a.go", source("wire", module+"/internal/stream"), "internal/wire/a.go: imports " + module + "/internal/stream: not on the list of what internal/wire may import"},
		"all of ours in a test":  {"proxy/a_test.go", source("proxy", module+"/internal/hubtest"), ""},
		"test package":           {"proxy/a.go", source("proxy", module+"/internal/hubtest"), "proxy/a.go: imports " + module + "/internal/hubtest: only tests may"},
		"other system":           {"proxy/a_windows.go", source("proxy", module+"/internal/hub"), "proxy/a_windows.go: imports " + module + "/internal/hub: not on the list of what proxy may import"},
		"library at home":        {"internal/hub/broker/a.go", source("broker", "github.com/mochi-mqtt/server/v2/packets"), ""},
		"library abroad":         {"internal/hub/a.go", source("hub", "github.com/mochi-mqtt/server/v2"), "internal/hub/a.go: imports github.com/mochi-mqtt/server/v2: at home in internal/hub/broker"},
		"library abroad, a test": {"internal/hub/a_test.go", source("hub", "github.com/mochi-mqtt/server/v2"), ""},
		"library of tests":       {"cmd/farport/a.go", "// Command farport is.\npackage main\nimport _ \"github.com/spf13/cobra/doc\"\n", "cmd/farport/a.go: imports github.com/spf13/cobra/doc: only tests may"},
		"unknown library":        {"proxy/a_test.go", source("proxy", "example.com/x"), "proxy/a_test.go: imports example.com/x: a library without a home"},
		"similar library":        {"hubclient/a.go", source("hubclient", "github.com/gorilla/websocketx"), "hubclient/a.go: imports github.com/gorilla/websocketx: a library without a home"},
		"never":                  {"internal/credential/a.go", source("credential", "net/http"), "internal/credential/a.go: imports net/http: this package has to do without it"},
		"cgo":                    {"proxy/a.go", source("proxy", "C"), "proxy/a.go: imports C: the tree is pure Go"},
		"no package comment":     {"proxy/a.go", "package proxy\n", "proxy: has no package comment"},
		"another's comment":      {"proxy/a.go", "// Package stream is.\npackage proxy\n", "proxy: has no package comment"},
		"long file":              {"proxy/a.go", source("proxy") + strings.Repeat("\n", maxLines-2), ""},
		"too long a file":        {"proxy/a.go", source("proxy") + strings.Repeat("\n", maxLines-1), "proxy/a.go: has 401 lines, more than 400"},
		"top level":              {"notes.txt", "", "notes.txt: not a name for the top of the tree"},
		"ignored by git":         {"dist/notes.txt", "", ""},
		"testdata":               {"proxy/testdata/a.go", "package main\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{
				".gitignore": {Data: []byte("/dist/\n")},
				tt.file:      {Data: []byte(tt.text)},
			}
			broken, err := check(tree)
			if got := strings.Join(broken, "\n"); err != nil || got != tt.want {
				t.Errorf("got %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}
