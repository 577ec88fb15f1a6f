package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/signalpost/webhook"
)

// Hold implements [webhook.HoldStore].
func (s *Store) Hold(ctx context.Context, req *webhook.HoldRequest) error {
	if err := checkText("hold", "HoldRequest.EndpointID", req.EndpointID, true); err != nil {
		return err
	}
	if err := checkText("hold", "HoldRequest.Kind", req.Kind, false); err != nil {
		return err
	}
	err := s.write(ctx, func(ctx context.Context, q querier) error {
		if _, err := q.ExecContext(ctx, s.query(stateVersionNext)); err != nil {
			return err
		}
		_, err := q.ExecContext(ctx, s.sql.hold, req.EndpointID, req.Kind, words(req.Reason, maxReason), optMicros(req.Until))
		return err
	})
	if err != nil {
		return fmt.Errorf("webhook: sqlstore: hold endpoint %q: %w", req.EndpointID, err)
	}
	return nil
}

// Unhold implements [webhook.HoldStore].
func (s *Store) Unhold(ctx context.Context, endpointID string) error {
	if err := checkText("unhold", "endpointID", endpointID, true); err != nil {
		return err
	}
	err := s.write(ctx, func(ctx context.Context, q querier) error {
		if _, err := q.ExecContext(ctx, s.query(stateVersionNext)); err != nil {
			return err
		}
		res, err := q.ExecContext(ctx, s.sql.unhold, endpointID)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return errNothing // no version for no change
	})
	if err != nil && !errors.Is(err, errNothing) {
		return fmt.Errorf("webhook: sqlstore: unhold endpoint %q: %w", endpointID, err)
	}
	return nil
}

// ReleaseKey implements [webhook.HoldStore].
func (s *Store) ReleaseKey(ctx context.Context, req *webhook.ReleaseKeyRequest) (bool, error) {
	if err := checkText("release key", "ReleaseKeyRequest.EndpointID", req.EndpointID, true); err != nil {
		return false, err
	}
	if err := checkText("release key", "ReleaseKeyRequest.OrderingKey", req.OrderingKey, true); err != nil {
		return false, err
	}
	var released bool
	err := s.write(ctx, func(ctx context.Context, q querier) (err error) {
		released, err = s.releaseKey(ctx, q, req.EndpointID, req.OrderingKey)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("webhook: sqlstore: release key %q of endpoint %q: %w", req.OrderingKey, req.EndpointID, err)
	}
	return released, nil
}

// releaseKey removes a block as if the dead letter's delivery had ended just now. What blocks a key is the first row it has.
func (s *Store) releaseKey(ctx context.Context, q querier, endpointID, orderKey string) (bool, error) {
	if s.dialect == PostgreSQL {
		if _, err := q.ExecContext(ctx, s.sql.avoidScans); err != nil {
			return false, err
		}
	}
	first := `SELECT id, class, seq FROM {prefix}queue WHERE endpoint_id = ? AND order_key = ? ORDER BY seq LIMIT 1`
	var id string
	var class, seq int64
	err := q.QueryRowContext(ctx, s.query(first), endpointID, orderKey).Scan(&id, &class, &seq)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, err
	case class != classBlocked && class != classHeld:
		return false, nil
	}
	res, err := q.ExecContext(ctx, s.query(`DELETE FROM {prefix}queue WHERE id = ? AND class IN (3, 4)`), id)
	if err != nil {
		return false, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	_, err = s.unpark(ctx, q, []place{{endpointID, orderKey, seq + 1}})
	return true, err
}
