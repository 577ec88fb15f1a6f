package storetest

import (
	"fmt"
	"time"

	"github.com/signalpost/webhook"
)

func claimBoundCases() []Case {
	return []Case{
		{"Claim/Max", "at most so many; at least 1", needStore, claimMax},
		{"Claim/Limit", "over all lanes; at least 1", needStore, claimLimit},
		{"Claim/FairnessOrder", "in the caller's order of fairness; no lane twice", needStore, claimFairness},
		{"Claim/LaneStatuses", "per LaneClaim, in request order", needStore, claimStatuses},
		{"Claim/More", "there may be more due rows now", needStore, claimMore},
		{"Claim/From", "leave out what was due before: a bound on work", needStore, claimFrom},
		{"Claim/NextFrom", "From for the next claim of this lane, until Lanes gives a new From; zero: none", needStore, claimNextFrom},
		{"Claim/BehindParked", "of an ordering key, only the delivery with no unfinished predecessor is returned", needStore, claimBehindParked},
	}
}

// fill puts n deliveries, all due at Now, into the Fresh lane of an endpoint.
func (e *env) fill(endpoint string, n int) []string {
	var events []webhook.NewEvent
	var all []string
	for i := range n {
		id := fmt.Sprintf("%s%03d", endpoint, i)
		events, all = append(events, plain(endpoint, id)), append(all, id)
	}
	e.put(at(0), events...)
	return all
}

func claimMax(e *env) {
	e.fill("a", 5)
	e.fill("b", 5)
	res := e.claimOn(e.s, at(0), 100, lane("a", webhook.Fresh, 2), lane("b", webhook.Fresh, 1))
	count := map[string]int{}
	for _, c := range res.Deliveries {
		count[c.Delivery.EndpointID]++
	}
	e.same("deliveries a lane", count, map[string]int{"a": 2, "b": 1})
}

func claimLimit(e *env) {
	e.fill("a", 5)
	e.fill("b", 5)
	e.fill("c", 5)
	for _, limit := range []int{1, 4, 7} {
		res := e.claimOn(e.s, at(0), limit, fresh("a"), fresh("b"), fresh("c"))
		e.same(fmt.Sprintf("deliveries with a Limit of %d", limit), len(res.Deliveries), limit)
	}
}

func claimFairness(e *env) {
	e.fill("a", 2)
	e.fill("b", 2)
	res := e.claimOn(e.s, at(0), 3, lane("b", webhook.Fresh, 2), lane("a", webhook.Fresh, 2))
	var eps []string
	for _, c := range res.Deliveries {
		eps = append(eps, c.Delivery.EndpointID)
	}
	e.same("endpoints of the deliveries", eps, []string{"b", "b", "a"})
}

func claimStatuses(e *env) {
	e.fill("a", 5)
	e.fill("b", 1)
	res := e.claimOn(e.s, at(0), 100, fresh("none"), fresh("b"), lane("a", webhook.Fresh, 2))
	var more []bool
	for _, l := range res.Lanes {
		more = append(more, l.More)
		e.same("Held", l.Held, false)
		e.sameTime("RateUntil", l.RateUntil, time.Time{})
	}
	e.same("More of the third lane, that has three left", more[2], true)
}

func claimMore(e *env) {
	e.fill("a", 4)
	e.fill("b", 1)
	res := e.claimOn(e.s, at(0), 100, lane("a", webhook.Fresh, 3))
	e.same("More with one left by Max", res.Lanes[0].More, true)
	res = e.claimOn(e.s, at(0), 1, fresh("a"), fresh("b"))
	e.same("More with one left by Limit", res.Lanes[1].More, true)
	for range 4 {
		if res = e.claimOn(e.s, at(0), 100, fresh("a"), fresh("b")); !res.Lanes[0].More && !res.Lanes[1].More {
			return
		}
	}
	e.failf("More stays true for lanes without anything due")
}

func claimFrom(e *env) {
	want := e.fill("a", 3)
	e.put(at(time.Second), plain("a", "later"))
	l := fresh("a")
	l.From = e.lane("a", webhook.Fresh).From
	e.all(at(time.Second), append(want, "later"), l)
}

// claimNextFrom walks a lane of groups that are due together, as From tells it to.
func claimNextFrom(e *env) {
	var events []webhook.NewEvent
	for i := range 12 {
		id := fmt.Sprintf("d%02d", i)
		events = append(events, event(id, toAt("a", id, at(time.Duration(i/4)*time.Millisecond))))
	}
	e.put(at(0), events...)
	l := lane("a", webhook.Fresh, 3)
	l.From = e.lane("a", webhook.Fresh).From
	got := map[string]bool{}
	for range 12 {
		res := e.claimOn(e.s, at(time.Second), 100, l)
		for _, c := range res.Deliveries {
			got[c.Delivery.ID] = true
		}
		l.From = res.Lanes[0].NextFrom
		if !res.Lanes[0].More {
			break
		}
	}
	e.same("deliveries got", len(got), 12)
}

// claimBehindParked has many that wait behind the first of their key, and others that are due after them.
func claimBehindParked(e *env) {
	e.queue("a", "k", "first")
	var events []webhook.NewEvent
	for i := range 60 {
		events = append(events, keyed("a", "k", fmt.Sprintf("k%02d", i)))
	}
	e.put(at(0), events...)
	e.put(at(time.Second), plain("a", "x"), keyed("a", "l", "y"))
	now := at(2 * time.Second)
	got := map[string]bool{}
	for range 60 {
		res := e.claimOn(e.s, now, 2, lane("a", webhook.Fresh, 2))
		for _, c := range res.Deliveries {
			got[c.Delivery.ID] = true
		}
		if !res.Lanes[0].More {
			break
		}
	}
	e.same("deliveries got", got, map[string]bool{"first": true, "x": true, "y": true})
}

func leaseCases() []Case {
	return []Case{
		{"Lease/Kept", "What it returns is leased to req.Owner: no other claim returns it until LeaseUntil", needStore, leaseKept},
		{"Lease/RunsOut", "A delivery whose lease ran out is simply due again; no rescuer is needed", needStore, leaseRunsOut},
		{"Lease/LongAndShort", "how long they are leased, from Now", needStore, leaseLongAndShort},
		{"Lease/SameLaneAfterRunningOut", "no attempt that counts yet", needStore, leaseSameLane},
	}
}

func leaseKept(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.one("d1", at(0), fresh("a"))
	for _, now := range []time.Time{at(0), at(time.Second), at(time.Minute - time.Microsecond)} {
		if got := e.claimAll(e.s2, now, fresh("a"), retry("a")); len(got) > 0 {
			e.failf("Claim at %v: got %v, but it is leased until %v", now.Sub(at(0)), ids(got), time.Minute)
		}
	}
}

func leaseRunsOut(e *env) {
	e.put(at(0), plain("a", "d1"))
	first := e.one("d1", at(0), fresh("a"))
	got := e.claimAll(e.s2, at(time.Minute), fresh("a"))
	if len(got) != 1 || got[0].Token <= first.Token {
		e.failf("Claim at the end of the lease: got %v, want d1 under a greater token", ids(got))
	}
}

func leaseLongAndShort(e *env) {
	e.fill("a", 1)
	e.fill("b", 1)
	long, short := fresh("a"), fresh("b")
	long.Lease, short.Lease = time.Hour, time.Second
	for _, c := range e.all(at(0), []string{"a000", "b000"}, long, short) {
		want := map[string]time.Time{"a000": at(time.Hour), "b000": at(time.Second)}[c.Delivery.ID]
		e.sameTime("LeaseUntil of "+c.Delivery.ID, c.LeaseUntil, want)
	}
	e.one("b000", at(time.Second), fresh("a"), fresh("b"))
	e.one("a000", at(time.Hour), fresh("a"))
}

func leaseSameLane(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.one("d1", at(0), fresh("a"))
	e.none("no attempt of it is recorded", at(time.Minute), retry("a"))
	c := e.one("d1", at(time.Minute), fresh("a"))
	e.same("Attempts", c.Delivery.Attempts, 0)
}
