package dbtest

import (
	"strings"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// TestPoisonedEndpoint breaks an endpoint's row in each way: it alone is unreadable.
func TestPoisonedEndpoint(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		db := v.pool(t, d)
		s := sealing(t, v, db, false)
		migrate(t, s)
		for _, set := range []string{"settings = 'no JSON'", "settings = '{\"order\": \"of a newer version\"}'", "types = 'no JSON'", "secrets = 'no JSON'"} {
			put(t, s, markedEndpoint(t, "bad"), markedEndpoint(t, "good"))
			if v.dialect.String() == "PostgreSQL" {
				set += "::bytea"
			}
			must(t, db, "UPDATE webhook_endpoint SET "+set+" WHERE id = 'bad'")
			changes, err := s.EndpointChanges(t.Context(), 0)
			if err != nil || len(changes.Put) != 2 || len(changes.Unreadable) != 1 || changes.Unreadable["bad"] == nil {
				t.Errorf("%s: %v, %v; want both, and that one is unreadable", set, changes, err)
			}
			list, err := s.ListEndpoints(t.Context(), &webhook.ListEndpointsRequest{})
			if err != nil || len(list.Endpoints) != 2 || len(list.Unreadable) != 1 {
				t.Errorf("%s: %v, %v; want both, and that one is unreadable", set, list, err)
			}
			if ep, err := s.GetEndpoint(t.Context(), "bad"); err == nil {
				t.Errorf("%s: got %v, want an error", set, ep)
			}
		}
	})
}

// TestPoisonedEvent breaks and loses an event: what waits for its endpoint is claimed all the same.
func TestPoisonedEvent(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		db := v.pool(t, d)
		s := sealing(t, v, db, false)
		migrate(t, s)
		now := time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
		req := &webhook.EnqueueRequest{Now: now}
		for _, id := range []string{"broken", "gone", "whole"} {
			req.Events = append(req.Events, webhook.NewEvent{
				Event:      webhook.Event{ID: id, Type: "x", Payload: []byte(id), Header: map[string][]string{"X-Kind": {"a"}}},
				Deliveries: []webhook.NewDelivery{{ID: "dlv_" + id, EndpointID: "acme"}},
			})
		}
		if _, err := s.Enqueue(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		broken := "'no JSON'"
		if v.dialect.String() == "PostgreSQL" {
			broken += "::bytea"
		}
		must(t, db, "UPDATE webhook_event SET header = "+broken+" WHERE id = 'broken'")
		must(t, db, "DELETE FROM webhook_event WHERE id = 'gone'")
		res, err := s.Claim(t.Context(), &webhook.ClaimRequest{
			Now: now, Owner: "tester", Limit: 10, Lanes: []webhook.LaneClaim{{LaneID: webhook.LaneID{EndpointID: "acme", Class: webhook.Fresh}, Max: 10, Lease: time.Minute}},
		})
		if err != nil || len(res.Deliveries) != 3 {
			t.Fatalf("%v, %v; want three deliveries", res, err)
		}
		hooks, err := webhook.NewDispatcher(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		x, err := hooks.Explain(t.Context(), "broken")
		if err != nil || x.Unreadable == "" || len(x.Deliveries) != 1 || !strings.Contains(x.String(), "cannot be read, and so not be sent: header: ") {
			t.Errorf("explained as %v, %v", x, err)
		}
		for _, c := range res.Deliveries {
			id := c.Delivery.EventID
			if (c.Unreadable == nil) != (id == "whole") || c.Event.ID != id || (string(c.Event.Payload) == id) != (id == "whole") {
				t.Errorf("event %s: %v, unreadable: %v", id, c.Event, c.Unreadable)
			}
		}
	})
}
