package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The formats of --output.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// The few colours there are.
const (
	colorBold   = "\x1b[1m"
	colorRed    = "\x1b[31m"
	colorYellow = "\x1b[33m"
	colorCyan   = "\x1b[36m"
	colorOff    = "\x1b[0m"
)

// terminal is everything a command prints: results on standard output, and what is
// said to people, one line at a time, on standard error. It is safe for concurrent
// use.
type terminal struct {
	out, err io.Writer
	person   bool // somebody reads err on a screen
	screen   bool // on one where what was written can be taken away again
	rawErr   bool // which another program may have told not to begin a line by itself
	colorOut bool
	colorErr bool
	quiet    bool

	mu   sync.Mutex
	line *liveLine // stands below everything on err; nil when there is none
	lost error     // why a part of the result was not written
}

func newTerminal(out, err io.Writer) *terminal {
	person := isTerminal(err)
	return &terminal{out: out, err: err, person: person, screen: person, colorOut: isTerminal(out), colorErr: person}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// dumb is for a terminal that only prints, one line after the other.
func (t *terminal) dumb() {
	t.screen = false
	t.noColor()
}

func (t *terminal) noColor() { t.colorOut, t.colorErr = false, false }

// notice says what happens.
func (t *terminal) notice(format string, args ...any) {
	if !t.quiet {
		t.say("", "", format, args...)
	}
}

// warn says what works less well than it could.
func (t *terminal) warn(format string, args ...any) { t.say("warning: ", colorYellow, format, args...) }

// hint says what to do next.
func (t *terminal) hint(format string, args ...any) {
	if !t.quiet {
		t.say("hint: ", colorCyan, format, args...)
	}
}

// fail says why the command ends, and what helps.
func (t *terminal) fail(err error, hint string) {
	t.say("error: ", colorRed, "%v", err)
	if hint != "" {
		t.say("hint: ", colorCyan, "%s", hint)
	}
}

func (t *terminal) say(kind, color, format string, args ...any) {
	text := oneLine(redact(fmt.Sprintf(format, args...)))
	if kind != "" {
		kind = paint(t.colorErr, color, kind)
	}
	end := "\n"
	if t.rawErr {
		end = "\r\n"
	}
	fmt.Fprintf(t, "farport: %s%s%s", kind, text, end)
}

// Write writes whole lines to standard error, above the live line.
func (t *terminal) Write(p []byte) (int, error) { return t.above(t.err, p) }

// print writes whole lines of the result, which may go to the same screen as what is said
// to people.
func (t *terminal) print(text string) error {
	_, err := t.above(t.out, []byte(text))
	return err
}

// above writes to out or err, above the live line.
func (t *terminal) above(w io.Writer, p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.line != nil {
		t.line.clear()
		defer t.line.draw()
	}
	return w.Write(p)
}

// println writes a line of the result. An error shows in lostResult.
func (t *terminal) println(text string) { fmt.Fprintln(resultWriter{t}, text) }

// resultWriter is standard output for whoever does not look at errors: the first one is
// kept, and ends the command with an error once it is done.
type resultWriter struct{ t *terminal }

func (w resultWriter) Write(p []byte) (int, error) {
	n, err := w.t.above(w.t.out, p)
	if err != nil {
		w.t.mu.Lock()
		defer w.t.mu.Unlock()
		w.t.lost = cmp.Or(w.t.lost, err)
	}
	return n, err
}

// lostResult is why a part of the result was not written, nil if all was.
func (t *terminal) lostResult() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lost
}

// outputOptions say how a result is printed.
type outputOptions struct{ format string }

func (o *outputOptions) addFlags(flags *pflag.FlagSet, format string) {
	flags.StringVarP(&o.format, "output", "o", format, "how the result is printed: `table|json`")
}

// completeOutput teaches the shell the values of --output.
func completeOutput(cmd *cobra.Command) {
	// It fails only for a flag that the command does not have.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{formatTable, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
}

// result prints v as JSON, or has table do it.
func (t *terminal) result(o outputOptions, v any, table func() error) error {
	if err := oneOf("output", o.format, formatTable, formatJSON); err != nil {
		return err
	}
	if o.format == formatTable {
		return table()
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return err
	}
	return t.print(printableJSON(text.String()))
}

// printableJSON escapes what encoding/json leaves that a terminal would act on; only
// strings have any of it (docs/security.md, T19).
func printableJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsPrint(r) || r == '\n':
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// paint colours text if colours are on.
func paint(on bool, color, text string) string {
	if !on || color == "" {
		return text
	}
	return color + text + colorOff
}

// oneLine shows text in one line of printable characters, whoever it comes from:
// escape sequences, line ends and characters that reorder text are escaped.
func oneLine(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString("; ")
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// quote shows somebody's word. What may be a connection string is not repeated.
func quote(s string) string {
	const most = 128
	if strings.Contains(strings.ToLower(s), "sharedaccess") {
		return "(a connection string)"
	}
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return strconv.Quote(s)
}

// formatBytes writes a number of bytes as people read it.
func formatBytes(n int64) string {
	const unit = 1000
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, units := float64(n)/unit, "kMGTPE"
	for value >= unit-0.05 && len(units) > 1 {
		value, units = value/unit, units[1:]
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + units[:1] + "B"
}

// formatAgo writes how long ago t was, in its largest unit.
func formatAgo(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := max(now.Sub(t), 0)
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if d >= unit.length {
			return fmt.Sprintf("%d %s ago", d/unit.length, unit.name)
		}
	}
	return fmt.Sprintf("%d s ago", d/time.Second)
}

// formatShort writes a duration with no more digits than anybody wants.
func formatShort(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
