package main

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/pflag"
)

func TestAgain(t *testing.T) {
	abs, err := filepath.Abs("x y")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args      []string
		env       map[string]string
		want, get []string
	}{
		{nil, nil, nil, nil},
		{[]string{"--ca-file", "x y", "--connection-string-file=x y"}, nil, []string{"--connection-string-file=" + abs, "--ca-file=" + abs}, nil},
		{[]string{"--connection-string", "secret"}, map[string]string{"IOTHUB_CONNECTION_STRING": "other"}, nil, []string{"FARPORT_CONNECTION_STRING=secret", "FARPORT_CONNECTION_STRING_FILE=", "FARPORT_HUB="}},
		{[]string{"--proxy", "http://a:1"}, nil, []string{"--proxy=http://a:1"}, nil},
		{[]string{"--proxy", "http://me:secret@a:1"}, nil, nil, []string{"FARPORT_PROXY=http://me:secret@a:1"}},
		// Variables are inherited.
		{nil, map[string]string{"IOTHUB_CONNECTION_STRING": "secret", "FARPORT_CA_FILE": "x"}, nil, nil},
	} {
		var o credentialOptions
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		o.addFlags(flags, serviceVariables...)
		if err := flags.Parse(tt.args); err != nil {
			t.Fatal(err)
		}
		if err := applyEnvironment(flags, func(name string) (string, bool) { v, ok := tt.env[name]; return v, ok }); err != nil {
			t.Fatal(err)
		}
		if args, env := o.again(); !slices.Equal(args, tt.want) || !slices.Equal(env, tt.get) {
			t.Errorf("%q, %v: %q, %q", tt.args, tt.env, args, env)
		}
	}
}

func TestReplaced(t *testing.T) {
	got := replaced([]string{"A=1", "B=2", "AB=3"}, []string{"A=", "C=4"})
	if want := []string{"B=2", "AB=3", "A=", "C=4"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
