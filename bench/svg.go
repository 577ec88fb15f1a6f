package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chart is horizontal bars with whiskers from the smallest to the greatest figure.
type chart struct {
	title string
	unit  string
	bars  []chartBar
	log   bool    // the axis is logarithmic
	mark  float64 // where a line is drawn; 0: nowhere
	note  string  // of that line
}

type chartBar struct {
	label  string
	figure sample
	peer   bool // not ours
}

// Sizes and colours of charts, in pixels. The background is white, so that they read on dark pages too.
const (
	chartWidth  = 860
	chartLeft   = 250 // of labels
	chartRight  = 150 // of figures
	chartTop    = 64
	chartStep   = 30 // from one bar to the next
	chartBottom = 44
	colourOurs  = "#2563a8"
	colourPeer  = "#9a9a9a"
	colourText  = "#222222"
	colourLine  = "#d5d5d5"
)

// drawTables writes pictures of the tables that have what they show.
func drawTables(dir string, tables []*table) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	drain := chart{
		title: "Deliveries a second, of net/http posting the same requests without a store",
		unit:  "ratio, median with smallest and greatest; longer is better",
		bars:  chartBars(tables, drainRawColumn, ""), mark: 1, note: "net/http",
	}
	latency := chart{
		title: "From Send to receipt at 200 a second", unit: "ms, logarithmic; shorter is better", log: true,
		bars: append(chartBars(tables, p50Column, " p50"), chartBars(tables, p99Column, " p99")...),
	}
	slices.SortStableFunc(latency.bars, func(a, b chartBar) int { return strings.Compare(a.row(), b.row()) })
	for name, c := range map[string]chart{"drain.svg": drain, "latency.svg": latency} {
		if len(c.bars) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(c.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// chartBars are the rows that have a figure in the column. Where several tables have a row of that name the last counts: it is the
// one with peers.
func chartBars(tables []*table, column, suffix string) (bars []chartBar) {
	for _, t := range tables {
		for _, row := range t.Rows {
			b := chartBar{label: row + suffix, figure: t.Cells[row][column], peer: isPeer(row)}
			if b.figure.median() == 0 {
				continue
			}
			if i := slices.IndexFunc(bars, func(o chartBar) bool { return o.label == b.label }); i >= 0 {
				bars[i] = b
			} else {
				bars = append(bars, b)
			}
		}
	}
	return bars
}

func isPeer(row string) bool {
	return slices.Contains([]string{riverRow, tunedRow, handRow, watermillRow, wireRow}, row)
}

// row is a label without what tells p50 from p99, ours first.
func (b chartBar) row() string {
	name := strings.TrimSuffix(strings.TrimSuffix(b.label, " p50"), " p99")
	if b.peer {
		return "2" + name
	}
	return "1" + name
}

// scale turns a figure into a place on the axis, from 0 to 1.
func (c chart) scale() (place func(float64) float64, ticks []float64) {
	least, most := math.Inf(1), c.mark
	for _, b := range c.bars {
		least, most = min(least, slices.Min(b.figure)), max(most, slices.Max(b.figure))
	}
	if c.log {
		from, to := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
		to = max(to, from+1)
		for e := from; e <= to; e++ {
			ticks = append(ticks, math.Pow(10, e))
		}
		return func(v float64) float64 { return (math.Log10(v) - from) / (to - from) }, ticks
	}
	step := math.Pow(10, math.Floor(math.Log10(most)))
	for most/step < 4 {
		step /= 2
	}
	top := math.Ceil(most/step) * step
	for v := 0.0; v <= top+step/2; v += step {
		ticks = append(ticks, v)
	}
	return func(v float64) float64 { return v / top }, ticks
}

// svg is the chart as a picture.
func (c chart) svg() string {
	place, ticks := c.scale()
	x := func(v float64) float64 { return chartLeft + max(0, place(v))*(chartWidth-chartLeft-chartRight) }
	height := chartTop + len(c.bars)*chartStep + chartBottom
	foot := height - chartBottom
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="13" fill="%s">`+"\n",
		chartWidth, height, colourText)
	fmt.Fprintf(&s, `<title>%s</title>`+"\n", html.EscapeString(c.title))
	fmt.Fprintf(&s, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, height)
	text := func(x, y float64, anchor, text string) {
		fmt.Fprintf(&s, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(text))
	}
	line := func(x1, y1, x2, y2 float64, colour string) {
		fmt.Fprintf(&s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
	}
	fmt.Fprintf(&s, `<text x="16" y="24" font-size="16" font-weight="bold">%s</text>`+"\n", html.EscapeString(c.title))
	text(16, 44, "start", c.unit)
	for _, v := range ticks {
		line(x(v), chartTop-8, x(v), float64(foot), colourLine)
		text(x(v), float64(foot)+18, "middle", short(v))
	}
	for i, b := range c.bars {
		y := float64(chartTop + i*chartStep)
		colour := colourOurs
		if b.peer {
			colour = colourPeer
		}
		text(chartLeft-10, y+15, "end", b.label)
		fmt.Fprintf(&s, `<rect x="%d" y="%.1f" width="%.1f" height="20" fill="%s"/>`+"\n", chartLeft, y, x(b.figure.median())-chartLeft, colour)
		line(x(slices.Min(b.figure)), y+10, x(slices.Max(b.figure)), y+10, colourText)
		text(x(slices.Max(b.figure))+8, y+15, "start", b.figure.String())
	}
	if c.mark > 0 {
		line(x(c.mark), chartTop-8, x(c.mark), float64(foot), colourText)
		text(x(c.mark), float64(foot)+34, "middle", c.note)
	}
	s.WriteString("</svg>\n")
	return s.String()
}
