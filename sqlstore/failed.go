package sqlstore

import (
	"context"

	"github.com/signalpost/webhook"
)

// Two narrow tables say where to find what is rare among very many: deliveries that ended otherwise than delivered, and events that
// matched no endpoint. They are written when such a thing happens, so that what goes its usual way costs nothing, and hints: what they name
// is looked up before it counts.

// failedRow is a row of the failed table.
type failedRow struct{ state, id, endpointID string }

// failedRows are those of outcomes that ended otherwise than delivered.
func failedRows(ended []*outcomeRow) []failedRow {
	var rows []failedRow
	for _, r := range ended {
		if r.state != string(webhook.Delivered) {
			rows = append(rows, failedRow{r.state, r.id, r.endpointID})
		}
	}
	return rows
}

// insertFailed notes deliveries that ended otherwise than delivered.
func (s *Store) insertFailed(ctx context.Context, q querier, rows []failedRow) error {
	if len(rows) == 0 {
		return nil
	}
	if s.dialect == PostgreSQL {
		_, err := q.ExecContext(ctx, s.query(`INSERT INTO {prefix}failed (state, id, endpoint_id)
SELECT * FROM unnest(?::text[], ?::text[], ?::text[]) ON CONFLICT DO NOTHING`),
			textArray(rows, func(r *failedRow) string { return r.state }), textArray(rows, func(r *failedRow) string { return r.id }),
			textArray(rows, func(r *failedRow) string { return r.endpointID }))
		return err
	}
	return insertEach(ctx, s, q, s.query(s.insertOrIgnore()+` {prefix}failed (state, id, endpoint_id)
VALUES (?, ?, ?)`), rows, func(r *failedRow) []any { return []any{r.state, r.id, r.endpointID} })
}

// insertUnmatched notes events without deliveries: MySQL and SQLite.
func (s *Store) insertUnmatched(ctx context.Context, q querier, now int64, events []newEvent) error {
	var rows []string
	for i := range events {
		if len(events[i].rows) == 0 {
			rows = append(rows, events[i].event.ID)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return insertEach(ctx, s, q, s.query(s.insertOrIgnore()+` {prefix}unmatched (id, created_at)
VALUES (?, ?)`), rows, func(id *string) []any { return []any{*id, now} })
}

func (s *Store) insertOrIgnore() string {
	if s.dialect == MySQL {
		return "INSERT IGNORE INTO"
	}
	return "INSERT OR IGNORE INTO"
}
