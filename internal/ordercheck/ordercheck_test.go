package ordercheck

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// step is something that happened to key "k". Numbers are seconds.
type step struct {
	what   string // "sent", "came", "ok", "failed", "killed"
	event  string
	number int64
	by     string
	from   int
	to     int
}

func TestLog(t *testing.T) {
	sent := func(event string, from, to int) step { return step{what: "sent", event: event, from: from, to: to} }
	came := func(event string, number int64, by string) step {
		return step{what: "came", event: event, number: number, by: by}
	}
	ok, failed, kill := step{what: "ok"}, step{what: "failed"}, step{what: "killed", by: "p"}
	a, b := sent("a", 1, 2), sent("b", 3, 4)
	tests := []struct {
		name  string
		steps []step
		want  []string // kinds of faults
	}{
		{"in order", []step{a, b, came("a", 1, "p"), ok, came("b", 2, "q"), ok}, nil},
		{"a failed one again", []step{a, b, came("a", 1, "p"), failed, came("a", 1, "q"), ok, came("b", 2, "q"), ok}, nil},
		{"the last again after a kill", []step{a, b, came("a", 1, "p"), ok, kill, came("a", 1, "q"), ok, came("b", 2, "q"), ok}, nil},
		{"failed when it comes again after a kill", []step{a, b, came("a", 1, "p"), ok, kill, came("a", 1, "q"), failed, came("b", 2, "q"), ok}, nil},
		{"sent at the same time", []step{sent("a", 1, 4), sent("b", 2, 3), came("a", 1, "p"), ok, came("b", 2, "p"), ok}, nil},
		{"again without a kill", []step{a, came("a", 1, "p"), ok, came("a", 1, "q"), ok}, []string{"repeated"}},
		{"again after another's kill", []step{a, kill, came("a", 1, "q"), ok, came("a", 1, "r"), ok}, []string{"repeated"}},
		{"again after its successor", []step{a, b, came("a", 1, "p"), ok, came("b", 2, "p"), ok, kill, came("a", 1, "q"), ok}, []string{"out of order"}},
		{"before its predecessor has succeeded", []step{a, b, came("a", 1, "p"), failed, came("b", 2, "p"), ok}, []string{"out of order"}},
		{"at once", []step{a, b, came("a", 1, "p"), came("b", 2, "q"), ok, ok}, []string{"out of order", "overlapping"}},
		{"twice at once", []step{a, came("a", 1, "p"), came("a", 1, "q"), ok, ok}, []string{"overlapping"}},
		{"twice at once after a kill", []step{a, kill, came("a", 1, "p"), came("a", 1, "q"), ok, ok}, []string{"overlapping"}},
		{"one left out", []step{a, b, came("b", 2, "p"), ok}, []string{"gap", "stuck"}},
		{"last one lost", []step{a, b, came("a", 1, "p"), ok}, []string{"stuck"}},
		{"last one never succeeds", []step{a, came("a", 1, "p"), failed}, []string{"stuck"}},
		{"all lost", []step{a, b}, []string{"stuck", "stuck"}},
		{"rolled back", []step{a, came("a", 1, "p"), ok, came("x", 2, "p"), ok}, []string{"unsent"}},
		{"another number", []step{a, came("a", 1, "p"), failed, came("a", 2, "p"), ok}, []string{"out of order", "renumbered"}},
		{"one number for two", []step{a, b, came("a", 1, "p"), failed, came("b", 1, "p"), ok}, []string{"doubled"}},
		{"no number", []step{a, came("a", 0, "p"), ok}, []string{"unordered"}},
		{"against the order of sends", []step{a, b, came("b", 1, "p"), ok, came("a", 2, "p"), ok}, []string{"sent earlier"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, kinds(play(tt.steps).Faults())); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

// play notes the steps; "ok" and "failed" end the oldest request under way.
func play(steps []step) *Log {
	l := new(Log)
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	var open []*Visit
	for _, s := range steps {
		switch s.what {
		case "sent":
			l.Sent("k", s.event, at(s.from), at(s.to))
		case "came":
			open = append(open, l.Arrived("k", s.event, s.number, s.by))
		case "killed":
			l.Killed(s.by)
		default:
			open[0].Answered(s.what == "ok")
			open = open[1:]
		}
	}
	return l
}

func kinds(faults []string) (kinds []string) {
	for _, f := range faults {
		kind, _, _ := strings.Cut(f, ":")
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

// TestOverdue: what comes again long after it was answered is taken for a lease that ran out, and nothing else is.
func TestOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Log{Lease: 6 * time.Second}
		now := time.Now()
		l.Sent("k", "a", now, now)
		l.Sent("k", "b", now, now)
		l.Arrived("k", "a", 1, "p").Answered(true)
		time.Sleep(3 * time.Second)
		l.Arrived("k", "a", 1, "q").Answered(true)
		if faults := l.Faults(); l.Stats().Overdue != 1 || len(faults) != 1 { // the other event is missing
			t.Errorf("%+v and faults %q, want one overdue and one stuck", l.Stats(), faults)
		}
		time.Sleep(2 * time.Second)
		l.Arrived("k", "a", 1, "p").Answered(true)
		l.Arrived("k", "b", 2, "p").Answered(true)
		time.Sleep(time.Minute)
		l.Arrived("k", "a", 1, "q").Answered(true)
		if diff := cmp.Diff([]string{"out of order", "repeated"}, kinds(l.Faults())); diff != "" {
			t.Errorf("faults (-want +got):\n%s", diff)
		}
	})
}

func TestMissingAndStats(t *testing.T) {
	l := new(Log)
	l.Sent("k", "a", time.Unix(1, 0), time.Unix(2, 0))
	l.Sent("other", "b", time.Unix(1, 0), time.Unix(2, 0))
	for i, want := range []int{2, 2, 1, 1, 0} {
		if got := l.Missing(); got != want {
			t.Errorf("step %d: %d missing, want %d", i, got, want)
		}
		switch i {
		case 0:
			l.Arrived("k", "a", 1, "p").Answered(false)
		case 1:
			l.Arrived("k", "a", 1, "p").Answered(true)
		case 2:
			l.Killed("p")
			l.Arrived("k", "a", 1, "q").Answered(true)
		case 3:
			l.Arrived("other", "b", 1, "p").Answered(true)
		}
	}
	if diff := cmp.Diff(Stats{Requests: 4, Retries: 1, Repeats: 1}, l.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}
