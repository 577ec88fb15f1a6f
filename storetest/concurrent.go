package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

func concurrentCases() []Case {
	const all = "all methods may be called by many goroutines and many processes at once"
	const retries = "A store retries what its database asks to retry (serialization failures, deadlocks, a busy file) by itself"
	return []Case{
		{"Concurrent/NoDoubleClaim", "no other claim returns it until LeaseUntil", needStore, concurrentClaims},
		{"Concurrent/SameID", "An event whose ID is stored already", needStore, concurrentSameID},
		{"Concurrent/SameIDsCrossed", retries, needStore, concurrentCrossedIDs},
		{"Concurrent/Sequence", "Deliveries with an ordering key get the next sequence numbers of their endpoint and key", needStore, concurrentSequence},
		{"Concurrent/KeysCrossed", retries, needStore, concurrentCrossedKeys},
		{"Concurrent/SameCompletion", "Repeating a Complete is safe", needStore, concurrentCompletion},
		{"Concurrent/Drain", all, needStore, concurrentDrain},
		{"Concurrent/End", all + " … " + endPlace, needStore | needLife, concurrentEnd},
	}
}

// concurrentClaims has eight claimers empty one lane.
func concurrentClaims(e *env) {
	want := e.fill("a", 200)
	got := make([][]string, 8)
	e.parallel(len(got), func(i int) {
		for {
			res := e.claimOn(e.handle(i), at(0), 7, lane("a", webhook.Fresh, 7))
			got[i] = append(got[i], ids(res.Deliveries)...)
			if len(res.Deliveries) == 0 && !res.Lanes[0].More || len(got[i]) > len(want) {
				return
			}
		}
	})
	have := slices.Concat(got...)
	have = append(have, ids(e.claim(at(0), fresh("a")))...) // what claimers skipped while others had it locked
	slices.Sort(have)
	if !slices.Equal(have, want) {
		e.failf("eight claimers got %d deliveries, %d different ones, of %d", len(have), len(slices.Compact(have)), len(want))
	}
}

func concurrentSameID(e *env) {
	for round := range 4 {
		statuses := make([]webhook.EnqueueStatus, 8)
		e.parallel(len(statuses), func(i int) {
			ev := event(fmt.Sprint("e", round), to("a", fmt.Sprintf("d%d-%d", round, i)))
			if i >= 4 {
				ev = other(ev)
			}
			statuses[i] = e.enqueueOn(e.handle(i), at(0), ev)[0]
		})
		winner := slices.Index(statuses, webhook.Stored)
		if winner < 0 {
			e.failf("no caller's event was stored: %v", statuses)
		}
		for i, got := range statuses {
			want := webhook.Repeat
			switch {
			case i == winner:
				want = webhook.Stored
			case (i < 4) != (winner < 4):
				want = webhook.Conflict
			}
			e.same(fmt.Sprintf("status of caller %d while caller %d was first", i, winner), got, want)
		}
		e.one(fmt.Sprintf("d%d-%d", round, winner), at(0), fresh("a"))
	}
}

// concurrentCrossedIDs enqueues the same events in different orders, so that locks cross.
func concurrentCrossedIDs(e *env) {
	const callers, events = 6, 8
	stored := make([]int, callers)
	e.parallel(callers, func(i int) {
		var batch []webhook.NewEvent
		for n := range events {
			n = (n + i) % events
			if i%2 == 1 {
				n = events - 1 - n
			}
			batch = append(batch, plain("a", fmt.Sprint("d", n)))
		}
		for _, st := range e.enqueueOn(e.handle(i), at(0), batch...) {
			switch st {
			case webhook.Stored:
				stored[i]++
			case webhook.Repeat:
			default:
				e.failf("status %d, want Stored or Repeat", st)
			}
		}
	})
	sum := 0
	for _, n := range stored {
		sum += n
	}
	e.same("events stored", sum, events)
	e.same("deliveries", len(e.claim(at(0), fresh("a"))), events)
}

func concurrentSequence(e *env) {
	const callers, each = 6, 5
	e.parallel(callers, func(i int) {
		for n := range each {
			st := e.enqueueOn(e.handle(i), at(0), keyed("a", "k", fmt.Sprintf("d%d-%d", i, n)))
			e.same("status", st[0], webhook.Stored)
		}
	})
	order, seqs := e.drainKey(at(0), "a", "k")
	e.same("deliveries", len(order), callers*each)
	last := map[byte]string{}
	for i, id := range order {
		e.same("sequence number", seqs[i], int64(i+1))
		if id <= last[id[1]] {
			e.failf("%s comes after %s, which the same caller sent later", id, last[id[1]])
		}
		last[id[1]] = id
	}
}

// concurrentCrossedKeys enqueues for two keys at once in different orders, so that locks cross.
func concurrentCrossedKeys(e *env) {
	const callers = 6
	e.parallel(callers, func(i int) {
		batch := []webhook.NewEvent{keyed("a", "k", fmt.Sprint("k", i)), keyed("a", "l", fmt.Sprint("l", i))}
		if i%2 == 1 {
			slices.Reverse(batch)
		}
		e.enqueueOn(e.handle(i), at(0), batch...)
	})
	n := 0
	for {
		got := e.claim(at(0), fresh("a"))
		if len(got) == 0 {
			break
		}
		for _, c := range got {
			n++
			e.same("sequence number", c.Delivery.Sequence, int64((n+1)/2))
			e.apply(at(0), ended(c, at(0), webhook.Delivered))
		}
	}
	e.same("deliveries", n, 2*callers)
}

func concurrentCompletion(e *env) {
	e.put(at(0), plain("a", "d1"))
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.RetryScheduled)
	e.parallel(6, func(i int) {
		res, err := e.handle(i).Complete(e.ctx, &webhook.CompleteRequest{Now: at(0), Outcomes: []webhook.Outcome{o}})
		e.ok("Complete", err)
		e.same("statuses", res.Outcomes, []webhook.OutcomeStatus{webhook.Applied})
	})
	c := e.one("d1", at(time.Minute), retry("a"))
	e.same("Attempts", c.Delivery.Attempts, 1)
}
