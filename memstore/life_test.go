package memstore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// end ends deliveries and returns the answer.
func end(t testing.TB, s *memstore.Store, req webhook.EndRequest) *webhook.EndResult {
	t.Helper()
	if req.Next == "" {
		req.Next = webhook.Canceled
	}
	res, err := s.End(t.Context(), &req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func deliveryIDs(deliveries []webhook.Delivery) []string {
	var ids []string
	for _, d := range deliveries {
		ids = append(ids, d.ID)
	}
	return ids
}

func read(t testing.TB, s *memstore.Store, eventID string) webhook.Delivery {
	t.Helper()
	res, err := s.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: t0, EventID: eventID})
	if err != nil || len(res.Deliveries) == 0 {
		t.Fatalf("deliveries of %s: %v, %v", eventID, res, err)
	}
	return res.Deliveries[0]
}

// enqueueExpiring stores events with one delivery each, that expire so long after t0; negative: never.
func enqueueExpiring(t testing.TB, s *memstore.Store, endpoint, key string, after ...time.Duration) {
	t.Helper()
	for i, d := range after {
		id := fmt.Sprintf("x%d", i)
		row := webhook.NewDelivery{ID: id, EndpointID: endpoint, OrderingKey: key}
		if d >= 0 {
			row.ExpiresAt = t0.Add(d)
		}
		_, err := s.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: t0, Owner: "test", Events: []webhook.NewEvent{
			{Event: webhook.Event{ID: id, Type: "t"}, Deliveries: []webhook.NewDelivery{row}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestEndOfAnEvent(t *testing.T) {
	s := memstore.New()
	enqueue(t, s, "e", "", "done", "leased", "ran out", "waits", "retries", "held")
	enqueue(t, s, "other", "", "waits")
	complete(t, s, t0, webhook.Delivered, claim(t, s, t0, "done", 1).Deliveries...)
	complete(t, s, t0, webhook.RetryScheduled, claim(t, s, t0, "retries", 1).Deliveries...)
	lost := claim(t, s, t0, "ran out", 1).Deliveries
	now := t0.Add(time.Minute)
	leased := claim(t, s, now, "leased", 1).Deliveries
	if err := s.Hold(t.Context(), &webhook.HoldRequest{Now: t0, EndpointID: "held"}); err != nil {
		t.Fatal(err)
	}

	res := end(t, s, webhook.EndRequest{Now: now, EventID: "e", Reason: "not wanted", Limit: 3})
	sameValue(t, "the first three", []any{len(res.Ended), res.Found, res.More}, []any{3, 6, true})
	res.Ended = append(res.Ended, end(t, s, webhook.EndRequest{Now: now, EventID: "e", Reason: "not wanted"}).Ended...)
	sameValue(t, "ended", deliveryIDs(res.Ended), []string{"e/ran out", "e/waits", "e/retries", "e/held"})
	for _, d := range res.Ended {
		if d.State != webhook.Canceled || d.Reason != "not wanted" || !d.FinishedAt.Equal(now) || !d.DueAt.IsZero() {
			t.Errorf("ended as %+v", d)
		}
	}
	again := end(t, s, webhook.EndRequest{Now: now, EventID: "e"})
	sameValue(t, "again", again, &webhook.EndResult{Found: 6})

	with := end(t, s, webhook.EndRequest{Now: now, EventID: "e", Leased: true})
	sameValue(t, "leased", deliveryIDs(with.Ended), []string{"e/leased"})
	for _, c := range slices.Concat(leased, lost) {
		out, err := s.Complete(t.Context(), &webhook.CompleteRequest{Now: now, Outcomes: []webhook.Outcome{{EndpointID: c.Delivery.EndpointID,
			DeliveryID: c.Delivery.ID, Token: c.Token, Next: webhook.Delivered, Attempt: &webhook.Attempt{Number: 1, Status: 200}}}})
		if err != nil || out.Outcomes[0] != webhook.Stale {
			t.Errorf("completion of %s after its end: %v, %v", c.Delivery.ID, out, err)
		}
		attempts, err := s.ListAttempts(t.Context(), c.Delivery.ID)
		if err != nil || len(attempts) != 1 || !attempts[0].Late {
			t.Errorf("attempt of %s: %+v, %v, want a late one", c.Delivery.ID, attempts, err)
		}
	}
	sameValue(t, "nothing of it left", len(claim(t, s, now.Add(time.Hour), "waits", 9).Deliveries), 1) // of the other event
	lanes, err := s.Lanes(t.Context(), &webhook.LanesRequest{Limit: 9})
	if err != nil || len(lanes.Lanes) != 1 {
		t.Errorf("lanes: %+v, %v", lanes, err)
	}
	sameValue(t, "an unknown event", end(t, s, webhook.EndRequest{Now: now, EventID: "?"}), &webhook.EndResult{})
	sameValue(t, "one delivery", deliveryIDs(end(t, s, webhook.EndRequest{Now: now, DeliveryID: "other/waits", Leased: true}).Ended), []string{"other/waits"})
	sameValue(t, "a final delivery", end(t, s, webhook.EndRequest{Now: now, DeliveryID: "e/done"}), &webhook.EndResult{Found: 1})
	sameValue(t, "an unknown delivery", end(t, s, webhook.EndRequest{Now: now, DeliveryID: "?"}), &webhook.EndResult{})
}

// What End has ended in the middle of a key is handed out in its turn, to be taken out of it, and the next goes then.
func TestEndKeepsThePlaceInAKey(t *testing.T) {
	s := memstore.New()
	for i := range 4 {
		enqueue(t, s, fmt.Sprint("e", i), "k", "a")
	}
	first := claim(t, s, t0, "a", 9).Deliveries
	sameValue(t, "claimed first", len(first), 1)
	if res := end(t, s, webhook.EndRequest{Now: t0, EventID: "e1", Reason: "no"}); len(res.Ended) != 1 || len(res.Woken) != 0 {
		t.Fatalf("End: %+v", res)
	}
	sameValue(t, "reads as", read(t, s, "e1").State, webhook.Canceled)
	sameValue(t, "another while the first is under way", len(claim(t, s, t0, "a", 9).Deliveries), 0)
	complete(t, s, t0, webhook.Delivered, first...)

	second := claim(t, s, t0, "a", 9).Deliveries
	if len(second) != 1 || second[0].Delivery.EventID != "e1" || second[0].Delivery.State != webhook.Delivering || !second[0].Delivery.ExpiresAt.Equal(time.Unix(0, 0)) {
		t.Fatalf("claimed second: %+v", second)
	}
	sameValue(t, "claimed and reads as", read(t, s, "e1").State, webhook.Canceled)
	sameValue(t, "ended again", end(t, s, webhook.EndRequest{Now: t0, EventID: "e1", Next: webhook.Expired, Leased: true}), &webhook.EndResult{Found: 1})
	before := read(t, s, "e1")
	// Whatever the outcome says: here that it blocks the key, with an attempt.
	out, err := s.Complete(t.Context(), &webhook.CompleteRequest{Now: t0.Add(time.Second), Outcomes: []webhook.Outcome{{EndpointID: "a", DeliveryID: "e1/a",
		Token: second[0].Token, Next: webhook.DeadLetter, Attempt: &webhook.Attempt{Number: 1, Status: 500}}}})
	if err != nil || out.Outcomes[0] != webhook.Applied {
		t.Fatalf("Complete: %+v, %v", out, err)
	}
	sameValue(t, "woken", out.Woken, []webhook.Lane{{LaneID: webhook.LaneID{EndpointID: "a"}, Earliest: t0}})
	sameValue(t, "the record", read(t, s, "e1"), before)
	third := claim(t, s, t0, "a", 9).Deliveries
	sameValue(t, "claimed third", third[0].Delivery.EventID, "e2")

	// The one at the head, under way: its end waits for the lease, so that nothing overlaps.
	end(t, s, webhook.EndRequest{Now: t0, DeliveryID: "e2/a", Leased: true})
	sameValue(t, "beside the fenced one", len(claim(t, s, t0.Add(time.Minute-1), "a", 9).Deliveries), 0)
	last := claim(t, s, t0.Add(time.Minute), "a", 9).Deliveries
	sameValue(t, "claimed fourth", last[0].Delivery.EventID, "e2")
	complete(t, s, t0.Add(time.Minute), webhook.Queued, last...)
	sameValue(t, "claimed last", claim(t, s, t0.Add(time.Minute), "a", 9).Deliveries[0].Delivery.EventID, "e3")
}

func TestEndOfAScheduledOneWakesItsKey(t *testing.T) {
	s := memstore.New()
	later := t0.Add(time.Hour)
	_, err := s.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: t0, Owner: "test", Events: []webhook.NewEvent{{Event: webhook.Event{ID: "e0"},
		Deliveries: []webhook.NewDelivery{{ID: "e0/a", EndpointID: "a", OrderingKey: "k", DueAt: later}}}}})
	if err != nil {
		t.Fatal(err)
	}
	enqueue(t, s, "e1", "k", "a")
	res := end(t, s, webhook.EndRequest{Now: t0, EventID: "e0"})
	sameValue(t, "woken", res.Woken, []webhook.Lane{{LaneID: webhook.LaneID{EndpointID: "a"}, Earliest: t0}})
	complete(t, s, t0, webhook.Expired, claim(t, s, t0, "a", 9).Deliveries...)
	sameValue(t, "the next", claim(t, s, t0, "a", 9).Deliveries[0].Delivery.EventID, "e1")
}

func TestEndBehindADeadLetter(t *testing.T) {
	s := memstore.New()
	for i := range 3 {
		enqueue(t, s, fmt.Sprint("e", i), "k", "a")
	}
	complete(t, s, t0, webhook.DeadLetter, claim(t, s, t0, "a", 9).Deliveries...)
	sameValue(t, "the dead letter", end(t, s, webhook.EndRequest{Now: t0, EventID: "e0"}), &webhook.EndResult{Found: 1})
	sameValue(t, "behind it", deliveryIDs(end(t, s, webhook.EndRequest{Now: t0, EventID: "e1"}).Ended), []string{"e1/a"})
	sameValue(t, "claimed while blocked", len(claim(t, s, t0, "a", 9).Deliveries), 0)
	if ok, err := s.ReleaseKey(t.Context(), &webhook.ReleaseKeyRequest{Now: t0, EndpointID: "a", OrderingKey: "k"}); err != nil || !ok {
		t.Fatalf("ReleaseKey: %v, %v", ok, err)
	}
	for _, want := range []string{"e1", "e2"} {
		got := claim(t, s, t0, "a", 9).Deliveries
		sameValue(t, "claimed after the release", got[0].Delivery.EventID, want)
		complete(t, s, t0, webhook.Delivered, got...)
	}
	sameValue(t, "state of the one ended", read(t, s, "e1").State, webhook.Canceled)
}

func TestExpired(t *testing.T) {
	s := memstore.New()
	enqueueExpiring(t, s, "a", "", 3*time.Second, -1, time.Second, 2*time.Second, time.Second+1)
	leased := claim(t, s, t0, "a", 1).Deliveries // x0
	if d := leased[0].Delivery; !d.ExpiresAt.Equal(t0.Add(3 * time.Second)) {
		t.Errorf("claimed with ExpiresAt %v", d.ExpiresAt)
	}
	expire := func(after time.Duration, limit int) *webhook.EndResult {
		return end(t, s, webhook.EndRequest{Now: t0.Add(after), Expired: true, Next: webhook.Expired, Reason: "too late", Limit: limit})
	}
	sameValue(t, "nothing due", expire(time.Second-time.Microsecond, 0), &webhook.EndResult{})
	res := expire(3*time.Second, 2)
	sameValue(t, "earliest first", []any{deliveryIDs(res.Ended), res.More}, []any{[]string{"x2", "x4"}, true})
	sameValue(t, "state", read(t, s, "x2").State, webhook.Expired)
	res = expire(3*time.Second, 2)
	sameValue(t, "the rest", []any{deliveryIDs(res.Ended), res.More}, []any{[]string{"x3"}, false})
	sameValue(t, "after the lease", deliveryIDs(expire(time.Hour, 0).Ended), []string{"x0"})
	sameValue(t, "again", expire(time.Hour, 0), &webhook.EndResult{})
	sameValue(t, "what never expires", claim(t, s, t0.Add(time.Hour), "a", 9).Deliveries[0].Delivery.ID, "x1")
}

func TestDeliveredDoesNotExpire(t *testing.T) {
	s := memstore.New()
	enqueueExpiring(t, s, "a", "", time.Second)
	complete(t, s, t0, webhook.Delivered, claim(t, s, t0, "a", 1).Deliveries...)
	sameValue(t, "ended", end(t, s, webhook.EndRequest{Now: t0.Add(time.Hour), Expired: true}), &webhook.EndResult{})
	sameValue(t, "state", read(t, s, "x0").State, webhook.Delivered)
}

func TestEndOldest(t *testing.T) {
	s := memstore.New()
	for i, due := range []time.Duration{5, 1, 4, 2, 3} { // x1 to x3 of one key, whose places are x1, x2, x3
		d := webhook.NewDelivery{ID: fmt.Sprint("x", i), EndpointID: "a", DueAt: t0.Add(due * time.Second)}
		if i >= 1 && i <= 3 {
			d.OrderingKey = "k"
		}
		_, err := s.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: t0, Owner: "test", Events: []webhook.NewEvent{
			{Event: webhook.Event{ID: d.ID}, Deliveries: []webhook.NewDelivery{d}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	enqueue(t, s, "other", "", "b")
	oldest := func(n, limit int) *webhook.EndResult {
		return end(t, s, webhook.EndRequest{Now: t0.Add(time.Second), EndpointID: "a", Oldest: n, Limit: limit, Next: webhook.Expired})
	}
	res := oldest(3, 1)
	sameValue(t, "by due time", []any{deliveryIDs(res.Ended), res.More}, []any{[]string{"x1"}, true})
	res = oldest(2, 0)
	sameValue(t, "not the same again", []any{deliveryIDs(res.Ended), res.More}, []any{[]string{"x3", "x4"}, false})
	sameValue(t, "the rest", deliveryIDs(oldest(9, 0).Ended), []string{"x2", "x0"})
	sameValue(t, "none", len(oldest(9, 0).Ended), 0)
}

func TestEndRefuses(t *testing.T) {
	s := memstore.New()
	for name, req := range map[string]webhook.EndRequest{
		"nothing named": {Next: webhook.Canceled},
		"two named":     {Next: webhook.Canceled, EventID: "e", Expired: true},
		"no count":      {Next: webhook.Expired, EndpointID: "a"},
		"a state":       {Next: webhook.DeadLetter, EventID: "e"},
	} {
		if _, err := s.End(t.Context(), &req); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	_, err := s.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: t0, Events: []webhook.NewEvent{{Event: webhook.Event{ID: "e"},
		Deliveries: []webhook.NewDelivery{{ID: "d", EndpointID: "a", ExpiresAt: time.Unix(0, 999)}}}}})
	if !errors.Is(err, webhook.ErrInvalid) {
		t.Errorf("ExpiresAt at the epoch: got %v, want ErrInvalid", err)
	}
}

// Finished deliveries beyond KeepFinished are forgotten; one that End has ended is not while it keeps its place.
func TestKeepFinishedKeepsPlaces(t *testing.T) {
	s := memstore.NewWithOptions(&memstore.Options{KeepFinished: 1})
	for i := range 3 {
		enqueue(t, s, fmt.Sprint("e", i), "k", "a")
	}
	enqueue(t, s, "f", "", "a", "b", "c")
	end(t, s, webhook.EndRequest{Now: t0, EventID: "e0"})
	end(t, s, webhook.EndRequest{Now: t0, EventID: "e1"})
	sameValue(t, "ended", len(end(t, s, webhook.EndRequest{Now: t0, EventID: "f"}).Ended), 3)
	for _, want := range []string{"e0", "e1", "e2"} {
		got := claim(t, s, t0, "a", 9).Deliveries
		sameValue(t, "in turn", got[0].Delivery.EventID, want)
		complete(t, s, t0, webhook.Delivered, got...)
	}
	sameValue(t, "left", len(claim(t, s, t0, "a", 9).Deliveries), 0)
}

// An attempt that failed by our own fault is recorded, and neither counted nor a reason to change lanes.
func TestGivenBackWithAnAttempt(t *testing.T) {
	s := memstore.New()
	enqueue(t, s, "e", "", "a")
	for range 2 {
		got := claim(t, s, t0, "a", 1).Deliveries // of the fresh lane
		sameValue(t, "claimed", len(got), 1)
		complete(t, s, t0, webhook.Queued, got...)
	}
	sameValue(t, "attempts that count", read(t, s, "e").Attempts, 0)
	sameValue(t, "state", read(t, s, "e").State, webhook.Queued)
	attempts, err := s.ListAttempts(t.Context(), "e/a")
	if err != nil || len(attempts) != 2 || attempts[0].Late {
		t.Errorf("attempts: %+v, %v, want 2", attempts, err)
	}
}
