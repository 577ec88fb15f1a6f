package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

func queryCases() []Case {
	const states = "with their states as of req.Now"
	return []Case{
		{"Query/GetEvent", "GetEvent returns a stored event, or ErrNotFound", needStore | needQuery, queryGetEvent},
		{"Query/GetEventNotFound", "GetEvent returns a stored event, or ErrNotFound", needStore | needQuery, queryGetEventNotFound},
		{"Query/MatchedNothing", "how many it fanned out to; 0: it matched nothing", needStore | needQuery, queryMatchedNothing},
		{"Query/Queued", states, needStore | needQuery, queryQueued},
		{"Query/Delivering", states, needStore | needQuery, queryDelivering},
		{"Query/RetryScheduled", states, needStore | needQuery, queryRetryScheduled},
		{"Query/Final", states, needStore | needQuery, queryFinal},
		{"Query/Held", "derived when read, never stored", needStore | needQuery | needHold, queryHeld},
		{"Query/HeldUntil", states, needStore | needQuery | needHold, queryHeldUntil},
		{"Query/HoldKey", "HoldKey puts the key on hold until a person releases it (HoldStore.ReleaseKey); what waits reads as Held", needStore | needQuery | needHold, queryHoldKey},
		{"Query/LateDoesNotCount", "Else it is stale: it changes no state", needStore | needQuery, queryLate},
	}
}

// delivery reads one delivery, at now.
func (e *env) delivery(id string, now time.Time) webhook.Delivery {
	res, err := e.queries().ListDeliveries(e.ctx, &webhook.ListDeliveriesRequest{Now: now})
	e.ok("ListDeliveries", err)
	for _, d := range res.Deliveries {
		if d.ID == id {
			return d
		}
	}
	e.failf("ListDeliveries: %s is not there", id)
	return webhook.Delivery{}
}

// sameDelivery compares deliveries, times as instants.
func (e *env) sameDelivery(got, want webhook.Delivery) {
	e.sameTime(want.ID+": DueAt", got.DueAt, want.DueAt)
	e.sameTime(want.ID+": CreatedAt", got.CreatedAt, want.CreatedAt)
	e.sameTime(want.ID+": FinishedAt", got.FinishedAt, want.FinishedAt)
	e.sameTime(want.ID+": ExpiresAt", got.ExpiresAt, want.ExpiresAt)
	for _, d := range []*webhook.Delivery{&got, &want} {
		d.DueAt, d.CreatedAt, d.FinishedAt, d.ExpiresAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	}
	if got != want {
		e.failf("Delivery: got %+v, want %+v", got, want)
	}
}

func queryGetEvent(e *env) {
	ev := event("e1", to("a", "d1"), to("b", "d2"))
	ev.Event = richEvent("e1")
	e.put(at(999), ev)
	got, err := e.queries().GetEvent(e.ctx, "e1")
	e.ok("GetEvent", err)
	e.sameEvent(got.Event, richEvent("e1"))
	e.sameTime("CreatedAt", got.CreatedAt, at(0))
	e.same("Deliveries", got.Deliveries, 2)
}

func queryGetEventNotFound(e *env) {
	e.put(at(0), event("e1"))
	_, err := e.queries().GetEvent(e.ctx, "E1")
	e.wantErr("GetEvent", err, webhook.ErrNotFound)
}

func queryMatchedNothing(e *env) {
	e.put(at(0), event("e1"))
	got, err := e.queries().GetEvent(e.ctx, "e1")
	e.ok("GetEvent", err)
	e.same("Deliveries", got.Deliveries, 0)
	e.same("deliveries listed", e.listDeliveries(webhook.ListDeliveriesRequest{EventID: "e1"}), []string(nil))
}

func queryQueued(e *env) {
	e.put(at(0), event("e1", toAt("a", "d1", at(time.Minute))), keyed("a", "k", "d2"))
	want := webhook.Delivery{ID: "d1", EventID: "e1", EndpointID: "a", State: webhook.Queued, DueAt: at(time.Minute), CreatedAt: at(0)}
	e.sameDelivery(e.delivery("d1", at(0)), want)
	e.sameDelivery(e.delivery("d1", at(time.Hour)), want)
	e.sameDelivery(e.delivery("d2", at(0)), webhook.Delivery{ID: "d2", EventID: "d2", EndpointID: "a", OrderingKey: "k", Sequence: 1,
		State: webhook.Queued, DueAt: at(0), CreatedAt: at(0)})
}

func queryDelivering(e *env) {
	e.put(at(0), plain("a", "d1"), leasedFor("b", "d2", time.Minute))
	e.one("d1", at(time.Second), fresh("a"))
	want := webhook.Delivery{ID: "d1", EventID: "d1", EndpointID: "a", State: webhook.Delivering, DueAt: at(61 * time.Second), CreatedAt: at(0)}
	e.sameDelivery(e.delivery("d1", at(2*time.Second)), want)
	want = webhook.Delivery{ID: "d2", EventID: "d2", EndpointID: "b", State: webhook.Delivering, DueAt: at(time.Minute), CreatedAt: at(0)}
	e.sameDelivery(e.delivery("d2", at(2*time.Second)), want)
}

func queryRetryScheduled(e *env) {
	e.put(at(0), plain("a", "d1"))
	o := ended(e.one("d1", at(0), fresh("a")), at(time.Second), webhook.RetryScheduled)
	o.Reason = "answered 503"
	e.apply(at(time.Second), o)
	e.sameDelivery(e.delivery("d1", at(2*time.Second)), webhook.Delivery{ID: "d1", EventID: "d1", EndpointID: "a", State: webhook.RetryScheduled,
		Reason: "answered 503", Attempts: 1, DueAt: o.DueAt, CreatedAt: at(0)})
}

func queryFinal(e *env) {
	for _, end := range []webhook.State{webhook.Delivered, webhook.DeadLetter, webhook.Canceled, webhook.Expired} {
		id := string(end)
		e.put(at(0), plain(id, id))
		o := ended(e.one(id, at(0), fresh(id)), at(0), end)
		o.Reason = "because of " + id
		e.apply(at(time.Minute+999), o)
		e.sameDelivery(e.delivery(id, at(time.Hour)), webhook.Delivery{ID: id, EventID: id, EndpointID: id, State: end,
			Reason: "because of " + id, Attempts: 1, CreatedAt: at(0), FinishedAt: at(time.Minute)})
	}
}

// wantStates reads deliveries at now and compares their states.
func (e *env) wantStates(now time.Time, want map[string]webhook.State) {
	for id, state := range want {
		if got := e.delivery(id, now).State; got != state {
			e.failf("state of %s at %v: got %s, want %s", id, now.Sub(at(0)), got, state)
		}
	}
}

func queryHeld(e *env) {
	e.put(at(0), plain("a", "leased"), plain("a", "retry"), plain("a", "done"), plain("b", "other"))
	for _, c := range e.all(at(0), []string{"leased", "retry", "done"}, fresh("a")) {
		switch c.Delivery.ID {
		case "retry":
			e.apply(at(0), ended(c, at(0), webhook.RetryScheduled))
		case "done":
			e.apply(at(0), ended(c, at(0), webhook.Delivered))
		}
	}
	e.put(at(0), plain("a", "fresh"))
	e.hold("a", time.Time{})
	e.wantStates(at(time.Second), map[string]webhook.State{"leased": webhook.Delivering, "retry": webhook.Held, "done": webhook.Delivered,
		"fresh": webhook.Held, "other": webhook.Queued})
	if reason := e.delivery("fresh", at(0)).Reason; !strings.Contains(reason, "because of a test") {
		e.failf("Reason of a held delivery: got %q, want it to tell the hold's", reason)
	}
	e.unhold("a")
	e.wantStates(at(time.Second), map[string]webhook.State{"leased": webhook.Delivering, "retry": webhook.RetryScheduled, "done": webhook.Delivered,
		"fresh": webhook.Queued, "other": webhook.Queued})
}

func queryHeldUntil(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.hold("a", at(time.Minute))
	e.wantStates(at(time.Minute-time.Microsecond), map[string]webhook.State{"d1": webhook.Held})
	e.wantStates(at(time.Minute), map[string]webhook.State{"d1": webhook.Queued})
	e.wantStates(at(0), map[string]webhook.State{"d1": webhook.Held})
}

func queryHoldKey(e *env) {
	e.queue("a", "k", "d1", "d2", "d3")
	e.put(at(0), keyed("a", "l", "d4"), plain("a", "d5"))
	var outcome webhook.Outcome
	for _, c := range e.all(at(0), []string{"d1", "d4", "d5"}, fresh("a")) {
		if c.Delivery.ID == "d1" {
			outcome = ended(c, at(0), webhook.DeadLetter)
		}
	}
	outcome.BehindDeadLetter = webhook.HoldKey
	e.wantStates(at(0), map[string]webhook.State{"d2": webhook.Queued, "d3": webhook.Queued})
	e.apply(at(0), outcome)
	e.put(at(0), keyed("a", "k", "d6"))
	e.wantStates(at(0), map[string]webhook.State{"d1": webhook.DeadLetter, "d2": webhook.Held, "d3": webhook.Held, "d4": webhook.Delivering, "d6": webhook.Held})
	e.release("a", "k", true)
	e.wantStates(at(0), map[string]webhook.State{"d1": webhook.DeadLetter, "d2": webhook.Queued, "d3": webhook.Queued, "d6": webhook.Queued})
}

func queryLate(e *env) {
	e.put(at(0), plain("a", "d1"))
	old := e.one("d1", at(0), fresh("a"))
	e.one("d1", at(time.Minute), fresh("a"))
	before := e.delivery("d1", at(time.Minute))
	o := ended(old, at(0), webhook.DeadLetter)
	o.Reason = "too late to say"
	e.stale(at(time.Minute), o)
	e.sameDelivery(e.delivery("d1", at(time.Minute)), before)
}

func listCases() []Case {
	const list = "Lists are pages by ID, ascending or with Newest descending"
	return []Case{
		{"List/Order", list, needStore | needQuery, listOrder},
		{"List/Pages", "pass as After, with Newest as Before, for the next page; \"\": that was all … exclusive ID", needStore | needQuery, listPages},
		{"List/Limit", "zero: 100", needStore | needQuery, listLimit},
		{"List/ByEvent", "Empty fields do not filter", needStore | needQuery, listByEvent},
		{"List/ByEndpoint", "Empty fields do not filter", needStore | needQuery, listByEndpoint},
		{"List/ByState", "Empty fields do not filter", needStore | needQuery, listByState},
		{"List/ByHeld", "derived when read, never stored", needStore | needQuery | needHold, listByHeld},
		{"List/Together", "Empty fields do not filter", needStore | needQuery, listTogether},
	}
}

// listDeliveries walks the pages and returns the IDs; a zero Now is at(0).
func (e *env) listDeliveries(req webhook.ListDeliveriesRequest) (all []string) {
	if req.Now.IsZero() {
		req.Now = at(0)
	}
	for {
		res, err := e.queries().ListDeliveries(e.ctx, &req)
		e.ok("ListDeliveries", err)
		if req.Limit > 0 && len(res.Deliveries) > req.Limit {
			e.failf("ListDeliveries: %d deliveries with a Limit of %d", len(res.Deliveries), req.Limit)
		}
		for _, d := range res.Deliveries {
			all = append(all, d.ID)
		}
		if res.Next == "" {
			return all
		}
		if req.Newest {
			req.Before = res.Next
		} else {
			req.After = res.Next
		}
		if len(all) > 10000 {
			e.failf("ListDeliveries: the walk does not end")
		}
	}
}

func listOrder(e *env) {
	e.put(at(0), plain("a", "b"), plain("b", "B"), plain("a", "a.b"), plain("b", "a-b"), plain("a", "a"), plain("a", "~"), plain("c", "0"))
	e.same("deliveries", e.listDeliveries(webhook.ListDeliveriesRequest{}), []string{"0", "B", "a", "a-b", "a.b", "b", "~"})
}

func listPages(e *env) {
	want := e.fill("a", 7)
	e.fill("b", 2)
	for page := 1; page <= 8; page++ {
		e.same(fmt.Sprintf("deliveries in pages of %d", page), e.listDeliveries(webhook.ListDeliveriesRequest{EndpointID: "a", Limit: page}), want)
		e.same(fmt.Sprintf("queued deliveries in pages of %d", page), len(e.listDeliveries(webhook.ListDeliveriesRequest{State: webhook.Queued, Limit: page})), 9)
	}
}

func listLimit(e *env) {
	e.fill("a", 101)
	res, err := e.queries().ListDeliveries(e.ctx, &webhook.ListDeliveriesRequest{Now: at(0)})
	e.ok("ListDeliveries", err)
	e.same("deliveries without a Limit", len(res.Deliveries), 100)
	e.same("Next", res.Next != "", true)
}

func listByEvent(e *env) {
	e.put(at(0), event("e1", to("a", "d1"), to("b", "d3")), event("e2", to("a", "d2")))
	e.same("deliveries of e1", e.listDeliveries(webhook.ListDeliveriesRequest{EventID: "e1"}), []string{"d1", "d3"})
	e.same("deliveries of nothing", e.listDeliveries(webhook.ListDeliveriesRequest{EventID: "E1"}), []string(nil))
}

func listByEndpoint(e *env) {
	e.put(at(0), event("e1", to("a", "d1"), to("b", "d3")), event("e2", to("a", "d2")))
	e.same("deliveries to a", e.listDeliveries(webhook.ListDeliveriesRequest{EndpointID: "a"}), []string{"d1", "d2"})
	e.same("deliveries to nobody", e.listDeliveries(webhook.ListDeliveriesRequest{EndpointID: "A"}), []string(nil))
}

func listByState(e *env) {
	e.put(at(0), plain("a", "queued"), plain("b", "leased"), plain("c", "retry"), plain("d", "dead"), plain("e", "done"))
	e.one("leased", at(0), fresh("b"))
	e.apply(at(0), ended(e.one("retry", at(0), fresh("c")), at(0), webhook.RetryScheduled))
	e.apply(at(0), ended(e.one("dead", at(0), fresh("d")), at(0), webhook.DeadLetter))
	e.apply(at(0), ended(e.one("done", at(0), fresh("e")), at(0), webhook.Delivered))
	for state, want := range map[webhook.State][]string{webhook.Queued: {"queued"}, webhook.Delivering: {"leased"}, webhook.RetryScheduled: {"retry"},
		webhook.DeadLetter: {"dead"}, webhook.Delivered: {"done"}, webhook.Held: nil, webhook.Expired: nil} {
		e.same("deliveries that are "+string(state), e.listDeliveries(webhook.ListDeliveriesRequest{State: state, Limit: 1}), want)
	}
}

func listByHeld(e *env) {
	e.put(at(0), plain("a", "d1"), plain("b", "d2"), plain("a", "d3"), plain("c", "d4"))
	e.hold("a", time.Time{})
	e.hold("c", at(time.Minute))
	e.same("held", e.listDeliveries(webhook.ListDeliveriesRequest{State: webhook.Held, Limit: 1}), []string{"d1", "d3", "d4"})
	e.same("queued", e.listDeliveries(webhook.ListDeliveriesRequest{State: webhook.Queued, Limit: 1}), []string{"d2"})
	later := webhook.ListDeliveriesRequest{State: webhook.Queued, Now: at(time.Minute)}
	e.same("queued when a hold has run out", e.listDeliveries(later), []string{"d2", "d4"})
}

func listTogether(e *env) {
	e.put(at(0), event("e1", to("a", "d1"), to("b", "d2"), to("a", "d3")), event("e2", to("a", "d4")))
	e.apply(at(0), ended(e.claimOn(e.s, at(0), 1, fresh("b")).Deliveries[0], at(0), webhook.Delivered))
	req := webhook.ListDeliveriesRequest{EventID: "e1", EndpointID: "a", State: webhook.Queued, After: "d1"}
	e.same("deliveries", e.listDeliveries(req), []string{"d3"})
	req = webhook.ListDeliveriesRequest{EventID: "e1", EndpointID: "b", State: webhook.Queued}
	e.same("deliveries", e.listDeliveries(req), []string(nil))
}

func pruneCases() []Case {
	const prune = "Prune removes at most req.Limit of each kind, each kind in one transaction, and reports how many"
	return []Case{
		{"Prune/Limit", prune + " … Call it again until it removes fewer", needDedupe | needPrune, pruneLimit},
		{"Prune/OnlyExpired", "forget idempotency keys that have expired", needDedupe | needPrune, pruneOnlyExpired},
		{"Prune/OnlyWhenAsked", "forget idempotency keys that have expired", needDedupe | needPrune, pruneAsked},
		{"Prune/TokenGrows", "after the hold's end it can be taken anew under a greater token", needDedupe | needPrune, pruneTokenGrows},
		{"Prune/KeptEvents", "forget event IDs stored before, unless their event is still kept; zero: none", needStore | needPrune, pruneKeptEvents},
	}
}

// prune prunes idempotency keys and wants so many gone.
func (e *env) prune(now time.Time, limit, want int) {
	res, err := e.pruner().Prune(e.ctx, &webhook.PruneRequest{Now: now, DedupeKeys: true, Limit: limit})
	e.ok("Prune", err)
	e.same(fmt.Sprintf("keys pruned with a Limit of %d", limit), res.DedupeKeys, want)
	e.same("event IDs pruned", res.EventIDs, 0)
}

func pruneLimit(e *env) {
	for i := range 5 {
		key := fmt.Sprint("k", i)
		e.finish(at(0), key, e.take(at(0), key), status(200), time.Minute)
	}
	for _, want := range []int{2, 2, 1, 0} {
		e.prune(at(time.Hour), 2, want)
	}
}

func pruneOnlyExpired(e *env) {
	e.finish(at(0), "short", e.take(at(0), "short"), status(200), time.Minute)
	e.finish(at(0), "long", e.take(at(0), "long"), status(200), time.Hour)
	e.take(at(time.Minute), "held")
	e.prune(at(time.Minute-time.Microsecond), 0, 0)
	e.prune(at(time.Minute), 0, 1)
	e.sameResponse(e.wantStatus(at(time.Minute), "long", webhook.KeyDone).Response, status(200))
	e.wantStatus(at(time.Minute), "held", webhook.KeyRunning)
	e.wantStatus(at(time.Minute), "short", webhook.KeyTaken)
}

func pruneAsked(e *env) {
	e.finish(at(0), "k", e.take(at(0), "k"), status(200), time.Minute)
	res, err := e.pruner().Prune(e.ctx, &webhook.PruneRequest{Now: at(time.Hour), EventIDsBefore: at(time.Hour)})
	e.ok("Prune", err)
	e.same("pruned", *res, webhook.PruneResult{})
	e.prune(at(time.Hour), 0, 1)
}

// pruneTokenGrows prunes a key whose hold ran out: its old holder must not be taken for a new one.
func pruneTokenGrows(e *env) {
	old := e.take(at(0), "k")
	_, err := e.pruner().Prune(e.ctx, &webhook.PruneRequest{Now: at(time.Hour), DedupeKeys: true})
	e.ok("Prune", err)
	if token := e.take(at(time.Hour), "k"); token <= old {
		e.failf("token %d after a pruned %d", token, old)
	}
	e.wantErr("Finish under the old token", e.finishErr(at(time.Hour), "k", old, status(500), time.Hour), webhook.ErrStaleKey)
}

func pruneKeptEvents(e *env) {
	e.put(at(0), plain("a", "waiting"))
	for _, before := range []time.Time{{}, at(time.Hour)} {
		_, err := e.pruner().Prune(e.ctx, &webhook.PruneRequest{Now: at(time.Hour), EventIDsBefore: before})
		e.ok("Prune", err)
		got := e.enqueue(at(time.Hour), plain("a", "waiting"), other(plain("a", "waiting")))
		e.same("statuses", got, []webhook.EnqueueStatus{webhook.Repeat, webhook.Conflict})
	}
	e.one("waiting", at(time.Hour), fresh("a"))
}
