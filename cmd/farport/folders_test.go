package main

import "testing"

func TestStateDir(t *testing.T) {
	home := map[string]string{"HOME": "/home/me", "LocalAppData": "/local"}
	for _, test := range []struct {
		env  map[string]string
		goos string
		want string
	}{
		{home, "linux", "/home/me/.local/state/farport"},
		{map[string]string{"HOME": "/home/me", "XDG_STATE_HOME": "/xdg"}, "linux", "/xdg/farport"},
		{map[string]string{"HOME": "/home/me", "XDG_STATE_HOME": "/xdg"}, "darwin", "/xdg/farport"},
		{map[string]string{"HOME": "/home/me", "XDG_STATE_HOME": "xdg"}, "linux", "/home/me/.local/state/farport"},
		{home, "darwin", "/home/me/Library/Application Support/farport/state"},
		{home, "windows", "/local/farport/state"},
		{nil, "linux", ""},
		{nil, "windows", ""},
	} {
		got, err := defaultStateDir(environment(test.env), test.goos)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s, %v: %q, %v, want %q", test.goos, test.env, got, err, test.want)
		}
	}
}
