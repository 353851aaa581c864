package query

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse checks that no text makes Parse panic, that errors are one short line, and
// that what parses means the same when it is written out and parsed again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"SELECT * FROM devices",
		"select*from devices where devices.status='enabled' and not(connectionState<>\"Connected\")",
		`SELECT * FROM devices WHERE deviceId IN ['a', 'it\'s', "\u00e4\\"] OR deviceId != ''`,
		"SELECT TOP 5 deviceId FROM devices.modules WHERE tags.a > 5 ORDER BY x",
		"SELECT * FROM devices WHERE " + strings.Repeat("(NOT ", 40),
		"SELECT * FROM devices WHERE status = '\\ud83d\\ude00'",
		"SELECT * FROM devices WHERE deviceId = 'x' OR status = 'enabled' AND status = 'x'",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		if err != nil {
			if m := err.Error(); q != nil || len(m) > 400 || strings.ContainsAny(m, "\r\n\x00") || !utf8.ValidString(m) {
				t.Errorf("query %v, error %q", q, m)
			}
			return
		}
		written := write(q)
		again, err := Parse(written)
		if len(written) > maxText {
			return
		}
		if err != nil {
			t.Fatalf("%q is written as %q: %v", text, written, err)
		}
		if rewritten := write(again); rewritten != written || matches(again) != matches(q) {
			t.Errorf("%q is written as %q, then as %q", text, written, rewritten)
		}
	})
}

// write is the query in one fixed form that is nested no deeper than it was.
func write(q *Query) string {
	if q.where == nil {
		return "SELECT * FROM devices"
	}
	return "SELECT * FROM devices WHERE " + writeCondition(q.where)
}

func writeCondition(c condition) string {
	switch c := c.(type) {
	case negation:
		if a, ok := c.of.(among); ok && len(a.values) == 1 {
			return a.field + " != " + quoteAll(a.values)
		}
		return "NOT " + writePart(c.of)
	case conjunction:
		return join(c, " AND ", writePart)
	case disjunction:
		return join(c, " OR ", func(part condition) string {
			if _, ok := part.(conjunction); ok {
				return writeCondition(part)
			}
			return writePart(part)
		})
	case among:
		return fmt.Sprintf("%s IN [%s]", c.field, quoteAll(c.values))
	}
	panic("a new kind of condition")
}

// writePart puts what has several parts in parentheses.
func writePart(c condition) string {
	switch c.(type) {
	case conjunction, disjunction:
		return "(" + writeCondition(c) + ")"
	}
	return writeCondition(c)
}

func join(parts []condition, by string, one func(condition) string) string {
	var texts []string
	for _, c := range parts {
		texts = append(texts, one(c))
	}
	return strings.Join(texts, by)
}

func quoteAll(values []string) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, "'"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v)+"'")
	}
	return strings.Join(texts, ",")
}
