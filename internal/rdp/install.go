package rdp

import (
	"strconv"
	"strings"
)

// install is the line that installs a client; "" where none is known.
func (s System) install(name string) string {
	isRemmina := name == "remmina"
	switch s.GOOS {
	case "darwin":
		if name == "windows-app" {
			return "brew install --cask windows-app"
		}
		return "brew install freerdp"
	case "freebsd":
		return "pkg install " + either(isRemmina, "remmina", "freerdp3")
	case "linux":
	default:
		return ""
	}
	release := parseRelease(s.OSRelease)
	for _, id := range append([]string{release["ID"]}, strings.Fields(release["ID_LIKE"])...) {
		switch id {
		case "debian", "ubuntu":
			return "sudo apt install " + either(isRemmina, "remmina remmina-plugin-rdp", debianPackage(name, release))
		case "fedora", "rhel", "centos":
			return "sudo dnf install " + either(isRemmina, "remmina remmina-plugins-rdp", "freerdp")
		case "suse", "opensuse":
			return "sudo zypper install " + either(isRemmina, "remmina", "freerdp")
		case "arch":
			return "sudo pacman -S " + either(isRemmina, "remmina", "freerdp")
		case "alpine":
			return "sudo apk add " + either(isRemmina, "remmina", "freerdp")
		}
	}
	return ""
}

// debianPackage is the package of a FreeRDP client. Debian has FreeRDP 3 since 13,
// Ubuntu since 24.04; derivatives are taken for new ones.
func debianPackage(name string, release map[string]string) string {
	since, known := map[string]float64{"debian": 13, "ubuntu": 24.04}[release["ID"]]
	version, err := strconv.ParseFloat(release["VERSION_ID"], 64)
	old := known && err == nil && version < since
	switch {
	case strings.HasPrefix(name, "wl"):
		return either(old, "freerdp2-wayland", "freerdp3-wayland")
	case strings.HasPrefix(name, "sdl") && !old:
		return "freerdp3-sdl"
	}
	return either(old, "freerdp2-x11", "freerdp3-x11")
}

// parseRelease reads os-release(5): NAME=VALUE, the value maybe in quotes.
func parseRelease(text string) map[string]string {
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = strings.Trim(value, `"'`)
		}
	}
	return values
}

func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}
