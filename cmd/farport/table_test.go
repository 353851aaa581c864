package main

import (
	"strings"
	"testing"

	"github.com/rivo/uniseg"
)

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text  string
		cells int
		want  string
	}{
		{"pi-1", 4, "pi-1"},
		{"kiosk-7", 6, "kiosk…"},
		{"kiosk-7", 1, "…"},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"}, // half a character is none
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…"},
		{"👩‍👩‍👧x👩‍👩‍👧", 4, "👩‍👩‍👧x…"},
		{"", 3, ""},
	} {
		got := cut(c.text, c.cells)
		if got != c.want || uniseg.StringWidth(got) > c.cells {
			t.Errorf("cut(%q, %d) = %q, want %q", c.text, c.cells, got, c.want)
		}
	}
}

func TestTableRows(t *testing.T) {
	var out strings.Builder
	term := newTerminal(&out, &out)
	rows := [][]string{{"pi-1", "enabled", "3 h ago"}, {"日本語", "", "never"}, {"a\nb", "disabled", ""}}
	if err := term.table([]string{"ID", "STATUS", "SEEN"}, rows); err != nil {
		t.Fatal(err)
	}
	const want = `ID       STATUS     SEEN
pi-1     enabled    3 h ago
日本語              never
a; b     disabled
`
	if out.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", out.String(), want)
	}
	if rows[2][0] != "a\nb" {
		t.Error("the caller's rows were changed")
	}
}

func TestCheckLine(t *testing.T) {
	const detail = "the hub takes those of policy \"iothubowner\", 日本語 too"
	for screen, want := range map[int]string{
		0:   "credentials   ok        " + detail,
		100: "credentials   ok        " + detail,
		60:  "credentials   ok        the hub takes those of policy\n                        \"iothubowner\", 日本語 too",
		40:  "credentials   ok\n  the hub takes those of policy\n  \"iothubowner\", 日本語 too",
		20:  "credentials   ok\n  the hub takes\n  those of policy\n  \"iothubowner\",\n  日本語 too",
	} {
		got := checkLine("credentials", "ok", detail, screen)
		if got != want {
			t.Errorf("on %d cells:\n%s\nwant:\n%s", screen, got, want)
		}
	}
	if got, want := checkLine("", "", "hint: a b", 20), "  hint: a b"; got != want {
		t.Errorf("hint: %q, want %q", got, want)
	}
}
