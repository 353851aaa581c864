package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	flagProxy = "proxy"
	// noProxy is the value of --proxy that means none.
	noProxy = "none"
)

// outbound is the proxy of --proxy, which is asked for every connection; nil leaves it to
// the environment.
func (a *app) outbound(o *credentialOptions) (func(*http.Request) (*url.URL, error), error) {
	switch o.proxy {
	case "":
		return nil, nil
	case noProxy:
		return http.ProxyURL(nil), nil
	}
	source := setBy(o.flags, flagProxy)
	if source == "" {
		source = "--" + flagProxy
		if hasPassword(o.proxy) {
			a.warnVisible("a password in --" + flagProxy)
		}
	}
	text := o.proxy
	if !strings.Contains(text, "://") {
		text = "http://" + text // as in $HTTPS_PROXY
	}
	u, err := url.Parse(text) // whose error may hold the password
	kinds := []string{"http", "https", "socks5", "socks5h"}
	if err != nil || !slices.Contains(kinds, u.Scheme) || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		e := usage("%s: must be http://[USER:PASSWORD@]HOST[:PORT], https://..., socks5://... or %s", source, noProxy)
		e.hint = "special characters in a password are written %XX"
		return nil, e
	}
	return http.ProxyURL(u), nil
}

// hasPassword reports whether a proxy's URL names a user.
func hasPassword(proxy string) bool { return strings.Contains(proxy, "@") }
