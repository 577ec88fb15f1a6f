package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

const (
	endLeftAlone = "What is leased at Now is left alone unless req.Leased is set: then the lease is fenced, its outcome will be stale and its attempt recorded as late"
	endPlace     = "A delivery with an ordering key is final at once when read, but keeps its place in the key, so that order and \"one at a time\" hold"
	endOut       = "An outcome of a delivery that LifeStore.End has ended already removes it from its key and leaves its record as it is"
)

func endCases() []Case {
	const ends = "End ends deliveries without an attempt, in one transaction, at most req.Limit"
	const turn = "it is due now, or when the lease ends that it was under, Claim hands it out in its turn with an ExpiresAt at the Unix epoch, and its completion, whatever it says, removes it, leaves its record as it is, and lets the next go"
	const need = needStore | needLife
	return []Case{
		{"End/Waiting", ends, need | needQuery, endWaiting},
		{"End/Held", ends, need | needQuery | needHold, endHeld},
		{"End/Event", "those of an event … with EventID or DeliveryID: how many deliveries there are, final ones too; 0: no such event or delivery", need, endEvent},
		{"End/Delivery", "this one … with EventID or DeliveryID: how many deliveries there are", need, endDelivery},
		{"End/LeasedLeft", endLeftAlone, need | needQuery, endLeasedLeft},
		{"End/LeasedFenced", endLeftAlone, need | needQuery, endLeasedFenced},
		{"End/LeaseRanOut", endLeftAlone, need, endLeaseRanOut},
		{"End/InsertedLeased", endLeftAlone, need, endInsertedLeased},
		{"End/Final", "What is final already is not touched", need | needQuery, endFinal},
		{"End/Repeated", "Repeating it is safe", need | needQuery, endRepeated},
		{"End/OtherHandle", ends, need, endOtherHandle},
		{"End/Reason", "in words … what this request ended, as it reads now", need | needQuery, endReason},
		{"End/Limit", ends + " … Limit cut it short", need, endLimit},
		{"End/DefaultLimit", "zero: 500", need, endDefaultLimit},
		{"End/Refused", "Exactly one of EventID, DeliveryID, Expired and EndpointID says which deliveries … Canceled or Expired … with EndpointID, at least 1: how many", need, endRefused},
		{"End/UnknownNames", "0: no such event or delivery", need, endUnknown},
		{"End/OrderedFirst", endPlace + " … " + turn, need | needQuery, endOrderedFirst},
		{"End/OrderedMiddle", endPlace + " … " + turn, need | needQuery, endOrderedMiddle},
		{"End/OrderedAll", turn, need | needQuery, endOrderedAll},
		{"End/OrderedScheduled", turn + " … lanes in which something is due sooner now; a hint, may be left out, may name a lane twice", need, endOrderedScheduled},
		{"End/OrderedLeased", turn, need | needQuery, endOrderedLeased},
		{"End/OrderedNeverParked", turn, need, endOrderedNeverParked},
		{"End/OrderedRetry", turn, need | needQuery, endOrderedRetry},
		{"End/BehindDeadLetter", endPlace, need | needHold | needQuery, endBehindDeadLetter},
		{"End/BlockingDeadLetter", "What is final already is not touched", need | needHold, endBlockingDeadLetter},
		{"End/Oldest", "of its unfinished ones the Oldest, earliest due first as Claim has it; leased ones are passed over unless Leased", need, endOldest},
		{"End/OldestLeased", "leased ones are passed over unless Leased … what is leased as well", need, endOldestLeased},
		{"Complete/EndedKeepsRecord", endOut, need | needQuery, completeEndedKeepsRecord},
		{"Complete/EndedRepeated", endOut + " … an outcome whose attempt is already recorded under its token is answered as before and recorded once", need | needQuery, completeEndedRepeated},
	}
}

// end ends deliveries and returns the answer. Now is at(0) and Next Canceled unless the request says otherwise.
func (e *env) end(req webhook.EndRequest) *webhook.EndResult {
	if req.Now.IsZero() {
		req.Now = at(0)
	}
	if req.Next == "" {
		req.Next = webhook.Canceled
	}
	res, err := e.life().End(e.ctx, &req)
	e.ok("End", err)
	return res
}

// endOne ends one delivery, which must be there to be ended.
func (e *env) endOne(id string, now time.Time, leased bool) {
	got := e.end(webhook.EndRequest{Now: now, DeliveryID: id, Leased: leased, Reason: "not wanted"})
	e.same("ended", deliveryIDs(got.Ended), []string{id})
}

func deliveryIDs(deliveries []webhook.Delivery) (all []string) {
	for _, d := range deliveries {
		all = append(all, d.ID)
	}
	return all
}

// sorted are the IDs in order.
func sorted(ids []string) []string { return slices.Sorted(slices.Values(ids)) }

// over fails unless c is handed out only to be taken out of its key.
func (e *env) over(c webhook.Claimed) {
	if !c.Delivery.ExpiresAt.Equal(time.Unix(0, 0)) {
		e.failf("%s: claimed with ExpiresAt %v, want the Unix epoch", c.Delivery.ID, c.Delivery.ExpiresAt)
	}
	e.same(c.Delivery.ID+": State when claimed", c.Delivery.State, webhook.Delivering)
}

// canceled fails unless the delivery reads as ended by end with its defaults, for "not wanted".
func (e *env) canceled(id string, ended time.Time) {
	d := e.delivery(id, at(time.Hour))
	if d.State != webhook.Canceled || d.Reason != "not wanted" || !d.FinishedAt.Equal(ended) || !d.DueAt.IsZero() {
		e.failf("%s reads as %+v, want canceled at %v", id, d, ended)
	}
}

func endWaiting(e *env) {
	e.put(at(0), event("e1", to("a", "queued"), toAt("b", "scheduled", at(time.Hour)), to("c", "retrying")), plain("a", "other"))
	e.apply(at(0), ended(e.one("retrying", at(0), fresh("c")), at(0), webhook.RetryScheduled))
	res := e.end(webhook.EndRequest{Now: at(1500), EventID: "e1", Reason: "not wanted"})
	e.same("ended", sorted(deliveryIDs(res.Ended)), []string{"queued", "retrying", "scheduled"})
	for _, d := range res.Ended {
		e.canceled(d.ID, at(time.Microsecond))
		e.sameDelivery(d, e.delivery(d.ID, at(0)))
	}
	e.same("attempts of the one that was tried", e.delivery("retrying", at(0)).Attempts, 1)
	e.all(at(2*time.Hour), []string{"other"}, fresh("a"), fresh("b"), fresh("c"), retry("c"))
	for _, l := range e.lanes(10) {
		if l.EndpointID != "a" {
			e.failf("lane %v is left", l.LaneID)
		}
	}
}

func endHeld(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.hold("a", time.Time{})
	e.endOne("d1", at(0), false)
	e.canceled("d1", at(0))
	e.unhold("a")
	e.none("it is ended", at(time.Hour), fresh("a"))
}

func endEvent(e *env) {
	e.put(at(0), event("e1", to("a", "d1"), to("b", "d2"), to("c", "d3")), event("e2", to("b", "d4")))
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered))
	res := e.end(webhook.EndRequest{EventID: "e1"})
	e.same("ended", sorted(deliveryIDs(res.Ended)), []string{"d2", "d3"})
	e.same("Found and More", []any{res.Found, res.More}, []any{3, false})
	e.one("d4", at(0), fresh("a"), fresh("b"), fresh("c"))
}

func endDelivery(e *env) {
	e.put(at(0), event("e1", to("a", "d1"), to("b", "d2")))
	res := e.end(webhook.EndRequest{DeliveryID: "d1"})
	e.same("ended", deliveryIDs(res.Ended), []string{"d1"})
	e.same("Found", res.Found, 1)
	e.one("d2", at(0), fresh("a"), fresh("b"))
}

func endLeasedLeft(e *env) {
	e.put(at(0), plain("a", "d1"), keyed("b", "k", "d2"))
	for _, c := range e.all(at(0), []string{"d1", "d2"}, fresh("a"), fresh("b")) {
		res := e.end(webhook.EndRequest{Now: at(time.Minute - time.Microsecond), DeliveryID: c.Delivery.ID})
		e.same("ended", deliveryIDs(res.Ended), []string(nil))
		e.same("Found", res.Found, 1)
		e.apply(at(time.Second), ended(c, at(time.Second), webhook.Delivered))
		e.same("state", e.delivery(c.Delivery.ID, at(time.Second)).State, webhook.Delivered)
	}
}

func endLeasedFenced(e *env) {
	e.put(at(0), plain("a", "d1"), plain("a", "d2"))
	for _, c := range e.all(at(0), []string{"d1", "d2"}, fresh("a")) {
		id := c.Delivery.ID
		e.endOne(id, at(0), true)
		e.canceled(id, at(0))
		e.same("Extend", e.extend(c, at(0), at(time.Hour)), webhook.Stale)
		e.stale(at(time.Second), ended(c, at(time.Second), webhook.Delivered))
		e.canceled(id, at(0))
		if a := e.attempts(id, 1)[0]; !a.Late {
			e.failf("attempt of %s: Late is false", id)
		}
		e.same("attempts that count", e.delivery(id, at(0)).Attempts, 0)
	}
	e.none("both are ended", at(time.Hour), fresh("a"), retry("a"))
}

func endLeaseRanOut(e *env) {
	e.put(at(0), plain("a", "d1"))
	c := e.one("d1", at(0), fresh("a"))
	e.endOne("d1", at(time.Minute), false)
	e.stale(at(time.Minute), ended(c, at(time.Minute), webhook.Delivered))
	e.none("it is ended", at(time.Hour), fresh("a"), retry("a"))
}

func endInsertedLeased(e *env) {
	e.put(at(0), leasedFor("a", "d1", time.Minute))
	e.same("ended under its lease", len(e.end(webhook.EndRequest{DeliveryID: "d1"}).Ended), 0)
	e.endOne("d1", at(0), true)
	e.none("it is ended", at(time.Hour), fresh("a"))
}

func endFinal(e *env) {
	for _, state := range []webhook.State{webhook.Delivered, webhook.DeadLetter, webhook.Canceled, webhook.Expired} {
		id := string(state)
		e.put(at(0), plain("a", id))
		e.apply(at(0), ended(e.one(id, at(0), fresh("a")), at(0), state))
		before := e.delivery(id, at(0))
		e.same("ended of "+id, e.end(webhook.EndRequest{Now: at(time.Hour), DeliveryID: id, Leased: true}), &webhook.EndResult{Found: 1})
		e.sameDelivery(e.delivery(id, at(0)), before)
	}
}

func endRepeated(e *env) {
	e.put(at(0), plain("a", "d1"), keyed("a", "k", "d2"), keyed("a", "k", "d3"))
	for _, id := range []string{"d1", "d2", "d3"} {
		e.endOne(id, at(0), false)
		for _, next := range []webhook.State{webhook.Canceled, webhook.Expired} {
			req := webhook.EndRequest{Now: at(time.Hour), EventID: id, Leased: true, Next: next, Reason: "again"}
			e.same("ended again", e.end(req), &webhook.EndResult{Found: 1})
		}
		e.canceled(id, at(0))
	}
}

func endOtherHandle(e *env) {
	e.put(at(0), plain("a", "d1"))
	second := *e
	second.h.Store, second.s = e.h.Second, e.s2
	second.endOne("d1", at(0), false)
	e.none("it is ended", at(time.Hour), fresh("a"))
}

func endReason(e *env) {
	reason := "Grund: „zu spät“\nand more"
	e.put(at(0), plain("a", "d1"))
	res := e.end(webhook.EndRequest{DeliveryID: "d1", Next: webhook.Expired, Reason: reason})
	e.same("Reason and State", []any{res.Ended[0].Reason, res.Ended[0].State}, []any{reason, webhook.Expired})
	e.same("Reason when read", e.delivery("d1", at(0)).Reason, reason)
}

func endLimit(e *env) {
	var rows []webhook.NewDelivery
	for i := range 7 {
		rows = append(rows, to(fmt.Sprint("ep", i), fmt.Sprint("d", i)))
	}
	e.put(at(0), event("e1", rows...))
	var all []string
	for _, want := range []struct {
		ended int
		more  bool
	}{{3, true}, {3, true}, {1, false}, {0, false}} {
		res := e.end(webhook.EndRequest{EventID: "e1", Limit: 3})
		e.same("ended, More and Found", []any{len(res.Ended), res.More, res.Found}, []any{want.ended, want.more, 7})
		all = append(all, deliveryIDs(res.Ended)...)
	}
	e.same("different ones", len(slices.Compact(sorted(all))), 7)
}

func endDefaultLimit(e *env) {
	e.fill("a", 501)
	res := e.end(webhook.EndRequest{EndpointID: "a", Oldest: 1000})
	e.same("ended and More", []any{len(res.Ended), res.More}, []any{500, true})
	res = e.end(webhook.EndRequest{EndpointID: "a", Oldest: 500})
	e.same("ended and More", []any{len(res.Ended), res.More}, []any{1, false})
}

func endRefused(e *env) {
	e.put(at(0), plain("a", "d1"))
	for name, req := range map[string]webhook.EndRequest{
		"nothing named":   {Next: webhook.Canceled},
		"two named":       {Next: webhook.Canceled, EventID: "d1", DeliveryID: "d1"},
		"another two":     {Next: webhook.Canceled, Expired: true, EndpointID: "a", Oldest: 1},
		"no count":        {Next: webhook.Expired, EndpointID: "a"},
		"a count below 1": {Next: webhook.Expired, EndpointID: "a", Oldest: -1},
		"no state":        {EventID: "d1"},
		"another state":   {Next: webhook.DeadLetter, EventID: "d1"},
	} {
		req.Now = at(0)
		res, err := e.life().End(e.ctx, &req)
		if err == nil {
			e.failf("End with %s: got %+v, want an error", name, res)
		}
		e.wantErr("End with "+name, err, webhook.ErrInvalid)
	}
	e.one("d1", at(0), fresh("a"))
}

func endUnknown(e *env) {
	e.put(at(0), plain("a", "d1"), event("empty"))
	for _, id := range []string{"D1", "d1 ", "nobody", "\x00", "\xff", "empty"} {
		if id != "empty" {
			e.same(fmt.Sprintf("End of delivery %q", id), e.end(webhook.EndRequest{DeliveryID: id}), &webhook.EndResult{})
		}
		e.same(fmt.Sprintf("End of event %q", id), e.end(webhook.EndRequest{EventID: id}), &webhook.EndResult{})
		e.same(fmt.Sprintf("End of endpoint %q", id), e.end(webhook.EndRequest{EndpointID: id, Oldest: 9}), &webhook.EndResult{})
	}
	e.same("End of what has expired", e.end(webhook.EndRequest{Expired: true}), &webhook.EndResult{})
	e.one("d1", at(0), fresh("a"))
}

// endOrderedFirst ends the first of a key, which is then handed out to be taken out of it.
func endOrderedFirst(e *env) {
	e.queue("a", "k", "d1", "d2")
	e.endOne("d1", at(0), false)
	e.canceled("d1", at(0))
	c := e.one("d1", at(0), fresh("a"))
	e.over(c)
	e.canceled("d1", at(0))
	e.none("the first is still in its key", at(0), fresh("a"))
	e.apply(at(time.Second), ended(c, at(time.Second), webhook.Expired))
	e.canceled("d1", at(0))
	e.one("d2", at(0), fresh("a"))
}

// endOrderedMiddle ends one in the middle of a key while the one before is under way.
func endOrderedMiddle(e *env) {
	e.queue("a", "k", "d1", "d2", "d3", "d4")
	first := e.one("d1", at(0), fresh("a"))
	e.none("d1 is under way", at(0), fresh("a"))
	e.endOne("d3", at(0), false)
	e.endOne("d2", at(0), false)
	e.none("d1 is still under way", at(0), fresh("a"), retry("a"))
	e.apply(at(0), ended(first, at(0), webhook.Delivered))
	for _, id := range []string{"d2", "d3"} {
		c := e.one(id, at(0), fresh("a"))
		e.over(c)
		e.none(id+" is still in its key", at(0), fresh("a"), retry("a"))
		e.apply(at(time.Second), webhook.Outcome{EndpointID: "a", DeliveryID: id, Token: c.Token, Next: webhook.Expired})
		e.canceled(id, at(0))
	}
	c := e.one("d4", at(0), fresh("a"))
	e.same("ExpiresAt of what was not ended", c.Delivery.ExpiresAt, time.Time{})
}

// endOrderedAll takes ended ones out of their key by every outcome that there is.
func endOrderedAll(e *env) {
	for i, next := range []webhook.State{webhook.Delivered, webhook.RetryScheduled, webhook.Queued, webhook.DeadLetter, webhook.Canceled, webhook.Expired} {
		ep := fmt.Sprint("ep", i)
		e.queue(ep, "k", ep+"1", ep+"2")
		e.endOne(ep+"1", at(0), false)
		o := ended(e.one(ep+"1", at(0), fresh(ep)), at(0), next)
		o.BehindDeadLetter, o.Reason = webhook.HoldKey, "the outcome's"
		e.apply(at(time.Second), o)
		e.canceled(ep+"1", at(0))
		e.one(ep+"2", at(0), fresh(ep))
		e.none("the second is under way, the first gone", at(2*time.Minute-1), retry(ep))
	}
}

func endOrderedScheduled(e *env) {
	first := keyed("a", "k", "d1")
	first.Deliveries[0].DueAt = at(time.Hour)
	e.put(at(0), first)
	e.queue("a", "k", "d2")
	e.none("the first is scheduled", at(time.Minute), fresh("a"))
	res := e.end(webhook.EndRequest{Now: at(time.Minute), DeliveryID: "d1"})
	for _, l := range res.Woken {
		e.same("woken", l.LaneID, webhook.LaneID{EndpointID: "a"})
		e.sameTime("woken: Earliest", l.Earliest, at(time.Minute))
	}
	e.sameTime("Earliest", e.earliest("a", webhook.Fresh), at(time.Minute))
	e.apply(at(time.Minute), ended(e.one("d1", at(time.Minute), fresh("a")), at(time.Minute), webhook.Expired))
	e.one("d2", at(time.Minute), fresh("a"))
}

// endOrderedLeased fences the first of a key, whose attempt may be under way: nothing may run beside it.
func endOrderedLeased(e *env) {
	e.queue("a", "k", "d1", "d2")
	c := e.one("d1", at(0), fresh("a"))
	e.endOne("d1", at(time.Second), true)
	e.canceled("d1", at(time.Second))
	e.none("its attempt may be under way", at(time.Minute-time.Microsecond), fresh("a"), retry("a"))
	e.stale(at(2*time.Second), ended(c, at(2*time.Second), webhook.Delivered))
	e.none("its attempt may be under way", at(time.Minute-time.Microsecond), fresh("a"), retry("a"))
	again := e.one("d1", at(time.Minute), fresh("a"))
	e.over(again)
	if again.Token <= c.Token {
		e.failf("token %d after %d", again.Token, c.Token)
	}
	e.apply(at(time.Minute), ended(again, at(time.Minute), webhook.Delivered))
	e.canceled("d1", at(time.Second))
	e.one("d2", at(time.Minute), fresh("a"))
}

// endOrderedNeverParked ends what no claim has looked at yet, so that a store may still have it in its lane.
func endOrderedNeverParked(e *env) {
	e.queue("a", "k", "d1", "d2", "d3", "d4")
	e.endOne("d2", at(0), false)
	e.endOne("d4", at(0), false)
	e.wantKey(at(0), "a", "k", "d1", "d2", "d3", "d4")
}

func endOrderedRetry(e *env) {
	e.queue("a", "k", "d1", "d2")
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.RetryScheduled))
	e.endOne("d1", at(time.Second), false)
	c := e.one("d1", at(time.Second), retry("a"))
	e.over(c)
	e.same("Attempts", c.Delivery.Attempts, 1)
	e.apply(at(time.Second), ended(c, at(time.Second), webhook.RetryScheduled))
	e.same("attempts that count", e.delivery("d1", at(0)).Attempts, 1)
	e.one("d2", at(time.Second), fresh("a"))
}

func endBehindDeadLetter(e *env) {
	for _, policy := range []webhook.OrderPolicy{webhook.BlockBehindDeadLetter, webhook.HoldKey} {
		ep := fmt.Sprint("ep", policy)
		e.queue(ep, "k", ep+"1", ep+"2", ep+"3")
		o := ended(e.one(ep+"1", at(0), fresh(ep)), at(0), webhook.DeadLetter)
		o.BehindDeadLetter = policy
		e.apply(at(0), o)
		e.endOne(ep+"2", at(0), false)
		e.canceled(ep+"2", at(0))
		e.none("the key is blocked", at(time.Hour), fresh(ep), retry(ep))
		e.release(ep, "k", true)
		c := e.one(ep+"2", at(0), fresh(ep))
		e.over(c)
		e.apply(at(0), ended(c, at(0), webhook.Expired))
		e.one(ep+"3", at(0), fresh(ep))
	}
}

func endBlockingDeadLetter(e *env) {
	e.queue("a", "k", "d1", "d2")
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter))
	e.same("ended", e.end(webhook.EndRequest{DeliveryID: "d1", Leased: true}), &webhook.EndResult{Found: 1})
	e.same("oldest", deliveryIDs(e.end(webhook.EndRequest{EndpointID: "a", Oldest: 1}).Ended), []string{"d2"})
	e.none("the key is blocked", at(time.Hour), fresh("a"))
	e.release("a", "k", true)
	e.over(e.one("d2", at(0), fresh("a")))
}

func endOldest(e *env) {
	for i, due := range []time.Duration{5, 1, 4, 2, 3} { // x1 to x3 are of one key, whose order is x1, x2, x3
		d := toAt("a", fmt.Sprint("x", i), at(due*time.Second))
		if i >= 1 && i <= 3 {
			d.OrderingKey = "k"
		}
		ev := event(d.ID, d)
		ev.Event.OrderingKey = d.OrderingKey
		e.put(at(0), ev)
	}
	e.put(at(0), plain("b", "other"))
	oldest := func(n, limit int) *webhook.EndResult {
		return e.end(webhook.EndRequest{Now: at(time.Second), EndpointID: "a", Oldest: n, Limit: limit, Next: webhook.Expired})
	}
	res := oldest(3, 1)
	e.same("by due time", []any{deliveryIDs(res.Ended), res.More}, []any{[]string{"x1"}, true})
	res = oldest(2, 0)
	e.same("those after it", []any{deliveryIDs(res.Ended), res.More}, []any{[]string{"x3", "x4"}, false})
	e.same("the rest", deliveryIDs(oldest(9, 0).Ended), []string{"x2", "x0"})
	e.same("none left", len(oldest(9, 0).Ended), 0)
	e.one("other", at(time.Second), fresh("b"))
}

func endOldestLeased(e *env) {
	e.put(at(0), event("e1", toAt("a", "d1", at(1*time.Second)), toAt("a", "d2", at(2*time.Second)), toAt("a", "d3", at(3*time.Second))))
	e.one("d1", at(time.Second), fresh("a"))
	res := e.end(webhook.EndRequest{Now: at(time.Second), EndpointID: "a", Oldest: 1})
	e.same("ended beside the lease", deliveryIDs(res.Ended), []string{"d2"})
	res = e.end(webhook.EndRequest{Now: at(time.Second), EndpointID: "a", Oldest: 9, Leased: true})
	e.same("ended with the lease", sorted(deliveryIDs(res.Ended)), []string{"d1", "d3"})

	// Three whose lease ran out at a minute, one due at 30 s, and in the other lane one due at 45 s, which is the oldest by no account.
	e.put(at(0), event("e2", toAt("b", "r1", at(0))))
	o := ended(e.one("r1", at(0), fresh("b")), at(0), webhook.RetryScheduled)
	o.DueAt = at(45 * time.Second)
	e.apply(at(0), o)
	e.put(at(0), event("e3", toAt("b", "l1", at(0)), toAt("b", "l2", at(0)), toAt("b", "l3", at(0)), toAt("b", "w1", at(30*time.Second))))
	e.all(at(0), []string{"l1", "l2", "l3"}, fresh("b"))
	res = e.end(webhook.EndRequest{Now: at(time.Hour), EndpointID: "b", Oldest: 1})
	if ids := deliveryIDs(res.Ended); len(ids) != 1 || ids[0] == "r1" {
		e.failf("ended %v, want the oldest", ids)
	}
}

func completeEndedKeepsRecord(e *env) {
	e.queue("a", "k", "d1", "d2")
	e.endOne("d1", at(0), false)
	before := e.delivery("d1", at(0))
	o := ended(e.one("d1", at(0), fresh("a")), at(time.Second), webhook.Delivered)
	o.Reason = "the outcome's"
	e.apply(at(time.Second), o)
	e.sameDelivery(e.delivery("d1", at(time.Second)), before)
	a := e.attempts("d1", 1)[0]
	e.same("Token and Late of its attempt", []any{a.Token, a.Late}, []any{o.Token, false})
	e.stale(at(time.Minute), back(webhook.Claimed{Delivery: before, Token: o.Token}))
	e.one("d2", at(time.Second), fresh("a"))
}

func completeEndedRepeated(e *env) {
	e.queue("a", "k", "d1", "d2", "d3")
	e.endOne("d1", at(0), false)
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered)
	for range 3 {
		e.apply(at(time.Second), o)
	}
	e.attempts("d1", 1)
	e.one("d2", at(0), fresh("a"))
	e.none("the second is under way", at(0), fresh("a"))
}
