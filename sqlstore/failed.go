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
		if r.op == opEnd && r.state != string(webhook.Delivered) {
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

// noteFailed is the part of PostgreSQL's completion that insertFailed is elsewhere.
const noteFailed = `, failed AS (
	INSERT INTO {prefix}failed (state, id, endpoint_id)
	SELECT o.state, hit.id, hit.endpoint_id FROM hit JOIN o ON o.n = hit.n
	WHERE o.op = 0 AND o.state <> 'delivered' AND hit.expires_at IS DISTINCT FROM 0
	ON CONFLICT DO NOTHING
)`

// completeText is PostgreSQL's statement for all that a held lease gets, and what else is to be done.
//
// op: 0 ends, 1 to be tried again, 2 given back. kept: where the attempt goes, see the constants. block: the class of a dead letter that blocks its key, else 0.
func completeText(more string) string {
	return `
WITH o AS MATERIALIZED (
	SELECT * FROM unnest($1::text[], $2::bigint[], $3::int[], $4::int[], $5::text[], $6::text[], $7::bigint[], $8::int[],
		$9::int[], $10::int[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[], $15::text[], $16::bytea[], $17::int[])
	WITH ORDINALITY AS o(id, token, op, block, state, reason, due_at, counted, number, status, started_at, duration, next_at, error, detail, response,
		kept, n)
), gone AS (
	DELETE FROM {prefix}queue q USING o
	WHERE q.id = ANY($1::text[]) AND o.id = q.id AND o.token = q.token AND q.owner IS NOT NULL
		AND (o.op = 0 AND (o.block = 0 OR q.order_key IS NULL) OR q.expires_at = 0)
	RETURNING o.n, q.id, q.endpoint_id, q.order_key, q.seq, q.attempts + o.counted AS attempts, q.expires_at
), kept AS (
	UPDATE {prefix}queue q SET
		owner = NULL,
		attempts = q.attempts + o.counted,
		class = CASE WHEN o.op = 0 THEN o.block WHEN o.op = 1 OR q.attempts + o.counted > 0 THEN 1 ELSE q.class END,
		leased_until = NULL,
		due_at = CASE o.op WHEN 0 THEN $18::bigint ELSE o.due_at END,
		reason = CASE o.op WHEN 1 THEN nullif(o.reason, '') ELSE coalesce(nullif(o.reason, ''), q.reason) END
	FROM o
	WHERE q.id = ANY(ARRAY(SELECT id FROM o WHERE op <> 0 OR block <> 0))
		AND o.id = q.id AND o.token = q.token AND q.owner IS NOT NULL AND (o.op <> 0 OR q.order_key IS NOT NULL)
		AND q.expires_at IS DISTINCT FROM 0
	RETURNING o.n, q.id, q.endpoint_id, q.order_key, q.seq, q.attempts, q.expires_at
), hit AS MATERIALIZED (
	SELECT * FROM gone UNION ALL SELECT * FROM kept
), ended AS (
	UPDATE {prefix}delivery d SET state = o.state, reason = o.reason, attempts = hit.attempts, finished_at = $18::bigint,
		token = CASE WHEN o.kept = 1 THEN o.token END, number = CASE WHEN o.kept = 1 THEN o.number END,
		status = CASE WHEN o.kept = 1 THEN o.status END, started_at = CASE WHEN o.kept = 1 THEN o.started_at END,
		duration = CASE WHEN o.kept = 1 THEN o.duration END, error = CASE WHEN o.kept = 1 THEN o.error END,
		detail = CASE WHEN o.kept = 1 THEN o.detail END, response = CASE WHEN o.kept = 1 THEN o.response END
	FROM hit JOIN o ON o.n = hit.n
	WHERE d.id = ANY(ARRAY(SELECT id FROM hit)) AND d.id = hit.id AND o.op = 0 AND d.finished_at IS NULL
), tried AS (
	INSERT INTO {prefix}attempt (delivery_id, token, number, status, started_at, duration, next_at, late, error, detail, response)
	SELECT id, token, number, status, started_at, duration, next_at, false, error, detail, response FROM o
	WHERE kept = 2 AND n IN (SELECT n FROM hit)
)` + more + `
SELECT n, CASE WHEN order_key IS NOT NULL THEN endpoint_id END, order_key, seq, expires_at FROM hit`
}
