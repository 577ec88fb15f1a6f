package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/signalpost/webhook"
)

// brokenEnd wraps End; before changes the request, after the result. Either may be nil.
type brokenEnd struct {
	full
	before func(req *webhook.EndRequest)
	after  func(res *webhook.EndResult)
}

func (b brokenEnd) End(ctx context.Context, req *webhook.EndRequest) (*webhook.EndResult, error) {
	own := *req
	if b.before != nil {
		b.before(&own)
	}
	res, err := b.full.End(ctx, &own)
	if err == nil && b.after != nil {
		b.after(res)
	}
	return res, err
}

func endTakesLeased(s full) full {
	return brokenEnd{full: s, before: func(req *webhook.EndRequest) { req.Leased = true }}
}

func endFencesNothing(s full) full {
	return brokenEnd{full: s, before: func(req *webhook.EndRequest) { req.Leased = false }}
}

func endForgetsReason(s full) full {
	return brokenEnd{full: s, before: func(req *webhook.EndRequest) { req.Reason = "" }}
}

func endForgetsLimit(s full) full {
	return brokenEnd{full: s, before: func(req *webhook.EndRequest) { req.Limit = 0 }}
}

func endTakesOneMore(s full) full {
	return brokenEnd{full: s, before: func(req *webhook.EndRequest) {
		if req.Oldest > 0 {
			req.Oldest++
		}
	}}
}

func endNeverSaysMore(s full) full {
	return brokenEnd{full: s, after: func(res *webhook.EndResult) { res.More = false }}
}

func endFindsNothing(s full) full {
	return brokenEnd{full: s, after: func(res *webhook.EndResult) { res.Found = 0 }}
}

func endsBackwards(s full) full {
	return brokenEnd{full: s, after: func(res *webhook.EndResult) { slices.Reverse(res.Ended) }}
}

func endWakesTheWrong(s full) full {
	return brokenEnd{full: s, after: func(res *webhook.EndResult) {
		for i := range res.Woken {
			res.Woken[i].Earliest = res.Woken[i].Earliest.Add(time.Second)
		}
	}}
}

// endExpiresEarly ends what has a second left.
func endExpiresEarly(s full) full {
	return brokenEnd{full: s, before: func(req *webhook.EndRequest) {
		if req.Expired {
			req.Now = req.Now.Add(time.Second)
		}
	}}
}

// endIsLenient takes what it should refuse for a request that means nothing.
type endIsLenient struct{ full }

func (b endIsLenient) End(ctx context.Context, req *webhook.EndRequest) (*webhook.EndResult, error) {
	res, err := b.full.End(ctx, req)
	if errors.Is(err, webhook.ErrInvalid) {
		return &webhook.EndResult{}, nil
	}
	return res, err
}

// brokenPlaces knows what End has ended and is still in its key.
type brokenPlaces struct {
	full
	mu     *sync.Mutex
	places map[string]webhook.Delivery
	last   map[string]webhook.State // what completions of such said
	read   func(b brokenPlaces, d *webhook.Delivery)
	count  func(b brokenPlaces, w *webhook.EndpointBacklog, most int)
}

func newBrokenPlaces(s full) brokenPlaces {
	return brokenPlaces{full: s, mu: &sync.Mutex{}, places: map[string]webhook.Delivery{}, last: map[string]webhook.State{}}
}

func (b brokenPlaces) End(ctx context.Context, req *webhook.EndRequest) (*webhook.EndResult, error) {
	res, err := b.full.End(ctx, req)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		for _, d := range res.Ended {
			if d.OrderingKey != "" {
				b.places[d.ID] = d
			}
		}
	}
	return res, err
}

func (b brokenPlaces) Complete(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	res, err := b.full.Complete(ctx, req)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		for i, o := range req.Outcomes {
			if _, over := b.places[o.DeliveryID]; over && res.Outcomes[i] == webhook.Applied {
				delete(b.places, o.DeliveryID)
				b.last[o.DeliveryID] = o.Next
			}
		}
	}
	return res, err
}

func (b brokenPlaces) ListDeliveries(ctx context.Context, req *webhook.ListDeliveriesRequest) (*webhook.ListDeliveriesResult, error) {
	res, err := b.full.ListDeliveries(ctx, req)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && b.read != nil {
		for i := range res.Deliveries {
			b.read(b, &res.Deliveries[i])
		}
	}
	return res, err
}

func (b brokenPlaces) Backlog(ctx context.Context, req *webhook.BacklogRequest) (*webhook.BacklogResult, error) {
	res, err := b.full.Backlog(ctx, req)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && b.count != nil {
		for i := range res.Endpoints {
			b.count(b, &res.Endpoints[i], req.Count)
		}
	}
	return res, err
}

// endWaitsItsTurn shows what keeps a place in a key as if it still waited.
func endWaitsItsTurn(s full) full {
	b := newBrokenPlaces(s)
	b.read = func(b brokenPlaces, d *webhook.Delivery) {
		if _, over := b.places[d.ID]; over {
			d.State, d.Reason, d.FinishedAt = webhook.Queued, "", time.Time{}
		}
	}
	return b
}

// completeOverwritesEnded lets the completion of what End has ended decide its state.
func completeOverwritesEnded(s full) full {
	b := newBrokenPlaces(s)
	b.read = func(b brokenPlaces, d *webhook.Delivery) {
		if next := b.last[d.ID]; next.Final() {
			d.State = next
		}
	}
	return b
}

// backlogCountsEnded counts what only keeps a place in its key.
func backlogCountsEnded(s full) full {
	b := newBrokenPlaces(s)
	b.count = func(b brokenPlaces, w *webhook.EndpointBacklog, most int) {
		for _, d := range b.places {
			if d.EndpointID == w.EndpointID {
				w.Waiting = min(w.Waiting+1, most)
			}
		}
	}
	return b
}

// claimHidesEnds hands out what was ended as if it were to be sent.
func claimHidesEnds(s full) full {
	return brokenClaim{full: s, after: func(_ full, _ *webhook.ClaimRequest, res *webhook.ClaimResult) {
		for i := range res.Deliveries {
			if d := &res.Deliveries[i].Delivery; d.ExpiresAt.Equal(time.Unix(0, 0)) {
				d.ExpiresAt = time.Time{}
			}
		}
	}}
}

// claimForgetsExpiry tells nobody until when a delivery is to be sent.
func claimForgetsExpiry(s full) full {
	return brokenClaim{full: s, after: func(_ full, _ *webhook.ClaimRequest, res *webhook.ClaimResult) {
		for i := range res.Deliveries {
			if d := &res.Deliveries[i].Delivery; d.ExpiresAt.After(time.Unix(0, 0)) {
				d.ExpiresAt = time.Time{}
			}
		}
	}}
}

// enqueueForgetsExpiry stores what expires as what does not.
type enqueueForgetsExpiry struct{ full }

func (b enqueueForgetsExpiry) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	own := *req
	own.Events = slices.Clone(req.Events)
	for i := range own.Events {
		own.Events[i].Deliveries = slices.Clone(own.Events[i].Deliveries)
		for j := range own.Events[i].Deliveries {
			own.Events[i].Deliveries[j].ExpiresAt = time.Time{}
		}
	}
	return b.full.Enqueue(ctx, &own)
}

// brokenBacklog wraps Backlog; before changes the request, after the result. Either may be nil.
type brokenBacklog struct {
	full
	before func(req *webhook.BacklogRequest)
	after  func(req *webhook.BacklogRequest, res *webhook.BacklogResult)
}

func (b brokenBacklog) Backlog(ctx context.Context, req *webhook.BacklogRequest) (*webhook.BacklogResult, error) {
	own := *req
	if b.before != nil {
		b.before(&own)
	}
	res, err := b.full.Backlog(ctx, &own)
	if err == nil && b.after != nil {
		b.after(req, res)
	}
	return res, err
}

func backlogForgetsCount(s full) full {
	return brokenBacklog{full: s, before: func(req *webhook.BacklogRequest) { req.Count = 1 << 30 }}
}

func backlogForgetsEndpoints(s full) full {
	return brokenBacklog{full: s, before: func(req *webhook.BacklogRequest) { req.Endpoints = nil }}
}

func backlogForgetsNextPage(s full) full {
	return brokenBacklog{full: s, after: func(_ *webhook.BacklogRequest, res *webhook.BacklogResult) { res.Next = "" }}
}

// eachBacklog changes what is told of each endpoint.
func eachBacklog(s full, change func(b *webhook.EndpointBacklog, now time.Time)) full {
	return brokenBacklog{full: s, after: func(req *webhook.BacklogRequest, res *webhook.BacklogResult) {
		for i := range res.Endpoints {
			change(&res.Endpoints[i], req.Now)
		}
	}}
}

// backlogAgesAll takes all that is unfinished for due.
func backlogAgesAll(s full) full {
	return eachBacklog(s, func(b *webhook.EndpointBacklog, now time.Time) {
		if b.OldestDue.IsZero() && b.Waiting > 0 {
			b.OldestDue = now
		}
	})
}

func backlogForgetsParked(s full) full {
	return eachBacklog(s, func(b *webhook.EndpointBacklog, _ time.Time) { b.OldestKept = time.Time{} })
}

func backlogForgetsBlocked(s full) full {
	return eachBacklog(s, func(b *webhook.EndpointBacklog, _ time.Time) { b.Blocked = 0 })
}

// brokenBlocked changes the answer of BlockedKeys.
type brokenBlocked struct {
	full
	change func(res *webhook.BlockedKeysResult)
}

func (b brokenBlocked) BlockedKeys(ctx context.Context, req *webhook.BlockedKeysRequest) (*webhook.BlockedKeysResult, error) {
	res, err := b.full.BlockedKeys(ctx, req)
	if err == nil {
		b.change(res)
	}
	return res, err
}

func blockedBackwards(s full) full {
	return brokenBlocked{s, func(res *webhook.BlockedKeysResult) { slices.Reverse(res.Keys) }}
}

func blockedForgetsHeld(s full) full {
	return brokenBlocked{s, func(res *webhook.BlockedKeysResult) {
		for i := range res.Keys {
			res.Keys[i].Held = false
		}
	}}
}

func blockedForgetsNextPage(s full) full {
	return brokenBlocked{s, func(res *webhook.BlockedKeysResult) { res.Next = "" }}
}
