package query

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Parse reads a query of at most 4096 bytes. The error is one line for who wrote it; it
// quotes what is not understood and says where that is, in characters from 1.
func Parse(text string) (*Query, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("query has %d bytes, more than %d", len(text), maxText)
	}
	if !utf8.ValidString(text) {
		return nil, errors.New("query is not UTF-8")
	}
	tokens, err := scan(text)
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	p := parser{tokens: tokens}
	q, err := p.query()
	if err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	return q, nil
}

// parser goes through the tokens; there is always one more, the last one being the end.
type parser struct {
	tokens []token
	depth  int
}

func (p *parser) query() (*Query, error) {
	for _, want := range []string{"SELECT", "*", "FROM", "devices"} {
		if !p.accept(want) {
			return nil, p.unexpected(want + ", as in SELECT * FROM devices")
		}
	}
	q := &Query{}
	if p.accept("WHERE") {
		var err error
		if q.where, err = p.or(); err != nil {
			return nil, err
		}
	}
	switch {
	case p.tokens[0].kind == end:
		return q, nil
	case q.where == nil:
		return nil, p.unexpected("WHERE or the end")
	}
	return nil, p.unexpected("AND, OR or the end")
}

func (p *parser) or() (condition, error) {
	parts, err := p.list("OR", p.and)
	if len(parts) == 1 {
		return parts[0], err
	}
	return disjunction(parts), err
}

func (p *parser) and() (condition, error) {
	parts, err := p.list("AND", p.factor)
	if len(parts) == 1 {
		return parts[0], err
	}
	return conjunction(parts), err
}

// list reads parts that a keyword separates: at least one.
func (p *parser) list(keyword string, part func() (condition, error)) (parts []condition, err error) {
	for {
		c, err := part()
		if err != nil {
			return nil, err
		}
		if parts = append(parts, c); !p.accept(keyword) {
			return parts, nil
		}
	}
}

// factor reads a comparison, a negation, or a condition in parentheses.
func (p *parser) factor() (condition, error) {
	at := p.tokens[0]
	isNot := p.accept("NOT")
	if !isNot && !p.accept("(") {
		return p.comparison()
	}
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("%s is nested more than %d deep", at, maxDepth)
	}
	defer func() { p.depth-- }()
	if isNot {
		c, err := p.factor()
		return negation{c}, err
	}
	c, err := p.or()
	if err == nil && !p.accept(")") {
		err = p.unexpected("AND, OR or )")
	}
	return c, err
}

func (p *parser) comparison() (condition, error) {
	field := strings.TrimPrefix(p.tokens[0].text, "devices.")
	if _, ok := fields[field]; !ok || p.tokens[0].kind != word {
		return nil, p.unexpected("deviceId, status or connectionState")
	}
	p.next()
	switch {
	case p.accept("="):
		value, err := p.value()
		return among{field, []string{value}}, err
	case p.accept("!="), p.accept("<>"):
		value, err := p.value()
		return negation{among{field, []string{value}}}, err
	case p.accept("IN"):
		values, err := p.values()
		return among{field, values}, err
	}
	return nil, p.unexpected("=, !=, <> or IN")
}

// values reads the list of an IN: at least one.
func (p *parser) values() (values []string, err error) {
	if !p.accept("[") {
		return nil, p.unexpected("[")
	}
	for {
		value, err := p.value()
		if err != nil {
			return nil, err
		}
		if values = append(values, value); p.accept("]") {
			return values, nil
		}
		if !p.accept(",") {
			return nil, p.unexpected("a comma or ]")
		}
	}
}

func (p *parser) value() (string, error) {
	if p.tokens[0].kind != literal {
		return "", p.unexpected("a string in quotes")
	}
	value := p.tokens[0].text
	p.next()
	return value, nil
}

func (p *parser) next() { p.tokens = p.tokens[1:] }

// accept passes over a keyword, in either case of letters, or a symbol, if it comes now.
func (p *parser) accept(text string) bool {
	t := p.tokens[0]
	if t.kind != word && t.kind != symbol || !strings.EqualFold(t.text, text) {
		return false
	}
	p.next()
	return true
}

func (p *parser) unexpected(wanted string) error {
	return fmt.Errorf("%s is not understood here: want %s", p.tokens[0], wanted)
}
