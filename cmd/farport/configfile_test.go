package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// writeConfig writes a config file into a folder of its own.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigFile(t *testing.T) {
	for _, test := range []struct {
		name  string
		file  string
		args  string
		env   map[string]string
		want  string // one|many|number|a|b|path
		error string // after the file's name
	}{
		{"empty", "", "", nil, "def|[]|1|false||", ""},
		{"comments", "# none\n\n# at all\n", "", nil, "def|[]|1|false||", ""},
		{"only a mark", "---\n", "", nil, "def|[]|1|false||", ""},
		{"every type", "one-word: x\nmany: [y, z=1]\nnumber: 7\na: true\n", "", nil, "x|[y z=1]|7|true||", ""},
		{"block list, quotes, end mark", "many:\n  - 'y'\n  - \"z\"\n...\n", "", nil, "def|[y z]|1|false||", ""},
		{"one value of a list", "many: a,b c\n", "", nil, "def|[a,b c]|1|false||", ""},
		{"text as it is written", "one-word: off\nb: 0x10\n", "", nil, "off|[]|1|false|0x10|", ""},
		{"anchors", "one-word: &w x\nb: *w\n", "", nil, "x|[]|1|false|x|", ""},

		{"flag before file", "one-word: x\n", "--one-word=f", nil, "f|[]|1|false||", ""},
		{"own variable before file", "one-word: x\n", "", map[string]string{"FARPORT_ONE_WORD": "v"}, "v|[]|1|false||", ""},
		{"another's variable before file", "one-word: x\n", "", map[string]string{"OTHER": "v"}, "v|[]|1|false||", ""},
		{"an empty variable is none", "one-word: x\n", "", map[string]string{"FARPORT_ONE_WORD": ""}, "x|[]|1|false||", ""},
		{"flags replace a list", "many: [y, z]\n", "--many=f", nil, "def|[f]|1|false||", ""},
		{"flag silences what it excludes", "b: x\n", "--a", nil, "def|[]|1|true||", ""},
		{"variable silences what it excludes", "b: x\n", "", map[string]string{"FARPORT_A": "true"}, "def|[]|1|true||", ""},

		{"unknown key", "one-word: x\n\ntwo-words: y\n", "", nil, "", `:3: unknown key "two-words"`},
		{"nearly a key", "# c\nonce-word: x\n", "", nil, "", `:2: unknown key "once-word"; did you mean one-word?`},
		{"other spelling", "oneWord: x\n", "", nil, "", `:1: unknown key "oneWord"; did you mean one-word?`},
		{"unknown though a flag is given", "num: 2\n", "--number=3", nil, "", `:1: unknown key "num"; did you mean number?`},
		{"the file's own flag", "config: x\n", "", nil, "", `:1: unknown key "config"`},
		{"help", "help: true\n", "", nil, "", `:1: unknown key "help"`},
		{"twice", "one-word: x\na: true\none-word: y\n", "", nil, "", `:3: "one-word" is given twice, first in line 1`},
		{"not a number", "a: true\nnumber: many\n", "", nil, "", `:2: number "many": must be a whole number`},
		{"not a truth", "a: perhaps\n", "", nil, "", `:1: a "perhaps": must be true or false`},
		{"list for one value", "one-word:\n- x\n", "", nil, "", `:1: "one-word": takes one value, not a list`},
		{"map for a list", "many:\n  ssh: x\n", "", nil, "", `:2: "many": must be a plain value`},
		{"map in a list", "many:\n- y\n- ssh: x\n", "", nil, "", `:3: "many": must be a plain value in each line of its list`},
		{"no value", "a: true\none-word:\n", "", nil, "", `:2: "one-word": has no value`},
		{"excluded in the file", "a: true\nb: x\n", "", nil, "", `:2: "b" and "a" cannot be used together`},
		{"no keys", "HostName=h;SharedAccessKey=c2VjcmV0\n", "", nil, "", `:1: must be lines of the form KEY: VALUE`},
		{"a list", "- one-word\n", "", nil, "", `:1: must be lines of the form KEY: VALUE`},
		{"odd key", "[a]: x\n", "", nil, "", `:1: a key must be the name of a flag`},
		{"merge", "<<: {a: true}\n", "", nil, "", `:1: "<<": must be a plain value`},
		{"not YAML", "a: true\nb: [x\n", "", nil, "", `:2: did not find expected ',' or ']'`},
		{"not YAML, up to the end", "b: [x\n", "", nil, "", `:2: did not find expected ',' or ']'`},
		{"not YAML later", "# c\na: true\nb\n", "", nil, "", `:3: could not find expected ':'`},
		{"tabs", "a:\n\tb: x\n", "", nil, "", `:2: found character that cannot start any token`},
		{"two documents", "a: true\n---\nb: x\n", "", nil, "", `: has more than one YAML document`},
		{"too long", strings.Repeat("#", maxConfig+1), "", nil, "", ` is longer than 1048576 bytes`},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, test.file)
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			one := flags.String("one-word", "def", "")
			many := flags.StringArray("many", nil, "")
			number := flags.Int("number", 1, "")
			a := flags.Bool("a", false, "")
			b := flags.String("b", "", "")
			in := flags.String("path", "", "a `FILE`")
			flags.Bool("help", false, "")
			addConfigFlag(flags)
			alsoFrom(flags, "one-word", "OTHER")
			exclusive(flags, "a", "b")
			if err := flags.Parse(append(strings.Fields(test.args), "--config="+path)); err != nil {
				t.Fatal(err)
			}
			if err := applyEnvironment(flags, environment(test.env)); err != nil {
				t.Fatal(err)
			}
			app := &app{term: newTerminal(&bytes.Buffer{}, &bytes.Buffer{}), sharedOptions: sharedOptions{logFormat: "text"}}
			err := app.configure(flags)
			if test.error != "" {
				if err == nil || err.Error() != path+test.error {
					t.Fatalf("error %v, want %q", err, test.error)
				}
				if code, _ := judge(err, "x"); code != exitUsage {
					t.Errorf("exit code %d, want %d", code, exitUsage)
				}
				return
			}
			if got := fmt.Sprintf("%s|%v|%d|%v|%s|%s", *one, *many, *number, *a, *b, *in); err != nil || got != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestConfigPaths(t *testing.T) {
	for value, want := range map[string]string{
		"x.pem":        "DIR/x.pem",
		"../x.pem":     "DIR/../x.pem",
		"/etc/x.pem":   "/etc/x.pem",
		standardInput:  standardInput,
		`""`:           "",
		"sub dir/x.pe": "DIR/sub dir/x.pe",
	} {
		if value == standardInput {
			value = `"-"` // which otherwise begins a list
		}
		path := writeConfig(t, "path: "+value+"\nfolder: "+value+"\nother: "+value+"\n")
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		in, folder := flags.String("path", "", "a `FILE`"), flags.String("folder", "", "a `DIR`")
		other := flags.String("other", "", "a `NAME`")
		c, err := (&app{term: newTerminal(&bytes.Buffer{}, &bytes.Buffer{})}).readConfig(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.apply(flags); err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want = filepath.Clean(strings.Replace(want, "DIR", filepath.Dir(path), 1))
		}
		if *in != want || *folder != want || *other != strings.Trim(value, `"`) {
			t.Errorf("%s: %q, %q, %q, want %q", value, *in, *folder, *other, want)
		}
	}
}

// TestConfigKeys holds the flags that are paths against the help's words for them.
func TestConfigKeys(t *testing.T) {
	want := "ca-file cert config connection-string-file data-dir key tls-cert tls-key"
	names := make(map[string]bool)
	for _, command := range newRoot(&app{term: newTerminal(&bytes.Buffer{}, &bytes.Buffer{})}).Commands() {
		if command.Flags().Lookup(flagConfig) == nil {
			continue
		}
		command.Flags().VisitAll(func(f *pflag.Flag) {
			if placeholder, _ := pflag.UnquoteUsage(f); placeholders[placeholder] {
				names[f.Name] = true
			}
		})
	}
	for _, name := range strings.Fields(want) {
		if !names[name] {
			t.Errorf("--%s is no path", name)
		}
		delete(names, name)
	}
	for name := range names {
		t.Errorf("--%s is a path: name it in docs/profiles.md and here", name)
	}
}

// TestDocumentedConfigs reads the config files that docs/profiles.md shows.
func TestDocumentedConfigs(t *testing.T) {
	text, err := os.ReadFile("../../docs/profiles.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n# \\S+, for: farport (\\S+) --config .*?```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d examples, want 2", len(blocks))
	}
	for _, b := range blocks {
		app := &app{term: newTerminal(&bytes.Buffer{}, &bytes.Buffer{})}
		command, _, err := newRoot(app).Find([]string{b[1]})
		if err != nil {
			t.Fatal(err)
		}
		path := writeConfig(t, strings.TrimSuffix(strings.TrimPrefix(b[0], "```yaml\n"), "```"))
		if err := command.ParseFlags([]string{"--config=" + path}); err != nil {
			t.Fatal(err)
		}
		if err := app.configure(command.Flags()); err != nil {
			t.Errorf("the example for %s: %v", b[1], err)
		}
	}
}
