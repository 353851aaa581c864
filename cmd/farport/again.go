package main

import (
	"path/filepath"
	"slices"
	"strings"
)

// again says how another farport gets the same credentials: arguments for what was given
// by flags, and variables for what must not be seen among arguments. Our own variables it
// inherits. Files are named by their absolute paths.
func (o *credentialOptions) again() (args, env []string) {
	for _, name := range []string{"hub", flagConnectionStringFile, "ca-file", flagProxy, flagConnectionString} {
		f := o.flags.Lookup(name)
		if f == nil || !f.Changed || setBy(o.flags, name) != "" {
			continue
		}
		value := f.Value.String()
		if strings.HasSuffix(name, "-file") {
			if path, err := filepath.Abs(value); err == nil {
				value = path
			}
		}
		if name == flagConnectionString {
			env = append(env, variable(name)+"="+value) // wins over other programs' variables
			for _, other := range f.Annotations[annotationExcludes] {
				env = append(env, variable(other)+"=") // "" counts as not set
			}
			continue
		}
		if name == flagProxy && hasPassword(value) {
			env = append(env, variable(name)+"="+value)
			continue
		}
		args = append(args, "--"+name+"="+value)
	}
	return args, env
}

// replaced is an environment in which these variables are set anew. Of two with a name the
// first would count.
func replaced(environ, env []string) []string {
	names := make(map[string]bool)
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		names[name] = true
	}
	kept := slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return names[name]
	})
	return append(kept, env...)
}
