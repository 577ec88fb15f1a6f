package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/signalpost/webhook"
)

var _ webhook.QueryStore = (*Store)(nil)

const (
	eventGet = `SELECT type, tenant, ordering_key, header, payload, deliveries, created_at, erased_at FROM {prefix}event WHERE id = ?`

	keyHead = `SELECT id, seq, class, expires_at FROM {prefix}queue WHERE endpoint_id = ? AND order_key = ? ORDER BY seq LIMIT 1`

	// The one that ended the delivery may stand in its row.
	attemptList = `SELECT token, number, started_at, duration, status, error, detail, response, next_at, late
FROM {prefix}attempt WHERE delivery_id = ?
UNION ALL
SELECT token, number, started_at, duration, status, error, detail, response, NULL, FALSE
FROM {prefix}delivery WHERE id = ? AND token IS NOT NULL
ORDER BY 1`
)

// GetEvent is [webhook.QueryStore.GetEvent].
func (s *Store) GetEvent(ctx context.Context, id string) (*webhook.EventRecord, error) {
	if !storableID(id) {
		return nil, notFound("event", id)
	}
	rec := &webhook.EventRecord{Event: webhook.Event{ID: id}}
	ev := &rec.Event
	var header []byte
	var created int64
	var erased sql.NullInt64
	err := s.db.QueryRowContext(ctx, s.query(eventGet), id).Scan(
		&ev.Type, &ev.Tenant, &ev.OrderingKey, &header, &ev.Payload, &rec.Deliveries, &created, &erased)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("event", id)
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: get event %q: %w", id, err)
	}
	if len(header) > 0 {
		if err := json.Unmarshal(header, &ev.Header); err != nil {
			ev.Header, rec.Unreadable = nil, fmt.Errorf("header: %w", err)
		}
	}
	rec.CreatedAt, rec.ErasedAt = fromMicros(created), fromOptMicros(erased)
	return rec, nil
}

// ListAttempts is [webhook.QueryStore.ListAttempts]. A delivery that is not there has none.
func (s *Store) ListAttempts(ctx context.Context, deliveryID string) ([]webhook.Attempt, error) {
	if !storableID(deliveryID) {
		return nil, nil
	}
	var attempts []webhook.Attempt
	err := s.each(ctx, s.db, attemptList, []any{deliveryID, deliveryID}, func(rows *sql.Rows) error {
		a := webhook.Attempt{DeliveryID: deliveryID}
		var started, duration int64
		var next sql.NullInt64
		err := rows.Scan(&a.Token, &a.Number, &started, &duration, &a.Status, &a.Error, &a.Detail, &a.Response, &next, &a.Late)
		a.StartedAt, a.Duration, a.NextAt = fromMicros(started), time.Duration(duration), fromOptMicros(next)
		attempts = append(attempts, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: list attempts of %q: %w", deliveryID, err)
	}
	return attempts, nil
}

// KeyHead is [webhook.QueryStore.KeyHead].
func (s *Store) KeyHead(ctx context.Context, endpointID, orderingKey string) (*webhook.KeyHead, error) {
	if !storableID(endpointID) || !storableID(orderingKey) {
		return nil, notFound("ordering key", orderingKey)
	}
	var head webhook.KeyHead
	var class int64
	var expires sql.NullInt64
	err := s.db.QueryRowContext(ctx, s.query(keyHead), endpointID, orderingKey).Scan(&head.DeliveryID, &head.Sequence, &class, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("ordering key", orderingKey)
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: head of key %q of endpoint %q: %w", orderingKey, endpointID, err)
	}
	head.Blocked, head.Held, head.Ended = class == classBlocked || class == classHeld, class == classHeld, isOver(expires)
	return &head, nil
}
