package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

const flagConfig = "config"

// maxConfig bounds a config file in bytes.
const maxConfig = 1 << 20

// placeholders are what the help calls the values that are paths. In a config file
// such a path begins at the file's own folder.
var placeholders = map[string]bool{"FILE": true, "DIR": true}

// addConfigFlag gives a command its config file.
func addConfigFlag(flags *pflag.FlagSet) {
	flags.String(flagConfig, "", "read flags from this YAML `FILE`, by their names without --; flags and variables win over it")
}

// configure completes the flags from the config file, if there is one: those that are
// neither on the command line nor in a variable, nor excluded by one that is.
func (a *app) configure(flags *pflag.FlagSet) error {
	path := flags.Lookup(flagConfig).Value.String()
	if path == "" {
		return nil
	}
	c, err := a.readConfig(path)
	if err != nil {
		return err
	}
	if err := c.apply(flags); err != nil {
		return err
	}
	return a.settle()
}

// configFile is a config file that has been read.
type configFile struct {
	path    string
	entries []configEntry
}

// configEntry is one key with its values, which are one where the flag takes one.
type configEntry struct {
	key    string
	line   int
	list   bool
	values []*yaml.Node
}

// readConfig reads a file. One with a secret in it has to be its owner's alone to write.
func (a *app) readConfig(path string) (configFile, error) {
	c := configFile{path: path}
	f, err := os.Open(path)
	if err != nil {
		return c, &codedError{exitUsage, permissionHint(err), fmt.Errorf("--%s: %w", flagConfig, err)}
	}
	defer f.Close()
	text, err := readWhole(f, path, maxConfig) // lines are counted
	if err != nil {
		return c, err
	}
	if err := c.parse(text); err != nil {
		return c, err
	}
	if slices.ContainsFunc(c.entries, configEntry.secret) {
		err = a.checkMode(f)
	}
	return c, err
}

// secret tells of a connection string, or of a proxy's password.
func (e configEntry) secret() bool {
	return e.key == flagConnectionString || e.key == flagProxy && slices.ContainsFunc(e.values, func(v *yaml.Node) bool {
		return hasPassword(v.Value)
	})
}

func (c *configFile) parse(text string) error {
	var document yaml.Node
	decoder := yaml.NewDecoder(strings.NewReader(text))
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil // empty, or nothing but comments
	}
	if err != nil {
		return c.syntaxError(err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return usage("%s: has more than one YAML document", c.path)
	}
	top := document.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil
	}
	if top.Kind != yaml.MappingNode {
		return c.wrong(top.Line, "must be lines of the form KEY: VALUE")
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			return c.wrong(key.Line, "a key must be the name of a flag")
		}
		if before, twice := seen[key.Value]; twice {
			return c.wrong(key.Line, "%s is given twice, first in line %d", quote(key.Value), before)
		}
		seen[key.Value] = key.Line
		e, err := c.entry(key, value)
		if err != nil {
			return err
		}
		c.entries = append(c.entries, e)
	}
	return nil
}

func (c *configFile) entry(key, value *yaml.Node) (configEntry, error) {
	e := configEntry{key: key.Value, line: key.Line, values: []*yaml.Node{value}}
	if value.Kind == yaml.SequenceNode {
		e.list, e.values = true, value.Content
	}
	for i, v := range e.values {
		if v.Kind == yaml.AliasNode {
			v = v.Alias
			e.values[i] = v
		}
		switch {
		case v.Kind != yaml.ScalarNode:
			return e, c.wrong(v.Line, "%s: must be a plain value%s", quote(e.key), map[bool]string{true: " in each line of its list"}[e.list])
		case v.Tag == "!!null":
			return e, c.wrong(v.Line, "%s: has no value", quote(e.key))
		}
	}
	return e, nil
}

// apply sets the flags that are open. Keys are checked all the same, and so are values,
// as far as the flag's type goes.
func (c *configFile) apply(flags *pflag.FlagSet) error {
	open := make(map[string]bool)
	for _, f := range unset(flags) {
		open[f.Name] = true
	}
	for _, e := range c.entries {
		f := flags.Lookup(e.key)
		if f == nil || e.key == flagConfig || neverSet(f) {
			return c.unknown(flags, e)
		}
		_, many := f.Value.(pflag.SliceValue)
		if e.list && !many {
			return c.wrong(e.line, "%s: takes one value, not a list", quote(e.key))
		}
		if !open[e.key] {
			continue
		}
		if other := conflicts(flags, f); other != "" {
			return c.wrong(e.line, "%s and %s cannot be used together", quote(e.key), quote(other))
		}
		for _, v := range e.values {
			if err := flags.Set(f.Name, c.valueOf(f, v.Value)); err != nil {
				return badValue(c.at(v.Line)+": "+e.key, f, v.Value)
			}
		}
		f.Annotations = annotate(f, annotationFrom, []string{c.at(e.line)})
	}
	return nil
}

// valueOf is what a flag is set to: paths begin at the file's folder.
func (c *configFile) valueOf(f *pflag.Flag, value string) string {
	placeholder, _ := pflag.UnquoteUsage(f)
	if !placeholders[placeholder] || value == "" || value == standardInput || filepath.IsAbs(value) {
		return value
	}
	return filepath.Join(filepath.Dir(c.path), value)
}

// unknown suggests the flags that look like the key.
func (c *configFile) unknown(flags *pflag.FlagSet, e configEntry) error {
	// cobra knows how alike names are, of commands.
	names := &cobra.Command{SuggestionsMinimumDistance: 2}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != flagConfig && !neverSet(f) {
			names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	near := ""
	if found := names.SuggestionsFor(e.key); len(found) > 0 {
		near = "; did you mean " + strings.Join(found, " or ") + "?"
	}
	return c.wrong(e.line, "unknown key %s%s", quote(e.key), near)
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxError puts the line first, as all messages about the file have it.
func (c *configFile) syntaxError(err error) error {
	text := err.Error()
	found := yamlLine.FindStringSubmatch(text)
	if found == nil {
		return usage("%s: %s", c.path, text)
	}
	text = text[len(found[0]):]
	line, _ := strconv.Atoi(found[1]) // 0 when there is none
	if strings.HasPrefix(text, "did not find expected ") {
		line++ // what yaml's parser finds, unlike its scanner, it counts from 0
	}
	if line == 0 {
		return usage("%s: %s", c.path, text)
	}
	return c.wrong(line, "%s", text)
}

func (c *configFile) wrong(line int, format string, args ...any) error {
	return usage("%s: %s", c.at(line), fmt.Sprintf(format, args...))
}

func (c *configFile) at(line int) string { return fmt.Sprintf("%s:%d", c.path, line) }
