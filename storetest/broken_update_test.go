package storetest

import (
	"context"
	"time"

	"github.com/signalpost/webhook"
)

// brokenUpdate replaces UpdateEndpoint.
type brokenUpdate struct {
	full
	update func(ctx context.Context, s full, id string, change func(*webhook.Endpoint) error) error
}

func (b brokenUpdate) UpdateEndpoint(ctx context.Context, id string, change func(*webhook.Endpoint) error) error {
	return b.update(ctx, b.full, id, change)
}

// updateLosesOthers reads, changes and puts: what others do between is undone.
func updateLosesOthers(s full) full {
	return brokenUpdate{s, func(ctx context.Context, s full, id string, change func(*webhook.Endpoint) error) error {
		ep, err := s.GetEndpoint(ctx, id)
		if err != nil {
			return err
		}
		if err := change(&ep); err != nil {
			return err
		}
		ep.ID = id
		time.Sleep(time.Millisecond)
		return s.PutEndpoint(ctx, ep)
	}}
}

// updateIgnoresError stores what a change has made before it refused.
func updateIgnoresError(s full) full {
	return brokenUpdate{s, func(ctx context.Context, s full, id string, change func(*webhook.Endpoint) error) error {
		var refused error
		err := s.UpdateEndpoint(ctx, id, func(ep *webhook.Endpoint) error {
			refused = change(ep)
			return nil
		})
		if refused != nil {
			return refused
		}
		return err
	}}
}

// updateCreates makes an endpoint of nothing.
func updateCreates(s full) full {
	return brokenUpdate{s, func(ctx context.Context, s full, id string, change func(*webhook.Endpoint) error) error {
		if _, err := s.GetEndpoint(ctx, id); err != nil {
			ep := webhook.Endpoint{ID: id}
			if err := change(&ep); err != nil {
				return err
			}
			return s.PutEndpoint(ctx, ep)
		}
		return s.UpdateEndpoint(ctx, id, change)
	}}
}

// updateMoves lets a change rename the endpoint.
func updateMoves(s full) full {
	return brokenUpdate{s, func(ctx context.Context, s full, id string, change func(*webhook.Endpoint) error) error {
		var moved webhook.Endpoint
		err := s.UpdateEndpoint(ctx, id, func(ep *webhook.Endpoint) error {
			err := change(ep)
			moved = *ep
			return err
		})
		if err == nil && moved.ID != id {
			if err = s.DeleteEndpoint(ctx, id); err == nil {
				err = s.PutEndpoint(ctx, moved)
			}
		}
		return err
	}}
}

func brokenUpdateStores() []brokenStore {
	return []brokenStore{
		{"updateLosesOthers", updateLosesOthers, []string{"Endpoint/UpdateConcurrent"}},
		{"updateIgnoresError", updateIgnoresError, []string{"Endpoint/UpdateRefused"}},
		{"updateCreates", updateCreates, []string{"Endpoint/UpdateNotFound"}},
		{"updateMoves", updateMoves, []string{"Endpoint/Update"}},
	}
}
