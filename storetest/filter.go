package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

func filterCases() []Case {
	const empty = "Empty fields do not filter"
	const newest = "with Newest descending"
	const unfinished = "What is unfinished, and what ended otherwise than delivered, is found without a walk over what was delivered"
	return []Case{
		{"List/Newest", newest + " … in descending order of ID … The walk is complete when Next is \"\"", needStore | needQuery, listNewest},
		{"List/Bounds", "exclusive ID: only greater ones … exclusive ID: only lesser ones", needStore | needQuery, listBounds},
		{"List/NewestByState", newest + " … " + unfinished, needStore | needQuery, listNewestByState},
		{"List/States", "any of these, or State", needStore | needQuery, listStates},
		{"List/StatesOfEndpoint", unfinished, needStore | needQuery, listStatesOfEndpoint},
		{"List/EndedByEnd", unfinished, needStore | needQuery | needLife, listEndedByEnd},
		{"List/ByType", "of the event: exact, or a prefix and \"*\"", needStore | needQuery, listByType},
		{"List/ByTenant", "of the event; nil: of every tenant", needStore | needQuery, listByTenant},
		{"List/ByTime", "CreatedAt, inclusive … CreatedAt, exclusive", needStore | needQuery, listByTime},
		{"List/ByResponse", "of the attempt with the greatest token … ResponseClass tells answers apart by their first digit … an attempt was made and got no status", needStore | needQuery, listByResponse},
		{"List/FewMatch", empty + " … when few match, a page may hold fewer than Limit, even none, and its Next says where to go on", needStore | needQuery, listFewMatch},
	}
}

// scene puts deliveries of two endpoints in all states: a-queued, a-retry, a-dead, a-canceled, a-expired, a-done, the same of b, and
// a-leased.
func (e *env) scene() {
	for _, ep := range []string{"a", "b"} {
		e.put(at(0), plain(ep, ep+"-dead"), plain(ep, ep+"-canceled"), plain(ep, ep+"-expired"), plain(ep, ep+"-done"), plain(ep, ep+"-retry"))
		for _, c := range e.claim(at(0), fresh(ep)) {
			next := map[string]webhook.State{"dead": webhook.DeadLetter, "canceled": webhook.Canceled, "expired": webhook.Expired,
				"done": webhook.Delivered, "retry": webhook.RetryScheduled}[c.Delivery.ID[2:]]
			e.apply(at(0), ended(c, at(0), next))
		}
		if ep == "a" {
			e.put(at(0), plain(ep, ep+"-leased"))
			e.one("a-leased", at(0), fresh(ep))
		}
		e.put(at(0), plain(ep, ep+"-queued"))
	}
}

func listNewest(e *env) {
	want := slices.Concat(e.fill("a", 7), e.fill("b", 2))
	slices.Sort(want)
	slices.Reverse(want)
	for page := 1; page <= 10; page++ {
		e.same(fmt.Sprintf("deliveries in pages of %d", page), e.listDeliveries(webhook.ListDeliveriesRequest{Newest: true, Limit: page}), want)
	}
	ofA := slices.DeleteFunc(slices.Clone(want), func(id string) bool { return id[0] != 'a' })
	for page := 1; page <= 8; page++ {
		req := webhook.ListDeliveriesRequest{EndpointID: "a", Newest: true, Limit: page}
		e.same(fmt.Sprintf("deliveries of a in pages of %d", page), e.listDeliveries(req), ofA)
	}
	e.put(at(0), event("many", to("a", "m1"), to("b", "m2"), to("c", "m3")))
	e.same("of an event", e.listDeliveries(webhook.ListDeliveriesRequest{EventID: "many", Newest: true, Limit: 2}), []string{"m3", "m2", "m1"})
}

func listBounds(e *env) {
	for _, id := range []string{"d1", "d2", "d3", "d4", "d5"} {
		e.put(at(0), plain("a", id))
	}
	for _, newest := range []bool{false, true} {
		for _, endpoint := range []string{"", "a"} {
			for _, state := range []webhook.State{"", webhook.Queued} {
				want := []string{"d2", "d3", "d4"}
				if newest {
					slices.Reverse(want)
				}
				req := webhook.ListDeliveriesRequest{After: "d1", Before: "d5", Newest: newest, EndpointID: endpoint, State: state, Limit: 2}
				e.same(fmt.Sprintf("between d1 and d5, newest %v, endpoint %q, state %q", newest, endpoint, state), e.listDeliveries(req), want)
				req.After, req.Before, req.Limit = "d1a", "d4a", 10
				e.same("between d1a and d4a", e.listDeliveries(req), want)
			}
		}
	}
	e.same("before the first", e.listDeliveries(webhook.ListDeliveriesRequest{Before: "d1"}), []string(nil))
	e.same("before the first, newest", e.listDeliveries(webhook.ListDeliveriesRequest{Before: "d1", Newest: true}), []string(nil))
}

func listNewestByState(e *env) {
	e.scene()
	for _, page := range []int{1, 2, 100} {
		for _, tt := range []struct {
			states []webhook.State
			want   []string
		}{
			{[]webhook.State{webhook.DeadLetter}, []string{"b-dead", "a-dead"}},
			{[]webhook.State{webhook.Queued, webhook.Delivering}, []string{"b-queued", "a-queued", "a-leased"}},
			{[]webhook.State{webhook.Expired, webhook.RetryScheduled}, []string{"b-retry", "b-expired", "a-retry", "a-expired"}},
		} {
			req := webhook.ListDeliveriesRequest{States: tt.states, Newest: true, Limit: page}
			e.same(fmt.Sprintf("%v in pages of %d", tt.states, page), e.listDeliveries(req), tt.want)
		}
	}
}

func listStates(e *env) {
	e.scene()
	for _, page := range []int{1, 3, 100} {
		for _, tt := range []struct {
			state  webhook.State
			states []webhook.State
			want   []string
		}{
			{webhook.DeadLetter, nil, []string{"a-dead", "b-dead"}},
			{"", []webhook.State{webhook.DeadLetter, webhook.Canceled}, []string{"a-canceled", "a-dead", "b-canceled", "b-dead"}},
			{webhook.Expired, []webhook.State{webhook.Expired}, []string{"a-expired", "b-expired"}},
			{webhook.Queued, []webhook.State{webhook.DeadLetter}, []string{"a-dead", "a-queued", "b-dead", "b-queued"}},
			{"", []webhook.State{webhook.Delivered, webhook.Delivering}, []string{"a-done", "a-leased", "b-done"}},
			{"", []webhook.State{webhook.Held}, nil},
		} {
			req := webhook.ListDeliveriesRequest{State: tt.state, States: tt.states, Limit: page}
			e.same(fmt.Sprintf("%s %v in pages of %d", tt.state, tt.states, page), e.listDeliveries(req), tt.want)
		}
	}
}

func listStatesOfEndpoint(e *env) {
	e.scene()
	for _, page := range []int{1, 2, 100} {
		for _, tt := range []struct {
			states []webhook.State
			want   []string
		}{
			{[]webhook.State{webhook.DeadLetter}, []string{"a-dead"}},
			{[]webhook.State{webhook.Queued, webhook.RetryScheduled}, []string{"a-queued", "a-retry"}},
			{[]webhook.State{webhook.Delivering, webhook.Canceled, webhook.Expired}, []string{"a-canceled", "a-expired", "a-leased"}},
			{[]webhook.State{webhook.Delivered}, []string{"a-done"}},
		} {
			req := webhook.ListDeliveriesRequest{EndpointID: "a", States: tt.states, Limit: page}
			e.same(fmt.Sprintf("%v of a in pages of %d", tt.states, page), e.listDeliveries(req), tt.want)
		}
	}
}

// listEndedByEnd ends what waits, some of it in the middle of its key.
func listEndedByEnd(e *env) {
	e.queue("a", "k", "k1", "k2")
	e.put(at(0), plain("a", "p1"), plain("b", "p2"))
	for _, id := range []string{"k2", "p1"} {
		_, err := e.life().End(e.ctx, &webhook.EndRequest{Now: at(0), DeliveryID: id, Next: webhook.Canceled, Reason: "test"})
		e.ok("End", err)
	}
	for _, endpoint := range []string{"", "a"} {
		req := webhook.ListDeliveriesRequest{EndpointID: endpoint, State: webhook.Canceled, Limit: 1}
		e.same("canceled", e.listDeliveries(req), []string{"k2", "p1"})
		req.States = []webhook.State{webhook.Queued}
		req.Before = "l"
		e.same("canceled or queued", e.listDeliveries(req), []string{"k1", "k2"})
	}
	e.same("queued", e.listDeliveries(webhook.ListDeliveriesRequest{State: webhook.Queued, EndpointID: "a"}), []string{"k1"})
}

// typed is an event of a type and tenant with one delivery of its ID.
func typed(id, typ, tenant string) webhook.NewEvent {
	ev := plain("a", id)
	ev.Event.Type, ev.Event.Tenant = typ, tenant
	return ev
}

func listByType(e *env) {
	e.put(at(0), typed("d1", "order_create", ""), typed("d2", "order_update", ""), typed("d3", "order", ""), typed("d4", "refund", ""))
	for typ, want := range map[string][]string{"order_create": {"d1"}, "order_*": {"d1", "d2"}, "order*": {"d1", "d2", "d3"}, "*": {"d1", "d2", "d3", "d4"},
		"Order": nil, "orde": nil} {
		e.same("type "+typ, e.listDeliveries(webhook.ListDeliveriesRequest{Type: typ, Limit: 1}), want)
		e.same("type "+typ+" of a", e.listDeliveries(webhook.ListDeliveriesRequest{Type: typ, State: webhook.Queued, EndpointID: "a"}), want)
	}
}

func listByTenant(e *env) {
	e.put(at(0), typed("d1", "t", "acme"), typed("d2", "t", ""), typed("d3", "t", "acme2"), typed("d4", "t", "acme"))
	for tenant, want := range map[string][]string{"acme": {"d1", "d4"}, "": {"d2"}, "ACME": nil} {
		e.same("tenant "+tenant, e.listDeliveries(webhook.ListDeliveriesRequest{Tenant: &tenant, Limit: 1}), want)
	}
	none := ""
	e.same("type and tenant", e.listDeliveries(webhook.ListDeliveriesRequest{Tenant: &none, Type: "t"}), []string{"d2"})
	e.same("every tenant", len(e.listDeliveries(webhook.ListDeliveriesRequest{})), 4)
}

func listByTime(e *env) {
	for i, id := range []string{"d4", "d2", "d1", "d3"} {
		e.put(at(time.Duration(i)*time.Second), plain("a", id))
	}
	for _, tt := range []struct {
		since, until time.Time
		want         []string
	}{
		{at(0), at(time.Second), []string{"d4"}},
		{at(time.Second), time.Time{}, []string{"d1", "d2", "d3"}},
		{time.Time{}, at(time.Second + time.Microsecond), []string{"d2", "d4"}},
		{at(time.Second), at(3 * time.Second), []string{"d1", "d2"}},
		{at(4 * time.Second), time.Time{}, nil},
	} {
		for _, state := range []webhook.State{"", webhook.Queued} {
			req := webhook.ListDeliveriesRequest{Now: at(time.Minute), Since: tt.since, Until: tt.until, State: state, Limit: 1}
			e.same(fmt.Sprintf("from %v to %v", tt.since, tt.until), e.listDeliveries(req), tt.want)
		}
	}
}

func listByResponse(e *env) {
	answers := map[string]int{"ok": 200, "moved": 301, "refused": 404, "down": 503, "away": 0, "again": 503, "long": 200}
	for id := range answers {
		e.put(at(0), plain(id, id))
	}
	e.put(at(0), plain("untried", "untried"))
	for id, status := range answers {
		next := webhook.Delivered
		if status != 200 {
			next = webhook.DeadLetter
		}
		if id == "again" {
			next = webhook.RetryScheduled
		}
		o := ended(e.one(id, at(0), fresh(id)), at(0), next)
		if o.Attempt.Status = status; id == "long" {
			o.Attempt.Response = []byte(fmt.Sprintf("%01000d", 1))
		}
		e.apply(at(0), o)
	}
	want := func(class webhook.ResponseClass, ids ...string) {
		e.same("answered "+string(class), e.listDeliveries(webhook.ListDeliveriesRequest{Response: class, Limit: 2}), ids)
	}
	want(webhook.Response2xx, "long", "ok")
	want(webhook.Response3xx, "moved")
	want(webhook.Response4xx, "refused")
	want(webhook.Response5xx, "again", "down")
	want(webhook.NoResponse, "away")
	o := ended(e.one("again", at(time.Minute), retry("again")), at(time.Minute), webhook.Delivered)
	o.Attempt.Status = 204
	e.apply(at(time.Minute), o)
	want(webhook.Response5xx, "down")
	want(webhook.Response2xx, "again", "long", "ok")
	e.same("failed with 5xx", e.listDeliveries(webhook.ListDeliveriesRequest{Response: webhook.Response5xx, State: webhook.DeadLetter}), []string{"down"})
}

func listFewMatch(e *env) {
	e.fill("a", 40)
	e.put(at(0), plain("z", "z"), typed("a0015x", "rare", "rarer"))
	for _, newest := range []bool{false, true} {
		e.same("the rare type", e.listDeliveries(webhook.ListDeliveriesRequest{Type: "rare", Limit: 3, Newest: newest}), []string{"a0015x"})
		e.same("the rare endpoint", e.listDeliveries(webhook.ListDeliveriesRequest{EndpointID: "z", Limit: 3, Newest: newest}), []string{"z"})
	}
}

func eventCases() []Case {
	const list = "ListEvents returns events without their payloads and headers"
	return []Case{
		{"Events/List", list + " … how many it fanned out to", needStore | needQuery, eventsList},
		{"Events/Pages", "Lists are pages by ID, ascending or with Newest descending", needStore | needQuery, eventsPages},
		{"Events/Unmatched", "only those that matched no endpoint", needStore | needQuery, eventsUnmatched},
		{"Events/Filters", "Empty fields do not filter", needStore | needQuery, eventsFilters},
	}
}

// listEvents walks the pages and returns the IDs.
func (e *env) listEvents(req webhook.ListEventsRequest) (all []string) {
	for {
		res, err := e.queries().ListEvents(e.ctx, &req)
		e.ok("ListEvents", err)
		if req.Limit > 0 && len(res.Events) > req.Limit {
			e.failf("ListEvents: %d events with a Limit of %d", len(res.Events), req.Limit)
		}
		for _, rec := range res.Events {
			all = append(all, rec.Event.ID)
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
			e.failf("ListEvents: the walk does not end")
		}
	}
}

func eventsList(e *env) {
	ev := event("e1", to("a", "d1"), to("b", "d2"))
	ev.Event = richEvent("e1")
	e.put(at(999), ev)
	res, err := e.queries().ListEvents(e.ctx, &webhook.ListEventsRequest{})
	e.ok("ListEvents", err)
	e.same("events", len(res.Events), 1)
	want := richEvent("e1")
	want.Payload, want.Header = nil, nil
	got := res.Events[0]
	e.same("Event", got.Event, want)
	e.same("Deliveries", got.Deliveries, 2)
	e.sameTime("CreatedAt", got.CreatedAt, at(0))
	e.sameTime("ErasedAt", got.ErasedAt, time.Time{})
}

func eventsPages(e *env) {
	want := []string{"e1", "e2", "e3", "e4", "e5"}
	for _, id := range want {
		e.put(at(0), event(id, to("a", "d-"+id)))
	}
	backwards := slices.Clone(want)
	slices.Reverse(backwards)
	for page := 1; page <= 6; page++ {
		e.same(fmt.Sprintf("events in pages of %d", page), e.listEvents(webhook.ListEventsRequest{Limit: page}), want)
		e.same(fmt.Sprintf("newest in pages of %d", page), e.listEvents(webhook.ListEventsRequest{Limit: page, Newest: true}), backwards)
	}
	e.put(at(0), event("e3x"))
	e.same("between", e.listEvents(webhook.ListEventsRequest{After: "e3", Before: "e5", Limit: 1}), []string{"e3x", "e4"})
}

func eventsUnmatched(e *env) {
	e.put(at(0), event("e1"), event("e2", to("a", "d2")), event("e3"))
	e.put(at(0), event("e4", to("a", "d4")))
	e.put(at(0), event("e5"))
	e.same("unmatched", e.listEvents(webhook.ListEventsRequest{Unmatched: true, Limit: 2}), []string{"e1", "e3", "e5"})
	e.same("unmatched, newest", e.listEvents(webhook.ListEventsRequest{Unmatched: true, Limit: 2, Newest: true}), []string{"e5", "e3", "e1"})
	e.same("all", len(e.listEvents(webhook.ListEventsRequest{})), 5)
}

func eventsFilters(e *env) {
	for i, ev := range []webhook.NewEvent{typed("e1", "order_create", "acme"), typed("e2", "order_update", ""), typed("e3", "refund", "acme")} {
		e.put(at(time.Duration(i)*time.Second), ev)
	}
	acme := "acme"
	e.same("order_*", e.listEvents(webhook.ListEventsRequest{Type: "order_*"}), []string{"e1", "e2"})
	e.same("refund", e.listEvents(webhook.ListEventsRequest{Type: "refund"}), []string{"e3"})
	e.same("of acme", e.listEvents(webhook.ListEventsRequest{Tenant: &acme}), []string{"e1", "e3"})
	e.same("since", e.listEvents(webhook.ListEventsRequest{Since: at(time.Second)}), []string{"e2", "e3"})
	e.same("until", e.listEvents(webhook.ListEventsRequest{Until: at(time.Second)}), []string{"e1"})
}

func keyHeadCases() []Case {
	const head = "KeyHead returns what stands first in an ordering key of an endpoint: what the others of the key wait for … ErrNotFound: nothing of the key waits, and nothing blocks it"
	return []Case{
		{"KeyHead/First", head, needStore | needQuery, keyHeadFirst},
		{"KeyHead/Blocked", "it is a dead letter, behind which the key waits for HoldStore.ReleaseKey … it is one by HoldKey: what waits reads as Held", needStore | needQuery | needHold, keyHeadBlocked},
		{"KeyHead/Ended", "LifeStore.End has ended it, and it keeps its place until its turn has come", needStore | needQuery | needLife, keyHeadEnded},
	}
}

func (e *env) wantHead(want webhook.KeyHead) {
	got, err := e.queries().KeyHead(e.ctx, "a", "k")
	e.ok("KeyHead", err)
	e.same("KeyHead", *got, want)
}

func keyHeadFirst(e *env) {
	none := func(endpoint, key string) {
		_, err := e.queries().KeyHead(e.ctx, endpoint, key)
		e.wantErr("KeyHead", err, webhook.ErrNotFound)
	}
	none("a", "k")
	e.queue("a", "k", "d1", "d2")
	none("a", "K")
	none("b", "k")
	none("a", "")
	e.wantHead(webhook.KeyHead{DeliveryID: "d1", Sequence: 1})
	e.apply(at(0), ended(e.one("d1", at(0), fresh("a")), at(0), webhook.Delivered))
	e.wantHead(webhook.KeyHead{DeliveryID: "d2", Sequence: 2})
	e.apply(at(0), ended(e.one("d2", at(0), fresh("a")), at(0), webhook.Delivered))
	none("a", "k")
}

func keyHeadBlocked(e *env) {
	for _, policy := range []webhook.OrderPolicy{webhook.BlockBehindDeadLetter, webhook.HoldKey} {
		e = e.fresh()
		e.queue("a", "k", "d1", "d2")
		o := ended(e.one("d1", at(0), fresh("a")), at(0), webhook.DeadLetter)
		o.BehindDeadLetter = policy
		e.apply(at(0), o)
		e.wantHead(webhook.KeyHead{DeliveryID: "d1", Sequence: 1, Blocked: true, Held: policy == webhook.HoldKey})
		e.release("a", "k", true)
		e.wantHead(webhook.KeyHead{DeliveryID: "d2", Sequence: 2})
	}
}

func keyHeadEnded(e *env) {
	e.queue("a", "k", "d1", "d2")
	_, err := e.life().End(e.ctx, &webhook.EndRequest{Now: at(0), DeliveryID: "d1", Next: webhook.Canceled, Reason: "test"})
	e.ok("End", err)
	e.wantHead(webhook.KeyHead{DeliveryID: "d1", Sequence: 1, Ended: true})
}
