package memstore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// Eight claimers drain a hot and fifteen other endpoints, some deliveries ordered, while four senders still enqueue. Some rows are
// retried once. Every delivery is delivered exactly once, nothing is leased twice at a time, and each key goes in order.
func TestEightClaimers(t *testing.T) {
	const senders, each = 4, 1000
	s := memstore.New()
	r := &drain{leased: make(map[string]bool), last: make(map[string]int64)}
	var sending, claiming sync.WaitGroup
	for i := range senders {
		sending.Go(func() {
			for j := range each {
				ep, key := "hot", ""
				if j%2 == 0 {
					ep = fmt.Sprint("ep", j%15)
				}
				if j%5 == 0 {
					key = fmt.Sprint("k", j%4)
				}
				enqueue(t, s, fmt.Sprintf("e%d-%d", i, j), key, ep)
			}
		})
	}
	for range 8 {
		claiming.Go(func() {
			for r.done.Load() < senders*each && !t.Failed() {
				r.round(t, s)
			}
		})
	}
	sending.Wait()
	claiming.Wait()
	if n := r.done.Load(); n != senders*each {
		t.Errorf("%d delivered, want %d", n, senders*each)
	}
	lanes, err := s.Lanes(t.Context(), &webhook.LanesRequest{Limit: 1})
	if err != nil || len(lanes.Lanes) != 0 {
		t.Errorf("left over: %+v, %v", lanes, err)
	}
}

// drain is what the claimers of TestEightClaimers know together.
type drain struct {
	done   atomic.Int64
	mu     sync.Mutex
	leased map[string]bool
	last   map[string]int64 // last sequence number delivered, by endpoint and key
}

// round claims from every lane there is, and completes what it got.
func (r *drain) round(t *testing.T, s *memstore.Store) {
	now := t0.Add(time.Second)
	lanes, err := s.Lanes(t.Context(), &webhook.LanesRequest{Limit: 100})
	if err != nil {
		t.Error(err)
		return
	}
	req := &webhook.ClaimRequest{Now: now, Owner: "test", Limit: 50}
	for _, l := range lanes.Lanes {
		req.Lanes = append(req.Lanes, webhook.LaneClaim{LaneID: l.LaneID, Max: 10, Lease: time.Hour})
	}
	res, err := s.Claim(t.Context(), req)
	if err != nil {
		t.Error(err)
		return
	}
	done := &webhook.CompleteRequest{Now: now}
	finished := 0
	for _, c := range res.Deliveries {
		o := r.outcome(t, c)
		if o.Next.Final() {
			finished++
		}
		done.Outcomes = append(done.Outcomes, o)
	}
	got, err := s.Complete(t.Context(), done)
	if err != nil {
		t.Error(err)
		return
	}
	for i, status := range got.Outcomes {
		if status != webhook.Applied {
			t.Errorf("outcome of %s: %v, want Applied", done.Outcomes[i].DeliveryID, status)
		}
	}
	r.done.Add(int64(finished))
}

// outcome checks a claimed delivery against what is known and decides what becomes of it.
func (r *drain) outcome(t *testing.T, c webhook.Claimed) webhook.Outcome {
	d := c.Delivery
	o := webhook.Outcome{EndpointID: d.EndpointID, DeliveryID: d.ID, Token: c.Token, Next: webhook.Delivered}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leased[d.ID] {
		t.Errorf("%s is leased twice", d.ID)
	}
	if string(c.Event.Payload) != "payload of "+d.EventID {
		t.Errorf("%s came with payload %q", d.ID, c.Event.Payload)
	}
	o.Attempt = &webhook.Attempt{Number: d.Attempts + 1, StartedAt: t0}
	if d.Attempts == 0 && c.Event.ID[len(c.Event.ID)-1] == '7' {
		o.Next, o.DueAt = webhook.RetryScheduled, t0
		return o
	}
	r.leased[d.ID] = true // and stays so: it must not come again
	if d.OrderingKey != "" {
		k := d.EndpointID + " " + d.OrderingKey
		if d.Sequence != r.last[k]+1 {
			t.Errorf("%s: sequence %d after %d", k, d.Sequence, r.last[k])
		}
		r.last[k] = d.Sequence
	}
	return o
}
