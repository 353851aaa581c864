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
	// columnGap is between two columns of a table, leastColumn what one is never cut
	// below, in cells of the screen.
	columnGap   = 3
	leastColumn = 8
	ellipsis    = "…"
)

// table prints rows below a header, in columns. On a screen that is too narrow for all of
// it the widest columns are cut; elsewhere nothing ever is.
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
	if screen := screenWidth(t.out); screen > 0 {
		narrow(widths, screen)
	}
	var text strings.Builder
	for l, line := range lines {
		row := tableRow(line, widths)
		if l == 0 {
			row = paint(t.colorOut, colorBold, row)
		}
		text.WriteString(row + "\n")
	}
	_, err := io.WriteString(t.out, text.String())
	return err
}

// tableRow puts cells of one line into columns. The last is not filled up.
func tableRow(cells []string, widths []int) string {
	var b strings.Builder
	for i, cell := range cells {
		cell = cut(cell, widths[i])
		b.WriteString(cell)
		if i < len(cells)-1 {
			b.WriteString(strings.Repeat(" ", widths[i]-uniseg.StringWidth(cell)+columnGap))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// narrow takes from the widest columns until all fit a screen, or nothing can be taken.
func narrow(widths []int, screen int) {
	total := columnGap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > screen; total-- {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= leastColumn {
			return
		}
		widths[widest]--
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
