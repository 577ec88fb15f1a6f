package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

func lanesCases() []Case {
	const lists = "Lanes lists the lanes that have waiting or leased deliveries, in ascending order of LaneID, a page at a time"
	return []Case{
		{"Lanes/Lists", lists + " … Lanes: the waiting deliveries of an endpoint form two lanes, Fresh (no attempt yet) and Retry", needStore, lanesLists},
		{"Lanes/Order", "LaneIDs are ordered by EndpointID, bytewise, then Class", needStore, lanesOrder},
		{"Lanes/Pages", "pass as After for the next page; zero: the walk is complete", needStore, lanesPages},
		{"Lanes/AfterIsExclusive", "exclusive; zero: from the start", needStore, lanesAfter},
		{"Lanes/Earliest", "smallest due time or lease end in the lane; may lie ahead", needStore, lanesEarliest},
		{"Lanes/From", "LaneClaim.From for the next claim of the lane, which misses nothing by it; zero: none", needStore, lanesFrom},
		{"Lanes/WritesNothing", "It writes nothing and blocks nobody", needStore, lanesWritesNothing},
	}
}

func lanesLists(e *env) {
	e.same("lanes of an empty store", len(e.lanes(10)), 0)
	e.put(at(0), plain("waiting", "d1"), plain("leased", "d2"), plain("retry", "d3"), plain("done", "d4"), event("e5", toAt("later", "d5", at(time.Hour))))
	e.one("d2", at(0), fresh("leased"))
	e.apply(at(0), ended(e.one("d3", at(0), fresh("retry")), at(0), webhook.RetryScheduled))
	e.apply(at(0), ended(e.one("d4", at(0), fresh("done")), at(0), webhook.Delivered))
	e.same("lanes", laneIDs(e.lanes(10)), []webhook.LaneID{{EndpointID: "later"}, {EndpointID: "leased"},
		{EndpointID: "retry", Class: webhook.Retry}, {EndpointID: "waiting"}})
}

// spread puts a delivery into the Fresh and one into the Retry lane of each endpoint.
func (e *env) spread(endpoints ...string) {
	for _, ep := range endpoints {
		e.put(at(0), plain(ep, "r-"+ep))
		e.apply(at(0), ended(e.one("r-"+ep, at(0), fresh(ep)), at(0), webhook.RetryScheduled))
		e.put(at(0), plain(ep, "f-"+ep))
	}
}

func lanesOrder(e *env) {
	endpoints := []string{"b", "B", "a", "a.b", "a-b", "a_b", "~", "0", "aa", "A"}
	e.spread(endpoints...)
	slices.Sort(endpoints)
	var want []webhook.LaneID
	for _, ep := range endpoints {
		want = append(want, webhook.LaneID{EndpointID: ep}, webhook.LaneID{EndpointID: ep, Class: webhook.Retry})
	}
	e.same("lanes", laneIDs(e.lanes(100)), want)
}

func lanesPages(e *env) {
	e.spread("a", "b", "c")
	want := []webhook.LaneID{{EndpointID: "a"}, {EndpointID: "a", Class: webhook.Retry}, {EndpointID: "b"}, {EndpointID: "b", Class: webhook.Retry},
		{EndpointID: "c"}, {EndpointID: "c", Class: webhook.Retry}}
	for page := 1; page <= 7; page++ {
		e.same(fmt.Sprintf("lanes in pages of %d", page), laneIDs(e.lanes(page)), want)
	}
}

func lanesAfter(e *env) {
	e.spread("a", "b")
	tests := []struct{ after, want webhook.LaneID }{
		{webhook.LaneID{}, webhook.LaneID{EndpointID: "a"}},
		{webhook.LaneID{EndpointID: "a"}, webhook.LaneID{EndpointID: "a", Class: webhook.Retry}},
		{webhook.LaneID{EndpointID: "a", Class: webhook.Retry}, webhook.LaneID{EndpointID: "b"}},
		{webhook.LaneID{EndpointID: "aa"}, webhook.LaneID{EndpointID: "b"}}, // a lane that is not there
	}
	for _, tt := range tests {
		res, err := e.s.Lanes(e.ctx, &webhook.LanesRequest{After: tt.after, Limit: 1})
		e.ok("Lanes", err)
		e.same(fmt.Sprintf("lane after %v", tt.after), laneIDs(res.Lanes), []webhook.LaneID{tt.want})
	}
}

// lane is what Lanes says of a lane.
func (e *env) lane(endpoint string, class webhook.Class) webhook.Lane {
	for _, l := range e.lanes(100) {
		if l.LaneID == (webhook.LaneID{EndpointID: endpoint, Class: class}) {
			return l
		}
	}
	e.failf("Lanes does not list %q, class %d", endpoint, class)
	return webhook.Lane{}
}

// earliest returns the Earliest of a lane.
func (e *env) earliest(endpoint string, class webhook.Class) time.Time {
	return e.lane(endpoint, class).Earliest
}

// lanesFrom has in one lane what is leased, what was leased until now, and what nobody has had yet.
func lanesFrom(e *env) {
	claim := func(now time.Time, limit int, want ...string) {
		l := fresh("a")
		l.From = e.lane("a", webhook.Fresh).From
		got := ids(e.claimOn(e.s, now, limit, l).Deliveries)
		slices.Sort(got)
		e.same(fmt.Sprintf("claimed at %v", now.Sub(at(0))), got, want)
	}
	e.put(at(0), event("e1", toAt("a", "d1", at(0))), event("e2", toAt("a", "d2", at(time.Second))), event("e3", toAt("a", "d3", at(2*time.Second))))
	claim(at(2*time.Second), 1, "d1")
	claim(at(3*time.Second), 1, "d2")
	claim(at(3*time.Second), 5, "d3")
	claim(at(time.Minute), 5)
	claim(at(62*time.Second), 5, "d1")
	claim(at(64*time.Second), 5, "d2", "d3")
	claim(at(125*time.Second), 5, "d1", "d2", "d3")
}

func lanesEarliest(e *env) {
	e.put(at(0), event("e1", toAt("a", "d1", at(3*time.Second))), event("e2", toAt("a", "d2", at(2*time.Second))), event("e3", toAt("a", "d3", at(time.Hour))))
	e.sameTime("Earliest of waiting deliveries", e.earliest("a", webhook.Fresh), at(2*time.Second))
	e.one("d2", at(2*time.Second), fresh("a"))
	e.sameTime("Earliest with the first leased until later", e.earliest("a", webhook.Fresh), at(3*time.Second))
	c := e.one("d1", at(3*time.Second), fresh("a"))
	e.sameTime("Earliest with a lease as the first", e.earliest("a", webhook.Fresh), at(62*time.Second))
	o := ended(c, at(4*time.Second), webhook.RetryScheduled)
	o.DueAt = at(2 * time.Hour)
	e.apply(at(4*time.Second), o)
	e.sameTime("Earliest of the retries", e.earliest("a", webhook.Retry), at(2*time.Hour))
}

func lanesWritesNothing(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.queue("a", "k", "d2", "d3")
	before := e.lanes(1)
	e.same("lanes the second time", e.lanes(1), before)
	e.all(at(0), []string{"d1", "d2"}, fresh("a"))
}

func claimCases() []Case {
	return []Case{
		{"Claim/Due", "Claim leases due deliveries of the lanes named", needStore, claimDue},
		{"Claim/LanesNamed", "Claim leases due deliveries of the lanes named", needStore, claimLanesNamed},
		{"Claim/EarliestFirst", "Within a lane the earliest due comes first", needStore, claimEarliestFirst},
		{"Claim/LaneByLane", "lane by lane in request order", needStore, claimLaneByLane},
		{"Claim/Fields", "Claimed is a leased delivery with its event … State is Delivering", needStore, claimFields},
		{"Claim/RetryLane", "RetryScheduled makes it due at DueAt in the Retry lane … at least one attempt that counts", needStore, claimRetryLane},
		{"Claim/TokenGrows", "and its token is greater than that of any earlier claim of it", needStore, claimTokenGrows},
		{"Claim/OwnClock", "A store compares due times and leases against that Now and never against a clock of its own", needStore, claimOwnClock},
		{"Claim/Microseconds", "Times are kept to the microsecond, rounded down", needStore, claimMicroseconds},
		{"Claim/StoreClock", "the store's clock, for the caller to calibrate by; zero when the store did not read it", needStore, claimStoreClock},
	}
}

func claimDue(e *env) {
	e.put(at(0), event("e1", toAt("a", "d1", at(time.Second))), event("e2", toAt("a", "d2", at(2*time.Second))))
	e.none("nothing is due", at(time.Second-time.Microsecond), fresh("a"))
	e.one("d1", at(time.Second), fresh("a"))
	e.one("d2", at(2*time.Second), fresh("a"))
}

func claimLanesNamed(e *env) {
	e.spread("a", "b")
	now := at(time.Hour)
	e.one("f-a", now, fresh("a"))
	e.one("r-a", now, retry("a"))
	e.all(now, []string{"f-b", "r-b"}, retry("b"), fresh("b"), fresh("c"), retry("c"))
}

func claimEarliestFirst(e *env) {
	var events []webhook.NewEvent
	for _, ms := range []int{5, 1, 9, 3, 7, 2, 8, 4, 6} {
		id := fmt.Sprint("d", ms)
		events = append(events, event(id, toAt("a", id, at(time.Duration(ms)*time.Millisecond))))
	}
	e.put(at(0), events...)
	now := at(time.Second)
	e.same("first claim", ids(e.claimOn(e.s, now, 10, lane("a", webhook.Fresh, 3)).Deliveries), []string{"d1", "d2", "d3"})
	e.same("second claim", ids(e.claimOn(e.s, now, 2, lane("a", webhook.Fresh, 5)).Deliveries), []string{"d4", "d5"})
	e.same("rest", ids(e.claim(now, fresh("a"))), []string{"d6", "d7", "d8", "d9"})
}

func claimLaneByLane(e *env) {
	e.spread("a", "b", "c")
	now := at(time.Hour)
	got := e.claimOn(e.s, now, 100, retry("b"), fresh("c"), fresh("b"), retry("a"))
	e.same("deliveries", ids(got.Deliveries), []string{"r-b", "f-c", "f-b", "r-a"})
}

func claimFields(e *env) {
	e.put(at(0), plain("a", "d1"), keyed("a", "k", "d2"))
	now := at(time.Second)
	for _, c := range e.all(now, []string{"d1", "d2"}, fresh("a")) {
		want := webhook.Delivery{ID: c.Delivery.ID, EventID: c.Delivery.ID, EndpointID: "a", State: webhook.Delivering}
		if c.Delivery.ID == "d2" {
			want.OrderingKey, want.Sequence = "k", 1
		}
		e.sameTime("LeaseUntil", c.LeaseUntil, at(time.Minute+time.Second))
		e.sameTime("DueAt, the end of the lease", c.Delivery.DueAt, c.LeaseUntil)
		e.sameTime("CreatedAt", c.Delivery.CreatedAt, at(0))
		c.Delivery.DueAt, c.Delivery.CreatedAt = time.Time{}, time.Time{}
		e.same("Delivery", c.Delivery, want)
		if c.Token <= 0 {
			e.failf("token %d, want more than 0", c.Token)
		}
	}
}

func claimRetryLane(e *env) {
	e.put(at(0), plain("a", "d1"))
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.RetryScheduled)
	o.DueAt = at(10 * time.Second)
	e.apply(at(0), o)
	e.none("it is no longer in the Fresh lane", at(time.Hour), fresh("a"))
	e.none("it is not due", at(10*time.Second-time.Microsecond), retry("a"))
	c := e.one("d1", at(10*time.Second), retry("a"))
	e.same("Attempts", c.Delivery.Attempts, 1)
	e.apply(at(11*time.Second), ended(c, at(11*time.Second), webhook.RetryScheduled))
	c = e.one("d1", at(time.Hour), retry("a"))
	e.same("Attempts", c.Delivery.Attempts, 2)
}

func claimTokenGrows(e *env) {
	e.put(at(0), plain("a", "d1"))
	var last int64
	now := at(0)
	for i := range 6 {
		c := e.one("d1", now, fresh("a"), retry("a"))
		if c.Token <= last {
			e.failf("token %d after %d", c.Token, last)
		}
		last = c.Token
		switch i % 3 {
		case 0: // let the lease run out
		case 1:
			e.apply(now, back(c))
		case 2:
			e.apply(now, ended(c, now, webhook.RetryScheduled))
		}
		now = now.Add(time.Minute)
	}
}

func claimOwnClock(e *env) {
	for i, base := range []time.Time{time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC), time.Date(2091, 2, 3, 4, 5, 6, 0, time.UTC)} {
		ep, id := fmt.Sprint("a", i), fmt.Sprint("d", i)
		e.put(base, event(id, toAt(ep, id, base.Add(time.Second))))
		e.none("it is not due at this Now", base, fresh(ep))
		e.one(id, base.Add(time.Second), fresh(ep))
		e.none("it is leased at this Now", base.Add(time.Minute), fresh(ep))
		e.one(id, base.Add(time.Minute+time.Second), fresh(ep))
	}
}

func claimMicroseconds(e *env) {
	const ns = 999 * time.Nanosecond
	e.put(at(ns), event("e1", to("a", "d1")), event("e2", toAt("b", "d2", at(time.Second+ns))))
	c := e.one("d1", at(0), fresh("a"))
	e.sameTime("CreatedAt", c.Delivery.CreatedAt, at(0))
	e.sameTime("Earliest", e.earliest("b", webhook.Fresh), at(time.Second))
	c = e.one("d2", at(time.Second+ns), fresh("b"))
	e.sameTime("LeaseUntil", c.LeaseUntil, at(time.Second+time.Minute))
	o := ended(c, at(2*time.Second), webhook.RetryScheduled)
	o.DueAt = at(3*time.Second + ns)
	e.apply(at(2*time.Second), o)
	e.one("d2", at(3*time.Second), retry("b"))
}

func claimStoreClock(e *env) {
	before, err := e.s.Now(e.ctx)
	e.ok("Now", err)
	res := e.claimOn(e.s, at(0), 1, fresh("a"))
	after, err := e.s.Now(e.ctx)
	e.ok("Now", err)
	if !res.Now.IsZero() && (res.Now.Before(before) || res.Now.After(after)) {
		e.failf("ClaimResult.Now is %v, want zero or the store's clock, between %v and %v", res.Now, before, after)
	}
}
