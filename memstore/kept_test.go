package memstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// What is finished leaves the order of expiry, and a state stands in the order of versions once: neither grows with what has been.
func TestNothingIsLeftBehind(t *testing.T) {
	s, ctx := New(), t.Context()
	now := time.Date(2026, 1, 30, 12, 0, 0, 0, time.UTC)
	for i := range 4 {
		id := fmt.Sprint("e", i)
		_, err := s.Enqueue(ctx, &webhook.EnqueueRequest{Now: now, Owner: "test", Events: []webhook.NewEvent{{Event: webhook.Event{ID: id},
			Deliveries: []webhook.NewDelivery{{ID: id, EndpointID: "a", OrderingKey: "k"[:i%2], ExpiresAt: now.Add(time.Hour)}}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 { // e0 and e1 are ended, e2 and e3 delivered
		if _, err := s.End(ctx, &webhook.EndRequest{Now: now, DeliveryID: fmt.Sprint("e", i), Next: webhook.Canceled}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // e3 comes after e1 in their key
		res, err := ask(s, 9, 9, "a")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range res.Deliveries {
			_, err := s.Complete(ctx, &webhook.CompleteRequest{Now: now, Outcomes: []webhook.Outcome{
				{EndpointID: "a", DeliveryID: c.Delivery.ID, Token: c.Token, Next: webhook.Delivered}}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 6 {
		if err := s.Hold(ctx, &webhook.HoldRequest{Now: now, EndpointID: "ab"[i%2 : i%2+1]}); err != nil {
			t.Fatal(err)
		}
	}
	ep := s.endpoints["a"]
	for what, n := range map[string]int{"expiry": s.expiry.n, "lanes": s.lanes.n, "parked": ep.parked.n, "ended": ep.ended, "states beside two": s.states.n - 2} {
		if n != 0 {
			t.Errorf("%s: %d left", what, n)
		}
	}
}
