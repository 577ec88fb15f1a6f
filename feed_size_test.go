package webhook_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Claims for one tenant alone are larger, which is cheaper; where there are others they come more often, so that one that sends little does not
// wait long for those of another. It counts who has endpoints, not who has work: it may have some at any time.
func TestClaimsAreSmallerAmongTenants(t *testing.T) {
	for name, tc := range map[string]struct {
		other  string // the tenant of an endpoint that gets nothing
		margin time.Duration
		most   int64
	}{
		"one tenant":               {"", 0, 1024},
		"two tenants":              {"other", 0, 512},
		"one tenant, short leases": {"", 2 * time.Second, 512},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &running{store: memstore.New(), rc: lasting(10 * time.Millisecond)}
				var largest atomic.Int64
				r.on = &faulty{Store: r.store, claim: func(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
					res, err := r.store.Claim(ctx, req)
					largest.Store(max(largest.Load(), int64(len(res.Deliveries))))
					return res, err
				}}
				idle := endpoint(t, "idle")
				idle.Tenant, idle.Types = tc.other, []string{"y"}
				eps := []webhook.Endpoint{idle}
				for i := range 32 {
					eps = append(eps, endpoint(t, fmt.Sprint("e", i)))
				}
				before := sender(t, r.store, eps...)
				for range 500 {
					if _, err := before.Send(t.Context(), webhook.Event{Type: "x"}); err != nil {
						t.Fatal(err)
					}
				}
				r.start(t, webhook.DispatcherOptions{LeaseMargin: tc.margin}, eps...)
				time.Sleep(300 * time.Millisecond)
				if n := largest.Load(); n > tc.most || n <= tc.most/2 {
					t.Errorf("the largest claim brought %d deliveries, want more than %d and at most %d", n, tc.most/2, tc.most)
				}
			})
		})
	}
}
