package sqlstore

import (
	"context"
	"fmt"

	"github.com/signalpost/webhook"
)

var _ webhook.Pruner = (*Store)(nil)

// Prune is [webhook.Pruner.Prune]. An idempotency key whose hold ended without a Finish counts as expired too. Each kind is a
// transaction of its own.
func (s *Store) Prune(ctx context.Context, req *webhook.PruneRequest) (*webhook.PruneResult, error) {
	res, limit := &webhook.PruneResult{}, limitOr(req.Limit, 1000)
	var err error
	if !req.EventIDsBefore.IsZero() {
		res.EventIDs, err = s.prune(ctx, s.side().pruneEventIDs, micros(req.EventIDsBefore), limit)
		if err != nil {
			return nil, fmt.Errorf("webhook: prune event IDs: %w", err)
		}
	}
	if req.DedupeKeys {
		res.DedupeKeys, err = s.prune(ctx, s.side().pruneKeys, micros(req.Now), limit)
		if err != nil {
			return nil, fmt.Errorf("webhook: prune dedupe keys: %w", err)
		}
	}
	if err := s.pruneDeliveries(ctx, req, limit, res); err != nil {
		return nil, fmt.Errorf("webhook: prune deliveries: %w", err)
	}
	if err := s.pruneUnmatched(ctx, req, limit, res); err != nil {
		return nil, fmt.Errorf("webhook: prune unmatched events: %w", err)
	}
	if err := s.pruneReplays(ctx, req, limit, res); err != nil {
		return nil, fmt.Errorf("webhook: prune replays: %w", err)
	}
	return res, nil
}

func (s *Store) prune(ctx context.Context, text string, before int64, limit int) (removed int, err error) {
	err = s.one(ctx, func(ctx context.Context, q querier) error {
		res, err := q.ExecContext(ctx, s.query(text), before, limit)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		removed = int(n)
		return err
	})
	return removed, err
}
