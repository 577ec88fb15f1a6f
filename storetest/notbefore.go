package storetest

import (
	"fmt"
	"time"

	"github.com/signalpost/webhook"
)

func notBeforeCases() []Case {
	const before = "nor do those of an endpoint before its EndpointState.NotBefore"
	const needs = needStore | needState
	return []Case{
		{"NotBefore/Claim", before + " … Claim returns none of its deliveries earlier; zero: no bound", needs, notBeforeClaim},
		{"NotBefore/BothLanes", before, needs, notBeforeBothLanes},
		{"NotBefore/OtherHandle", before, needs, notBeforeOtherHandle},
		{"NotBefore/Status", "set when the rate cut the claim short, or NotBefore lies ahead: when the next is allowed", needs, notBeforeStatus},
		{"NotBefore/LeasedRunsOn", "An outcome is applied when the delivery is still leased under its token", needs, notBeforeLeased},
		{"NotBefore/TakesNoRate", "and only what is returned is counted against it", needs, notBeforeTakesNoRate},
		{"NotBefore/LaterSends", before, needs, notBeforeLaterSends},
		{"NotBefore/Ordered", before + " … " + oneOfAKey, needs, notBeforeOrdered},
	}
}

// notBefore puts a state of an endpoint whatever it was.
func (e *env) notBefore(endpoint string, until time.Time) {
	e.putState(webhook.NewState{EndpointID: endpoint, Version: e.state(endpoint).Version, NotBefore: until})
}

func notBeforeClaim(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"), plain("A", "d3"))
	e.notBefore("a", at(time.Minute+999))
	e.all(at(0), []string{"d2", "d3"}, fresh("a"), fresh("b"), fresh("A"))
	e.none("NotBefore lies ahead", at(time.Minute-time.Microsecond), fresh("a"))
	e.one("d1", at(time.Minute), fresh("a"))
	e.put(at(0), plain("a", "d4"))
	e.notBefore("a", at(2*time.Minute))
	e.none("NotBefore lies ahead", at(time.Minute), fresh("a"))
	e.notBefore("a", time.Time{})
	e.one("d4", at(time.Minute), fresh("a"))
}

func notBeforeBothLanes(e *env) {
	e.spread("a")
	e.notBefore("a", at(time.Hour))
	e.none("NotBefore lies ahead", at(time.Hour-time.Microsecond), retry("a"), fresh("a"))
	e.all(at(time.Hour), []string{"f-a", "r-a"}, retry("a"), fresh("a"))
}

func notBeforeOtherHandle(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.notBefore("a", at(time.Minute))
	if got := e.claimAll(e.s2, at(0), fresh("a")); len(got) > 0 {
		e.failf("Claim on the other handle: got %v", ids(got))
	}
	e.putStates(e.stateHandle(1), webhook.NewState{EndpointID: "a", Version: e.state("a").Version})
	e.one("d1", at(0), fresh("a"))
}

func notBeforeStatus(e *env) {
	e.spread("a", "b", "c")
	e.notBefore("a", at(time.Hour))
	e.notBefore("b", at(-time.Hour))
	now := at(time.Hour - time.Microsecond)
	res := e.claimOn(e.s, now, 100, fresh("a"), retry("a"), fresh("b"), fresh("c"))
	for i, want := range []time.Time{at(time.Hour), at(time.Hour), {}, {}} {
		e.sameTime(fmt.Sprintf("RateUntil of lane %d", i), res.Lanes[i].RateUntil, want)
		e.same(fmt.Sprintf("Held of lane %d", i), res.Lanes[i].Held, false)
	}
	e.sameTime("RateUntil at NotBefore", e.claimOn(e.s, at(time.Hour), 100, fresh("a")).Lanes[0].RateUntil, time.Time{})
	e.notBefore("c", at(2*time.Hour))
	res = e.claimOn(e.s, now, 100, limited("c", webhook.Retry))
	e.sameTime("RateUntil of a limited lane", res.Lanes[0].RateUntil, at(2*time.Hour))
}

func notBeforeLeased(e *env) {
	e.put(at(0), plain("a", "d1"), plain("a", "d2"), plain("a", "d3"))
	cs := e.all(at(0), []string{"d1", "d2", "d3"}, fresh("a"))
	e.notBefore("a", at(2*time.Hour))
	e.same("Extend", e.extend(cs[0], at(0), at(time.Hour)), webhook.Applied)
	e.apply(at(0), ended(cs[0], at(0), webhook.Delivered), ended(cs[1], at(0), webhook.RetryScheduled), back(cs[2]))
	e.none("NotBefore lies ahead", at(time.Hour), fresh("a"), retry("a"))
	e.all(at(2*time.Hour), []string{cs[1].Delivery.ID, cs[2].Delivery.ID}, fresh("a"), retry("a"))
}

func notBeforeTakesNoRate(e *env) {
	e.fill("a", 9)
	e.notBefore("a", at(time.Minute))
	l := limited("a", webhook.Fresh)
	for range 4 {
		e.count(e.s, at(time.Minute-time.Microsecond), 0, l)
	}
	e.count(e.s, at(time.Minute), 3, l)
}

func notBeforeLaterSends(e *env) {
	e.notBefore("a", at(time.Hour)) // never been sent anything
	e.put(at(0), plain("a", "d1"))
	e.none("NotBefore lies ahead", at(time.Minute), fresh("a"))
	e.one("d1", at(time.Hour), fresh("a"))
}

func notBeforeOrdered(e *env) {
	e.queue("a", "k", "d1", "d2")
	c := e.one("d1", at(0), fresh("a"))
	e.notBefore("a", at(time.Hour))
	e.apply(at(0), ended(c, at(0), webhook.Delivered))
	e.none("NotBefore lies ahead", at(time.Minute), fresh("a"))
	e.one("d2", at(time.Hour), fresh("a"))
}
