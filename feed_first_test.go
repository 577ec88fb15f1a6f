package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Where a walk of all lanes takes longer than later ones may, endpoints at its end have their first turn before the others have a second.
func TestFirstWalkOfManyEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const endpoints, each = 5_000, 3
		r := &running{store: memstore.New(), rc: &receiver{answer: func(*http.Request, int) (int, http.Header, error) {
			time.Sleep(time.Minute)
			return 200, nil, nil
		}}}
		r.on = &faulty{
			Store: r.store,
			lanes: func(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
				time.Sleep(10 * time.Millisecond)
				return r.store.Lanes(ctx, req)
			},
			claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
				time.Sleep(5 * time.Millisecond)
				return r.store.Claim(ctx, req)
			},
		}
		var eps []webhook.Endpoint
		req := &webhook.EnqueueRequest{Now: time.Now()}
		for i := range endpoints {
			ep := endpoint(t, fmt.Sprintf("e%05d", i))
			eps = append(eps, ep)
			for j := range each {
				id := fmt.Sprintf("%d-%d", i, j)
				req.Events = append(req.Events, webhook.NewEvent{
					Event: webhook.Event{ID: id, Type: "x"}, Deliveries: []webhook.NewDelivery{{ID: id, EndpointID: ep.ID}},
				})
			}
		}
		if _, err := r.store.Enqueue(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		r.start(t, webhook.DispatcherOptions{Senders: endpoints}, eps...)
		time.Sleep(10 * time.Second)
		reached, all := map[string]bool{}, r.rc.requests()
		for _, g := range all[:min(len(all), endpoints)] {
			reached[g.url] = true
		}
		if len(reached) != endpoints {
			t.Errorf("the first %d of %d requests went to %d endpoints, want each once", endpoints, len(all), len(reached))
		}
	})
}
