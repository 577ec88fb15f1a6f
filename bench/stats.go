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

// String is the median with the smallest and the greatest value.
func (s sample) String() string {
	if len(s) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(s))
	mid := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		mid = (mid + sorted[len(sorted)/2-1]) / 2
	}
	if len(sorted) == 1 {
		return short(mid)
	}
	return fmt.Sprintf("%s [%s–%s]", short(mid), short(sorted[0]), short(sorted[len(sorted)-1]))
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

// table collects samples by row and column, in order of appearance.
type table struct {
	Title   string
	Rows    []string
	Columns []string
	Cells   map[string]map[string]sample // by row, then column
}

func newTable(title string) *table {
	return &table{Title: title, Cells: make(map[string]map[string]sample)}
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

// print writes t as Markdown.
func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n### %s\n\n| |%s|\n|---|%s\n", t.Title, strings.Join(t.Columns, "|"), strings.Repeat("---|", len(t.Columns)))
	for _, row := range t.Rows {
		fmt.Fprintf(w, "| %s |", row)
		for _, column := range t.Columns {
			fmt.Fprintf(w, " %s |", t.Cells[row][column])
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
