package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

func sourceCases() []Case {
	const (
		latest = "Of those of one event to one endpoint that were made within the filter's time and before req.Before only the latest may be one, and not when a later one is unfinished, or is delivered while it is not"
		events = "With Unmatched sources are events that have no delivery; with req.Events they are events, whatever deliveries they have"
		needs  = needStore | needReplay
	)
	return []Case{
		{"Sources/Final", "Sources are deliveries that are final and match req.Filter", needs, sourcesFinal},
		{"Sources/Filter", "Sources are deliveries that are final and match req.Filter … only what was made before; required", needs, sourcesFilter},
		{"Sources/Fields", "ReplaySource is what a replay is to repeat … of the delivery, or of the event where those are the sources … of the delivery; \"\" where events are the sources", needs, sourcesFields},
		{"Sources/Latest", latest, needs, sourcesLatest},
		{"Sources/LatestWithin", latest, needs, sourcesLatestWithin},
		{"Sources/ReplayedSince", "So a dead letter that was replayed since with success is no source, and one that was replayed in vain counts once", needs, sourcesReplayed},
		{"Sources/EachEndpoint", latest, needs, sourcesEachEndpoint},
		{"Sources/Unmatched", events, needs, sourcesUnmatched},
		{"Sources/Events", events, needs, sourcesEvents},
		{"Sources/EventsFilter", "Type, Tenant and time are the event's then, and no other field of the filter counts", needs, sourcesEventsFilter},
		{"Sources/Pages", "ReplaySources returns what a replay is to repeat, in ascending order of ReplaySource.ID, a page at a time … exclusive ID; \"\": from the start … pass as After for the next page; \"\": the walk is complete", needs, sourcesPages},
		{"Sources/To", "exclusive ID, where the walk ends; \"\": at the end", needs, sourcesTo},
		{"Sources/Examine", "A page looks at no more than req.Examine deliveries or events, so it may have fewer sources than its Limit, even none, with Next saying where to go on … at least 1", needs, sourcesExamine},
	}
}

// sources walks all pages and returns the IDs of the sources.
func (e *env) sources(req webhook.ReplaySourcesRequest) (all []string) {
	if req.Before.IsZero() {
		req.Before = at(1000 * time.Hour)
	}
	if req.Limit == 0 {
		req.Limit, req.Examine = 3, 5
	}
	for range 10000 {
		res, err := e.replays().ReplaySources(e.ctx, &req)
		e.ok("ReplaySources", err)
		if len(res.Sources) > req.Limit {
			e.failf("ReplaySources: %d sources with a Limit of %d", len(res.Sources), req.Limit)
		}
		for _, src := range res.Sources {
			all = append(all, src.ID)
		}
		if res.Next == "" {
			return all
		}
		req.After = res.Next
	}
	e.failf("ReplaySources: the walk does not end")
	return nil
}

func (e *env) wantSources(what string, req webhook.ReplaySourcesRequest, want ...string) {
	if got := e.sources(req); !slices.Equal(got, want) {
		e.failf("sources %s: got %v, want %v", what, got, want)
	}
}

// endAs claims a delivery that was just made and ends it.
func (e *env) endAs(id, endpoint string, now time.Time, next webhook.State) {
	e.apply(now, ended(e.one(id, now, fresh(endpoint)), now, next))
}

func finals() []webhook.State {
	return []webhook.State{webhook.Delivered, webhook.DeadLetter, webhook.Canceled, webhook.Expired}
}

func sourcesFinal(e *env) {
	want := []string{}
	for i, st := range finals() {
		id := fmt.Sprint("d", i)
		e.put(at(0), plain("a", id))
		e.endAs(id, "a", at(0), st)
		want = append(want, id)
		e.wantSources("that are "+string(st), webhook.ReplaySourcesRequest{Filter: webhook.Filter{State: st}}, id)
	}
	e.put(at(0), plain("a", "d5"), plain("a", "d6"), plain("a", "d7"))
	for _, c := range e.claim(at(0), lane("a", webhook.Fresh, 2)) {
		if c.Delivery.ID == "d5" {
			e.apply(at(0), ended(c, at(0), webhook.RetryScheduled))
		}
	}
	e.wantSources("of any state", webhook.ReplaySourcesRequest{}, want...)
}

func sourcesFilter(e *env) {
	for i, endpoint := range []string{"a", "b", "a"} {
		for j, typ := range []string{"order_create", "order_update", "refund"} {
			id := fmt.Sprintf("d%d%d", i, j)
			ev := plain(endpoint, id)
			ev.Event.Type, ev.Event.Tenant = typ, []string{"", "t1", "t2"}[i]
			now := at(time.Duration(j) * time.Hour)
			e.put(now, ev)
			e.endAs(id, endpoint, now, []webhook.State{webhook.DeadLetter, webhook.Delivered, webhook.DeadLetter}[i])
		}
	}
	for _, tt := range []struct {
		what   string
		filter webhook.Filter
		before time.Time
		want   []string
	}{
		{"all", webhook.Filter{}, time.Time{}, []string{"d00", "d01", "d02", "d10", "d11", "d12", "d20", "d21", "d22"}},
		{"endpoint", webhook.Filter{Endpoint: "a"}, time.Time{}, []string{"d00", "d01", "d02", "d20", "d21", "d22"}},
		{"no such endpoint", webhook.Filter{Endpoint: "A"}, time.Time{}, nil},
		{"type", webhook.Filter{Type: "refund"}, time.Time{}, []string{"d02", "d12", "d22"}},
		{"prefix", webhook.Filter{Type: "order_*", Endpoint: "b"}, time.Time{}, []string{"d10", "d11"}},
		{"tenant", webhook.Filter{Tenant: new("t2")}, time.Time{}, []string{"d20", "d21", "d22"}},
		{"no tenant", webhook.Filter{Tenant: new("")}, time.Time{}, []string{"d00", "d01", "d02"}},
		{"state", webhook.Filter{State: webhook.Delivered}, time.Time{}, []string{"d10", "d11", "d12"}},
		{"since", webhook.Filter{Since: at(time.Hour), Endpoint: "b"}, time.Time{}, []string{"d11", "d12"}},
		{"until", webhook.Filter{Until: at(time.Hour)}, time.Time{}, []string{"d00", "d10", "d20"}},
		{"since and until", webhook.Filter{Since: at(time.Hour), Until: at(time.Hour + time.Microsecond)}, time.Time{}, []string{"d01", "d11", "d21"}},
		{"before", webhook.Filter{}, at(time.Hour), []string{"d00", "d10", "d20"}},
		{"all of it", webhook.Filter{Endpoint: "a", Type: "order_*", Tenant: new("t2"), State: webhook.DeadLetter, Since: at(1), Until: at(2 * time.Hour)}, at(90 * time.Minute), []string{"d21"}},
	} {
		e.wantSources(tt.what, webhook.ReplaySourcesRequest{Filter: tt.filter, Before: tt.before}, tt.want...)
	}
}

func sourcesFields(e *env) {
	ev := event("e1", to("a", "d1"))
	ev.Event.Tenant = "t1"
	e.put(at(0), ev)
	e.endAs("d1", "a", at(0), webhook.Expired)
	for _, events := range []bool{false, true} {
		res, err := e.replays().ReplaySources(e.ctx, &webhook.ReplaySourcesRequest{Before: at(1000), Events: events, Limit: 9, Examine: 9})
		e.ok("ReplaySources", err)
		want := webhook.ReplaySource{ID: "d1", EventID: "e1", Type: "order_create", Tenant: "t1", EndpointID: "a"}
		if events {
			want.ID, want.EndpointID = "e1", ""
		}
		e.same("sources", res.Sources, []webhook.ReplaySource{want})
	}
}

// repeated makes a delivery at one hour and a later one of the same event and endpoint at two hours, which ends unless "" is asked.
func (e *env) repeated(first, later webhook.State) {
	e.put(at(time.Hour), plain("a", "d5"))
	e.endAs("d5", "a", at(time.Hour), first)
	// Its ID is the smaller one: what is later does not go by it.
	e.redeliver(webhook.RedeliverRequest{Now: at(2 * time.Hour), Deliveries: []webhook.Redelivery{again("d4", "d5", "a")}}, webhook.Redelivered)
	if later != "" {
		e.endAs("d4", "a", at(2*time.Hour), later)
	}
}

func sourcesLatest(e *env) {
	for _, first := range finals() {
		for _, later := range append(finals(), "") {
			e := e.fresh()
			e.repeated(first, later)
			var want []string
			if later != "" {
				want = []string{"d4"}
			}
			e.wantSources(fmt.Sprintf("of %s, then %q", first, later), webhook.ReplaySourcesRequest{}, want...)
		}
	}
}

func sourcesLatestWithin(e *env) {
	for _, first := range finals() {
		for _, later := range append(finals(), "") {
			e := e.fresh()
			e.repeated(first, later)
			want := []string{"d5"}
			if later == "" || later == webhook.Delivered && first != webhook.Delivered {
				want = nil
			}
			what := fmt.Sprintf("of %s, then %q", first, later)
			e.wantSources(what+", until before it", webhook.ReplaySourcesRequest{Filter: webhook.Filter{Until: at(2 * time.Hour)}}, want...)
			e.wantSources(what+", before it", webhook.ReplaySourcesRequest{Before: at(2 * time.Hour)}, want...)
		}
	}
}

func sourcesReplayed(e *env) {
	dead := webhook.ReplaySourcesRequest{Filter: webhook.Filter{State: webhook.DeadLetter}}
	e.repeated(webhook.DeadLetter, webhook.DeadLetter)
	e.wantSources("replayed in vain", dead, "d4")
	e.redeliver(webhook.RedeliverRequest{Now: at(3 * time.Hour), Deliveries: []webhook.Redelivery{again("d6", "d5", "a")}}, webhook.Redelivered)
	e.wantSources("waiting", dead)
	e.endAs("d6", "a", at(3*time.Hour), webhook.Delivered)
	e.wantSources("replayed with success", dead)
}

func sourcesEachEndpoint(e *env) {
	e.put(at(0), event("e1", to("a", "d1"), to("b", "d2")))
	e.endAs("d1", "a", at(0), webhook.DeadLetter)
	e.endAs("d2", "b", at(0), webhook.Delivered)
	e.put(at(0), event("e2", to("a", "d3")))
	e.wantSources("of two endpoints", webhook.ReplaySourcesRequest{}, "d1", "d2")
}

func sourcesUnmatched(e *env) {
	req := webhook.ReplaySourcesRequest{Filter: webhook.Filter{State: webhook.Unmatched}}
	e.put(at(0), event("e1"), event("e2", to("a", "d1")), event("e3"), event("e4"))
	e.wantSources("unmatched", req, "e1", "e3", "e4")
	e.redeliver(webhook.RedeliverRequest{Now: at(0), Deliveries: []webhook.Redelivery{again("x1", "e3", "a")}}, webhook.Redelivered)
	e.wantSources("unmatched, one of them sent since", req, "e1", "e4")
}

func sourcesEvents(e *env) {
	e.put(at(0), event("e1"), event("e2", to("a", "d1"), to("b", "d2")), event("e0", to("c", "d3")))
	e.endAs("d1", "a", at(0), webhook.Delivered)
	e.wantSources("events", webhook.ReplaySourcesRequest{Events: true}, "e0", "e1", "e2")
}

func sourcesEventsFilter(e *env) {
	for i, typ := range []string{"order_create", "order_update", "refund"} {
		ev := event(fmt.Sprint("e", i))
		ev.Event.Type, ev.Event.Tenant = typ, []string{"", "t1", "t1"}[i]
		e.put(at(time.Duration(i)*time.Hour), ev)
	}
	for _, events := range []bool{true, false} {
		for _, tt := range []struct {
			what   string
			filter webhook.Filter
			before time.Time
			want   []string
		}{
			{"type", webhook.Filter{Type: "order_*"}, time.Time{}, []string{"e0", "e1"}},
			{"tenant", webhook.Filter{Tenant: new("t1")}, time.Time{}, []string{"e1", "e2"}},
			{"since", webhook.Filter{Since: at(time.Hour)}, time.Time{}, []string{"e1", "e2"}},
			{"until", webhook.Filter{Until: at(time.Hour)}, time.Time{}, []string{"e0"}},
			{"before", webhook.Filter{}, at(2 * time.Hour), []string{"e0", "e1"}},
			{"endpoint", webhook.Filter{Endpoint: "a"}, time.Time{}, []string{"e0", "e1", "e2"}},
		} {
			req := webhook.ReplaySourcesRequest{Filter: tt.filter, Before: tt.before, Events: events}
			if !events {
				req.Filter.State = webhook.Unmatched
			}
			e.wantSources(fmt.Sprint(tt.what, ", events ", events), req, tt.want...)
		}
	}
}

// ten makes ten sources d0 to d9, and events of the same names.
func (e *env) ten() (all []string) {
	for i := range 10 {
		id := fmt.Sprint("d", i)
		e.dead(at(0), "a", id)
		all = append(all, id)
	}
	return all
}

func sourcesPages(e *env) {
	all := e.ten()
	for _, events := range []bool{false, true} {
		for limit := 1; limit < 12; limit++ {
			req := webhook.ReplaySourcesRequest{Events: events, Limit: limit, Examine: 100}
			e.wantSources(fmt.Sprint("in pages of ", limit), req, all...)
			req.After = "d4"
			e.wantSources("after d4", req, all[5:]...)
			req.Filter.Endpoint = "a"
			e.wantSources("after d4 to an endpoint", req, all[5:]...)
		}
	}
}

func sourcesTo(e *env) {
	all := e.ten()
	for _, events := range []bool{false, true} {
		for _, endpoint := range []string{"", "a"} {
			req := webhook.ReplaySourcesRequest{Filter: webhook.Filter{Endpoint: endpoint}, Events: events, After: "d2", To: "d7"}
			e.wantSources("from d2 to d7", req, all[3:7]...)
		}
	}
}

func sourcesExamine(e *env) {
	all := e.ten()
	e.put(at(0), plain("b", "e1"))
	e.endAs("e1", "b", at(0), webhook.Delivered)
	req := webhook.ReplaySourcesRequest{Filter: webhook.Filter{State: webhook.Delivered}, Before: at(1000), Limit: 3, Examine: 4}
	for i := 0; ; i++ {
		res, err := e.replays().ReplaySources(e.ctx, &req)
		e.ok("ReplaySources", err)
		switch {
		case i < 2 && (len(res.Sources) != 0 || res.Next != all[4*i+3]):
			e.failf("page %d: got %v and Next %q, want none and %q", i, res.Sources, res.Next, all[4*i+3])
		case i == 2 && (len(res.Sources) != 1 || res.Next != ""):
			e.failf("page %d: got %v and Next %q, want e1 and none", i, res.Sources, res.Next)
		}
		if i == 2 {
			break
		}
		req.After = res.Next
	}
	for _, req := range []webhook.ReplaySourcesRequest{{Before: at(1), Limit: 1}, {Before: at(1), Examine: 1}} {
		_, err := e.replays().ReplaySources(e.ctx, &req)
		e.wantErr("ReplaySources", err, webhook.ErrInvalid)
	}
}
