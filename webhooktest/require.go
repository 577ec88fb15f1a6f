package webhooktest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// RequireReceived fails the test unless each of the events was accepted at least once.
func (r *Receiver) RequireReceived(t testing.TB, eventIDs ...string) {
	t.Helper()
	r.require(t, eventIDs, func(got []Request) []string {
		var wrong []string
		for _, id := range eventIDs {
			if len(accepted(got, id)) == 0 {
				wrong = append(wrong, notAccepted(got, id))
			}
		}
		return wrong
	})
}

// RequireOnce fails the test unless each of the events was accepted exactly once, however often it was tried.
func (r *Receiver) RequireOnce(t testing.TB, eventIDs ...string) {
	t.Helper()
	r.require(t, eventIDs, func(got []Request) []string {
		var wrong []string
		for _, id := range eventIDs {
			switch n := len(accepted(got, id)); n {
			case 0:
				wrong = append(wrong, notAccepted(got, id))
			case 1:
			default:
				wrong = append(wrong, fmt.Sprintf("event %s was accepted %d times, want once", id, n))
			}
		}
		return wrong
	})
}

// RequireOrder fails the test unless all of the events were accepted, and first so in this order. Others may have come between.
func (r *Receiver) RequireOrder(t testing.TB, eventIDs ...string) {
	t.Helper()
	r.require(t, eventIDs, func(got []Request) []string {
		var wrong []string
		before, at := "", -1
		for _, id := range eventIDs {
			all := accepted(got, id)
			if len(all) == 0 {
				wrong = append(wrong, notAccepted(got, id))
				continue
			}
			if all[0] < at {
				wrong = append(wrong, fmt.Sprintf("event %s was accepted before event %s, want after it", id, before))
			}
			before, at = id, all[0]
		}
		return wrong
	})
}

// RequireAttempts fails the test unless so many requests of the event came, whatever was answered.
func (r *Receiver) RequireAttempts(t testing.TB, eventID string, n int) {
	t.Helper()
	r.require(t, []string{eventID}, func(got []Request) []string {
		came := len(slices.DeleteFunc(slices.Clone(got), func(q Request) bool { return q.EventID != eventID }))
		if came == n {
			return nil
		}
		return []string{fmt.Sprintf("event %s was tried %d times, want %d", eventID, came, n)}
	})
}

// RequireNone fails the test if any request came at all, or, if events are named, any of theirs.
func (r *Receiver) RequireNone(t testing.TB, eventIDs ...string) {
	t.Helper()
	got := r.Requests()
	came := 0
	for _, q := range got {
		if len(eventIDs) == 0 || slices.Contains(eventIDs, q.EventID) {
			came++
		}
	}
	if came > 0 {
		of := ""
		if len(eventIDs) > 0 {
			of = " of " + strings.Join(eventIDs, ", ")
		}
		r.fail(t, []string{fmt.Sprintf("%s%s came, want none", count(came, "request"), of)}, got)
	}
}

// WaitFor waits until each of the events was accepted, and fails the test if that takes longer than within: of virtual time in a synctest bubble.
func (r *Receiver) WaitFor(t testing.TB, within time.Duration, eventIDs ...string) {
	t.Helper()
	if len(eventIDs) == 0 {
		t.Fatal("webhooktest: WaitFor names no event")
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		got := r.Requests()
		var wrong []string
		for _, id := range eventIDs {
			if len(accepted(got, id)) == 0 {
				wrong = append(wrong, notAccepted(got, id))
			}
		}
		if len(wrong) == 0 {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			r.fail(t, append([]string{fmt.Sprintf("waited %v", within)}, wrong...), got)
			return
		}
	}
}

// require runs a check that names events.
func (r *Receiver) require(t testing.TB, eventIDs []string, check func(got []Request) []string) {
	t.Helper()
	if len(eventIDs) == 0 || slices.Contains(eventIDs, "") {
		t.Fatal("webhooktest: no event is named, or one with an empty ID: was the error of Send looked at?")
		return
	}
	got := r.Requests()
	if wrong := check(got); len(wrong) > 0 {
		r.fail(t, wrong, got)
	}
}

// accepted are the places of an event's accepted requests.
func accepted(got []Request, id string) []int {
	var at []int
	for i, q := range got {
		if q.EventID == id && q.Accepted {
			at = append(at, i)
		}
	}
	return at
}

// notAccepted says what became of an event instead.
func notAccepted(got []Request, id string) string {
	tries, last := 0, Request{}
	for _, q := range got {
		if q.EventID == id {
			tries, last = tries+1, q
		}
	}
	if tries == 0 {
		return fmt.Sprintf("event %s never came", id)
	}
	return fmt.Sprintf("event %s came %s and was not accepted; the last: %v", id, count(tries, "time"), last)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// maxShown is how many requests a failure lists.
const maxShown = 20

func (r *Receiver) fail(t testing.TB, wrong []string, got []Request) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "webhooktest: %s: %s\n", r.url, strings.Join(wrong, "\n\t"))
	if len(got) == 0 {
		b.WriteString("\tno request came")
	} else {
		fmt.Fprintf(&b, "\t%s came:", count(len(got), "request"))
	}
	for i, q := range got {
		if i == maxShown/2 && len(got) > maxShown {
			fmt.Fprintf(&b, "\n\t… %d more", len(got)-maxShown)
		}
		if i >= maxShown/2 && i < len(got)-maxShown/2 && len(got) > maxShown {
			continue
		}
		fmt.Fprintf(&b, "\n\t+%v %v", q.At.Sub(got[0].At).Round(time.Millisecond), q)
	}
	t.Fatal(b.String())
}
