package storetest

import (
	"slices"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

func extendCases() []Case {
	const moves = "Extend moves the end of leases that are still held under their token"
	const each = "Each is applied or Stale by itself"
	return []Case{
		{"Extend/Moves", moves, needStore, extendMoves},
		{"Extend/AgainAndAgain", moves, needStore, extendAgain},
		{"Extend/StaleToken", moves, needStore, extendStaleToken},
		{"Extend/StaleAfterEnd", "it was claimed anew, finished or given back since", needStore, extendStaleAfterEnd},
		{"Extend/EachByItself", each + " … Applied, Stale or Unknown, in request order", needStore, extendEach},
		{"Extend/RunOut", moves, needStore, extendRunOut},
	}
}

// extend extends one lease and returns its status.
func (e *env) extend(c webhook.Claimed, now, until time.Time) webhook.OutcomeStatus {
	res, err := e.s.Extend(e.ctx, &webhook.ExtendRequest{Now: now, Leases: []webhook.LeaseRef{ref(c, until)}})
	e.ok("Extend", err)
	if len(res.Leases) != 1 {
		e.failf("Extend: %d statuses for one lease", len(res.Leases))
	}
	return res.Leases[0]
}

func ref(c webhook.Claimed, until time.Time) webhook.LeaseRef {
	return webhook.LeaseRef{EndpointID: c.Delivery.EndpointID, DeliveryID: c.Delivery.ID, Token: c.Token, Until: until}
}

func extendMoves(e *env) {
	e.put(at(0), plain("a", "d1"))
	c := e.one("d1", at(0), fresh("a"))
	e.same("status", e.extend(c, at(30*time.Second), at(time.Hour)), webhook.Applied)
	e.none("the lease is extended", at(time.Hour-time.Microsecond), fresh("a"), retry("a"))
	e.one("d1", at(time.Hour), fresh("a"))
}

func extendAgain(e *env) {
	e.put(at(0), plain("a", "d1"))
	c := e.one("d1", at(0), fresh("a"))
	for i := 1; i < 4; i++ {
		now := at(time.Duration(i) * 50 * time.Second)
		e.same("status", e.extend(c, now, now.Add(time.Minute)), webhook.Applied)
	}
	e.none("the lease is extended", at(209*time.Second), fresh("a"))
	e.apply(at(209*time.Second), ended(c, at(209*time.Second), webhook.Delivered))
}

func extendStaleToken(e *env) {
	e.put(at(0), plain("a", "d1"))
	first := e.one("d1", at(0), fresh("a"))
	second := e.one("d1", at(time.Minute), fresh("a"))
	e.same("status of the first lease", e.extend(first, at(time.Minute), at(time.Hour)), webhook.Stale)
	c := e.one("d1", at(2*time.Minute), fresh("a")) // the second ran out as it was to
	if c.Token <= second.Token {
		e.failf("token %d after %d", c.Token, second.Token)
	}
}

func extendStaleAfterEnd(e *env) {
	e.put(at(0), plain("a", "done"), plain("b", "back"), plain("c", "retry"))
	done, given, again := e.one("done", at(0), fresh("a")), e.one("back", at(0), fresh("b")), e.one("retry", at(0), fresh("c"))
	e.apply(at(0), ended(done, at(0), webhook.Delivered), back(given), ended(again, at(0), webhook.RetryScheduled))
	for _, c := range []webhook.Claimed{done, given, again} {
		e.same("status of "+c.Delivery.ID, e.extend(c, at(0), at(time.Hour)), webhook.Stale)
	}
	e.all(at(time.Minute), []string{"back", "retry"}, fresh("a"), fresh("b"), retry("c"), retry("a"))
}

func extendEach(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"), plain("c", "d3"))
	c1, old, c3 := e.one("d1", at(0), fresh("a")), e.one("d2", at(0), fresh("b")), e.one("d3", at(0), fresh("c"))
	e.apply(at(0), back(old))
	e.one("d2", at(0), fresh("b"))
	unknown := webhook.LeaseRef{EndpointID: "a", DeliveryID: "nobody", Token: 1, Until: at(time.Hour)}
	res, err := e.s.Extend(e.ctx, &webhook.ExtendRequest{Now: at(0), Leases: []webhook.LeaseRef{ref(c3, at(time.Hour)), unknown, ref(old, at(time.Hour)), ref(c1, at(time.Hour))}})
	e.ok("Extend", err)
	e.same("statuses", res.Leases, []webhook.OutcomeStatus{webhook.Applied, webhook.Unknown, webhook.Stale, webhook.Applied})
	e.one("d2", at(time.Minute), fresh("a"), fresh("b"), fresh("c"))
}

// extendRunOut extends a lease that ran out and was not claimed again: the store may apply that or not, but must mean it.
func extendRunOut(e *env) {
	e.put(at(0), plain("a", "d1"))
	c := e.one("d1", at(0), fresh("a"))
	switch st := e.extend(c, at(2*time.Minute), at(time.Hour)); st {
	case webhook.Applied:
		e.none("the lease is extended", at(time.Hour-time.Microsecond), fresh("a"))
	case webhook.Stale:
		e.one("d1", at(2*time.Minute), fresh("a"))
	default:
		e.failf("Extend: got status %d", st)
	}
}

func completeCases() []Case {
	const applied = "An outcome is applied when the delivery is still leased under its token"
	const stale = "Else it is stale: it changes no state"
	return []Case{
		{"Complete/Applied", applied + " … it was held under its token", needStore, completeApplied},
		{"Complete/AfterLeaseEnd", "even after the lease's end as long as nobody else has claimed it", needStore, completeAfterLeaseEnd},
		{"Complete/StaleToken", stale, needStore, completeStaleToken},
		{"Complete/StaleAfterGiveBack", "it was claimed anew, finished or given back since", needStore, completeStaleAfterGiveBack},
		{"Complete/NeverClaimed", applied + " … " + stale, needStore, completeNeverClaimed},
		{"Complete/Unknown", "no such delivery", needStore, completeUnknown},
		{"Complete/EachByItself", "each applied or stale by itself, all in one transaction … in request order", needStore, completeEach},
		{"Complete/PoisonedLeavesNothing", "all in one transaction", needStore, completePoisoned},
		{"Complete/Ends", "Delivered, DeadLetter, Canceled and Expired end the delivery", needStore, completeEnds},
		{"Complete/RetryScheduled", "RetryScheduled makes it due at DueAt in the Retry lane", needStore, completeRetry},
		{"Complete/GiveBack", "Queued gives it back: it is due at DueAt (zero: Now) in the lane it came from", needStore, completeGiveBack},
		{"Complete/GiveBackOfRetry", "Queued gives it back: it is due at DueAt (zero: Now) in the lane it came from", needStore, completeGiveBackRetry},
		{"Complete/Repeated", "Repeating a Complete is safe: an outcome whose attempt is already recorded under its token is answered as before", needStore, completeRepeated},
		{"Complete/RepeatedAfterClaim", "an outcome whose attempt is already recorded under its token is answered as before and recorded once", needStore, completeRepeatedAfterClaim},
		{"Complete/OrderingKeyIsAHint", "as claimed. A hint: a store need not look for what waits behind it where there is none; a wrong one costs time, no more", needStore | needQuery, completeHint},
		{"Complete/Many", "Complete records outcomes of claimed deliveries", needStore, completeMany},
	}
}

func completeApplied(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.apply(at(time.Second), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered))
	e.none("it is delivered", at(time.Hour), fresh("a"), retry("a"))
	e.same("lanes", len(e.lanes(10)), 0)
}

// completeHint ends deliveries whose ordering keys, and numbers of attempts, are told wrongly: each beside one of which all is right.
func completeHint(e *env) {
	right := []string{"r1", "r2", "r3", "r4"}
	for _, id := range right {
		e.put(at(0), plain(id, id))
	}
	e.queue("a", "k", "d1", "d2")
	e.put(at(0), plain("b", "d3"), plain("c", "d4"))
	untold, told, first := e.one("d1", at(0), fresh("a")), e.one("d3", at(0), fresh("b")), e.one("d4", at(0), fresh("c"))
	e.apply(at(0), ended(first, at(0), webhook.RetryScheduled))
	second := e.one("d4", at(time.Minute), retry("c"))

	keyless, keyed := ended(untold, at(0), webhook.Delivered), ended(told, at(0), webhook.Delivered)
	keyless.OrderingKey, keyed.OrderingKey = "", "k"
	numbered := ended(second, at(time.Minute), webhook.Delivered)
	numbered.Attempt.Number = 7
	for i, o := range []webhook.Outcome{keyless, keyed, numbered} {
		e.apply(at(time.Minute), ended(e.one(right[i], at(0), fresh(right[i])), at(0), webhook.Delivered), o)
	}
	e.same("Attempts", e.delivery("d4", at(time.Minute)).Attempts, 2)
	nobody := webhook.Outcome{EndpointID: "a", DeliveryID: "nobody", Token: 1, Next: webhook.Delivered, Attempt: attempt(first, at(0))}
	last := e.one(right[3], at(0), fresh(right[3]))
	e.same("statuses", e.complete(at(time.Minute), ended(last, at(0), webhook.Delivered), nobody), []webhook.OutcomeStatus{webhook.Applied, webhook.Unknown})

	behind := e.one("d2", at(time.Minute), fresh("a"), retry("a"))
	e.apply(at(time.Minute), ended(behind, at(time.Minute), webhook.Delivered))
	e.same("lanes", len(e.lanes(10)), 0)
}

func completeAfterLeaseEnd(e *env) {
	e.put(at(0), plain("a", "d1"))
	c := e.one("d1", at(0), fresh("a"))
	e.apply(at(time.Hour), ended(c, at(time.Second), webhook.Delivered))
	e.none("it is delivered", at(2*time.Hour), fresh("a"), retry("a"))
}

func completeStaleToken(e *env) {
	e.put(at(0), plain("a", "d1"))
	first := e.one("d1", at(0), fresh("a"))
	second := e.one("d1", at(time.Minute), fresh("a"))
	for _, next := range []webhook.State{webhook.Delivered, webhook.RetryScheduled} {
		e.stale(at(time.Minute), ended(first, at(0), next))
	}
	e.stale(at(time.Minute), back(first))
	e.none("it is leased under the second token", at(2*time.Minute-time.Microsecond), fresh("a"), retry("a"))
	e.apply(at(time.Minute), ended(second, at(time.Minute), webhook.RetryScheduled))
	c := e.one("d1", at(time.Hour), retry("a"))
	e.same("Attempts, without the late one", c.Delivery.Attempts, 1)
}

func completeStaleAfterGiveBack(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"))
	c1, c2 := e.one("d1", at(0), fresh("a")), e.one("d2", at(0), fresh("b"))
	e.apply(at(0), back(c1), ended(c2, at(0), webhook.RetryScheduled))
	e.stale(at(0), ended(c1, at(0), webhook.Delivered))
	e.stale(at(0), back(c2))
	e.all(at(time.Minute), []string{"d1", "d2"}, fresh("a"), retry("b"))
}

func completeNeverClaimed(e *env) {
	e.put(at(0), plain("a", "d1"))
	o := webhook.Outcome{EndpointID: "a", DeliveryID: "d1", Next: webhook.Delivered}
	e.stale(at(0), o)
	e.one("d1", at(0), fresh("a"))
}

func completeUnknown(e *env) {
	o := webhook.Outcome{EndpointID: "a", DeliveryID: "nobody", Token: 1, Next: webhook.Delivered,
		Attempt: &webhook.Attempt{DeliveryID: "nobody", Number: 1, Token: 1, StartedAt: at(0), Status: 200}}
	e.same("status", e.complete(at(0), o)[0], webhook.Unknown)
}

func completeEach(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"), plain("c", "d3"), plain("d", "d4"))
	c1, old, c3, c4 := e.one("d1", at(0), fresh("a")), e.one("d2", at(0), fresh("b")), e.one("d3", at(0), fresh("c")), e.one("d4", at(0), fresh("d"))
	e.apply(at(0), back(old))
	e.one("d2", at(0), fresh("b"))
	unknown := webhook.Outcome{EndpointID: "a", DeliveryID: "nobody", Token: 1, Next: webhook.Delivered}
	got := e.complete(at(0), ended(c4, at(0), webhook.RetryScheduled), unknown, ended(old, at(0), webhook.Delivered), ended(c1, at(0), webhook.Delivered), back(c3))
	e.same("statuses", got, []webhook.OutcomeStatus{webhook.Applied, webhook.Unknown, webhook.Stale, webhook.Applied, webhook.Applied})
	e.all(at(time.Minute), []string{"d2", "d3", "d4"}, fresh("a"), fresh("b"), fresh("c"), retry("d"))
}

// completePoisoned gives what some stores refuse and others take. Either is well; half of it is not.
func completePoisoned(e *env) {
	poisons := []func(*webhook.Outcome){
		func(o *webhook.Outcome) { o.Next = "no such state" },
		func(o *webhook.Outcome) { o.Attempt.Detail = "nul \x00 and \xff no UTF-8" },
		func(o *webhook.Outcome) { o.Reason = "nul \x00" },
	}
	for i, poison := range poisons {
		ep := strings.Repeat("p", i+1)
		e.put(at(0), plain(ep+"1", ep+"1"), plain(ep+"2", ep+"2"), plain(ep+"3", ep+"3"))
		var outcomes []webhook.Outcome
		for _, n := range []string{"1", "2", "3"} {
			outcomes = append(outcomes, ended(e.one(ep+n, at(0), fresh(ep+n)), at(0), webhook.Delivered))
		}
		poison(&outcomes[1])
		if _, err := e.s.Complete(e.ctx, &webhook.CompleteRequest{Now: at(0), Outcomes: outcomes}); err == nil {
			continue // then it knows what it means
		}
		lease := webhook.ClaimRequest{Now: at(time.Minute), Owner: "tester", Limit: 10,
			Lanes: []webhook.LaneClaim{fresh(ep + "1"), fresh(ep + "2"), fresh(ep + "3")}}
		res, err := e.s.Claim(e.ctx, &lease)
		e.ok("Claim", err)
		e.same("deliveries after an error", ids(res.Deliveries), []string{ep + "1", ep + "2", ep + "3"})
	}
}

func completeEnds(e *env) {
	for _, end := range []webhook.State{webhook.Delivered, webhook.DeadLetter, webhook.Canceled, webhook.Expired} {
		ep := string(end)
		e.put(at(0), plain(ep, ep))
		c := e.one(ep, at(0), fresh(ep))
		e.apply(at(0), ended(c, at(0), end))
		e.none("it ended", at(time.Hour), fresh(ep), retry(ep))
		e.stale(at(time.Hour), back(c))
	}
	e.same("lanes", len(e.lanes(10)), 0)
}

func completeRetry(e *env) {
	e.put(at(0), plain("a", "d1"), plain("a", "d2"))
	var outcomes []webhook.Outcome
	for i, c := range e.all(at(0), []string{"d1", "d2"}, fresh("a")) {
		o := ended(c, at(0), webhook.RetryScheduled)
		o.DueAt = at(time.Duration(2-i) * time.Minute)
		outcomes = append(outcomes, o)
	}
	e.apply(at(time.Second), outcomes...)
	e.sameTime("Earliest", e.earliest("a", webhook.Retry), at(time.Minute))
	c := e.one(outcomes[1].DeliveryID, at(time.Minute), retry("a"), fresh("a"))
	e.apply(at(time.Minute), ended(c, at(time.Minute), webhook.Delivered))
	e.none("the other is not due", at(2*time.Minute-time.Microsecond), retry("a"), fresh("a"))
	e.one(outcomes[0].DeliveryID, at(2*time.Minute), retry("a"))
}

func completeGiveBack(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"))
	o1, o2 := back(e.one("d1", at(0), fresh("a"))), back(e.one("d2", at(0), fresh("b")))
	o2.DueAt = at(time.Minute)
	e.apply(at(10*time.Second), o1, o2)
	e.sameTime("Earliest of what is due at once", e.earliest("a", webhook.Fresh), at(10*time.Second))
	c := e.one("d1", at(time.Minute-time.Microsecond), fresh("a"), fresh("b"), retry("a"), retry("b"))
	e.same("Attempts", c.Delivery.Attempts, 0)
	e.one("d2", at(time.Minute), fresh("b"))
}

func completeGiveBackRetry(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.RetryScheduled))
	now := at(time.Minute)
	e.apply(now, back(e.one("d1", now, retry("a"))))
	e.none("it came from the Retry lane", now, fresh("a"))
	c := e.one("d1", now, retry("a"))
	e.same("Attempts", c.Delivery.Attempts, 1)
}

func completeRepeated(e *env) {
	e.put(at(0), plain("a", "done"), plain("b", "retry"), plain("c", "late"))
	done, again, old := e.one("done", at(0), fresh("a")), e.one("retry", at(0), fresh("b")), e.one("late", at(0), fresh("c"))
	e.apply(at(0), back(old))
	e.one("late", at(0), fresh("c"))
	outcomes := []webhook.Outcome{ended(done, at(0), webhook.Delivered), ended(again, at(0), webhook.RetryScheduled), ended(old, at(0), webhook.Delivered)}
	want := []webhook.OutcomeStatus{webhook.Applied, webhook.Applied, webhook.Stale}
	for range 3 {
		e.same("statuses", e.complete(at(time.Second), outcomes...), want)
	}
	c := e.all(at(time.Minute), []string{"retry", "late"}, fresh("a"), retry("b"), fresh("c"))[0]
	e.same("Attempts", c.Delivery.Attempts, 1)
}

func completeRepeatedAfterClaim(e *env) {
	e.put(at(0), plain("a", "d1"))
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.RetryScheduled)
	e.apply(at(0), o)
	now := at(time.Minute)
	c := e.one("d1", now, retry("a"))
	e.apply(now, o) // answered as before
	e.none("the repeat changed nothing", now, fresh("a"), retry("a"))
	e.apply(now, ended(c, now, webhook.RetryScheduled))
	c = e.one("d1", now.Add(time.Minute), retry("a"))
	e.same("Attempts", c.Delivery.Attempts, 2)
}

func completeMany(e *env) {
	want := e.fill("a", 150)
	var outcomes []webhook.Outcome
	got := e.all(at(0), want, lane("a", webhook.Fresh, 1000))
	for _, c := range got {
		outcomes = append(outcomes, ended(c, at(0), webhook.Delivered))
	}
	slices.Reverse(outcomes)
	e.apply(at(0), outcomes...)
	e.same("lanes", len(e.lanes(10)), 0)
}
