package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

func forgetCases() []Case {
	const forgets = "forget deliveries … EndedBefore says by state which deliveries to forget: those that ended before … forgets those that ended in a state and before the time that req.Ended gives for it, with their attempts"
	const never = "Never forgotten is what is not final, and what stands in its ordering key yet"
	return []Case{
		{"Forget/ByState", forgets, needStore | needQuery | needPrune, forgetByState},
		{"Forget/ByAge", forgets, needStore | needQuery | needPrune, forgetByAge},
		{"Forget/NothingAsked", "Zero: none in that state", needStore | needQuery | needPrune, forgetNothing},
		{"Forget/Attempts", forgets, needStore | needQuery | needPrune, forgetAttempts},
		{"Forget/Event", "an event goes with its last delivery … gone with their last delivery, or unmatched", needStore | needQuery | needPrune, forgetEvent},
		{"Forget/Unfinished", never, needStore | needQuery | needPrune, forgetUnfinished},
		{"Forget/Blocking", never + ": a dead letter that blocks it", needStore | needQuery | needPrune | needHold, forgetBlocking},
		{"Forget/EndedInKey", never + " … or what End has ended and whose turn has not come", needStore | needQuery | needPrune | needLife, forgetEndedInKey},
		{"Forget/Batches", "Prune removes at most req.Limit of each kind, each kind in one transaction, and reports how many … Go on with Next until that is \"\"", needStore | needQuery | needPrune, forgetBatches},
		{"Forget/Before", "deliveries: exclusive ID, where the walk ends … of the deliveries: pass as After to go on; \"\": the walk is complete", needStore | needQuery | needPrune, forgetBefore},
		{"Forget/IDStaysKnown", "An ID is remembered at least as long as its event is kept … forget event IDs stored before", needStore | needPrune, forgetKnown},
		{"Forget/Late", "it changes no state", needStore | needQuery | needPrune, forgetLate},
		{"Forget/Unmatched", "Unmatched events go by age … forget events that matched no endpoint and were stored before; zero: none", needStore | needQuery | needPrune, forgetUnmatched},
		{"Forget/Replays", "replays that are done or canceled by when they ended; others never go … forget replays that ended before; zero: none", needPrune | needReplay, forgetReplays},
		{"Forget/AtOnce", "Several processes may do so at once", needStore | needQuery | needPrune, forgetAtOnce},
	}
}

// forget prunes from the start to the end and returns what that did in all.
func (e *env) forget(req webhook.PruneRequest) (all webhook.PruneResult) {
	for calls := 0; ; calls++ {
		res, err := e.pruner().Prune(e.ctx, &req)
		e.ok("Prune", err)
		for what, n := range map[string]int{"deliveries": res.Deliveries, "payloads": res.Payloads} {
			if req.Limit > 0 && n > req.Limit {
				e.failf("Prune: %d %s with a Limit of %d", n, what, req.Limit)
			}
		}
		all.Deliveries += res.Deliveries
		all.Events += res.Events
		all.Payloads += res.Payloads
		if req.After = res.Next; res.Next == "" {
			return all
		}
		if calls > 10000 {
			e.failf("Prune: the walk does not end")
		}
	}
}

// left are the IDs of the deliveries that there are.
func (e *env) left() []string { return e.listDeliveries(webhook.ListDeliveriesRequest{}) }

// finishAll claims what is due for a at now and ends all of it.
func (e *env) finishAll(now time.Time, next webhook.State) {
	for _, c := range e.claim(now, fresh("a")) {
		e.apply(now, ended(c, now, next))
	}
}

func forgetByState(e *env) {
	e.scene()
	later := at(time.Hour)
	for _, tt := range []struct {
		ended webhook.EndedBefore
		gone  []string
	}{
		{webhook.EndedBefore{Delivered: later}, []string{"a-done", "b-done"}},
		{webhook.EndedBefore{DeadLetter: later}, []string{"a-dead", "b-dead"}},
		{webhook.EndedBefore{Canceled: later}, []string{"a-canceled", "b-canceled"}},
		{webhook.EndedBefore{Expired: later}, []string{"a-expired", "b-expired"}},
	} {
		want := slices.DeleteFunc(e.left(), func(id string) bool { return slices.Contains(tt.gone, id) })
		e.same("forgotten", e.forget(webhook.PruneRequest{Now: later, Ended: tt.ended}), webhook.PruneResult{Deliveries: 2, Events: 2})
		e.same("left", e.left(), want)
		e.same("left that failed", len(e.listDeliveries(webhook.ListDeliveriesRequest{States: []webhook.State{webhook.DeadLetter, webhook.Canceled, webhook.Expired}})),
			len(slices.DeleteFunc(want, func(id string) bool { return !slices.Contains([]string{"dead", "canceled", "expired"}, id[2:]) })))
	}
	e.same("left at last", e.left(), []string{"a-leased", "a-queued", "a-retry", "b-queued", "b-retry"})
	e.all(at(0), []string{"a-queued"}, fresh("a"))
}

func forgetByAge(e *env) {
	for i, id := range []string{"d3", "d1", "d2"} {
		e.put(at(0), plain("a", id))
		e.finishAll(at(time.Duration(i)*time.Second), webhook.Delivered)
	}
	for _, tt := range []struct {
		before time.Time
		left   []string
	}{{at(0), []string{"d1", "d2", "d3"}}, {at(time.Second), []string{"d1", "d2"}}, {at(time.Hour), nil}} {
		e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: webhook.EndedBefore{Delivered: tt.before}})
		e.same("left", e.left(), tt.left)
	}
}

func forgetNothing(e *env) {
	e.scene()
	before := e.left()
	e.same("forgotten", e.forget(webhook.PruneRequest{Now: at(time.Hour), DedupeKeys: true, EventIDsBefore: at(time.Hour)}), webhook.PruneResult{})
	e.same("left", e.left(), before)
}

func forgetAttempts(e *env) {
	e.put(at(0), plain("a", "d1"), plain("a", "d2"))
	for _, c := range e.claim(at(0), fresh("a")) {
		e.apply(at(0), ended(c, at(0), webhook.RetryScheduled))
	}
	for _, c := range e.claim(at(time.Minute), retry("a")) {
		next := map[string]webhook.State{"d1": webhook.Delivered, "d2": webhook.DeadLetter}[c.Delivery.ID]
		e.apply(at(time.Minute), ended(c, at(time.Minute), next))
	}
	e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: webhook.EndedBefore{Delivered: at(time.Hour)}})
	e.same("left", e.left(), []string{"d2"})
	got, _ := e.queries().ListAttempts(e.ctx, "d1") // an error is as good as none
	e.same("attempts of what is forgotten", len(got), 0)
	e.attempts("d2", 2)
	_, err := e.queries().GetEvent(e.ctx, "d1")
	e.wantErr("GetEvent", err, webhook.ErrNotFound)
}

func forgetEvent(e *env) {
	e.put(at(0), event("e1", to("a", "d1"), to("b", "d2")))
	e.finishAll(at(0), webhook.Delivered)
	all := webhook.EndedBefore{Delivered: at(time.Hour)}
	e.same("forgotten", e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: all}), webhook.PruneResult{Deliveries: 1})
	_, err := e.queries().GetEvent(e.ctx, "e1")
	e.ok("GetEvent", err)
	e.sameEvent(e.one("d2", at(0), fresh("b")).Event, event("e1").Event)
	c := e.one("d2", at(time.Hour), fresh("b"))
	e.apply(at(time.Hour), ended(c, at(time.Hour), webhook.Delivered))
	all.Delivered = at(2 * time.Hour)
	e.same("forgotten", e.forget(webhook.PruneRequest{Now: at(2 * time.Hour), Ended: all}), webhook.PruneResult{Deliveries: 1, Events: 1})
	_, err = e.queries().GetEvent(e.ctx, "e1")
	e.wantErr("GetEvent", err, webhook.ErrNotFound)
	e.same("events", e.listEvents(webhook.ListEventsRequest{}), []string(nil))
}

// everything is old enough to go by any state.
func everything() webhook.EndedBefore {
	return webhook.EndedBefore{Delivered: at(1000 * time.Hour), DeadLetter: at(1000 * time.Hour), Canceled: at(1000 * time.Hour), Expired: at(1000 * time.Hour)}
}

func forgetUnfinished(e *env) {
	e.scene()
	e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: everything(), PayloadsBefore: at(1000 * time.Hour)})
	e.same("left", e.left(), []string{"a-leased", "a-queued", "a-retry", "b-queued", "b-retry"})
	e.one("b-queued", at(0), fresh("b"))
	e.sameEvent(e.one("b-retry", at(time.Minute), retry("b")).Event, event("b-retry").Event)
}

func forgetBlocking(e *env) {
	e.queue("a", "k", "d1", "d2")
	e.finishAll(at(0), webhook.DeadLetter)
	e.same("forgotten while it blocks", e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: everything()}), webhook.PruneResult{})
	e.same("left", e.left(), []string{"d1", "d2"})
	e.release("a", "k", true)
	e.same("forgotten", e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: everything()}), webhook.PruneResult{Deliveries: 1, Events: 1})
	e.one("d2", at(0), fresh("a"))
}

func forgetEndedInKey(e *env) {
	e.queue("a", "k", "d1", "d2", "d3")
	_, err := e.life().End(e.ctx, &webhook.EndRequest{Now: at(0), DeliveryID: "d2", Next: webhook.Canceled, Reason: "test"})
	e.ok("End", err)
	e.same("forgotten", e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: everything()}), webhook.PruneResult{})
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered))
	e.apply(at(0), ended(e.one("d2", at(0), fresh("a")), at(0), webhook.Canceled))
	e.same("forgotten", e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: everything()}), webhook.PruneResult{Deliveries: 2, Events: 2})
	e.one("d3", at(0), fresh("a"))
}

func forgetBatches(e *env) {
	e.put(at(0), plain("b", "a-waits"), plain("b", "a0005x"), plain("b", "z-waits"))
	e.fill("a", 10)
	e.finishAll(at(0), webhook.Delivered)
	req := webhook.PruneRequest{Now: at(time.Hour), Ended: everything(), Limit: 4}
	for range 2 {
		res, err := e.pruner().Prune(e.ctx, &req)
		e.ok("Prune", err)
		e.same("forgotten by a batch", res.Deliveries, 4)
		if req.After = res.Next; res.Next == "" {
			e.failf("Prune: no Next with deliveries left")
		}
	}
	req.Limit = 1
	e.same("forgotten then", e.forget(req).Deliveries, 2)
	e.same("left", e.left(), []string{"a-waits", "a0005x", "z-waits"})
}

func forgetBefore(e *env) {
	e.put(at(0), plain("a", "d1"), plain("a", "d2"), plain("a", "d3"), plain("a", "d4"))
	e.finishAll(at(0), webhook.Delivered)
	e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: everything(), After: "d1", Before: "d4", Limit: 1})
	e.same("left", e.left(), []string{"d1", "d4"})
}

func forgetKnown(e *env) {
	e.put(at(0), plain("a", "d1"))
	e.finishAll(at(0), webhook.Delivered)
	e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: everything()})
	e.same("statuses", e.enqueue(at(time.Hour), plain("a", "d1"), other(plain("a", "d1"))), []webhook.EnqueueStatus{webhook.Repeat, webhook.Conflict})
	e.none("a repeat queues nothing", at(time.Hour), fresh("a"))
	res, err := e.pruner().Prune(e.ctx, &webhook.PruneRequest{Now: at(time.Hour), EventIDsBefore: at(time.Second)})
	e.ok("Prune", err)
	e.same("event IDs", res.EventIDs, 1)
	e.put(at(time.Hour), plain("a", "d1"))
}

// forgetLate completes what is forgotten already.
func forgetLate(e *env) {
	e.put(at(0), plain("a", "d1"))
	old := e.one("d1", at(0), fresh("a"))
	e.apply(at(time.Minute), ended(e.one("d1", at(time.Minute), fresh("a")), at(time.Minute), webhook.Delivered))
	e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: everything()})
	if st := e.complete(at(time.Hour), ended(old, at(0), webhook.DeadLetter))[0]; st == webhook.Applied {
		e.failf("Complete of a forgotten delivery: Applied")
	}
	e.same("left", e.left(), []string(nil))
}

func forgetUnmatched(e *env) {
	for i, id := range []string{"e3", "e1", "e2"} {
		e.put(at(time.Duration(i)*time.Second), event(id))
	}
	e.put(at(0), plain("a", "d1"))
	prune := func(before time.Time, limit int) int {
		res, err := e.pruner().Prune(e.ctx, &webhook.PruneRequest{Now: at(time.Hour), UnmatchedBefore: before, Limit: limit})
		e.ok("Prune", err)
		return res.Events
	}
	e.same("forgotten of those that are not old", prune(at(0), 0), 0)
	e.same("forgotten", prune(at(time.Second), 0), 1)
	e.same("left", e.listEvents(webhook.ListEventsRequest{}), []string{"d1", "e1", "e2"})
	e.same("forgotten", prune(at(time.Hour), 1), 1)
	e.same("forgotten", prune(at(time.Hour), 1), 1)
	e.same("forgotten", prune(at(time.Hour), 1), 0)
	e.same("left", e.listEvents(webhook.ListEventsRequest{}), []string{"d1"})
	e.same("left unmatched", e.listEvents(webhook.ListEventsRequest{Unmatched: true}), []string(nil))
	e.same("statuses", e.enqueue(at(time.Hour), event("e1")), []webhook.EnqueueStatus{webhook.Repeat})
}

func forgetReplays(e *env) {
	token := e.claimedReplay("done", at(0))
	e.step(at(time.Second), webhook.ReplayStep{ID: "done", Token: token, Done: true}, webhook.Applied)
	for _, id := range []string{"r1", "r2", "r3", "running"} {
		e.putReplay(id, at(time.Hour))
	}
	e.putReplay("paused", at(2*time.Hour))
	e.changeReplay("paused", at(0), webhook.ReplayPaused)
	e.changeReplay("r1", at(0), webhook.ReplayCanceled)
	e.changeReplay("r2", at(time.Second), webhook.ReplayCanceled)
	e.changeReplay("r3", at(time.Minute), webhook.ReplayCanceled)
	prune := func(before time.Time, limit int) int {
		res, err := e.pruner().Prune(e.ctx, &webhook.PruneRequest{Now: at(time.Hour), ReplaysBefore: before, Limit: limit})
		e.ok("Prune", err)
		return res.Replays
	}
	left := func() (ids []string) {
		res, err := e.replays().ListReplays(e.ctx, &webhook.ListReplaysRequest{})
		e.ok("ListReplays", err)
		for _, r := range res.Replays {
			ids = append(ids, r.ID)
		}
		return ids
	}
	e.same("forgotten without being asked", prune(time.Time{}, 0), 0)
	e.same("forgotten of those that are not old", prune(at(0), 0), 0)
	e.same("forgotten", prune(at(time.Second), 0), 1)
	e.same("left", left(), []string{"running", "r3", "r2", "paused", "done"})
	e.same("forgotten", prune(at(time.Minute), 1), 1)
	e.same("forgotten", prune(at(time.Minute), 1), 1)
	e.same("forgotten", prune(at(time.Minute), 1), 0)
	e.same("left", left(), []string{"running", "r3", "paused"})
	_, err := e.replays().GetReplay(e.ctx, "r1")
	e.wantErr("GetReplay of a forgotten one", err, webhook.ErrNotFound)
	e.claimReplay("running", at(time.Hour))
}

func forgetAtOnce(e *env) {
	for range 5 {
		e.fillEvents(20)
		e.finishAll(at(0), webhook.Delivered)
	}
	var total [4]int
	e.parallel(4, func(i int) {
		p := []any{e.h.Store, e.h.Second}[i%2]
		req := &webhook.PruneRequest{Now: at(time.Hour), Ended: everything(), Limit: 7}
		for {
			res, err := p.(webhook.Pruner).Prune(e.ctx, req)
			e.ok("Prune", err)
			total[i] += res.Deliveries
			if req.After = res.Next; res.Next == "" {
				return
			}
		}
	})
	e.forget(webhook.PruneRequest{Now: at(time.Hour), Ended: everything()}) // what one passed over as another had it
	e.same("left", e.left(), []string(nil))
	e.same("events left", e.listEvents(webhook.ListEventsRequest{}), []string(nil))
	if sum := total[0] + total[1] + total[2] + total[3]; sum > 100 {
		e.failf("%d deliveries forgotten of 100", sum)
	}
}

// fillEvents enqueues n deliveries to a, two for each event.
func (e *env) fillEvents(n int) {
	for i := range n / 2 {
		id := fmt.Sprintf("%d-%d", len(e.left()), i)
		e.put(at(0), event("e"+id, to("a", "d"+id), to("a", "f"+id)))
	}
}

func payloadCases() []Case {
	const payloads = "Payloads: it examines deliveries likewise, and erases payload and header of events whose deliveries were all delivered before req.PayloadsBefore. The event and all that is told of its deliveries stay"
	return []Case{
		{"Payload/Erased", payloads + " … when its payload and header were erased, and so are empty here; zero: they were not … erase payloads and headers of what was delivered before; zero: none", needStore | needQuery | needPrune, payloadErased},
		{"Payload/AllDelivered", payloads, needStore | needQuery | needPrune, payloadAllDelivered},
		{"Payload/Batches", "Prune removes at most req.Limit of each kind, each kind in one transaction, and reports how many … Go on with Next until that is \"\"", needStore | needQuery | needPrune, payloadBatches},
	}
}

// erased wants an event without payload and header since a time, or with both.
func (e *env) erased(id string, since time.Time) {
	rec, err := e.queries().GetEvent(e.ctx, id)
	e.ok("GetEvent", err)
	e.sameTime("ErasedAt of "+id, rec.ErasedAt, since)
	if gone := len(rec.Event.Payload) == 0 && len(rec.Event.Header) == 0; gone != !since.IsZero() {
		e.failf("event %s: got payload %q and header %v", id, rec.Event.Payload, rec.Event.Header)
	}
}

func payloadErased(e *env) {
	ev := plain("a", "d1")
	ev.Event = richEvent("d1")
	e.put(at(0), ev)
	e.finishAll(at(time.Second), webhook.Delivered)
	e.same("erased too early", e.forget(webhook.PruneRequest{Now: at(time.Minute), PayloadsBefore: at(time.Second)}), webhook.PruneResult{})
	e.erased("d1", time.Time{})
	e.same("erased", e.forget(webhook.PruneRequest{Now: at(time.Minute), PayloadsBefore: at(time.Minute)}), webhook.PruneResult{Payloads: 1})
	e.erased("d1", at(time.Minute))
	e.same("erased again", e.forget(webhook.PruneRequest{Now: at(time.Hour), PayloadsBefore: at(time.Hour)}), webhook.PruneResult{})
	e.erased("d1", at(time.Minute))
	e.same("Type", e.delivery("d1", at(time.Hour)).State, webhook.Delivered)
	e.attempts("d1", 1)
	res, err := e.queries().ListEvents(e.ctx, &webhook.ListEventsRequest{})
	e.ok("ListEvents", err)
	e.sameTime("ErasedAt in the list", res.Events[0].ErasedAt, at(time.Minute))
	e.same("Type in the list", res.Events[0].Event.Type, ev.Event.Type)
	e.same("statuses", e.enqueue(at(time.Hour), ev), []webhook.EnqueueStatus{webhook.Repeat})
}

func payloadAllDelivered(e *env) {
	e.put(at(0), event("dead", to("a", "d1"), to("b", "d2")), event("waits", to("a", "d3"), to("c", "d4")), event("later", to("a", "d5"), to("d", "d6")))
	e.finishAll(at(0), webhook.Delivered)
	e.apply(at(0), ended(e.one("d2", at(0), fresh("b")), at(0), webhook.DeadLetter))
	e.apply(at(time.Minute), ended(e.one("d6", at(0), fresh("d")), at(0), webhook.Delivered))
	e.same("erased", e.forget(webhook.PruneRequest{Now: at(time.Hour), PayloadsBefore: at(time.Minute)}), webhook.PruneResult{})
	for _, id := range []string{"dead", "waits", "later"} {
		e.erased(id, time.Time{})
	}
	e.same("erased", e.forget(webhook.PruneRequest{Now: at(time.Hour), PayloadsBefore: at(time.Hour)}), webhook.PruneResult{Payloads: 1})
	e.erased("later", at(time.Hour))
	e.sameEvent(e.one("d4", at(0), fresh("c")).Event, event("waits").Event)
}

func payloadBatches(e *env) {
	e.fill("a", 9)
	e.finishAll(at(0), webhook.Delivered)
	res, err := e.pruner().Prune(e.ctx, &webhook.PruneRequest{Now: at(time.Hour), PayloadsBefore: at(time.Hour), Limit: 4})
	e.ok("Prune", err)
	e.same("erased by the first batch", res.Payloads, 4)
	e.same("erased then", e.forget(webhook.PruneRequest{Now: at(time.Hour), PayloadsBefore: at(time.Hour), Limit: 2, After: res.Next}).Payloads, 5)
}
