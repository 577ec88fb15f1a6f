package webhook_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

func TestDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &running{store: memstore.New(), rc: outcomes()}
		acme, other := endpoint(t, "acme"), endpoint(t, "other")
		acme.Tenant, acme.Schedule = "acme", webhook.NoRetry()
		r.start(t, webhook.DispatcherOptions{}, acme, other)
		tenant := func(n int) string { return []string{"acme", ""}[n%2] }
		for i := range 10 {
			ev := webhook.Event{ID: fmt.Sprint("e", i), Type: []string{"order_create", "order_update", "refund"}[i%3], Tenant: tenant(i), Header: http.Header{}}
			if i == 4 {
				ev.Header.Set("Bad", "yes")
			}
			r.send(t, ev)
			time.Sleep(24 * time.Minute)
		}
		none, start := "", bubbleStart()
		for _, tt := range []struct {
			name  string
			query webhook.DeliveryQuery
			want  []string
		}{
			{"all", webhook.DeliveryQuery{}, []string{"e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9"}},
			{"by endpoint", webhook.DeliveryQuery{Filter: webhook.Filter{Endpoint: "acme"}}, []string{"e0", "e2", "e4", "e6", "e8"}},
			{"by tenant", webhook.DeliveryQuery{Filter: webhook.Filter{Tenant: &none}}, []string{"e1", "e3", "e5", "e7", "e9"}},
			{"by type", webhook.DeliveryQuery{Filter: webhook.Filter{Type: "order_*", Endpoint: "acme"}}, []string{"e0", "e4", "e6"}},
			{"by state", webhook.DeliveryQuery{Filter: webhook.Filter{State: webhook.DeadLetter}}, []string{"e4"}},
			{"by states", webhook.DeliveryQuery{States: []webhook.State{webhook.DeadLetter, webhook.Queued}}, []string{"e4"}},
			{"by response", webhook.DeliveryQuery{Response: webhook.Response4xx}, []string{"e4"}},
			{"by event", webhook.DeliveryQuery{EventID: "e7"}, []string{"e7"}},
			{"since", webhook.DeliveryQuery{Filter: webhook.Filter{Since: start.Add(7 * 24 * time.Minute)}}, []string{"e7", "e8", "e9"}},
			{"until", webhook.DeliveryQuery{Filter: webhook.Filter{Until: start.Add(2 * 24 * time.Minute)}}, []string{"e0", "e1"}},
			{"between", webhook.DeliveryQuery{Filter: webhook.Filter{Since: start.Add(time.Minute), Until: start.Add(2 * time.Hour), Tenant: &none}}, []string{"e1", "e3"}},
		} {
			for _, limit := range []int{0, 1, 3} {
				tt.query.Limit = limit
				if diff := cmp.Diff(tt.want, r.list(t, tt.query)); diff != "" {
					t.Errorf("%s, limit %d: %s", tt.name, limit, diff)
				}
			}
		}
		page, err := r.Deliveries(t.Context(), webhook.DeliveryQuery{Limit: 3})
		must(t, err)
		var got []string
		for _, d := range page.Deliveries {
			got = append(got, d.EventID)
		}
		if diff := cmp.Diff([]string{"e9", "e8", "e7"}, got); diff != "" || page.Next == "" {
			t.Errorf("newest: %s, next %q", diff, page.Next)
		}
		for name, q := range map[string]webhook.DeliveryQuery{"Limit": {Limit: 1001}, "negative": {Limit: -1}, "Response": {Response: "6xx"},
			"State": {Filter: webhook.Filter{State: webhook.Unmatched}}} {
			if _, err := r.Deliveries(t.Context(), q); !errors.Is(err, webhook.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A page that few match goes on by itself, and what nothing matches ends.
func TestDeliveriesFewMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme"))
		for range 12 {
			events := make([]webhook.Event, 1000)
			for i := range events {
				events[i].Type = "common"
			}
			if _, err := r.SendBatch(t.Context(), events); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		r.send(t, webhook.Event{ID: "rare", Type: "rare"})
		time.Sleep(time.Minute)
		req := &webhook.ListDeliveriesRequest{Type: "rare"}
		if res, err := r.store.ListDeliveries(t.Context(), req); err != nil || len(res.Deliveries) != 0 || res.Next == "" {
			t.Fatalf("the store's first page: %d deliveries, next %q, %v", len(res.Deliveries), res.Next, err)
		}
		page, err := r.Deliveries(t.Context(), webhook.DeliveryQuery{Filter: webhook.Filter{Type: "rare"}, OldestFirst: true})
		if err != nil || len(page.Deliveries) != 1 || page.Next != "" {
			t.Errorf("%+v, %v", page, err)
		}
	})
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, webhook.DispatcherOptions{}, endpoint(t, "acme", "order"))
		for i := range 6 {
			r.send(t, webhook.Event{ID: fmt.Sprint("e", i), Type: []string{"order", "refund"}[i%2], Payload: []byte("x")})
			time.Sleep(time.Minute)
		}
		for _, tt := range []struct {
			query webhook.EventQuery
			want  []string
		}{
			{webhook.EventQuery{}, []string{"e5", "e4", "e3", "e2", "e1", "e0"}},
			{webhook.EventQuery{Unmatched: true}, []string{"e5", "e3", "e1"}},
			{webhook.EventQuery{Unmatched: true, OldestFirst: true}, []string{"e1", "e3", "e5"}},
			{webhook.EventQuery{Type: "o*", Since: bubbleStart().Add(time.Minute)}, []string{"e4", "e2"}},
			{webhook.EventQuery{Until: bubbleStart().Add(time.Minute)}, []string{"e0"}},
		} {
			for _, limit := range []int{1, 2, 100} {
				q := tt.query
				q.Limit = limit
				var got []string
				for {
					page, err := r.Events(t.Context(), q)
					must(t, err)
					for _, rec := range page.Events {
						got = append(got, rec.Event.ID)
						if rec.Event.Payload != nil {
							t.Errorf("%s with its payload", rec.Event.ID)
						}
					}
					if q.Page = page.Next; page.Next == "" {
						break
					}
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("%+v, limit %d: %v, want %v", tt.query, limit, got, tt.want)
				}
			}
		}
	})
}
