package rdp

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// machine is a System with these programs, folders and variables.
func machine(goos, release string, has ...string) System {
	return System{
		GOOS: goos,
		Lookup: func(name string) (string, bool) {
			if slices.Contains(has, "$"+name) {
				return "x", true
			}
			return "", false
		},
		LookPath: func(name string) (string, error) {
			if slices.Contains(has, name) {
				return "/bin/" + name, nil
			}
			return "", exec.ErrNotFound
		},
		Exists:    func(path string) bool { return slices.Contains(has, path) },
		OSRelease: release,
	}
}

func TestFind(t *testing.T) {
	const windowsApp, older = "/Applications/Windows App.app", "/Applications/Microsoft Remote Desktop.app"
	for name, test := range map[string]struct {
		on         System
		asked      string
		want, path string
		app        string
		stay       Stay
	}{
		"freerdp 3 before 2":       {machine("linux", "", "xfreerdp", "xfreerdp3", "remmina"), "", "xfreerdp3", "/bin/xfreerdp3", "", Stays},
		"freerdp 2":                {machine("linux", "", "xfreerdp", "remmina"), "", "xfreerdp", "/bin/xfreerdp", "", Stays},
		"remmina last":             {machine("linux", "", "remmina"), "", "remmina", "/bin/remmina", "", MayHandOver},
		"asked for":                {machine("linux", "", "xfreerdp", "remmina"), "remmina", "remmina", "/bin/remmina", "", MayHandOver},
		"wayland only":             {machine("linux", "", "$WAYLAND_DISPLAY", "xfreerdp3", "wlfreerdp"), "", "wlfreerdp", "/bin/wlfreerdp", "", Stays},
		"wayland with X11":         {machine("linux", "", "$WAYLAND_DISPLAY", "$DISPLAY", "xfreerdp", "wlfreerdp"), "", "xfreerdp", "/bin/xfreerdp", "", Stays},
		"wayland with X11, no x":   {machine("linux", "", "$WAYLAND_DISPLAY", "$DISPLAY", "wlfreerdp"), "", "wlfreerdp", "/bin/wlfreerdp", "", Stays},
		"by path":                  {machine("linux", "", "/opt/f/xfreerdp"), "/opt/f/xfreerdp", "xfreerdp", "/bin//opt/f/xfreerdp", "", Stays},
		"windows":                  {machine("windows", "", "mstsc"), "", "mstsc", "/bin/mstsc", "", MayHandOver},
		"windows, by path":         {machine("windows", "", `C:\f\mstsc.exe`), `C:\f\mstsc.exe`, "mstsc", `/bin/C:\f\mstsc.exe`, "", MayHandOver},
		"macOS":                    {machine("darwin", "", "open", windowsApp, older), "", "windows-app", "/bin/open", windowsApp, HandsOver},
		"macOS, the app of before": {machine("darwin", "", "open", older), "", "windows-app", "/bin/open", older, HandsOver},
		"macOS without the app":    {machine("darwin", "", "open", "xfreerdp"), "", "xfreerdp", "/bin/xfreerdp", "", Stays},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := test.on.Find(test.asked)
			if err != nil || c.Name != test.want || c.Path != test.path || c.app != test.app || c.Stay() != test.stay {
				t.Errorf("got %+v, stay %d, %v; want %+v", c, c.Stay(), err, test)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	debian := func(id, version string) string {
		return "PRETTY_NAME=\"Some Linux\"\nID=" + id + "\nVERSION_ID=\"" + version + "\"\n"
	}
	for name, test := range map[string]struct {
		on      System
		asked   string
		install string
	}{
		"debian 12":             {machine("linux", debian("debian", "12")), "", "sudo apt install freerdp2-x11"},
		"debian 13":             {machine("linux", debian("debian", "13")), "", "sudo apt install freerdp3-x11"},
		"ubuntu 22.04":          {machine("linux", debian("ubuntu", "22.04")), "", "sudo apt install freerdp2-x11"},
		"ubuntu 24.04":          {machine("linux", debian("ubuntu", "24.04")), "xfreerdp3", "sudo apt install freerdp3-x11"},
		"debian 12, wayland":    {machine("linux", debian("debian", "12"), "$WAYLAND_DISPLAY"), "", "sudo apt install freerdp2-wayland"},
		"a derivative":          {machine("linux", "ID=mint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=22"), "", "sudo apt install freerdp3-x11"},
		"debian, remmina":       {machine("linux", debian("debian", "12"), "xfreerdp"), "remmina", "sudo apt install remmina remmina-plugin-rdp"},
		"fedora":                {machine("linux", "ID=fedora\n"), "", "sudo dnf install freerdp"},
		"rocky":                 {machine("linux", "ID='rocky'\nID_LIKE='rhel centos fedora'\n"), "", "sudo dnf install freerdp"},
		"arch":                  {machine("linux", "ID=arch\n"), "", "sudo pacman -S freerdp"},
		"alpine":                {machine("linux", "ID=alpine\n"), "remmina", "sudo apk add remmina"},
		"opensuse":              {machine("linux", "ID=opensuse-leap\nID_LIKE=\"suse opensuse\"\n"), "", "sudo zypper install freerdp"},
		"an unknown one":        {machine("linux", "ID=own\n"), "", ""},
		"linux without release": {machine("linux", ""), "", ""},
		"macOS":                 {machine("darwin", "", "open"), "", "brew install --cask windows-app"},
		"macOS, freerdp":        {machine("darwin", "", "open"), "xfreerdp", "brew install freerdp"},
		"windows":               {machine("windows", ""), "", ""},
		"mstsc elsewhere":       {machine("linux", ""), "mstsc", ""},
		"app elsewhere":         {machine("linux", "", "open", "/Applications/Windows App.app"), "windows-app", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := test.on.Find(test.asked)
			missing, ok := errors.AsType[*MissingError](err)
			if !ok || missing.Install != test.install || missing.Name != test.asked {
				t.Errorf("got %+v, %#v; want it missing, and %q", c, err, test.install)
			}
		})
	}
	_, err := machine("linux", "", "rdesktop").Find("rdesktop")
	if unknown, ok := errors.AsType[*UnknownError](err); !ok || unknown.Name != "rdesktop" {
		t.Errorf("rdesktop: %v, want that it is unknown", err)
	}
}

func TestCommand(t *testing.T) {
	client := func(goos, name string, has ...string) Client {
		c, err := machine(goos, "", append(has, name, "open")...).Find(name)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const address, odd = "127.0.0.1:20001", "-a$(b)'c#*,d:e"
	free, file := client("linux", "xfreerdp"), "/tmp/x.rdp"
	app := client("darwin", "windows-app", "/Applications/Windows App.app")
	for name, test := range map[string]struct {
		client Client
		to     Connection
		want   []string
	}{
		"freerdp": {free, Connection{Device: "pi-1", Address: address},
			[]string{"/bin/xfreerdp", "/v:" + address, "/cert:name:pi-1"}},
		"freerdp, odd names": {free, Connection{Device: odd, Address: address, User: "/p:x -y"},
			[]string{"/bin/xfreerdp", "/v:" + address, "/u:/p:x -y", "/cert:name:-a__b__c___d_e"}},
		"freerdp, a module": {free, Connection{Device: "pi-1/screen", Address: address},
			[]string{"/bin/xfreerdp", "/v:" + address, "/cert:name:pi-1"}},
		"freerdp, arguments": {free, Connection{Device: "pi-1", Address: address, Args: []string{"/f", "+clipboard"}},
			[]string{"/bin/xfreerdp", "/v:" + address, "/cert:name:pi-1", "/f", "+clipboard"}},
		"freerdp, own words on certificates": {free, Connection{Device: "pi-1", Address: address, Args: []string{"/cert:tofu"}},
			[]string{"/bin/xfreerdp", "/v:" + address, "/cert:tofu"}},
		"freerdp, their old form": {free, Connection{Device: "pi-1", Address: address, Args: []string{"/cert-name:x"}},
			[]string{"/bin/xfreerdp", "/v:" + address, "/cert-name:x"}},
		"remmina": {client("linux", "remmina"), Connection{Device: "pi-1", Address: address, User: `DOM\me@x y`, Args: []string{"-k"}},
			[]string{"/bin/remmina", "--connect=rdp://DOM%5Cme%40x%20y@" + address, "-k"}},
		"remmina, no user": {client("linux", "remmina"), Connection{Device: odd, Address: address},
			[]string{"/bin/remmina", "--connect=rdp://" + address}},
		"mstsc": {client("windows", "mstsc"), Connection{Device: odd, Address: address, File: file, Args: []string{"/f"}},
			[]string{"/bin/mstsc", "/v:" + address, "/f"}},
		"mstsc, user": {client("windows", "mstsc"), Connection{Device: odd, Address: address, User: "me", File: file},
			[]string{"/bin/mstsc", file}},
		"windows app": {app, Connection{Device: odd, Address: address, User: `D\a&b c`, Args: []string{"-x"}},
			[]string{"/bin/open", "-a", "/Applications/Windows App.app", "rdp://full%20address=s:" + address + "&username=s:D%5Ca%26b%20c", "--args", "-x"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.client.Command(test.to); !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestEndedWell(t *testing.T) {
	free, other := Client{family: freeRDP}, Client{family: mstsc}
	for code, want := range map[int][2]bool{0: {true, true}, 11: {true, false}, 12: {true, false}, 1: {}, 131: {}, -1: {}} {
		if got := [2]bool{free.EndedWell(code), other.EndedWell(code)}; got != want {
			t.Errorf("%d: FreeRDP %v, mstsc %v; want %v", code, got[0], got[1], want)
		}
	}
}

func TestPort(t *testing.T) {
	seen := make(map[int]bool)
	for i := range 1000 {
		port := Port(strings.Repeat("x", i), "rdp")
		if port < 20000 || port > 29999 {
			t.Fatalf("port %d", port)
		}
		seen[port] = true
	}
	if len(seen) < 900 {
		t.Errorf("1000 devices have %d ports", len(seen))
	}
	if Port("pi-1", "rdp") != 25256 { // clients remember it: it may not change
		t.Errorf("pi-1 has port %d", Port("pi-1", "rdp"))
	}
}

func TestFile(t *testing.T) {
	text := string(File(Connection{Address: "127.0.0.1:20001", User: `DOM\me`}))
	for _, want := range []string{"full address:s:127.0.0.1:20001\r\n", "\r\nusername:s:DOM\\me\r\n", "\r\nauthentication level:i:2\r\n", "\r\nprompt for credentials:i:1\r\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if strings.Count(text, "\n") != strings.Count(text, "\r\n") || !strings.HasSuffix(text, "\r\n") {
		t.Errorf("line ends of %q", text)
	}
	if got := string(File(Connection{Address: "127.0.0.1:1"})); strings.Contains(got, "username") {
		t.Errorf("a user in %q", got)
	}
	wide := string(File(Connection{Address: "127.0.0.1:1", User: "ä"}))
	if !strings.HasPrefix(wide, "\xff\xfef\x00u\x00") || !strings.Contains(wide, ":\x00\xe4\x00\r\x00\n\x00") {
		t.Errorf("beyond ASCII: %q", wide)
	}
	for name, want := range map[string]bool{"": false, "a\r\nb:i:1": false, "a\x7f": false, "DOM\\a b": true, "ä": true} {
		if ValidUser(name) != want {
			t.Errorf("ValidUser(%q) = %v", name, !want)
		}
	}
}
