package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/signalpost/webhook"
)

// full is all that a store can be. A broken store is a good one with one method wrapped.
type full interface {
	webhook.Store
	webhook.HoldStore
	webhook.StateStore
	webhook.LifeStore
	webhook.EndpointStore
	webhook.DedupeStore
	webhook.QueryStore
	webhook.Pruner
	webhook.Eraser
	webhook.ReplayStore
}

// brokenClaim wraps Claim; before changes the request, after the result. Either may be nil.
type brokenClaim struct {
	full
	before func(s full, req *webhook.ClaimRequest)
	after  func(s full, req *webhook.ClaimRequest, res *webhook.ClaimResult)
}

func (b brokenClaim) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	own := *req
	own.Lanes = slices.Clone(req.Lanes)
	if b.before != nil {
		b.before(b.full, &own)
	}
	res, err := b.full.Claim(ctx, &own)
	if err == nil && b.after != nil {
		b.after(b.full, req, res)
	}
	return res, err
}

func claimIgnoresHolds(s full) full {
	return brokenClaim{full: s, before: func(s full, req *webhook.ClaimRequest) {
		for _, l := range req.Lanes {
			s.Unhold(context.Background(), l.EndpointID)
		}
	}}
}

func claimExceedsMax(s full) full {
	return brokenClaim{full: s, before: func(_ full, req *webhook.ClaimRequest) {
		for i := range req.Lanes {
			req.Lanes[i].Max++
		}
	}}
}

func claimExceedsLimit(s full) full {
	return brokenClaim{full: s, before: func(_ full, req *webhook.ClaimRequest) { req.Limit++ }}
}

func claimIgnoresRate(s full) full {
	return brokenClaim{full: s, before: func(_ full, req *webhook.ClaimRequest) {
		for i := range req.Lanes {
			req.Lanes[i].Rate = webhook.Rate{}
		}
	}}
}

func claimReadsOwnClock(s full) full {
	return brokenClaim{full: s, before: func(_ full, req *webhook.ClaimRequest) {
		if now := time.Now(); now.After(req.Now) {
			req.Now = now
		}
	}}
}

func claimKeepsToken(s full) full {
	return brokenClaim{full: s, after: func(_ full, _ *webhook.ClaimRequest, res *webhook.ClaimResult) {
		for i := range res.Deliveries {
			res.Deliveries[i].Token = 1
		}
	}}
}

// claimIgnoresLeases leaves what it returns as due as before.
func claimIgnoresLeases(s full) full {
	return brokenClaim{full: s, after: func(s full, req *webhook.ClaimRequest, res *webhook.ClaimResult) {
		for _, c := range res.Deliveries {
			s.Extend(context.Background(), &webhook.ExtendRequest{Now: req.Now, Leases: []webhook.LeaseRef{ref(c, req.Now)}})
		}
	}}
}

func claimLatestFirst(s full) full {
	return brokenClaim{full: s, after: func(_ full, _ *webhook.ClaimRequest, res *webhook.ClaimResult) { slices.Reverse(res.Deliveries) }}
}

func claimNeverSaysMore(s full) full {
	return brokenClaim{full: s, after: func(_ full, _ *webhook.ClaimRequest, res *webhook.ClaimResult) {
		for i := range res.Lanes {
			res.Lanes[i].More = false
		}
	}}
}

func claimNumbersWithGaps(s full) full {
	return brokenClaim{full: s, after: func(_ full, _ *webhook.ClaimRequest, res *webhook.ClaimResult) {
		for i := range res.Deliveries {
			res.Deliveries[i].Delivery.Sequence *= 2
		}
	}}
}

// claimBreaksOrder returns, with a delivery that has an ordering key, the one behind it.
func claimBreaksOrder(s full) full {
	return brokenClaim{full: s, after: func(s full, req *webhook.ClaimRequest, res *webhook.ClaimResult) {
		all, _ := s.ListDeliveries(context.Background(), &webhook.ListDeliveriesRequest{Now: req.Now, Limit: 1000})
		for _, c := range slices.Clone(res.Deliveries) {
			for _, d := range all.Deliveries {
				if d.OrderingKey != "" && d.EndpointID == c.Delivery.EndpointID && d.OrderingKey == c.Delivery.OrderingKey &&
					d.Sequence == c.Delivery.Sequence+1 && !d.State.Final() {
					d.State, d.DueAt = webhook.Delivering, c.LeaseUntil
					ev, _ := s.GetEvent(context.Background(), d.EventID)
					res.Deliveries = append(res.Deliveries, webhook.Claimed{Delivery: d, Event: ev.Event, Token: c.Token, LeaseUntil: c.LeaseUntil})
				}
			}
		}
	}}
}

// claimSharesEvents hands out one copy of an event to all.
func claimSharesEvents(s full) full {
	var mu sync.Mutex
	events := map[string]webhook.Event{}
	return brokenClaim{full: s, after: func(_ full, _ *webhook.ClaimRequest, res *webhook.ClaimResult) {
		mu.Lock()
		defer mu.Unlock()
		for i, c := range res.Deliveries {
			if ev, ok := events[c.Event.ID]; ok {
				res.Deliveries[i].Event = ev
			}
			events[c.Event.ID] = res.Deliveries[i].Event
		}
	}}
}

// brokenEnqueue replaces Enqueue.
type brokenEnqueue struct {
	full
	enqueue func(ctx context.Context, s full, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error)
}

func (b brokenEnqueue) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	return b.enqueue(ctx, b.full, req)
}

func enqueueTakesConflictsForRepeats(s full) full {
	return brokenEnqueue{s, func(ctx context.Context, s full, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
		res, err := s.Enqueue(ctx, req)
		if err == nil {
			for i, st := range res.Events {
				if st == webhook.Conflict {
					res.Events[i] = webhook.Repeat
				}
			}
		}
		return res, err
	}}
}

// enqueueLosesOne forgets the last of many events.
func enqueueLosesOne(s full) full {
	return brokenEnqueue{s, func(ctx context.Context, s full, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
		n := len(req.Events)
		if n < 10 {
			return s.Enqueue(ctx, req)
		}
		own := *req
		own.Events = req.Events[:n-1]
		res, err := s.Enqueue(ctx, &own)
		if err == nil {
			res.Events = append(res.Events, webhook.Stored)
		}
		return res, err
	}}
}

// enqueueOneByOne stores what comes before the event that it refuses.
func enqueueOneByOne(s full) full {
	return brokenEnqueue{s, func(ctx context.Context, s full, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
		all := &webhook.EnqueueResult{}
		for _, ev := range req.Events {
			own := *req
			own.Events = []webhook.NewEvent{ev}
			res, err := s.Enqueue(ctx, &own)
			if err != nil {
				return nil, err
			}
			all.Events = append(all.Events, res.Events...)
		}
		return all, nil
	}}
}

// enqueueBackwards stores the events of a request in the wrong order.
func enqueueBackwards(s full) full {
	return brokenEnqueue{s, func(ctx context.Context, s full, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
		own := *req
		own.Events = slices.Clone(req.Events)
		slices.Reverse(own.Events)
		res, err := s.Enqueue(ctx, &own)
		if err == nil {
			slices.Reverse(res.Events)
		}
		return res, err
	}}
}

// enqueueLeasesRepeats leases a known event's delivery when it is sent again with a lease.
func enqueueLeasesRepeats(s full) full {
	return brokenEnqueue{s, func(ctx context.Context, s full, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
		res, err := s.Enqueue(ctx, req)
		if err != nil {
			return res, err
		}
		for i, ev := range req.Events {
			for _, d := range ev.Deliveries {
				if res.Events[i] == webhook.Repeat && d.Lease > 0 {
					s.Claim(ctx, &webhook.ClaimRequest{Now: req.Now, Limit: 1, Lanes: []webhook.LaneClaim{
						{LaneID: webhook.LaneID{EndpointID: d.EndpointID}, Max: 1, Lease: d.Lease}}})
				}
			}
		}
		return res, nil
	}}
}

// brokenLanes wraps Lanes.
type brokenLanes struct {
	full
	after func(res *webhook.LanesResult)
}

func (b brokenLanes) Lanes(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
	res, err := b.full.Lanes(ctx, req)
	if err == nil {
		b.after(res)
	}
	return res, err
}

func lanesForgetsNextPage(s full) full {
	return brokenLanes{s, func(res *webhook.LanesResult) { res.Next = webhook.LaneID{} }}
}

// lanesFromMisses leaves out what is due first.
func lanesFromMisses(s full) full {
	return brokenLanes{s, func(res *webhook.LanesResult) {
		for i := range res.Lanes {
			res.Lanes[i].From = res.Lanes[i].From.Add(time.Microsecond)
		}
	}}
}

func lanesForgetsRetries(s full) full {
	return brokenLanes{s, func(res *webhook.LanesResult) {
		res.Lanes = slices.DeleteFunc(res.Lanes, func(l webhook.Lane) bool { return l.Class == webhook.Retry })
	}}
}

// brokenExtend replaces Extend.
type brokenExtend struct{ full }

// extendRevives extends a delivery's lease under whatever token it is now.
func extendRevives(s full) full { return brokenExtend{s} }

func (b brokenExtend) Extend(ctx context.Context, req *webhook.ExtendRequest) (*webhook.ExtendResult, error) {
	res, err := b.full.Extend(ctx, req)
	if err != nil {
		return res, err
	}
	for i, l := range req.Leases {
		if res.Leases[i] == webhook.Stale && currentToken(b.full, req.Now, &l) {
			res.Leases[i] = webhook.Applied
		}
	}
	return res, nil
}

// currentToken finds the token under which a delivery is leased, by trying, and extends it to l.Until.
func currentToken(s full, now time.Time, l *webhook.LeaseRef) bool {
	for range 20 {
		res, err := s.Extend(context.Background(), &webhook.ExtendRequest{Now: now, Leases: []webhook.LeaseRef{*l}})
		if err == nil && res.Leases[0] == webhook.Applied {
			return true
		}
		l.Token++
	}
	return false
}

// brokenComplete replaces Complete.
type brokenComplete struct {
	full
	complete func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error)
}

func (b brokenComplete) Complete(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	own := *req
	own.Outcomes = slices.Clone(req.Outcomes)
	return b.complete(ctx, b.full, &own)
}

// completeAcceptsStale applies an outcome under whatever token the delivery is now.
func completeAcceptsStale(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		for i, o := range req.Outcomes {
			l := webhook.LeaseRef{EndpointID: o.EndpointID, DeliveryID: o.DeliveryID, Token: o.Token, Until: req.Now.Add(time.Minute)}
			if currentToken(s, req.Now, &l) {
				req.Outcomes[i].Token = l.Token
			}
		}
		return s.Complete(ctx, req)
	}}
}

func completeForgetsAttempts(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		for i := range req.Outcomes {
			req.Outcomes[i].Attempt = nil
		}
		return s.Complete(ctx, req)
	}}
}

func completeForgetsLateAttempts(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		for i, o := range req.Outcomes {
			l := webhook.LeaseRef{EndpointID: o.EndpointID, DeliveryID: o.DeliveryID, Token: o.Token, Until: req.Now.Add(time.Minute)}
			known, _ := s.ListAttempts(ctx, o.DeliveryID)
			if slices.ContainsFunc(known, func(a webhook.Attempt) bool { return a.Token == o.Token }) {
				continue
			}
			if res, err := s.Extend(ctx, &webhook.ExtendRequest{Now: req.Now, Leases: []webhook.LeaseRef{l}}); err == nil && res.Leases[0] == webhook.Stale {
				req.Outcomes[i].Attempt = nil
			}
		}
		return s.Complete(ctx, req)
	}}
}

// completeOneByOne applies what comes before the outcome that it refuses.
func completeOneByOne(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		all := &webhook.CompleteResult{}
		for _, o := range req.Outcomes {
			res, err := s.Complete(ctx, &webhook.CompleteRequest{Now: req.Now, Outcomes: []webhook.Outcome{o}})
			if err != nil {
				return nil, err
			}
			all.Outcomes = append(all.Outcomes, res.Outcomes...)
		}
		return all, nil
	}}
}

// completeStopsAtStale takes the rest of a request for stale when one of it is.
func completeStopsAtStale(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		all := &webhook.CompleteResult{}
		stopped := false
		for _, o := range req.Outcomes {
			if stopped {
				all.Outcomes = append(all.Outcomes, webhook.Stale)
				continue
			}
			res, err := s.Complete(ctx, &webhook.CompleteRequest{Now: req.Now, Outcomes: []webhook.Outcome{o}})
			if err != nil {
				return nil, err
			}
			all.Outcomes = append(all.Outcomes, res.Outcomes...)
			stopped = res.Outcomes[0] == webhook.Stale
		}
		return all, nil
	}}
}

// completeWakesTooEarly lets a key go on behind a dead letter that should block it.
func completeWakesTooEarly(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		for i := range req.Outcomes {
			req.Outcomes[i].BehindDeadLetter = webhook.SkipDeadLetter
		}
		return s.Complete(ctx, req)
	}}
}

func completeIgnoresContext(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		return s.Complete(context.WithoutCancel(ctx), req)
	}}
}

// completeGivesBackToRetry puts what is given back into the Retry lane, wherever it came from.
func completeGivesBackToRetry(s full) full {
	return brokenComplete{s, func(ctx context.Context, s full, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
		for i := range req.Outcomes {
			if o := &req.Outcomes[i]; o.Next == webhook.Queued {
				if o.Next = webhook.RetryScheduled; o.DueAt.IsZero() {
					o.DueAt = req.Now
				}
			}
		}
		return s.Complete(ctx, req)
	}}
}

// brokenHold wraps Hold.
type brokenHold struct{ full }

func holdForgetsUntil(s full) full { return brokenHold{s} }

func (b brokenHold) Hold(ctx context.Context, req *webhook.HoldRequest) error {
	own := *req
	own.Until = time.Time{}
	return b.full.Hold(ctx, &own)
}

// brokenHolds wraps ListHolds.
type brokenHolds struct{ full }

// holdsListsEnded lists holds that have ended by themselves too.
func holdsListsEnded(s full) full { return brokenHolds{s} }

func (b brokenHolds) ListHolds(ctx context.Context, _ time.Time) ([]webhook.HoldStatus, error) {
	return b.full.ListHolds(ctx, time.Time{})
}

// brokenRelease wraps ReleaseKey.
type brokenRelease struct{ full }

func releaseAlwaysDid(s full) full { return brokenRelease{s} }

func (b brokenRelease) ReleaseKey(ctx context.Context, req *webhook.ReleaseKeyRequest) (bool, error) {
	_, err := b.full.ReleaseKey(ctx, req)
	return err == nil, err
}

// brokenPut wraps PutEndpoint.
type brokenPut struct{ full }

// putKeepsOld creates endpoints but does not replace them.
func putKeepsOld(s full) full { return brokenPut{s} }

func (b brokenPut) PutEndpoint(ctx context.Context, ep webhook.Endpoint) error {
	if _, err := b.full.GetEndpoint(ctx, ep.ID); err == nil {
		return nil
	}
	return b.full.PutEndpoint(ctx, ep)
}

// brokenChanges wraps EndpointChanges.
type brokenChanges struct {
	full
	after func(since int64, res *webhook.EndpointChanges)
}

func (b brokenChanges) EndpointChanges(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
	res, err := b.full.EndpointChanges(ctx, since)
	if err == nil {
		b.after(since, res)
	}
	return res, err
}

// replacedKeepVersion tells of each endpoint once, as if replacing it did not raise its version.
func replacedKeepVersion(s full) full {
	var mu sync.Mutex
	known := map[string]bool{}
	return brokenChanges{s, func(_ int64, res *webhook.EndpointChanges) {
		mu.Lock()
		defer mu.Unlock()
		res.Put = slices.DeleteFunc(res.Put, func(ep webhook.Endpoint) bool {
			was := known[ep.ID]
			known[ep.ID] = true
			return was
		})
	}}
}

func changesForgetDeleted(s full) full {
	return brokenChanges{s, func(_ int64, res *webhook.EndpointChanges) { res.Deleted = nil }}
}

// brokenBegin wraps Begin.
type brokenBegin struct{ full }

// beginGivesTwice gives a key that somebody holds to the next who asks.
func beginGivesTwice(s full) full { return brokenBegin{s} }

func (b brokenBegin) Begin(ctx context.Context, req *webhook.BeginRequest) (*webhook.BeginResult, error) {
	res, err := b.full.Begin(ctx, req)
	if err == nil && res.Status == webhook.KeyRunning {
		res = &webhook.BeginResult{Status: webhook.KeyTaken, Token: 1 << 40}
	}
	return res, err
}

// brokenFinish wraps Finish.
type brokenFinish struct{ full }

// finishIgnoresToken finishes a key for whoever holds it.
func finishIgnoresToken(s full) full { return brokenFinish{s} }

func (b brokenFinish) Finish(ctx context.Context, req *webhook.FinishRequest) error {
	err := b.full.Finish(ctx, req)
	for token := int64(1); errors.Is(err, webhook.ErrStaleKey) && token < 20; token++ {
		own := *req
		own.Token = token
		err = b.full.Finish(ctx, &own)
	}
	return err
}

// brokenList wraps ListDeliveries.
type brokenList struct{ full }

// listShowsHeldAsQueued does not derive states.
func listShowsHeldAsQueued(s full) full { return brokenList{s} }

func (b brokenList) ListDeliveries(ctx context.Context, req *webhook.ListDeliveriesRequest) (*webhook.ListDeliveriesResult, error) {
	res, err := b.full.ListDeliveries(ctx, req)
	if err == nil {
		for i := range res.Deliveries {
			if d := &res.Deliveries[i]; d.State == webhook.Held {
				d.State = webhook.Queued
			}
		}
	}
	return res, err
}

// brokenAttempts wraps ListAttempts.
type brokenAttempts struct{ full }

// attemptsBackwards lists the latest attempt first.
func attemptsBackwards(s full) full { return brokenAttempts{s} }

func (b brokenAttempts) ListAttempts(ctx context.Context, id string) ([]webhook.Attempt, error) {
	res, err := b.full.ListAttempts(ctx, id)
	slices.Reverse(res)
	return res, err
}

// brokenPrune wraps Prune.
type brokenPrune struct{ full }

// pruneForgetsLimit removes all that there is.
func pruneForgetsLimit(s full) full { return brokenPrune{s} }

func (b brokenPrune) Prune(ctx context.Context, req *webhook.PruneRequest) (*webhook.PruneResult, error) {
	own := *req
	own.Limit = 1 << 20
	return b.full.Prune(ctx, &own)
}
