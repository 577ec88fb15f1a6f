package dbtest

import (
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// fillDead stores n events, each with a dead letter to the first endpoint.
func (c *childDB) fillDead(t *testing.T, n int) {
	t.Helper()
	now, err := c.store.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for from := 0; from < n; from += 500 {
		req := &webhook.EnqueueRequest{Now: now, Owner: "fill"}
		done := &webhook.CompleteRequest{Now: now}
		for i := from; i < min(from+500, n); i++ {
			id := fmt.Sprintf("dlv_%05d", i)
			req.Events = append(req.Events, webhook.NewEvent{
				Event:      webhook.Event{ID: childEvent("dead", i), Type: "order_create", Payload: []byte(childPayload(childEvent("dead", i)))},
				Deliveries: []webhook.NewDelivery{{ID: id, EndpointID: childEndpoint(0), Lease: time.Minute}},
			})
			done.Outcomes = append(done.Outcomes, webhook.Outcome{EndpointID: childEndpoint(0), DeliveryID: id, Token: 1, Next: webhook.DeadLetter, Reason: "gave up"})
		}
		if _, err := c.store.Enqueue(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if _, err := c.store.Complete(t.Context(), done); err != nil {
			t.Fatal(err)
		}
	}
}

// replays reads all deliveries: how often each was replayed, and how many replays are not delivered.
func (c *childDB) replays(t *testing.T) (made map[string]int, left int) {
	t.Helper()
	made = map[string]int{}
	req := &webhook.ListDeliveriesRequest{Limit: 1000}
	for {
		res, err := c.store.ListDeliveries(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range res.Deliveries {
			if d.Replay == "" {
				continue
			}
			made[d.ReplayOf]++
			if d.State != webhook.Delivered {
				left++
			}
		}
		if req.After = res.Next; req.After == "" {
			return made, left
		}
	}
}

// TestProcessesShareReplay lets processes share a replay, of which one after the other is killed in the middle, and another takes its place. Every dead
// letter is replayed once: no step is lost, and none is done twice.
func TestProcessesShareReplay(t *testing.T) {
	const n, kills = 1200, 3
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.database(t))
		recv := newReceiver(t, 0, nil)
		c.fillDead(t, n)
		cfg := c.config()
		cfg.Endpoints, cfg.URL, cfg.Timeout, cfg.Margin = 1, recv.URL, 5*time.Second, time.Second
		var procs []*child
		start := func() {
			cfg.Name = fmt.Sprint("process", len(procs))
			p := startChild(t, "life", "", cfg)
			procs = append(procs, p)
			p.await("ready", 1, time.Minute)
		}
		start()
		start()
		d, err := webhook.NewDispatcher(c.store, cfg.options())
		if err != nil {
			t.Fatal(err)
		}
		filter := webhook.Filter{Endpoint: childEndpoint(0), State: webhook.DeadLetter}
		rp, err := d.Replay(t.Context(), filter, &webhook.ReplayOptions{Rate: webhook.PerSecond(400)})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for kill := range kills {
			waitFor(t, time.Minute, "the replay to go on", func() bool {
				if rp, err = d.GetReplay(t.Context(), rp.ID); err != nil {
					t.Fatal(err)
				}
				return rp.Redelivered >= n*(kill+1)/(kills+2)
			})
			procs[len(procs)-2].kill()
			start()
		}
		waitFor(t, time.Minute, "the replay to be done", func() bool {
			if rp, err = d.GetReplay(t.Context(), rp.ID); err != nil {
				t.Fatal(err)
			}
			return rp.State == webhook.ReplayDone
		})
		took := time.Since(began)
		waitFor(t, time.Minute, "the queue to be empty", func() bool { return c.waits(t) == 0 })
		made, left := c.replays(t)
		if len(made) != n || left != 0 || rp.Matched != n || rp.Redelivered != n || rp.PassedOver != 0 {
			t.Errorf("%d of %d were replayed, %d of those not delivered; the replay says %+v", len(made), n, left, rp)
		}
		for id, times := range made {
			if times != 1 {
				t.Errorf("%s was replayed %d times", id, times)
			}
		}
		if again, err := d.Replay(t.Context(), filter, &webhook.ReplayOptions{DryRun: true}); err != nil || again.Matched != 0 {
			t.Errorf("what is left: %+v, %v", again, err)
		}
		for _, p := range procs[len(procs)-2:] {
			p.stop()
		}
		t.Logf("%d replayed in %v, through %d kills", n, took.Round(10*time.Millisecond), kills)
	})
}
