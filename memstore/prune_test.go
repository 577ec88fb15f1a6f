package memstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// Events that matched nothing and were replayed since do not keep those behind them from being forgotten.
func TestUnmatchedBehindReplayed(t *testing.T) {
	s, ctx := New(), t.Context()
	now := time.Date(2026, 1, 30, 12, 0, 0, 0, time.UTC)
	for i := range 4 {
		_, err := s.Enqueue(ctx, &webhook.EnqueueRequest{Now: now, Events: []webhook.NewEvent{{Event: webhook.Event{ID: fmt.Sprint("e", i)}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	res, err := s.Redeliver(ctx, &webhook.RedeliverRequest{Now: now, Deliveries: []webhook.Redelivery{
		{ID: "d0", EventID: "e0", EndpointID: "a", Replay: "r"}, {ID: "d1", EventID: "e1", EndpointID: "a", Replay: "r"}}})
	if err != nil || res.Deliveries[1] != webhook.Redelivered {
		t.Fatal(res, err)
	}
	forgotten := 0
	for range 3 {
		res, err := s.Prune(ctx, &webhook.PruneRequest{Now: now.Add(time.Hour), UnmatchedBefore: now.Add(time.Minute), Limit: 2})
		if err != nil {
			t.Fatal(err)
		}
		forgotten += res.Events
	}
	if forgotten != 2 {
		t.Errorf("%d are forgotten, want the 2 that go to nobody", forgotten)
	}
}
