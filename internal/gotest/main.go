// Command gotest runs go test with the arguments given and prints what go test prints; at its end it lists the tests that
// were skipped, and why, so that a green run on a machine without databases says what it did not show, and how many tests there were.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
	p := printer{w: os.Stdout, output: make(map[testID][]string), skipped: make(map[string][]string), count: make(map[string]int)}
	readErr := p.read(out)
	err = cmd.Wait()
	p.summary()
	if readErr != nil || err != nil {
		if readErr != nil {
			fmt.Fprintln(os.Stderr, "gotest:", readErr)
		}
		os.Exit(1)
	}
}

// event is a line of go test -json (see go doc test2json).
type event struct {
	Action, Package, Test, Output string
}

type testID struct{ pkg, test string }

// printer turns events back into the text of go test without -v.
type printer struct {
	w       io.Writer
	output  map[testID][]string // of tests that have not ended
	skipped map[string][]string // tests by reason
	count   map[string]int      // of tests and subtests, by how they ended
}

// read handles events until r ends. Lines that are no events are printed as they are.
func (p *printer) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				p.handle(e)
			} else {
				fmt.Fprintf(p.w, "%s", line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *printer) handle(e event) {
	id := testID{e.Package, e.Test}
	if e.Test != "" {
		p.count[e.Action]++
	}
	switch {
	case e.Action == "build-output", e.Action == "output" && e.Test == "":
		if e.Output != "PASS\n" {
			fmt.Fprint(p.w, e.Output)
		}
	case e.Action == "output":
		if !chatter(e.Output) {
			p.output[id] = append(p.output[id], e.Output)
		}
	case e.Action == "fail" && e.Test == "":
		for left, out := range p.output { // a test that never ended: a panic, a time-out
			if left.pkg == e.Package {
				fmt.Fprint(p.w, strings.Join(out, ""))
				delete(p.output, left)
			}
		}
	case e.Action == "fail":
		fmt.Fprint(p.w, strings.Join(p.output[id], ""))
		delete(p.output, id)
	case e.Action == "skip" && e.Test != "":
		why := reason(p.output[id])
		p.skipped[why] = append(p.skipped[why], e.Package+"."+e.Test)
		delete(p.output, id)
	case e.Action == "pass":
		delete(p.output, id)
	}
}

// chatter reports whether a line is only about the progress of tests.
func chatter(line string) bool { return strings.HasPrefix(line, "=== ") }

// reason is the last thing that a skipped test said, without the place in the source.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "--- SKIP") {
			continue
		}
		if _, after, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok := strings.Cut(after, ": "); ok {
				return text
			}
		}
		return line
	}
	return "no reason given"
}

// summary lists what was skipped, by reason, and counts the tests.
func (p *printer) summary() {
	if len(p.skipped) > 0 {
		fmt.Fprintln(p.w, "\nSkipped:")
	}
	reasons := make([]string, 0, len(p.skipped))
	for why := range p.skipped {
		reasons = append(reasons, why)
	}
	slices.Sort(reasons)
	for _, why := range reasons {
		tests := p.skipped[why]
		slices.Sort(tests)
		fmt.Fprintf(p.w, "  %s\n", why)
		for _, test := range tests[:min(len(tests), 10)] {
			fmt.Fprintf(p.w, "    %s\n", test)
		}
		if more := len(tests) - 10; more > 0 {
			fmt.Fprintf(p.w, "    and %d more\n", more)
		}
	}
	fmt.Fprintf(p.w, "\n%d passed, %d failed, %d skipped\n", p.count["pass"], p.count["fail"], p.count["skip"])
}
