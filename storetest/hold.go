package storetest

import (
	"fmt"
	"time"

	"github.com/signalpost/webhook"
)

func holdCases() []Case {
	const hold = "Hold keeps the endpoint's deliveries from being claimed by any Claim that begins after Hold returned"
	return []Case{
		{"Hold/Claim", "Lanes of an endpoint on hold return nothing … zero: until Unhold", needStore | needHold, holdClaim},
		{"Hold/Status", "the endpoint is on hold … when the hold ends by itself; zero: when somebody ends it", needStore | needHold, holdStatus},
		{"Hold/OtherHandle", hold, needStore | needHold, holdOtherHandle},
		{"Hold/Until", "until Unhold or req.Until", needStore | needHold, holdUntil},
		{"Hold/Unhold", "Unhold ends a hold. There need not be one", needStore | needHold, holdUnhold},
		{"Hold/OtherEndpoints", hold, needStore | needHold, holdOthers},
		{"Hold/LeasedRunsOn", "What is leased already runs on", needStore | needHold, holdLeased},
		{"Hold/Replaced", "Holding again replaces the hold", needStore | needHold, holdReplaced},
		{"Hold/LaterSends", "A hold lives on the endpoint: no delivery is touched by it, however many wait", needStore | needHold, holdLaterSends},
		{"Hold/LanesStay", "Lanes lists the lanes that have waiting or leased deliveries", needStore | needHold, holdLanesStay},
		{"Hold/List", "ListHolds returns the holds in force at now, in ascending order of EndpointID … HoldStatus is a hold in force", needStore | needHold, holdList},
		{"Hold/ListLeavesOutKeys", "A hold lives on the endpoint", needStore | needHold, holdListKeys},
		{"Hold/Ordered", oneOfAKey, needStore | needHold, holdOrdered},
	}
}

func (e *env) hold(endpoint string, until time.Time) {
	e.ok("Hold", e.holds().Hold(e.ctx, &webhook.HoldRequest{Now: at(0), EndpointID: endpoint, Kind: "paused", Reason: "because of a test", Until: until}))
}

func (e *env) unhold(endpoint string) { e.ok("Unhold", e.holds().Unhold(e.ctx, endpoint)) }

func holdClaim(e *env) {
	e.spread("a")
	e.hold("a", time.Time{})
	e.none("the endpoint is on hold", at(time.Hour), fresh("a"), retry("a"))
}

func holdStatus(e *env) {
	e.spread("a", "b", "c")
	e.hold("a", time.Time{})
	e.hold("b", at(2*time.Hour))
	res := e.claimOn(e.s, at(time.Hour), 100, fresh("a"), retry("b"), fresh("c"))
	for i, want := range []webhook.LaneStatus{{Held: true}, {Held: true, HeldUntil: at(2 * time.Hour)}, {}} {
		e.same(fmt.Sprintf("Held of lane %d", i), res.Lanes[i].Held, want.Held)
		e.sameTime(fmt.Sprintf("HeldUntil of lane %d", i), res.Lanes[i].HeldUntil, want.HeldUntil)
	}
}

func holdOtherHandle(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.hold("a", time.Time{})
	if got := e.claimAll(e.s2, at(0), fresh("a")); len(got) > 0 {
		e.failf("Claim on the other handle: got %v", ids(got))
	}
	e.ok("Unhold", e.h.Second.(webhook.HoldStore).Unhold(e.ctx, "a"))
	e.one("d1", at(0), fresh("a"))
}

func holdUntil(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.hold("a", at(time.Hour+999))
	e.none("the hold runs", at(time.Hour-time.Microsecond), fresh("a"))
	e.one("d1", at(time.Hour), fresh("a"))
}

func holdUnhold(e *env) {
	e.unhold("nobody")
	e.put(at(0), plain("a", "d1"), plain("b", "d2"))
	e.unhold("a")
	e.hold("a", time.Time{})
	e.hold("b", at(time.Hour))
	e.unhold("a")
	e.unhold("b")
	e.unhold("b")
	e.all(at(0), []string{"d1", "d2"}, fresh("a"), fresh("b"))
}

func holdOthers(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"), plain("A", "d3"))
	e.hold("a", time.Time{})
	e.all(at(0), []string{"d2", "d3"}, fresh("b"), fresh("a"), fresh("A"))
}

func holdLeased(e *env) {
	e.put(at(0), plain("a", "d1"), plain("a", "d2"), plain("a", "d3"))
	cs := e.all(at(0), []string{"d1", "d2", "d3"}, fresh("a"))
	e.hold("a", time.Time{})
	e.same("Extend", e.extend(cs[0], at(0), at(time.Hour)), webhook.Applied)
	e.apply(at(0), ended(cs[0], at(0), webhook.Delivered), ended(cs[1], at(0), webhook.RetryScheduled), back(cs[2]))
	e.none("the endpoint is on hold", at(time.Hour), fresh("a"), retry("a"))
	e.unhold("a")
	e.all(at(time.Hour), []string{cs[1].Delivery.ID, cs[2].Delivery.ID}, fresh("a"), retry("a"))
}

func holdReplaced(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"), plain("c", "d3"))
	e.hold("a", time.Time{})
	e.hold("a", at(time.Minute))
	e.hold("b", at(time.Minute))
	e.hold("b", time.Time{})
	e.hold("c", at(time.Hour))
	e.hold("c", at(time.Minute))
	e.none("all are on hold", at(time.Second), fresh("a"), fresh("b"), fresh("c"))
	e.all(at(time.Minute), []string{"d1", "d3"}, fresh("a"), fresh("b"), fresh("c"))
}

func holdLaterSends(e *env) {
	e.hold("a", time.Time{})
	e.put(at(0), plain("a", "d1"))
	e.none("the endpoint is on hold", at(time.Hour), fresh("a"))
	e.unhold("a")
	c := e.one("d1", at(time.Hour), fresh("a"))
	e.same("Attempts", c.Delivery.Attempts, 0)
}

func holdLanesStay(e *env) {
	e.put(at(0), plain("a", "d1"))
	before := e.lanes(10)
	e.hold("a", time.Time{})
	e.same("lanes", laneIDs(e.lanes(10)), laneIDs(before))
	e.sameTime("Earliest", e.earliest("a", webhook.Fresh), at(0))
}

func holdOrdered(e *env) {
	e.queue("a", "k", "d1", "d2")
	c := e.one("d1", at(0), fresh("a"))
	e.hold("a", time.Time{})
	e.apply(at(0), ended(c, at(0), webhook.Delivered))
	e.none("the endpoint is on hold", at(time.Hour), fresh("a"))
	e.unhold("a")
	e.one("d2", at(time.Hour), fresh("a"))
}

// wantHolds lists the holds of the other handle.
func (e *env) wantHolds(now time.Time, want ...webhook.HoldStatus) {
	got, err := e.h.Second.(webhook.HoldStore).ListHolds(e.ctx, now)
	e.ok("ListHolds", err)
	for i := range got {
		if i < len(want) && got[i].Until.Equal(want[i].Until) {
			got[i].Until = want[i].Until // whatever its zone
		}
	}
	if len(got)+len(want) > 0 {
		e.same("holds", got, want)
	}
}

func holdList(e *env) {
	e.wantHolds(at(0))
	var want []webhook.HoldStatus
	for i, ep := range []string{"A", "a", "a-b", "b", "ü"} {
		st := webhook.HoldStatus{EndpointID: ep, Kind: "disabled", Reason: "410 Gone, »endgültig«"}
		if i%2 == 0 {
			st.Until = at(time.Hour)
		}
		want = append(want, st)
	}
	for _, i := range []int{3, 0, 4, 1, 2} { // none has ever been sent anything
		w := want[i]
		req := &webhook.HoldRequest{Now: at(0), EndpointID: w.EndpointID, Kind: w.Kind, Reason: w.Reason, Until: w.Until}
		if !w.Until.IsZero() {
			req.Until = w.Until.Add(999)
		}
		e.ok("Hold", e.holds().Hold(e.ctx, req))
	}
	e.wantHolds(at(0), want...)
	e.wantHolds(at(time.Hour-time.Microsecond), want...)
	e.wantHolds(at(time.Hour), want[1], want[3])
	e.unhold("b")
	e.hold("a", at(time.Minute))
	e.wantHolds(at(0), want[0], webhook.HoldStatus{EndpointID: "a", Kind: "paused", Reason: "because of a test", Until: at(time.Minute)}, want[2], want[4])
}

// holdListKeys has a key on hold, which is not a hold of its endpoint.
func holdListKeys(e *env) {
	e.queue("a", "k", "d1")
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter)
	o.BehindDeadLetter = webhook.HoldKey
	e.apply(at(0), o)
	e.queue("a", "k", "d2")
	e.wantHolds(at(0))
}

func rateCases() []Case {
	const rate = "A lane with a Rate returns no more than the rate allows all processes together"
	return []Case{
		{"Rate/Burst", rate, needStore, rateBurst},
		{"Rate/TwoHandles", rate, needStore, rateTwoHandles},
		{"Rate/BothLanes", rate, needStore, rateBothLanes},
		{"Rate/Defaults", "Events each Per, with at most Burst at once", needStore, rateDefaults},
		{"Rate/OnlyReturnedCounts", "and only what is returned is counted against it", needStore, rateOnlyReturned},
		{"Rate/Until", "set when the rate cut the claim short, or NotBefore lies ahead: when the next is allowed", needStore, rateUntil},
		{"Rate/EndpointsIndependent", rate + " … zero: no limit", needStore, rateIndependent},
		{"Rate/Concurrent", rate, needStore, rateConcurrent},
	}
}

// limited is a lane with a rate of 2 a second and a burst of 3: the next is allowed each half second.
func limited(endpoint string, class webhook.Class) webhook.LaneClaim {
	l := lane(endpoint, class, 100)
	l.Rate = webhook.Rate{Events: 2, Per: time.Second, Burst: 3}
	return l
}

// count claims once from each lane and wants so many in all.
func (e *env) count(s webhook.Store, now time.Time, want int, lanes ...webhook.LaneClaim) *webhook.ClaimResult {
	res := e.claimOn(s, now, 1000, lanes...)
	if len(res.Deliveries) != want {
		e.failf("Claim at %v: got %d deliveries, want %d", now.Sub(at(0)), len(res.Deliveries), want)
	}
	return res
}

func rateBurst(e *env) {
	e.fill("a", 20)
	l := limited("a", webhook.Fresh)
	e.count(e.s, at(0), 3, l)
	e.count(e.s, at(0), 0, l)
	e.count(e.s, at(500*time.Millisecond-time.Microsecond), 0, l)
	e.count(e.s, at(500*time.Millisecond), 1, l)
	e.count(e.s, at(999*time.Millisecond), 0, l)
	e.count(e.s, at(1500*time.Millisecond), 2, l)
	e.count(e.s, at(time.Minute-time.Second), 3, l) // no more than the burst, however long it was idle
	e.count(e.s, at(time.Minute-time.Second), 0, l)
}

func rateTwoHandles(e *env) {
	e.fill("a", 20)
	l := limited("a", webhook.Fresh)
	one := l
	one.Max = 2
	e.count(e.s, at(0), 2, one)
	e.count(e.s2, at(0), 1, l)
	e.count(e.s, at(0), 0, l)
	e.count(e.s2, at(500*time.Millisecond), 1, l)
	e.count(e.s, at(500*time.Millisecond), 0, l)
}

func rateBothLanes(e *env) {
	var events []webhook.NewEvent
	var outcomes []webhook.Outcome
	for _, id := range []string{"r1", "r2", "r3", "r4"} {
		events = append(events, plain("a", id))
	}
	e.put(at(-time.Hour), events...)
	for _, c := range e.all(at(-time.Hour), []string{"r1", "r2", "r3", "r4"}, fresh("a")) {
		outcomes = append(outcomes, ended(c, at(-time.Hour), webhook.RetryScheduled))
	}
	e.apply(at(-time.Hour), outcomes...)
	e.fill("a", 4)
	e.count(e.s, at(0), 3, limited("a", webhook.Fresh), limited("a", webhook.Retry))
	e.count(e.s, at(500*time.Millisecond), 1, limited("a", webhook.Retry), limited("a", webhook.Fresh))
}

func rateDefaults(e *env) {
	e.fill("a", 10)
	l := fresh("a")
	l.Rate = webhook.Rate{Events: 4} // a second, burst 4
	e.count(e.s, at(0), 4, l)
	e.count(e.s, at(249*time.Millisecond), 0, l)
	e.count(e.s, at(250*time.Millisecond), 1, l)
}

func rateOnlyReturned(e *env) {
	e.fill("a", 10)
	l := limited("a", webhook.Fresh)
	for range 5 {
		e.count(e.s, at(-time.Second), 0, l) // nothing is due
	}
	one := l
	one.Max = 1
	for range 3 {
		e.count(e.s, at(0), 1, one)
	}
	for range 5 {
		e.count(e.s, at(0), 0, l) // refused
	}
	e.count(e.s, at(500*time.Millisecond), 1, l)
}

func rateUntil(e *env) {
	e.fill("a", 6)
	l := limited("a", webhook.Fresh)
	two := l
	two.Max = 2
	e.sameTime("RateUntil of a claim that the rate did not cut", e.count(e.s, at(0), 2, two).Lanes[0].RateUntil, time.Time{})
	e.sameTime("RateUntil", e.count(e.s, at(0), 1, l).Lanes[0].RateUntil, at(500*time.Millisecond))
	e.sameTime("RateUntil", e.count(e.s, at(100*time.Millisecond), 0, l).Lanes[0].RateUntil, at(500*time.Millisecond))
	e.sameTime("RateUntil", e.count(e.s, at(time.Second), 2, l).Lanes[0].RateUntil, at(1500*time.Millisecond))
}

func rateIndependent(e *env) {
	e.fill("a", 5)
	e.fill("b", 5)
	e.fill("c", 5)
	e.count(e.s, at(0), 11, limited("a", webhook.Fresh), limited("b", webhook.Fresh), fresh("c"))
}

func rateConcurrent(e *env) {
	e.fill("a", 60)
	got := make([]int, 8)
	e.parallel(len(got), func(i int) {
		l := limited("a", webhook.Fresh)
		l.Rate.Burst = 20
		for range 6 {
			got[i] += len(e.claimOn(e.handle(i), at(0), 2, l).Deliveries)
		}
	})
	sum := 0
	for _, n := range got {
		sum += n
	}
	if sum > 20 {
		e.failf("eight claimers got %d deliveries at once with a burst of 20", sum)
	}
}
