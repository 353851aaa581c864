package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// envPrefix begins the variable of every flag.
const envPrefix = "FARPORT_"

// lookup is os.LookupEnv, or a test's.
type lookup func(name string) (string, bool)

// variable is the name of a flag's own variable.
func variable(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Annotations of a flag.
const (
	annotationAlso     = "also"     // further variables, in order
	annotationExcludes = "excludes" // flags that cannot stand beside it
	annotationFrom     = "from"     // the variable, or line of a file, that it was set by
)

// alsoFrom lets a flag be set by other programs' variables. Its own wins.
func alsoFrom(flags *pflag.FlagSet, flag string, variables ...string) {
	flags.Lookup(flag).Annotations = annotate(flags.Lookup(flag), annotationAlso, variables)
}

// exclusive says that at most one of these flags can be used. One on the command
// line silences the variables of the others.
func exclusive(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
		flags.Lookup(name).Annotations = annotate(flags.Lookup(name), annotationExcludes, others)
	}
}

func annotate(f *pflag.Flag, key string, values []string) map[string][]string {
	if f.Annotations == nil {
		f.Annotations = make(map[string][]string)
	}
	f.Annotations[key] = append(f.Annotations[key], values...)
	return f.Annotations
}

// setBy is the variable, or line of a config file, that a flag was set by; "" for the
// command line.
func setBy(flags *pflag.FlagSet, flag string) string {
	if from := flags.Lookup(flag).Annotations[annotationFrom]; len(from) > 0 {
		return from[0]
	}
	return ""
}

// checkGiven refuses a flag that is given as "": most often a script's variable that is not
// set, where going on with the default would mean another hub or device than was meant.
func checkGiven(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if err == nil && f.Value.Type() == "string" && f.Value.String() == "" {
			err = usage("--%s must not be empty", f.Name)
		}
	})
	return err
}

// applyEnvironment sets the flags that are not on the command line: from their own
// variables first, then from other programs'. An empty variable counts as not set.
func applyEnvironment(flags *pflag.FlagSet, env lookup) error {
	own := func(f *pflag.Flag) []string { return []string{variable(f.Name)} }
	also := func(f *pflag.Flag) []string { return f.Annotations[annotationAlso] }
	for _, variables := range []func(*pflag.Flag) []string{own, also} {
		open := unset(flags)
		for _, f := range open {
			if err := setFromFirst(flags, f, variables(f), env); err != nil {
				return err
			}
		}
	}
	return checkExclusive(flags)
}

// unset are the flags that can still be set without contradicting one that is.
func unset(flags *pflag.FlagSet) []*pflag.Flag {
	var open []*pflag.Flag
	flags.VisitAll(func(f *pflag.Flag) {
		if !neverSet(f) && !f.Changed && conflicts(flags, f) == "" {
			open = append(open, f)
		}
	})
	return open
}

// neverSet is for the flags that are for the command line alone.
func neverSet(f *pflag.Flag) bool { return f.Name == "help" || f.Name == "version" }

// conflicts names a flag that is set and excludes f, "" when there is none.
func conflicts(flags *pflag.FlagSet, f *pflag.Flag) string {
	for _, name := range f.Annotations[annotationExcludes] {
		if flags.Changed(name) {
			return name
		}
	}
	return ""
}

func checkExclusive(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if other := conflicts(flags, f); other != "" && err == nil {
			err = usage("--%s and --%s cannot be used together", f.Name, other)
		}
	})
	return err
}

// setFromFirst sets f from the first of the variables that has a value. Flags that
// may be repeated take several, separated by commas.
func setFromFirst(flags *pflag.FlagSet, f *pflag.Flag, variables []string, env lookup) error {
	for _, name := range variables {
		value, ok := env(name)
		if !ok || value == "" {
			continue
		}
		values := []string{value}
		if _, many := f.Value.(pflag.SliceValue); many {
			values = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
		}
		for _, v := range values {
			if err := flags.Set(f.Name, v); err != nil {
				return badValue(name, f, v)
			}
		}
		f.Annotations = annotate(f, annotationFrom, []string{name})
		return nil
	}
	return nil
}

// flagError puts pflag's errors into words.
func flagError(err error) error {
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return badValue("--"+e.GetFlag().Name, e.GetFlag(), e.GetValue())
	}
	return usage("%v", err)
}

// badValue says what a flag takes; source is where it got something else.
func badValue(source string, f *pflag.Flag, value string) error {
	takes := map[string]string{"int": "a whole number", "duration": "a time such as 30s", "bool": "true or false"}[f.Value.Type()]
	return usage("%s %s: must be %s", source, quote(value), takes)
}
