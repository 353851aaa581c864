package sshconfig

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	for id, want := range map[string][2]string{
		"pi-1":           {"pi-1.farport", "pi-1.farport"},
		"Pi_4.A+b":       {"Pi_4.A+b.farport", "~50i_4.~41+b.farport"},
		"-oProxy=x":      {"~2doProxy~3dx.farport", "~2do~50roxy~3dx.farport"},
		".x":             {"~2ex.farport", "~2ex.farport"},
		"a$(b)'":         {"a~24~28b~29~27.farport", "a~24~28b~29~27.farport"},
		"pi/ssh":         {"pi~2fssh.farport", "pi~2fssh.farport"},
		"x.farport":      {"x.farport.farport", "x.farport.farport"},
		"%h#*?!:@,":      {"~25h~23~2a~3f~21~3a~40~2c.farport", "~25h~23~2a~3f~21~3a~40~2c.farport"},
		"1.2.3.4":        {"1.2.3.4.farport", "1.2.3.4.farport"},
		"\xff\x00\n\x1b": {"~ff~00~0a~1b.farport", "~ff~00~0a~1b.farport"},
	} {
		if got := [2]string{Name(id), KeyAlias(id)}; got != want {
			t.Errorf("%q: %q", id, got)
		}
		for _, name := range []string{Name(id), KeyAlias(id)} {
			if got, ok := ID(name); got != id || !ok {
				t.Errorf("%q stands for %q, %v", name, got, ok)
			}
		}
	}
}

func TestID(t *testing.T) {
	for name, want := range map[string]string{
		"a$b/c.farport": "a$b/c", "a~2Fb.farport": "a/b",
		"pi-1": "", ".farport": "", "farport": "", "pi-1.farport.": "", "pi-1.FARPORT": "",
		"a~2.farport": "", "a~.farport": "", "a~+1.farport": "", "a~zz.farport": "",
	} {
		if got, ok := ID(name); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", name, got, ok)
		}
	}
}

// FuzzName: every ID comes back, from names that no ssh or shell can take for more.
func FuzzName(f *testing.F) {
	f.Add("pi-1")
	f.Add("-a$(b)'/%n")
	f.Fuzz(func(t *testing.T, id string) {
		if id == "" {
			return
		}
		for _, name := range []string{Name(id), KeyAlias(id)} {
			if got, ok := ID(name); got != id || !ok {
				t.Errorf("%q is %q, which stands for %q", id, name, got)
			}
			if strings.HasPrefix(name, "-") || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-._+~") != "" {
				t.Errorf("%q is %q", id, name)
			}
		}
		if alias := KeyAlias(id); alias != strings.ToLower(alias) {
			t.Errorf("%q has the alias %q", id, alias)
		}
	})
}

func TestBlock(t *testing.T) {
	const want = Marker + `Host *.farport "!*'*"
    ProxyCommand /bin/farport service-proxy --ssh-name='%n'
    KnownHostsCommand "/home/a b/%far\"p\\${x}" 100%% --ssh-name=%n --host=%H --reason=%I --key=%K
    UpdateHostKeys no
`
	if got, err := Block("/bin/farport service-proxy", []string{`/home/a b/%far"p\${x}`, "100%"}); got != want || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := Block("/bin/farport", nil); strings.Contains(got, "KnownHostsCommand") || err != nil {
		t.Errorf("without host keys: %s, %v", got, err)
	}
	for proxy, knownHosts := range map[string][]string{
		"farport 'a\nProxyCommand b'": nil,
		"farport":                     {"/bin/farport", "--ca-file=${HOME}"},
	} {
		if got, err := Block(proxy, knownHosts); !errors.Is(err, ErrUnfit) {
			t.Errorf("%q %q: got %s, %v", proxy, knownHosts, got, err)
		}
	}
}

func TestOptions(t *testing.T) {
	got := Options("Pi", "farport", []string{"/bin/farport"})
	want := []string{
		"ProxyCommand=farport --ssh-name='Pi.farport'", "HostKeyAlias=~50i.farport", "UpdateHostKeys=no", "CanonicalizeHostname=no", "HostName=~50i.farport",
		"KnownHostsCommand=/bin/farport --ssh-name=Pi.farport --host=%H --reason=%I --key=%K",
		"StrictHostKeyChecking=yes", "UserKnownHostsFile=none", "GlobalKnownHostsFile=none",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := Options("pi", "farport", nil); got[len(got)-1] != "KnownHostsCommand=none" || len(got) != 5 {
		t.Errorf("without host keys: %q", got)
	}
}

func TestCommandLine(t *testing.T) {
	if got := CommandLine([]string{"/bin/a-b", "--x=1", "it's 100%", "", "$x"}); got != `/bin/a-b --x=1 'it'\''s 100%%' '' '$x'` {
		t.Errorf("got %s", got)
	}
	if got := quoted(`C:\Program Files\farport.exe`, "windows"); got != `"C:\Program Files\farport.exe"` {
		t.Errorf("on Windows %s", got)
	}
}
