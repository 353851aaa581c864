package main

import (
	"io"
	"os"
	"slices"
	"strings"

	"github.com/rivo/uniseg"
	"golang.org/x/term"
)

const (
	// columnGap is between two columns of a table, in cells of the screen.
	columnGap = 3
	ellipsis  = "…"
)

// table prints rows below a header, in columns. On a screen that is too narrow for that,
// each row is a paragraph instead: what is shown may be a key or a fingerprint, of which a
// part is of no use.
func (t *terminal) table(header []string, rows [][]string) error {
	lines := append([][]string{header}, rows...)
	widths := make([]int, len(header))
	for l, line := range lines {
		lines[l] = slices.Clone(line)
		for i, cell := range line {
			lines[l][i] = oneLine(cell)
			widths[i] = max(widths[i], uniseg.StringWidth(lines[l][i]))
		}
	}
	total := columnGap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	var text strings.Builder
	if screen := screenWidth(t.out); screen > 0 && total > screen && len(rows) > 0 {
		t.paragraphs(&text, lines[0], lines[1:])
	} else {
		for l, line := range lines {
			row := tableRow(line, widths)
			if l == 0 {
				row = paint(t.colorOut, colorBold, row)
			}
			text.WriteString(row + "\n")
		}
	}
	return t.print(text.String())
}

// tableRow puts cells of one line into columns. The last is not filled up.
func tableRow(cells []string, widths []int) string {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell + strings.Repeat(" ", widths[i]-uniseg.StringWidth(cell)+columnGap))
	}
	return strings.TrimRight(b.String(), " ")
}

// paragraphs writes each row as lines of a name and a value, with an empty line between rows.
func (t *terminal) paragraphs(b *strings.Builder, header []string, rows [][]string) {
	width := 0
	for _, name := range header {
		width = max(width, uniseg.StringWidth(name))
	}
	for r, row := range rows {
		if r > 0 {
			b.WriteString("\n")
		}
		for i, cell := range row {
			gap := strings.Repeat(" ", width-uniseg.StringWidth(header[i])+columnGap)
			b.WriteString(paint(t.colorOut, colorBold, header[i]) + strings.TrimRight(gap+cell, " ") + "\n")
		}
	}
}

// cut shortens one line of text to that many cells of a screen. Characters that take two
// cells, or are put together of many, stay whole.
func cut(text string, cells int) string {
	if uniseg.StringWidth(text) <= cells {
		return text
	}
	var b strings.Builder
	left := cells - uniseg.StringWidth(ellipsis)
	for g := uniseg.NewGraphemes(text); g.Next() && g.Width() <= left; {
		b.WriteString(g.Str())
		left -= g.Width()
	}
	return b.String() + ellipsis
}

// wrap breaks text between words into lines that fit on a screen of that many cells.
// The first begins at indent, the others are moved there. A word that is longer stays whole:
// it may be something to copy.
func wrap(text string, screen, indent int) string {
	var b strings.Builder
	at := indent
	for i, word := range strings.Fields(text) {
		width := uniseg.StringWidth(word)
		switch {
		case i == 0:
		case at+1+width > screen:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteString(" ")
			at++
		}
		b.WriteString(word)
		at += width
	}
	return b.String()
}

// screenWidth is how many cells a line of the screen has; 0 if w is none, or does not say.
func screenWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}
