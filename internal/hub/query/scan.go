package query

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxQuoted is how many bytes of a token an error shows.
const maxQuoted = 40

// kind is what a token is.
type kind int

const (
	end     kind = iota
	word         // a keyword, a field, a number
	literal      // a string in quotes
	symbol       // anything else
)

// token is a piece of the text.
type token struct {
	kind kind
	text string // a literal's is without quotes and escapes
	at   int    // where it begins, in characters from 1
}

// String names the token for an error.
func (t token) String() string {
	if t.kind == end {
		return fmt.Sprintf("the end at character %d", t.at)
	}
	text, what := t.text, ""
	if len(text) > maxQuoted {
		text = strings.ToValidUTF8(text[:maxQuoted], "") + "..."
	}
	if t.kind == literal {
		what = "string "
	}
	return fmt.Sprintf("%s%q at character %d", what, text, t.at)
}

// scan cuts the text, which is UTF-8, into tokens, the last one being its end.
func scan(text string) ([]token, error) {
	var tokens []token
	for at := 1; ; {
		rest := strings.TrimLeft(text, " \t\r\n")
		at += len(text) - len(rest)
		if text = rest; text == "" {
			return append(tokens, token{end, "", at}), nil
		}
		t, size, err := scanToken(text, at)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		at += utf8.RuneCountInString(text[:size])
		text = text[size:]
	}
}

// scanToken returns the token that the text begins with, and its size in bytes.
func scanToken(text string, at int) (token, int, error) {
	if text[0] == '\'' || text[0] == '"' {
		value, size, err := scanString(text, at)
		return token{literal, value, at}, size, err
	}
	if size := len(text) - len(strings.TrimLeftFunc(text, inWord)); size > 0 {
		return token{word, text[:size], at}, size, nil
	}
	for _, s := range []string{"!=", "<>", "<=", ">="} {
		if strings.HasPrefix(text, s) {
			return token{symbol, s, at}, len(s), nil
		}
	}
	_, size := utf8.DecodeRuneInString(text)
	return token{symbol, text[:size], at}, size, nil
}

func inWord(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_.$", r)
}

// scanString reads a string in quotes; at is where it begins.
func scanString(text string, at int) (value string, size int, err error) {
	var b strings.Builder
	for i := 1; i < len(text); {
		switch text[i] {
		case text[0]:
			return b.String(), i + 1, nil
		case '\\':
			r, size := unescape(text[i:])
			if size == 0 {
				return "", 0, fmt.Errorf(`the string at character %d has an escape that is none of \' \" \\ \uXXXX`, at)
			}
			b.WriteRune(r)
			i += size
		default:
			b.WriteByte(text[i])
			i++
		}
	}
	return "", 0, fmt.Errorf("the string at character %d has no end", at)
}

// unescape returns the character of an escape and the escape's size, 0 if it is none.
// Half a character, as UTF-16 has them, is none.
func unescape(text string) (rune, int) {
	const unicodeSize = len(`\uXXXX`)
	switch {
	case len(text) >= 2 && strings.IndexByte(`'"\`, text[1]) >= 0:
		return rune(text[1]), 2
	case len(text) >= unicodeSize && text[1] == 'u':
		n, err := strconv.ParseUint(text[2:unicodeSize], 16, 16)
		if err == nil && !utf16.IsSurrogate(rune(n)) {
			return rune(n), unicodeSize
		}
	}
	return 0, 0
}
