package sysservice

import (
	"encoding/xml"
	"strings"
)

// plist is launchd's definition of the service (launchd.plist(5)).
func plist(program string, args []string) string {
	var words strings.Builder
	for _, w := range append([]string{program}, args...) {
		words.WriteString("\t\t<string>" + xmlText(w) + "</string>\n")
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>` + Name + `</string>
	<key>ProgramArguments</key>
	<array>
` + words.String() + `	</array>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<true/>
	<key>ThrottleInterval</key>
	<integer>10</integer>
	<key>Umask</key>
	<integer>63</integer>
	<key>StandardErrorPath</key>
	<string>/var/log/` + Name + `.log</string>
</dict>
</plist>
`
}

// xmlText escapes text. kardianos/service takes {{ for a template's, so that no brace
// stands for itself either.
func xmlText(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a builder takes everything
	return strings.ReplaceAll(b.String(), "{", "&#123;")
}
