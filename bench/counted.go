package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/signalpost/webhook"
)

// fullStore is what every store of the library offers a dispatcher: what is left out here would not be measured.
type fullStore interface {
	webhook.Store
	webhook.HoldStore
	webhook.EndpointStore
	webhook.StateStore
	webhook.LifeStore
	webhook.QueryStore
	webhook.Pruner
}

// counted is a store that counts the calls that are a transaction each, what claims take, and the deliveries that were recorded as
// delivered.
type counted struct {
	fullStore
	calls     atomic.Int64
	delivered atomic.Int64
	claims    atomic.Int64
	claimed   atomic.Int64 // deliveries
	claimTime atomic.Int64 // nanoseconds
}

func (s *counted) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	s.calls.Add(1)
	return s.fullStore.Enqueue(ctx, req)
}

func (s *counted) Lanes(ctx context.Context, req *webhook.LanesRequest) (*webhook.LanesResult, error) {
	s.calls.Add(1)
	return s.fullStore.Lanes(ctx, req)
}

func (s *counted) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	s.calls.Add(1)
	began := time.Now()
	res, err := s.fullStore.Claim(ctx, req)
	if err == nil && len(res.Deliveries) > 0 {
		s.claims.Add(1)
		s.claimed.Add(int64(len(res.Deliveries)))
		s.claimTime.Add(int64(time.Since(began)))
	}
	return res, err
}

func (s *counted) Extend(ctx context.Context, req *webhook.ExtendRequest) (*webhook.ExtendResult, error) {
	s.calls.Add(1)
	return s.fullStore.Extend(ctx, req)
}

func (s *counted) Complete(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	s.calls.Add(1)
	res, err := s.fullStore.Complete(ctx, req)
	if err != nil {
		return nil, err
	}
	for i, status := range res.Outcomes {
		if status == webhook.Applied && req.Outcomes[i].Next == webhook.Delivered {
			s.delivered.Add(1)
		}
	}
	return res, nil
}

func (s *counted) EndpointChanges(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
	s.calls.Add(1)
	return s.fullStore.EndpointChanges(ctx, since)
}

func (s *counted) StateChanges(ctx context.Context, since int64) (*webhook.StateChanges, error) {
	s.calls.Add(1)
	return s.fullStore.StateChanges(ctx, since)
}

func (s *counted) PutStates(ctx context.Context, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
	s.calls.Add(1)
	return s.fullStore.PutStates(ctx, req)
}

func (s *counted) ListHolds(ctx context.Context, now time.Time) ([]webhook.HoldStatus, error) {
	s.calls.Add(1)
	return s.fullStore.ListHolds(ctx, now)
}

func (s *counted) End(ctx context.Context, req *webhook.EndRequest) (*webhook.EndResult, error) {
	s.calls.Add(1)
	return s.fullStore.End(ctx, req)
}

func (s *counted) Backlog(ctx context.Context, req *webhook.BacklogRequest) (*webhook.BacklogResult, error) {
	s.calls.Add(1)
	return s.fullStore.Backlog(ctx, req)
}
