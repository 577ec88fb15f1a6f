package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

func wokenCases() []Case {
	const woken = "Woken are lanes in which an end let the next of its ordering key go, with that one's due time as Earliest"
	const ours = "With an Attempt, that one is recorded but not counted: the failure was ours, not the receiver's"
	return []Case{
		{"Complete/QueuedWithAttempt", ours, needStore, completeOurs},
		{"Complete/QueuedRecordsAttempt", ours + " … recorded, and counted unless Next is Queued; nil when none was made", needStore | needQuery, completeOursRecorded},
		{"Complete/Woken", woken + " … A hint: it may be left out, and may name a lane twice", needStore, completeWoken},
		{"Complete/WokenRetry", woken, needStore, completeWokenRetry},
		{"Order/LongKeyLeavesRoom", "Work is bounded by what is returned and by the lanes named, not by their backlog, and by what is leased of them", needStore, orderLongKeyLeavesRoom},
		{"Order/LongKeyOutOfStep", oneOfAKey, needStore, orderOutOfStep},
	}
}

// ours is an outcome that gives a delivery back with an attempt that failed by a fault of our own.
func ours(c webhook.Claimed, now time.Time) webhook.Outcome {
	o := ended(c, now, webhook.Queued)
	o.Attempt.Status, o.Attempt.Error, o.Reason = 0, "proxy", "ours: the proxy is away"
	o.DueAt = now.Add(5 * time.Second)
	return o
}

func completeOurs(e *env) {
	e.put(at(0), plain("a", "d1"))
	now := at(0)
	for range 3 {
		o := ours(e.one("d1", now, fresh("a")), now)
		e.apply(now, o)
		e.apply(now, o) // answered as before
		e.none("it is not due", now.Add(5*time.Second-time.Microsecond), fresh("a"), retry("a"))
		now = now.Add(5 * time.Second)
		e.none("no attempt of it counts", now, retry("a"))
	}
	c := e.one("d1", now, fresh("a"))
	e.same("Attempts", c.Delivery.Attempts, 0)
	e.apply(now, ended(c, now, webhook.RetryScheduled))
	now = now.Add(time.Minute)
	e.apply(now, ours(e.one("d1", now, retry("a")), now))
	now = now.Add(5 * time.Second)
	e.none("one attempt of it counts", now, fresh("a"))
	c = e.one("d1", now, retry("a"))
	e.same("Attempts", c.Delivery.Attempts, 1)
	e.apply(now, ended(c, now, webhook.Delivered))
}

func completeOursRecorded(e *env) {
	e.put(at(0), plain("a", "d1"))
	first := ours(e.one("d1", at(0), fresh("a")), at(0))
	first.Attempt.Detail, first.Attempt.Response = "proxyconnect tcp: refused", []byte("407")
	e.apply(at(0), first)
	d := e.one("d1", at(5*time.Second), fresh("a"))
	e.same("Attempts", d.Delivery.Attempts, 0)
	e.sameAttempt(e.attempts("d1", 1)[0], *first.Attempt)
	late := ours(d, at(5*time.Second))
	c := e.one("d1", at(time.Hour), fresh("a"))
	e.stale(at(time.Hour), late)
	e.apply(at(time.Hour), ended(c, at(time.Hour), webhook.Delivered))
	for i, a := range e.attempts("d1", 3) {
		e.same(fmt.Sprintf("Late of attempt %d", i+1), a.Late, i == 1)
	}
	res, err := e.queries().ListDeliveries(e.ctx, &webhook.ListDeliveriesRequest{Now: at(time.Hour)})
	e.ok("ListDeliveries", err)
	e.same("Attempts", res.Deliveries[0].Attempts, 1)
}

// wantWoken completes and wants each lane that is named to be one of those. A store may leave them out.
func (e *env) wantWoken(now time.Time, want []webhook.Lane, outcomes ...webhook.Outcome) {
	res, err := e.s.Complete(e.ctx, &webhook.CompleteRequest{Now: now, Outcomes: outcomes})
	e.ok("Complete", err)
	for i, st := range res.Outcomes {
		e.same("status of "+outcomes[i].DeliveryID, st, webhook.Applied)
	}
	for _, got := range res.Woken {
		found := false
		for _, w := range want {
			found = found || got.LaneID == w.LaneID && got.Earliest.Equal(w.Earliest)
		}
		if !found {
			e.failf("Woken names %v at %v, want one of %v", got.LaneID, got.Earliest, want)
		}
	}
}

func completeWoken(e *env) {
	e.queue("a", "k", "a1", "a2")
	late := keyed("b", "k", "b2")
	late.Deliveries[0].DueAt = at(time.Hour)
	e.queue("b", "k", "b1")
	e.put(at(0), late)
	e.queue("c", "k", "c1", "c2")
	e.queue("d", "k", "d1") // has none behind it
	e.put(at(0), plain("e", "e1"), plain("e", "e2"))
	lanes := []webhook.LaneClaim{fresh("a"), fresh("b"), fresh("c"), fresh("d"), lane("e", webhook.Fresh, 1)}
	byID := map[string]webhook.Claimed{}
	for _, c := range e.claimOn(e.s, at(time.Second), 100, lanes...).Deliveries {
		byID[c.Delivery.ID] = c
	}
	for range 4 { // those behind are looked at, now or later
		e.claimOn(e.s, at(time.Second), 100, lanes[:4]...)
	}
	now := at(time.Minute / 2)
	blocks := ended(byID["c1"], now, webhook.DeadLetter)
	e.wantWoken(now, []webhook.Lane{{LaneID: webhook.LaneID{EndpointID: "a"}, Earliest: at(0)}, {LaneID: webhook.LaneID{EndpointID: "b"}, Earliest: at(time.Hour)}},
		ended(byID["a1"], now, webhook.Delivered), ended(byID["b1"], now, webhook.Expired), blocks, ended(byID["d1"], now, webhook.Delivered))
	e.one("a2", now, lanes[:4]...)
	e.one("b2", at(time.Hour), fresh("b"))
}

func completeWokenRetry(e *env) {
	e.queue("a", "k", "d1", "d2", "d3")
	c := e.one("d1", at(0), fresh("a"))
	e.none("the first is under way", at(0), fresh("a"))
	e.wantWoken(at(0), nil, ended(c, at(0), webhook.RetryScheduled))
	c = e.one("d1", at(time.Minute), retry("a"))
	e.wantWoken(at(time.Minute), nil, back(c))
	c = e.one("d1", at(time.Minute), retry("a"))
	want := []webhook.Lane{{LaneID: webhook.LaneID{EndpointID: "a"}, Earliest: at(0)}}
	e.wantWoken(at(time.Minute), want, ended(c, at(time.Minute), webhook.Delivered))
	c = e.one("d2", at(time.Minute), fresh("a"))
	e.wantWoken(at(time.Minute), want, ended(c, at(time.Minute), webhook.Canceled))
	e.one("d3", at(time.Minute), fresh("a"))
}

// orderLongKeyLeavesRoom has 2,000 deliveries of one key wait before one of another, most of them sent many at a time.
func orderLongKeyLeavesRoom(e *env) {
	const n, single, most = 2000, 400, 5
	var events []webhook.NewEvent
	for i := range n {
		events = append(events, keyed("a", "long", fmt.Sprintf("d%04d", i)))
	}
	for part := range slices.Chunk(events[:n-single], 400) {
		e.put(at(0), part...)
	}
	for _, ev := range events[n-single:] {
		e.put(at(0), ev)
	}
	e.put(at(time.Second), keyed("a", "short", "other"))
	got := map[string]webhook.Claimed{}
	l := lane("a", webhook.Fresh, 8)
	for range most {
		res := e.claimOn(e.s, at(2*time.Second), 8, l)
		for _, c := range res.Deliveries {
			got[c.Delivery.ID] = c
		}
		l.From = res.Lanes[0].NextFrom
	}
	if _, ok := got["other"]; !ok || len(got) != 2 {
		e.failf("%d claims past %d deliveries of one key got %d, want the first of both keys", most, n, len(got))
	}
	c := got["d0000"]
	for _, id := range []string{"d0001", "d0002"} {
		e.apply(at(2*time.Second), ended(c, at(2*time.Second), webhook.Delivered))
		c = e.one(id, at(2*time.Second), fresh("a"))
	}
}

// orderOutOfStep has a key whose deliveries are due in another order than they were sent in.
func orderOutOfStep(e *env) {
	const n = 60
	var events []webhook.NewEvent
	var want []string
	for i := range n {
		ev := keyed("a", "k", fmt.Sprintf("d%02d", i))
		ev.Deliveries[0].DueAt = at(-time.Duration(i*17%n) * time.Second)
		events, want = append(events, ev), append(want, ev.Event.ID)
	}
	e.put(at(0), events...)
	e.wantKey(at(0), "a", "k", want...)
}
