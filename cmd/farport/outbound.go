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
// the environment. What cannot be a proxy's URL there is an error too: hubclient would take
// it for none.
func (a *app) outbound(o *credentialOptions) (func(*http.Request) (*url.URL, error), error) {
	source, text := setBy(o.flags, flagProxy), o.proxy
	switch {
	case text == noProxy:
		return http.ProxyURL(nil), nil
	case text == "":
		for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
			if value, _ := a.lookup(name); value != "" {
				_, err := proxyURL("$"+name, value)
				return nil, err
			}
		}
		return nil, nil
	case source == "":
		source = "--" + flagProxy
		if hasPassword(text) {
			a.warnVisible("a password in --" + flagProxy)
		}
	}
	u, err := proxyURL(source, text)
	return http.ProxyURL(u), err
}

// proxyURL reads what source says. Its error holds no password.
func proxyURL(source, text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	kinds := []string{"http", "https", "socks5", "socks5h"}
	// A path, query or fragment is what follows a / ? or # in a password.
	if err != nil || !slices.Contains(kinds, u.Scheme) || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || strings.ContainsAny(text, "?#") {
		e := usage("%s: must be http://[USER:PASSWORD@]HOST[:PORT], https://... or socks5://...", source)
		e.hint = "special characters in a password are written %XX; --proxy none is no proxy"
		return nil, e
	}
	return u, nil
}

// hasPassword reports whether a proxy's URL names a user.
func hasPassword(proxy string) bool { return strings.Contains(proxy, "@") }
