package dbtest

import (
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// TestStatesAsRead: a lease that is over no longer counts, and a hold shows as soon as nothing is under way.
func TestStatesAsRead(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		s, other := v.open(t)
		ctx := t.Context()
		enqueue(ctx, t, s, newEvent("fresh", "ep", ""), newEvent("retry", "ep", ""))
		complete(ctx, t, s, claim(ctx, t, s, "ep")["retry"], webhook.RetryScheduled) // due after a minute; fresh is leased for one
		claimRetry := &webhook.ClaimRequest{Now: at(time.Minute), Owner: "test", Limit: 1,
			Lanes: []webhook.LaneClaim{lane("ep", webhook.Retry, 1)}}
		states := func(now time.Duration, want map[string]webhook.State) {
			t.Helper()
			res, err := other.ListDeliveries(ctx, &webhook.ListDeliveriesRequest{Now: at(now)})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range res.Deliveries {
				if d.State != want[d.ID] {
					t.Errorf("at %v: %s is %s, want %s", now, d.ID, d.State, want[d.ID])
				}
			}
		}
		states(time.Minute-time.Microsecond, map[string]webhook.State{"fresh": webhook.Delivering, "retry": webhook.RetryScheduled})
		states(time.Minute, map[string]webhook.State{"fresh": webhook.Queued, "retry": webhook.RetryScheduled})
		if res, err := s.Claim(ctx, claimRetry); err != nil || len(res.Deliveries) != 1 {
			t.Fatalf("%+v, %v", res, err)
		}
		states(2*time.Minute-time.Microsecond, map[string]webhook.State{"fresh": webhook.Queued, "retry": webhook.Delivering})
		if err := s.Hold(ctx, &webhook.HoldRequest{Now: at(0), EndpointID: "ep", Kind: "paused", Until: at(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		states(2*time.Minute-time.Microsecond, map[string]webhook.State{"fresh": webhook.Held, "retry": webhook.Delivering})
		states(2*time.Minute, map[string]webhook.State{"fresh": webhook.Held, "retry": webhook.Held})
		states(time.Hour, map[string]webhook.State{"fresh": webhook.Queued, "retry": webhook.RetryScheduled})
	})
}
