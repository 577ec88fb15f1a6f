package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

var t0 = time.Date(2026, 1, 30, 12, 0, 0, 0, time.UTC)

// enqueue stores one event with one delivery to each endpoint, due at once.
func enqueue(t testing.TB, s *memstore.Store, id, key string, endpoints ...string) {
	t.Helper()
	ev := webhook.NewEvent{Event: webhook.Event{ID: id, Type: "t", Payload: []byte("payload of " + id)}, Digest: [32]byte{1}}
	for _, ep := range endpoints {
		ev.Deliveries = append(ev.Deliveries, webhook.NewDelivery{ID: id + "/" + ep, EndpointID: ep, OrderingKey: key})
	}
	res, err := s.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: t0, Owner: "test", Events: []webhook.NewEvent{ev}})
	if err != nil {
		t.Fatal(err)
	}
	if res.Events[0] != webhook.Stored {
		t.Fatalf("Enqueue of %s: %v, want Stored", id, res.Events)
	}
}

// claim leases up to max deliveries of an endpoint's fresh lane for a minute.
func claim(t testing.TB, s *memstore.Store, now time.Time, endpoint string, max int) *webhook.ClaimResult {
	t.Helper()
	res, err := s.Claim(t.Context(), &webhook.ClaimRequest{Now: now, Owner: "test", Limit: 1000, Lanes: []webhook.LaneClaim{
		{LaneID: webhook.LaneID{EndpointID: endpoint}, Max: max, Lease: time.Minute},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// complete ends claimed deliveries.
func complete(t testing.TB, s *memstore.Store, now time.Time, next webhook.State, claimed ...webhook.Claimed) {
	t.Helper()
	req := &webhook.CompleteRequest{Now: now}
	for _, c := range claimed {
		req.Outcomes = append(req.Outcomes, webhook.Outcome{
			EndpointID: c.Delivery.EndpointID, DeliveryID: c.Delivery.ID, Token: c.Token, Next: next,
			Attempt: &webhook.Attempt{Number: c.Delivery.Attempts + 1, StartedAt: now, Status: 200},
		})
	}
	res, err := s.Complete(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for i, status := range res.Outcomes {
		if status != webhook.Applied {
			t.Fatalf("Complete of %s: %v, want Applied", req.Outcomes[i].DeliveryID, status)
		}
	}
}

func TestKeepFinished(t *testing.T) {
	ctx := context.Background()
	s := memstore.NewWithOptions(&memstore.Options{KeepFinished: 2})
	enqueue(t, s, "waiting", "", "b")
	for i := range 4 {
		id := fmt.Sprint("e", i)
		enqueue(t, s, id, "", "a", "b")
		complete(t, s, t0, webhook.Delivered, claim(t, s, t0, "a", 1).Deliveries...)
	}
	enqueue(t, s, "nobody", "") // counts as one
	list, err := s.ListDeliveries(ctx, &webhook.ListDeliveriesRequest{Now: t0, EndpointID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Deliveries) != 1 || list.Deliveries[0].ID != "e3/a" {
		t.Errorf("kept %+v, want e3/a alone", list.Deliveries)
	}
	if _, err := s.GetEvent(ctx, "e0"); err != nil {
		t.Errorf("event with a waiting delivery: %v", err)
	}
	complete(t, s, t0, webhook.Delivered, claim(t, s, t0, "b", 5).Deliveries...)
	if _, err := s.GetEvent(ctx, "e0"); !errors.Is(err, webhook.ErrNotFound) {
		t.Errorf("event whose deliveries are forgotten: %v, want ErrNotFound", err)
	}
	again := []webhook.NewEvent{{Event: webhook.Event{ID: "e0"}, Digest: [32]byte{1}}}
	res, err := s.Enqueue(ctx, &webhook.EnqueueRequest{Now: t0, Events: again})
	if err != nil || res.Events[0] != webhook.Repeat {
		t.Errorf("ID of a forgotten event: %v, %v, want Repeat", res, err)
	}
	pruned, err := s.Prune(ctx, &webhook.PruneRequest{Now: t0, EventIDsBefore: t0})
	if err != nil || pruned.EventIDs != 0 {
		t.Errorf("pruned %+v, %v, though none is older", pruned, err)
	}
	pruned, err = s.Prune(ctx, &webhook.PruneRequest{Now: t0, EventIDsBefore: t0.Add(time.Second)})
	if err != nil || pruned.EventIDs != 4 { // waiting, e0, e1, nobody
		t.Errorf("pruned %+v, %v, want 4 event IDs", pruned, err)
	}
}

func TestOrderedOneAtATime(t *testing.T) {
	s := memstore.New()
	for i := range 3 {
		enqueue(t, s, fmt.Sprint("e", i), "k", "a")
	}
	for i := range 3 {
		got := claim(t, s, t0, "a", 10).Deliveries
		if len(got) != 1 || got[0].Delivery.Sequence != int64(i+1) {
			t.Fatalf("claim %d gave %+v, want sequence %d alone", i, got, i+1)
		}
		complete(t, s, t0, webhook.Delivered, got...)
	}
}

// What a request points to may be changed after the call, and what is returned too: nothing in the store moves.
func TestNothingIsShared(t *testing.T) {
	ctx := t.Context()
	s := memstore.New()
	ev := webhook.Event{ID: "e", Type: "t", Payload: []byte("payload"), Header: http.Header{"X": {"1"}}}
	spoil := func(ev webhook.Event) {
		ev.Payload[0] = '!'
		ev.Header["X"][0] = "!"
	}
	_, err := s.Enqueue(ctx, &webhook.EnqueueRequest{Now: t0, Events: []webhook.NewEvent{
		{Event: ev, Deliveries: []webhook.NewDelivery{{ID: "d", EndpointID: "a"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	spoil(ev)
	c := claim(t, s, t0, "a", 1).Deliveries[0]
	spoil(c.Event)
	got, err := s.GetEvent(ctx, "e")
	if err != nil {
		t.Fatal(err)
	}
	spoil(got.Event)
	if got, _ = s.GetEvent(ctx, "e"); string(got.Event.Payload) != "payload" || got.Event.Header.Get("X") != "1" {
		t.Errorf("event became %+v", got.Event)
	}

	a := &webhook.Attempt{Number: 1, Response: []byte("response")}
	_, err = s.Complete(ctx, &webhook.CompleteRequest{Now: t0, Outcomes: []webhook.Outcome{
		{EndpointID: "a", DeliveryID: "d", Token: c.Token, Attempt: a, Next: webhook.Delivered},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.Response[0] = '!'
	for range 2 {
		list, err := s.ListAttempts(ctx, "d")
		if err != nil || len(list) != 1 || string(list[0].Response) != "response" {
			t.Fatalf("attempts %+v, %v", list, err)
		}
		list[0].Response[0] = '!'
	}

	ep := webhook.Endpoint{ID: "a", Types: []string{"t"}, Secrets: make([]webhook.Secret, 1), Schedule: webhook.Schedule{List: []time.Duration{1}}}
	if err := s.PutEndpoint(ctx, ep); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ep.Types[0], ep.Schedule.List[0] = "!", 0
		if ep, err = s.GetEndpoint(ctx, "a"); err != nil || ep.Types[0] != "t" || ep.Schedule.List[0] != 1 {
			t.Fatalf("endpoint became %+v, %v", ep, err)
		}
	}
}

func TestStoredResponseIsNotShared(t *testing.T) {
	ctx := t.Context()
	s := memstore.New()
	begin := &webhook.BeginRequest{Now: t0, Scope: "s", Key: "k", Hold: time.Minute}
	taken, err := s.Begin(ctx, begin)
	if err != nil {
		t.Fatal(err)
	}
	r := webhook.StoredResponse{Status: 200, Header: map[string][]string{"X": {"1"}}, Body: []byte("body")}
	if err := s.Finish(ctx, &webhook.FinishRequest{Now: t0, Scope: "s", Key: "k", Token: taken.Token, Response: r, Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.Header["X"][0], r.Body[0] = "!", '!'
		res, err := s.Begin(ctx, begin)
		if err != nil || res.Status != webhook.KeyDone {
			t.Fatalf("%+v, %v", res, err)
		}
		if r = *res.Response; r.Header["X"][0] != "1" || string(r.Body) != "body" {
			t.Fatalf("response became %+v", r)
		}
	}
}

// A poller in virtual time waits for what Lanes announces; nothing in the store keeps the bubble's clock from moving.
func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		began := time.Now()
		ev := webhook.NewEvent{Event: webhook.Event{ID: "e", Type: "t"}, Deliveries: []webhook.NewDelivery{
			{ID: "d", EndpointID: "a", DueAt: began.Add(72 * time.Hour)},
		}}
		now, err := s.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Enqueue(t.Context(), &webhook.EnqueueRequest{Now: now, Events: []webhook.NewEvent{ev}}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					lanes, err := s.Lanes(t.Context(), &webhook.LanesRequest{Limit: 1})
					if err != nil || len(lanes.Lanes) == 0 {
						return
					}
					time.Sleep(time.Until(lanes.Lanes[0].Earliest))
					if got := claim(t, s, time.Now(), "a", 1).Deliveries; len(got) > 0 {
						complete(t, s, time.Now(), webhook.Delivered, got...)
					}
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took < 72*time.Hour || took > 73*time.Hour {
			t.Errorf("delivered after %v", took)
		}
	})
}
