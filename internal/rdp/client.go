package rdp

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

// family is a kind of client: those of a family have the same command line.
type family int

const (
	freeRDP family = iota + 1
	remmina
	mstsc
	macApp
)

// Stay says how long a client's process lives.
type Stay int

// How long clients stay.
const (
	Stays       Stay = iota + 1 // as long as the session
	MayHandOver                 // it ends at once where it hands over to a running instance
	HandsOver                   // it only asks an app to open the connection
)

// Client is an RDP client of this machine.
type Client struct {
	Name string // as --client has it
	Path string // of the program to start
	app  string // macOS: the application's folder
	family
}

// System is what the choice of a client depends on.
type System struct {
	GOOS      string                       // as runtime.GOOS
	Lookup    func(string) (string, bool)  // the environment
	LookPath  func(string) (string, error) // finds a program
	Exists    func(path string) bool       // finds an application's folder
	OSRelease string                       // what /etc/os-release says; "" where there is none
}

// kinds are the clients by name.
var kinds = []struct {
	name   string
	family family
	apps   []string // macOS: where the application may be
}{
	{"xfreerdp3", freeRDP, nil},
	{"xfreerdp", freeRDP, nil},
	{"wlfreerdp3", freeRDP, nil},
	{"wlfreerdp", freeRDP, nil},
	{"sdl-freerdp3", freeRDP, nil},
	{"sdl-freerdp", freeRDP, nil},
	{"remmina", remmina, nil},
	{"mstsc", mstsc, nil},
	{"windows-app", macApp, []string{"/Applications/Windows App.app", "/Applications/Microsoft Remote Desktop.app"}},
}

// Names are the names of all clients.
func Names() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// MissingError says that there is no client, or not the one asked for.
type MissingError struct {
	Name    string // "": none of those that would do
	Install string // the line that installs one; "" where none is known
}

// Error implements error.
func (e *MissingError) Error() string {
	if e.Name == "" {
		return "no RDP client is installed"
	}
	return fmt.Sprintf("RDP client %q is not installed", e.Name)
}

// UnknownError is a name that is no client's.
type UnknownError struct{ Name string }

// Error implements error.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("%q is no RDP client that is known", e.Name)
}

// Find finds the client of that name, or at that path; "" is the one that suits the
// system best. Its errors are *UnknownError and *MissingError.
func (s System) Find(name string) (Client, error) {
	if name == "" {
		for _, n := range s.preferred() {
			if c, err := s.Find(n); err == nil {
				return c, nil
			}
		}
		return Client{}, &MissingError{Install: s.install(s.preferred()[0])}
	}
	base := strings.TrimSuffix(path.Base(strings.ReplaceAll(name, `\`, "/")), ".exe")
	for _, k := range kinds {
		if k.name != base {
			continue
		}
		c := Client{Name: base, family: k.family}
		program := name
		if k.family == macApp {
			i := slices.IndexFunc(k.apps, s.Exists)
			if i < 0 || s.GOOS != "darwin" {
				return Client{}, &MissingError{name, s.install(base)}
			}
			c.app, program = k.apps[i], "open"
		}
		var err error
		if c.Path, err = s.LookPath(program); err != nil {
			return Client{}, &MissingError{name, s.install(base)}
		}
		return c, nil
	}
	return Client{}, &UnknownError{name}
}

// preferred are the clients to look for, the best first.
func (s System) preferred() []string {
	x11, wayland := []string{"xfreerdp3", "xfreerdp"}, []string{"wlfreerdp3", "wlfreerdp", "sdl-freerdp3", "sdl-freerdp"}
	has := func(name string) bool { value, _ := s.Lookup(name); return value != "" }
	switch {
	case s.GOOS == "windows":
		return []string{"mstsc"}
	case s.GOOS == "darwin":
		return append([]string{"windows-app", "sdl-freerdp3", "sdl-freerdp"}, x11...)
	case has("WAYLAND_DISPLAY") && !has("DISPLAY"): // X11's cannot start
		return append(wayland, "remmina")
	case has("WAYLAND_DISPLAY"):
		return slices.Concat(x11, wayland, []string{"remmina"})
	}
	return append(x11, "sdl-freerdp3", "sdl-freerdp", "remmina")
}

// Stay says how long the client's process lives.
func (c Client) Stay() Stay {
	switch c.family {
	case macApp:
		return HandsOver
	case remmina, mstsc:
		return MayHandOver
	}
	return Stays
}

// NeedsFile reports whether the client takes the user's name only from a .rdp file.
func (c Client) NeedsFile(user string) bool { return c.family == mstsc && user != "" }

// EndedWell reports whether the client's exit code means that a session was had and
// ended as somebody wanted. FreeRDP tells of who ended it (xfreerdp.h, XF_EXIT_CODE):
// 11 the user disconnected, 12 logged off.
func (c Client) EndedWell(code int) bool {
	return code == 0 || c.family == freeRDP && (code == 11 || code == 12)
}

// Command is the client's command line, the program first. What comes from elsewhere
// stands inside an argument that begins with ours, so that it never is an option;
// Args stand where the client takes its own. A password is never in it.
func (c Client) Command(to Connection) []string {
	switch c.family {
	case freeRDP:
		args := []string{c.Path, "/v:" + to.Address}
		if to.User != "" {
			args = append(args, "/u:"+to.User)
		}
		if !slices.ContainsFunc(to.Args, isCertificateOption) {
			args = append(args, "/cert:name:"+certificateName(to.Device))
		}
		return append(args, to.Args...)
	case remmina:
		uri := url.URL{Scheme: "rdp", Host: to.Address}
		if to.User != "" {
			uri.User = url.User(to.User)
		}
		return append([]string{c.Path, "--connect=" + uri.String()}, to.Args...)
	case macApp:
		// Microsoft, "Remote Desktop URI scheme": attributes as in a .rdp file.
		uri := "rdp://full%20address=s:" + to.Address
		if to.User != "" {
			uri += "&username=s:" + strings.ReplaceAll(url.QueryEscape(to.User), "+", "%20")
		}
		args := []string{c.Path, "-a", c.app, uri}
		if len(to.Args) > 0 {
			args = append(append(args, "--args"), to.Args...)
		}
		return args
	default: // mstsc
		target := "/v:" + to.Address
		if c.NeedsFile(to.User) {
			target = to.File
		}
		return append([]string{c.Path, target}, to.Args...)
	}
}

// isCertificateOption finds FreeRDP's own words about certificates, which win.
func isCertificateOption(arg string) bool {
	arg = strings.TrimLeft(arg, "/+-")
	return strings.HasPrefix(arg, "cert:") || strings.HasPrefix(arg, "cert-")
}
