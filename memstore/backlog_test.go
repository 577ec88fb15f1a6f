package memstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

func waitingFor(t testing.TB, s *memstore.Store, req webhook.BacklogRequest) *webhook.BacklogResult {
	t.Helper()
	res, err := s.Backlog(t.Context(), &req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestBacklog(t *testing.T) {
	s := memstore.New()
	enqueue(t, s, "e", "", "a", "b", "c", "done")
	complete(t, s, t0, webhook.Delivered, claim(t, s, t0, "done", 1).Deliveries...)
	claim(t, s, t0, "a", 1) // leased until a minute later
	for i := range 3 {
		enqueue(t, s, fmt.Sprint("k", i), "key", "b")
	}
	now := t0.Add(time.Second)
	want := []webhook.EndpointBacklog{
		{EndpointID: "a", Waiting: 1},
		{EndpointID: "b", OldestDue: t0, OldestKept: t0, Waiting: 3},
		{EndpointID: "c", OldestDue: t0, Waiting: 1},
	}
	sameValue(t, "all", waitingFor(t, s, webhook.BacklogRequest{Now: now, Count: 3}), &webhook.BacklogResult{Endpoints: want})
	page := waitingFor(t, s, webhook.BacklogRequest{Now: now, Count: 3, Limit: 2})
	sameValue(t, "a page", page, &webhook.BacklogResult{Endpoints: want[:2], Next: "b"})
	sameValue(t, "the next", waitingFor(t, s, webhook.BacklogRequest{Now: now, Count: 3, After: page.Next, Limit: 2}), &webhook.BacklogResult{Endpoints: want[2:]})
	sameValue(t, "some, not counted", waitingFor(t, s, webhook.BacklogRequest{Now: now, Endpoints: []string{"c", "?", "a", "c"}}),
		&webhook.BacklogResult{Endpoints: []webhook.EndpointBacklog{{EndpointID: "a"}, {EndpointID: "c", OldestDue: t0}}})
	sameValue(t, "of none", waitingFor(t, s, webhook.BacklogRequest{Now: now, Endpoints: []string{}}), &webhook.BacklogResult{})
	sameValue(t, "before anything is due", waitingFor(t, s, webhook.BacklogRequest{Now: t0.Add(-time.Second), Endpoints: []string{"c"}, Count: 9}).Endpoints,
		[]webhook.EndpointBacklog{{EndpointID: "c", Waiting: 1}})
	sameValue(t, "when the lease has run out", waitingFor(t, s, webhook.BacklogRequest{Now: t0.Add(time.Minute), Endpoints: []string{"a"}}).Endpoints,
		[]webhook.EndpointBacklog{{EndpointID: "a", OldestDue: t0.Add(time.Minute)}})
}

func TestBacklogLeavesOutWhatEnded(t *testing.T) {
	s := memstore.New()
	for i := range 5 {
		enqueue(t, s, fmt.Sprint("k", i), "key", "a")
	}
	count := func() int {
		waiting := 0
		for _, b := range waitingFor(t, s, webhook.BacklogRequest{Now: t0, Count: 100}).Endpoints {
			waiting += b.Waiting
		}
		return waiting
	}
	sameValue(t, "at first", count(), 5)
	end(t, s, webhook.EndRequest{Now: t0, EventID: "k2"}) // behind the first
	sameValue(t, "after one of the middle", count(), 4)
	end(t, s, webhook.EndRequest{Now: t0, EventID: "k0"}) // the first
	sameValue(t, "after the first", count(), 3)
	for want := 3; want > 0; { // k0 and k2 are taken out of their key, the others delivered
		got := claim(t, s, t0, "a", 1).Deliveries
		sameValue(t, "claimed, waiting", count(), want)
		if !got[0].Delivery.ExpiresAt.Equal(time.Unix(0, 0)) {
			want--
		}
		complete(t, s, t0, webhook.Delivered, got...)
		sameValue(t, "completed, waiting", count(), want)
	}
	sameValue(t, "endpoints", len(waitingFor(t, s, webhook.BacklogRequest{Now: t0}).Endpoints), 0)
}

func TestBlockedKeys(t *testing.T) {
	s, ctx := memstore.New(), t.Context()
	block := func(id, key string, at time.Time, policy webhook.OrderPolicy) {
		enqueue(t, s, id, key, "a")
		c := claim(t, s, at, "a", 1).Deliveries[0]
		if _, err := s.Complete(ctx, &webhook.CompleteRequest{Now: at, Outcomes: []webhook.Outcome{{EndpointID: "a", DeliveryID: c.Delivery.ID,
			Token: c.Token, Next: webhook.DeadLetter, BehindDeadLetter: policy}}}); err != nil {
			t.Fatal(err)
		}
	}
	later := t0.Add(time.Second)
	block("e1", "z", t0, webhook.BlockBehindDeadLetter)
	block("e2", "a b", later, webhook.HoldKey)
	block("e3", "b", later, webhook.BlockBehindDeadLetter)
	block("e4", "skipped", later, webhook.SkipDeadLetter)
	want := []webhook.BlockedKey{
		{EndpointID: "a", OrderingKey: "z", DeliveryID: "e1/a", Since: t0},
		{EndpointID: "a", OrderingKey: "a b", DeliveryID: "e2/a", Held: true, Since: later},
		{EndpointID: "a", OrderingKey: "b", DeliveryID: "e3/a", Since: later},
	}
	list := func(after string, limit int) *webhook.BlockedKeysResult {
		t.Helper()
		res, err := s.BlockedKeys(ctx, &webhook.BlockedKeysRequest{EndpointID: "a", After: after, Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	sameValue(t, "all", list("", 0), &webhook.BlockedKeysResult{Keys: want})
	page := list("", 2)
	sameValue(t, "a page", page.Keys, want[:2])
	sameValue(t, "the next", list(page.Next, 2), &webhook.BlockedKeysResult{Keys: want[2:]})
	sameValue(t, "counted", waitingFor(t, s, webhook.BacklogRequest{Now: later}).Endpoints, []webhook.EndpointBacklog{{EndpointID: "a", Blocked: 3}})
	if _, err := s.ReleaseKey(ctx, &webhook.ReleaseKeyRequest{Now: later, EndpointID: "a", OrderingKey: "z"}); err != nil {
		t.Fatal(err)
	}
	sameValue(t, "after a release", list("", 0).Keys, want[1:])
	if _, err := s.BlockedKeys(ctx, &webhook.BlockedKeysRequest{EndpointID: "a", After: "made up"}); !errors.Is(err, webhook.ErrInvalid) {
		t.Errorf("After that is no Next: got %v, want ErrInvalid", err)
	}
	res, err := s.BlockedKeys(ctx, &webhook.BlockedKeysRequest{EndpointID: "?"})
	if err != nil || len(res.Keys) != 0 {
		t.Errorf("of an unknown endpoint: %+v, %v", res, err)
	}
}
