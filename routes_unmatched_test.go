package webhook_test

import (
	"testing"
	"testing/synctest"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// An event that matches nothing in what was read of endpoints a moment ago is not recorded as such before that is read again.
func TestEndpointPutStraightIntoTheStoreMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memstore.New()
		hooks, err := webhook.NewDispatcher(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		sent := func() (n int) {
			t.Helper()
			ids, err := hooks.SendBatch(t.Context(), []webhook.Event{{Type: "order_create"}, {Type: "refund"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				rec, err := store.GetEvent(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				n += rec.Deliveries
			}
			return n
		}
		if n := sent(); n != 0 {
			t.Fatalf("%d deliveries to nobody", n)
		}
		for i, ep := range []webhook.Endpoint{endpoint(t, "a", "order_*"), endpoint(t, "b", "refund")} {
			if err := store.PutEndpoint(t.Context(), ep); err != nil {
				t.Fatal(err)
			}
			if n := sent(); n != i+1 {
				t.Errorf("%d deliveries of two events after endpoint %q was put, want %d", n, ep.ID, i+1)
			}
		}
	})
}
