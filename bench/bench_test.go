package main

import (
	"encoding/xml"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestParseTarget(t *testing.T) {
	for line, want := range map[string]target{
		"POST /7 HTTP/1.1\r\n":          {endpoint: 7},
		"POST /hang HTTP/1.1\r\n":       {hang: true},
		"POST /hang/3 HTTP/1.1\r\n":     {hang: true},
		"POST /wait/20/12 HTTP/1.1\r\n": {wait: 20 * time.Millisecond, endpoint: 12},
	} {
		if got := parseTarget([]byte(line)); got != want {
			t.Errorf("parseTarget(%q) = %+v, want %+v", line, got, want)
		}
	}
}

func TestCellTellsItsBar(t *testing.T) {
	tab := newTable("")
	tab.atLeast("row", "up", 2)
	tab.atMost("row", "down", 2)
	for _, v := range []float64{1, 5, 1.5} { // median 1.5
		tab.add("row", "up", v)
		tab.add("row", "down", v)
		tab.add("row", "free", v)
	}
	for column, want := range map[string]string{
		"up": "1.50 [1.00–5.00] **misses ≥ 2.00**", "down": "1.50 [1.00–5.00] (≤ 2.00)", "free": "1.50 [1.00–5.00]", "none": "",
	} {
		if got := tab.cell("row", column); got != want {
			t.Errorf("%s: %q, want %q", column, got, want)
		}
	}
}

func TestWireReadsAnswers(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		defer theirs.Close()
		buf := make([]byte, 4096)
		for _, answer := range []string{"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"} {
			if _, err := theirs.Read(buf); err != nil {
				return
			}
			io.WriteString(theirs, answer)
		}
	}()
	c := newWireConn(ours)
	for _, want := range []int{200, 503} {
		if status, err := c.post("/0", []byte("{}")); status != want || err != nil {
			t.Fatalf("post = %d, %v, want %d", status, err, want)
		}
	}
}

func TestSpread(t *testing.T) {
	if got, want := *newSpread(map[int]int{1: 4, 2: 1, 3: 9}), (spread{Endpoints: 3, Least: 1, Most: 9}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestChartsAreXML(t *testing.T) {
	bars := []chartBar{{label: "a < b & c", figure: sample{0.3, 2, 70}}, {label: riverRow, figure: sample{12}, peer: true}}
	for _, c := range []chart{{title: "<t>", bars: bars, mark: 1}, {title: "log", bars: bars, log: true}} {
		d := xml.NewDecoder(strings.NewReader(c.svg()))
		rects := 0
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", c.title, err)
			}
			if start, ok := token.(xml.StartElement); ok && start.Name.Local == "rect" {
				rects++
			}
		}
		if rects != 1+len(bars) {
			t.Errorf("%s: %d rectangles, want the background and a bar each", c.title, rects)
		}
	}
}
