package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"
)

// sample is what one column of one row measured, a value a round.
type sample []float64

// median is 0 of nothing.
func (s sample) median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	mid := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		mid = (mid + sorted[len(sorted)/2-1]) / 2
	}
	return mid
}

// String is the median with the smallest and the greatest value.
func (s sample) String() string {
	switch len(s) {
	case 0:
		return ""
	case 1:
		return short(s[0])
	}
	return fmt.Sprintf("%s [%s–%s]", short(s.median()), short(slices.Min(s)), short(slices.Max(s)))
}

// short is v with three digits that matter.
func short(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// bar is what a figure must reach.
type bar struct {
	Least bool // the figure must be at least Value; else at most
	Value float64
}

func (b bar) missed(v float64) bool {
	if b.Least {
		return v < b.Value
	}
	return v > b.Value
}

func (b bar) String() string {
	if b.Least {
		return "≥ " + short(b.Value)
	}
	return "≤ " + short(b.Value)
}

// table collects samples by row and column, in order of appearance.
type table struct {
	Title   string
	Rows    []string
	Columns []string
	Cells   map[string]map[string]sample // by row, then column
	Bars    map[string]map[string]bar    // likewise, where there is one
}

func newTable(title string) *table {
	return &table{Title: title, Cells: make(map[string]map[string]sample), Bars: make(map[string]map[string]bar)}
}

func (t *table) add(row, column string, value float64) {
	if !slices.Contains(t.Rows, row) {
		t.Rows = append(t.Rows, row)
		t.Cells[row] = make(map[string]sample)
	}
	if !slices.Contains(t.Columns, column) {
		t.Columns = append(t.Columns, column)
	}
	t.Cells[row][column] = append(t.Cells[row][column], value)
}

// last is the latest figure of a cell; 0 of none.
func (t *table) last(row, column string) float64 {
	if s := t.Cells[row][column]; len(s) > 0 {
		return s[len(s)-1]
	}
	return 0
}

// atLeast and atMost set the bar of a cell, which need not have a figure.
func (t *table) atLeast(row, column string, value float64) { t.setBar(row, column, bar{true, value}) }

func (t *table) atMost(row, column string, value float64) { t.setBar(row, column, bar{false, value}) }

func (t *table) setBar(row, column string, b bar) {
	if t.Bars[row] == nil {
		t.Bars[row] = make(map[string]bar)
	}
	t.Bars[row][column] = b
}

// forget drops all figures, as those of a round to warm up; the bars stay.
func (t *table) forget() {
	t.Rows, t.Columns, t.Cells = nil, nil, make(map[string]map[string]sample)
}

// cell is a sample as text, with its bar and whether the median misses it.
func (t *table) cell(row, column string) string {
	s := t.Cells[row][column]
	b, ok := t.Bars[row][column]
	switch {
	case !ok || len(s) == 0:
		return s.String()
	case b.missed(s.median()):
		return fmt.Sprintf("%s **misses %s**", s, b)
	}
	return fmt.Sprintf("%s (%s)", s, b)
}

// print writes t as Markdown. What has no figure is not written.
func (t *table) print(w io.Writer) {
	if len(t.Rows) == 0 {
		return
	}
	fmt.Fprintf(w, "\n### %s\n\n| |%s|\n|---|%s\n", t.Title, strings.Join(t.Columns, "|"), strings.Repeat("---|", len(t.Columns)))
	for _, row := range t.Rows {
		fmt.Fprintf(w, "| %s |", row)
		for _, column := range t.Columns {
			fmt.Fprintf(w, " %s |", t.cell(row, column))
		}
		fmt.Fprintln(w)
	}
}

// percentile of durations that it sorts, in milliseconds.
func percentile(d []time.Duration, p float64) float64 {
	slices.SortFunc(d, cmp.Compare[time.Duration])
	return ms(d[min(len(d)-1, int(float64(len(d))*p))])
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// cpu is the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
