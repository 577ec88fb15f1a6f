package storetest

import (
	"time"

	"github.com/signalpost/webhook"
)

func eraseCases() []Case {
	const erases = "erased … what was sent (payload, header), what was answered, and all records"
	const waiting = "An event with a delivery that is not final is left as it is and counted as Waiting … IDs of events left alone, as something of them waits"
	const kept = "One of which a delivery stands in its ordering key yet … loses its payload, header and what was answered, and keeps its records … events of which records are left, and nothing else"
	return []Case{
		{"Erase/Records", erases, needStore | needQuery | needErase, eraseRecords},
		{"Erase/OtherTenants", "at most req.Limit of the tenant's … \"\" is the tenant of those without one", needStore | needQuery | needErase, eraseOthers},
		{"Erase/Waiting", waiting, needStore | needQuery | needErase, eraseWaiting},
		{"Erase/InKey", kept, needStore | needQuery | needErase, eraseInKey},
		{"Erase/Count", "With req.Count it erases nothing and only tells what it would do", needStore | needQuery | needErase, eraseCount},
		{"Erase/Batches", "exclusive event ID; \"\": from the start … pass as After to go on; \"\": that was all", needStore | needQuery | needErase, eraseBatches},
		{"Erase/NotRedelivered", "the event's payload was erased", needStore | needQuery | needErase | needReplay | needHold, eraseNotRedelivered},
		{"Erase/IDStaysKnown", "What remains is the digest by which a repeat of the event's ID is known", needStore | needErase, eraseKnown},
	}
}

// erase erases acme's from the start to the end and returns what that did in all.
func (e *env) erase(req webhook.EraseTenantRequest) (all webhook.EraseTenantResult) {
	for calls := 0; ; calls++ {
		res, err := e.eraser().EraseTenant(e.ctx, &req)
		e.ok("EraseTenant", err)
		if n := res.Events + res.Kept + len(res.Waiting); req.Limit > 0 && n > req.Limit {
			e.failf("EraseTenant: %d events with a Limit of %d", n, req.Limit)
		}
		all.Events += res.Events
		all.Deliveries += res.Deliveries
		all.Waiting = append(all.Waiting, res.Waiting...)
		all.Kept += res.Kept
		if req.After = res.Next; res.Next == "" {
			return all
		}
		if calls > 10000 {
			e.failf("EraseTenant: the walk does not end")
		}
	}
}

// acmes is an event of acme's with the deliveries given.
func acmes(id string, deliveries ...webhook.NewDelivery) webhook.NewEvent {
	ev := event(id, deliveries...)
	ev.Event = richEvent(id)
	ev.Event.Tenant = "acme"
	return ev
}

func acme(now time.Time) webhook.EraseTenantRequest {
	return webhook.EraseTenantRequest{Now: now, Tenant: "acme"}
}

func eraseRecords(e *env) {
	e.put(at(0), acmes("e1", to("a", "d1"), to("a", "d2")), acmes("e2", to("b", "d3")), acmes("e3"))
	e.finishAll(at(0), webhook.Delivered)
	e.apply(at(0), ended(e.one("d3", at(0), fresh("b")), at(0), webhook.DeadLetter))
	e.same("erased", e.erase(acme(at(time.Hour))), webhook.EraseTenantResult{Events: 3, Deliveries: 3})
	e.same("deliveries left", e.left(), []string(nil))
	e.same("dead letters left", e.listDeliveries(webhook.ListDeliveriesRequest{State: webhook.DeadLetter}), []string(nil))
	e.same("events left", e.listEvents(webhook.ListEventsRequest{}), []string(nil))
	e.same("unmatched left", e.listEvents(webhook.ListEventsRequest{Unmatched: true}), []string(nil))
	for _, id := range []string{"e1", "e2", "e3"} {
		_, err := e.queries().GetEvent(e.ctx, id)
		e.wantErr("GetEvent", err, webhook.ErrNotFound)
	}
	for _, id := range []string{"d1", "d3"} {
		got, _ := e.queries().ListAttempts(e.ctx, id) // an error is as good as none
		e.same("attempts left", len(got), 0)
	}
	e.same("erased again", e.erase(acme(at(time.Hour))), webhook.EraseTenantResult{})
}

func eraseOthers(e *env) {
	e.put(at(0), acmes("e1", to("a", "d1")), event("e2", to("a", "d2")), typed("d3", "t", "acme2"))
	e.finishAll(at(0), webhook.Delivered)
	e.same("erased", e.erase(acme(at(time.Hour))), webhook.EraseTenantResult{Events: 1, Deliveries: 1})
	e.same("left", e.left(), []string{"d2", "d3"})
	e.attempts("d2", 1)
	e.same("erased of those without a tenant", e.erase(webhook.EraseTenantRequest{Now: at(time.Hour)}), webhook.EraseTenantResult{Events: 1, Deliveries: 1})
	e.same("left", e.left(), []string{"d3"})
}

func eraseWaiting(e *env) {
	e.put(at(0), acmes("e1", to("a", "d1"), to("b", "d2")), acmes("e2", to("c", "d3")))
	e.finishAll(at(0), webhook.Delivered)
	e.apply(at(0), ended(e.one("d3", at(0), fresh("c")), at(0), webhook.RetryScheduled))
	e.same("erased", e.erase(acme(at(time.Hour))), webhook.EraseTenantResult{Waiting: []string{"e1", "e2"}})
	e.attempts("d1", 1)
	want := richEvent("e1")
	want.Tenant = "acme"
	e.sameEvent(e.one("d2", at(0), fresh("b")).Event, want)
	e.one("d3", at(time.Minute), retry("c"))
}

func eraseInKey(e *env) {
	ordered := func(id string) webhook.NewEvent {
		return acmes(id, webhook.NewDelivery{ID: id, EndpointID: "a", OrderingKey: "k"})
	}
	e.put(at(0), ordered("d1"))
	e.put(at(0), keyed("a", "k", "d2"))
	o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter)
	o.Attempt.Response, o.Attempt.Detail, o.Reason = []byte("who it was for"), "and where", "and why"
	e.apply(at(0), o)
	for range 2 {
		e.same("erased", e.erase(acme(at(time.Hour))), webhook.EraseTenantResult{Kept: 1})
		e.erased("d1", at(time.Hour))
		a := e.attempts("d1", 1)[0]
		e.same("what was answered", string(a.Response)+a.Detail+e.delivery("d1", at(time.Hour)).Reason, "")
		e.same("Status", a.Status, 200)
	}
	if h, ok := e.h.Store.(webhook.HoldStore); ok {
		_, err := h.ReleaseKey(e.ctx, &webhook.ReleaseKeyRequest{Now: at(time.Hour), EndpointID: "a", OrderingKey: "k"})
		e.ok("ReleaseKey", err)
		e.same("erased", e.erase(acme(at(time.Hour))), webhook.EraseTenantResult{Events: 1, Deliveries: 1})
		e.one("d2", at(time.Hour), fresh("a"))
	}
}

func eraseCount(e *env) {
	e.put(at(0), acmes("e1", to("a", "d1"), to("a", "d2")), acmes("e2", to("b", "d3")))
	e.finishAll(at(0), webhook.Delivered)
	req := acme(at(time.Hour))
	req.Count = true
	for range 2 {
		e.same("to be erased", e.erase(req), webhook.EraseTenantResult{Events: 1, Deliveries: 2, Waiting: []string{"e2"}})
	}
	e.erased("e1", time.Time{})
	e.same("left", e.left(), []string{"d1", "d2", "d3"})
}

func eraseBatches(e *env) {
	for _, id := range []string{"e1", "e2", "e3", "e4", "e5", "e6", "e7"} {
		e.put(at(0), acmes(id, to("a", "d"+id)), event("o"+id, to("a", "do"+id)))
	}
	e.finishAll(at(0), webhook.Delivered)
	req := acme(at(time.Hour))
	req.Limit = 3
	res, err := e.eraser().EraseTenant(e.ctx, &req)
	e.ok("EraseTenant", err)
	e.same("erased by the first batch", res.Events, 3)
	req.After = res.Next
	e.same("erased then", e.erase(req).Events, 4)
	e.same("left", len(e.left()), 7)
}

func eraseKnown(e *env) {
	e.put(at(0), acmes("e1", to("a", "d1")))
	e.finishAll(at(0), webhook.Delivered)
	e.erase(acme(at(time.Hour)))
	again := acmes("e1", to("a", "d1"))
	e.same("statuses", e.enqueue(at(time.Hour), again, other(again)), []webhook.EnqueueStatus{webhook.Repeat, webhook.Conflict})
}

// eraseNotRedelivered erases the payload of what blocks its key, which leaves the event there.
func eraseNotRedelivered(e *env) {
	e.put(at(0), acmes("e1", webhook.NewDelivery{ID: "d1", EndpointID: "a", OrderingKey: "k"}), plain("a", "d2"))
	e.finishAll(at(0), webhook.DeadLetter)
	e.same("erased", e.erase(acme(at(time.Hour))), webhook.EraseTenantResult{Kept: 1})
	req := webhook.RedeliverRequest{Now: at(time.Hour), Deliveries: []webhook.Redelivery{again("n1", "e1", "a"), again("n2", "d2", "a")}}
	e.redeliver(req, webhook.PayloadGone, webhook.Redelivered)
	e.one("n2", at(time.Hour), fresh("a"))
}
