package dbtest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// TestClaimSeesWhatChanged changes rows between a claim's early look at them and its lock. What it then gets must be what it would have
// got without that look.
func TestClaimSeesWhatChanged(t *testing.T) {
	now := time.Date(2036, 3, 4, 5, 6, 7, 0, time.UTC)
	type handle = *sqlstore.Store
	lease := func(t *testing.T, s handle, at time.Time, limit int) []webhook.Claimed {
		return claimOf(t, s, at, limit, "other")
	}
	end := func(t *testing.T, s handle, at time.Time, c webhook.Claimed, next webhook.State, reason string) {
		o := webhook.Outcome{EndpointID: "a", DeliveryID: c.Delivery.ID, Token: c.Token, Next: next, Reason: reason}
		if next == webhook.RetryScheduled {
			o.Attempt = &webhook.Attempt{DeliveryID: c.Delivery.ID, Token: c.Token, Number: c.Delivery.Attempts + 1, StartedAt: at, Status: 500}
		}
		if _, err := s.Complete(t.Context(), &webhook.CompleteRequest{Now: at, Outcomes: []webhook.Outcome{o}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		before func(t *testing.T, s handle) // the look
		change func(t *testing.T, s handle) // after it
		want   []string
		token  int64
	}{
		{"nothing", nil, func(*testing.T, handle) {}, []string{"d1", "d2", "d3"}, 1},
		{"leased", nil, func(t *testing.T, s handle) { lease(t, s, now, 2) }, []string{"d3"}, 1},
		{"all leased", nil, func(t *testing.T, s handle) { lease(t, s, now, 3) }, nil, 0},
		{"given back", nil, func(t *testing.T, s handle) {
			for _, c := range lease(t, s, now, 3) {
				end(t, s, now, c, webhook.Queued, "given back")
			}
		}, []string{"d1", "d2", "d3"}, 2},
		{"failed, and due again in the other lane", nil, func(t *testing.T, s handle) {
			end(t, s, now, lease(t, s, now, 1)[0], webhook.RetryScheduled, "answered 500")
		}, []string{"d2", "d3"}, 1},
		{"delivered", nil, func(t *testing.T, s handle) { end(t, s, now, lease(t, s, now, 1)[0], webhook.Delivered, "") }, []string{"d2", "d3"}, 1},
		{"canceled", nil, func(t *testing.T, s handle) {
			req := &webhook.EndRequest{Now: now, EventID: "e2", Next: webhook.Canceled, Reason: "no more"}
			if _, err := s.End(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}, []string{"d1", "d3"}, 1},
		{"held", nil, func(t *testing.T, s handle) {
			if err := s.Hold(t.Context(), &webhook.HoldRequest{EndpointID: "a", Kind: webhook.HoldPaused}); err != nil {
				t.Fatal(err)
			}
		}, nil, 0},
		{"lapsed, and given back late", func(t *testing.T, s handle) { lease(t, s, now.Add(-time.Hour), 3) }, func(t *testing.T, s handle) {
			for _, id := range []string{"d1", "d2", "d3"} {
				c := webhook.Claimed{Delivery: webhook.Delivery{ID: id, EndpointID: "a"}, Token: 1}
				end(t, s, now, c, webhook.Queued, "given back")
			}
		}, []string{"d1", "d2", "d3"}, 2},
		{"lapsed, and extended late", func(t *testing.T, s handle) { lease(t, s, now.Add(-time.Hour), 3) }, func(t *testing.T, s handle) {
			req := &webhook.ExtendRequest{Now: now}
			for _, id := range []string{"d1", "d3"} {
				req.Leases = append(req.Leases, webhook.LeaseRef{EndpointID: "a", DeliveryID: id, Token: 1, Until: now.Add(time.Hour)})
			}
			if _, err := s.Extend(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}, []string{"d2"}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := SQLite(t)
			db, rec := record(t, "sqlite", d.DSN)
			s, err := sqlstore.New(db, sqlstore.SQLite, nil)
			if err != nil {
				t.Fatal(err)
			}
			migrate(t, s)
			other, err := sqlstore.New(d.Open(t), sqlstore.SQLite, nil)
			if err != nil {
				t.Fatal(err)
			}
			req := &webhook.EnqueueRequest{Now: now.Add(-2 * time.Hour), Owner: "me"}
			for _, n := range []string{"1", "2", "3"} {
				req.Events = append(req.Events, webhook.NewEvent{Event: webhook.Event{ID: "e" + n, Type: "x", Payload: []byte(n)},
					Deliveries: []webhook.NewDelivery{{ID: "d" + n, EndpointID: "a"}}})
			}
			if _, err := s.Enqueue(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			if test.before != nil {
				test.before(t, other)
			}
			changed := false
			rec.before = func(text string) {
				if text == "BEGIN IMMEDIATE" && !changed {
					changed = true
					test.change(t, other)
				}
			}
			var got []string
			for _, c := range claimOf(t, s, now, 10, "me") {
				got = append(got, c.Delivery.ID)
				if c.Token != test.token || string(c.Event.Payload) != strings.TrimPrefix(c.Delivery.ID, "d") {
					t.Errorf("%s: got token %d and payload %q, want token %d and its own payload", c.Delivery.ID, c.Token, c.Event.Payload, test.token)
				}
				if want := map[bool]string{true: "given back"}[strings.Contains(test.name, "given back")]; c.Delivery.Reason != want {
					t.Errorf("%s: got reason %q, want %q", c.Delivery.ID, c.Delivery.Reason, want)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("claimed (-want +got):\n%s", diff)
			}
			if !changed {
				t.Fatal("the claim took no lock")
			}
			if again := claimOf(t, other, now, 10, "other"); len(again) > 0 {
				t.Errorf("%v were claimed twice", again)
			}
		})
	}
}

// claimOf claims from the fresh lane of endpoint a for a minute.
func claimOf(t *testing.T, s *sqlstore.Store, now time.Time, limit int, owner string) []webhook.Claimed {
	t.Helper()
	res, err := s.Claim(context.Background(), &webhook.ClaimRequest{Now: now, Owner: owner, Limit: limit,
		Lanes: []webhook.LaneClaim{{LaneID: webhook.LaneID{EndpointID: "a", Class: webhook.Fresh}, Max: limit, Lease: time.Minute}}})
	if err != nil {
		t.Fatal(err)
	}
	return res.Deliveries
}
