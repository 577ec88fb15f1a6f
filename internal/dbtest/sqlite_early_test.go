package dbtest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
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
			s, other, rec := twoHandles(t)
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

// TestClaimsAmongOthers checks that a claim which has met another does its work twice, and that the next one does not try its luck.
func TestClaimsAmongOthers(t *testing.T) {
	now := time.Date(2036, 3, 4, 5, 6, 7, 0, time.UTC)
	s, other, rec := twoHandles(t)
	req := &webhook.EnqueueRequest{Now: now, Owner: "me"}
	for i := range 20 {
		req.Events = append(req.Events, webhook.NewEvent{Event: webhook.Event{ID: fmt.Sprint("e", i), Type: "x"},
			Deliveries: []webhook.NewDelivery{{ID: fmt.Sprint("d", i), EndpointID: "a"}}})
	}
	if _, err := s.Enqueue(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	meet := true
	rec.before = func(text string) {
		if text == "BEGIN IMMEDIATE" && meet {
			meet = false
			claimOf(t, other, now, 1, "other")
		}
	}
	for i, want := range []string{"look, lock, lease, lock, look, lease", "look, lock, look, lease"} {
		rec.take()
		if got := len(claimOf(t, s, now, 5, "me")); got != 5 {
			t.Errorf("claim %d: got %d deliveries, want 5", i, got)
		}
		var did []string
		for _, st := range rec.take() {
			switch {
			case st.text == "BEGIN IMMEDIATE":
				did = append(did, "lock")
			case strings.Contains(st.text, "SELECT") && strings.Contains(st.text, "INDEXED BY") && strings.Contains(st.text, "due_at <= ?"):
				did = append(did, "look")
			case strings.HasPrefix(st.text, "UPDATE"):
				did = append(did, "lease")
			}
		}
		if got := strings.Join(did, ", "); got != want {
			t.Errorf("claim %d: it did %s, want %s", i, got, want)
		}
	}
}

// TestClaimLaterRounds changes two lanes between the early look and the lock so that the first needs a second round, in which the other gets
// what is due by then, the earliest first, and is told that there is more.
func TestClaimLaterRounds(t *testing.T) {
	now := time.Date(2036, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, early := range []int{0, 4} { // rows of the second lane that the early look finds
		t.Run(fmt.Sprint(early), func(t *testing.T) {
			s, other, rec := twoHandles(t)
			put := func(s *sqlstore.Store, due time.Time, endpoint, key, prefix string, n int) {
				req := &webhook.EnqueueRequest{Now: now.Add(-time.Hour), Owner: "x"}
				for i := range n {
					id := fmt.Sprintf("%s%02d", prefix, i)
					req.Events = append(req.Events, webhook.NewEvent{Event: webhook.Event{ID: "e" + id, Type: "x", Payload: []byte(id)},
						Deliveries: []webhook.NewDelivery{{ID: id, EndpointID: endpoint, OrderingKey: key, DueAt: due}}})
				}
				if _, err := s.Enqueue(t.Context(), req); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 6 { // not together: those wait for their turn outside of the lane
				put(s, now.Add(-time.Hour), "a", "k", fmt.Sprint("a", i), 1)
			}
			put(s, now.Add(-time.Minute), "b", "", "late", early)
			changed := false
			rec.before = func(text string) {
				if text != "BEGIN IMMEDIATE" || changed {
					return
				}
				changed = true
				c := claimOf(t, other, now, 1, "other")[0]
				_, err := other.Complete(t.Context(), &webhook.CompleteRequest{Now: now, Outcomes: []webhook.Outcome{{EndpointID: "a",
					DeliveryID: c.Delivery.ID, OrderingKey: "k", Token: c.Token, Next: webhook.Canceled}}})
				if err != nil {
					t.Fatal(err)
				}
				put(other, now.Add(-time.Hour), "b", "", "soon", 20)
			}
			res, err := s.Claim(t.Context(), &webhook.ClaimRequest{Now: now, Owner: "me", Limit: 10, Lanes: []webhook.LaneClaim{
				{LaneID: webhook.LaneID{EndpointID: "a"}, Max: 10, Lease: time.Minute},
				{LaneID: webhook.LaneID{EndpointID: "b"}, Max: 10, Lease: time.Minute},
			}})
			if err != nil {
				t.Fatal(err)
			}
			got := make([]string, len(res.Deliveries))
			for i, c := range res.Deliveries {
				if got[i] = c.Delivery.ID; string(c.Event.Payload) != got[i] {
					t.Errorf("%s has the payload %q", got[i], c.Event.Payload)
				}
			}
			want := []string{"a100", "soon00", "soon01", "soon02", "soon03", "soon04", "soon05", "soon06", "soon07", "soon08"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("claimed (-want +got):\n%s", diff)
			}
			if b := res.Lanes[1]; !b.More || b.NextFrom.After(now.Add(-time.Hour)) {
				t.Errorf("lane b: More %v and NextFrom %v, want true and no later than what is due", b.More, b.NextFrom)
			}
		})
	}
}

// TestClaimReadsEventsOnce checks that a claim reads small events with their rows, and those that are large or shared by themselves, once and
// before it takes the lock.
func TestClaimReadsEventsOnce(t *testing.T) {
	now := time.Date(2036, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, test := range []struct {
		name          string
		size, headers int // bytes
		deliveries    int
		want          string
	}{
		{"small", 1024, 0, 1, "lock"},
		{"shared", 1024, 0, 3, "read 1, lock"},
		{"large", 64 << 10, 0, 1, "read 1, lock"},
		{"large header", 10, 4096, 1, "read 1, lock"},
		{"large and shared", 64 << 10, 4096, 3, "read 1, lock"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _, rec := twoHandles(t)
			e := webhook.NewEvent{Event: webhook.Event{ID: "e", Type: "x", Payload: bytes.Repeat([]byte("p"), test.size)}}
			if test.headers > 0 {
				e.Event.Header = http.Header{"X-Long": {strings.Repeat("h", test.headers)}}
			}
			for i := range test.deliveries {
				e.Deliveries = append(e.Deliveries, webhook.NewDelivery{ID: fmt.Sprint("d", i), EndpointID: "a"})
			}
			if _, err := s.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: now, Events: []webhook.NewEvent{e}}); err != nil {
				t.Fatal(err)
			}
			rec.take()
			got := claimOf(t, s, now, 10, "me")
			if len(got) != test.deliveries {
				t.Fatalf("got %d deliveries, want %d", len(got), test.deliveries)
			}
			for _, c := range got {
				if diff := cmp.Diff(e.Event, c.Event); diff != "" {
					t.Errorf("%s (-want +got):\n%s", c.Delivery.ID, diff)
				}
			}
			var did []string
			for _, st := range rec.take() {
				switch {
				case st.text == "BEGIN IMMEDIATE":
					did = append(did, "lock")
				case strings.HasPrefix(st.text, "SELECT id, type, tenant"):
					did = append(did, fmt.Sprint("read ", len(st.args)))
				}
			}
			if all := strings.Join(did, ", "); all != test.want {
				t.Errorf("it did %s, want %s", all, test.want)
			}
		})
	}
}

// twoHandles are a store that is recorded, and another handle on its data.
func twoHandles(t *testing.T) (s, other *sqlstore.Store, rec *recorder) {
	t.Helper()
	d := SQLite(t)
	db, rec := record(t, "sqlite", d.DSN)
	s, err := sqlstore.New(db, sqlstore.SQLite, nil)
	if err != nil {
		t.Fatal(err)
	}
	migrate(t, s)
	if other, err = sqlstore.New(d.Open(t), sqlstore.SQLite, nil); err != nil {
		t.Fatal(err)
	}
	return s, other, rec
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
