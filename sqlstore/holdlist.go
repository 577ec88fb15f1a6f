package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/signalpost/webhook"
)

// holdList goes along the index of endpoints on hold.
const holdList = `SELECT endpoint_id, hold_kind, hold_reason, hold_until FROM {prefix}endpoint_state
WHERE held = TRUE AND (hold_until IS NULL OR hold_until > ?) ORDER BY endpoint_id`

// ListHolds is [webhook.HoldStore.ListHolds].
func (s *Store) ListHolds(ctx context.Context, now time.Time) ([]webhook.HoldStatus, error) {
	rows, err := s.db.QueryContext(ctx, s.query(holdList), micros(now))
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: list holds: %w", err)
	}
	defer rows.Close()
	var holds []webhook.HoldStatus
	for rows.Next() {
		var h webhook.HoldStatus
		var until sql.NullInt64
		if err := rows.Scan(&h.EndpointID, &h.Kind, &h.Reason, &until); err != nil {
			return nil, fmt.Errorf("webhook: sqlstore: list holds: %w", err)
		}
		h.Until = fromOptMicros(until)
		holds = append(holds, h)
	}
	return holds, rows.Err()
}
