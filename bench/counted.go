package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/signalpost/webhook"
)

// fullStore is what every store of the library offers a dispatcher.
type fullStore interface {
	webhook.Store
	webhook.HoldStore
	webhook.EndpointStore
}

// counted is a store that counts the calls that are a transaction each, and the deliveries that were recorded as delivered.
type counted struct {
	fullStore
	calls     atomic.Int64
	delivered atomic.Int64
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
	return s.fullStore.Claim(ctx, req)
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

func (s *counted) ListHolds(ctx context.Context, now time.Time) ([]webhook.HoldStatus, error) {
	s.calls.Add(1)
	return s.fullStore.ListHolds(ctx, now)
}
