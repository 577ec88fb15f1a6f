package sqlstore

import (
	"context"

	"github.com/signalpost/webhook"
)

// One writer at a time, in the same process as the file: statements of one row, prepared once a batch, cost no round trip.
var sqliteStatements = statements{
	insertEventID: `INSERT INTO {prefix}event_id (id, digest, created_at) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING`,

	insertEvent: `
INSERT INTO {prefix}event (id, type, tenant, ordering_key, header, payload, deliveries, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,

	insertDelivery: `
INSERT INTO {prefix}delivery (id, event_id, endpoint_id, ordering_key, seq, state, reason, attempts, created_at)
VALUES (?, ?, ?, ?, ?, 'queued', '', 0, ?)`,

	insertQueue: `
INSERT INTO {prefix}queue (id, event_id, endpoint_id, class, due_at, token, attempts, owner, order_key, seq, created_at)
VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)`,

	bumpTail: `
INSERT INTO {prefix}order_key (endpoint_id, order_key, tail) VALUES (?, ?, ?)
ON CONFLICT (endpoint_id, order_key) DO UPDATE SET tail = tail + excluded.tail`,

	readTail: `SELECT endpoint_id, order_key, tail FROM {prefix}order_key WHERE (endpoint_id = ? AND order_key = ?)`,

	digests: `SELECT id, digest FROM {prefix}event_id WHERE id IN {list}`,

	// One probe of the index a lane. Classes beyond 1 are no lanes and are jumped over as one. SQLite seeks to the whole
	// row value only where it has as many columns as the index; with fewer it would read the lane to its end.
	lanes: `
WITH RECURSIVE hop (endpoint_id, class, due_at) AS (
	SELECT * FROM (
		SELECT endpoint_id, class, due_at FROM {prefix}queue INDEXED BY {name}queue_due WHERE (endpoint_id, class, due_at) > (?, ?, 9223372036854775807)
		ORDER BY endpoint_id, class, due_at LIMIT 1)
	UNION ALL
	SELECT q.endpoint_id, q.class, q.due_at FROM hop CROSS JOIN {prefix}queue q ON q.id = (
		SELECT n.id FROM {prefix}queue n INDEXED BY {name}queue_due
		WHERE (n.endpoint_id, n.class, n.due_at) > (hop.endpoint_id, CASE hop.class WHEN 0 THEN 0 ELSE 32767 END, 9223372036854775807)
		ORDER BY n.endpoint_id, n.class, n.due_at LIMIT 1)
)
SELECT endpoint_id, class, due_at, due_at FROM hop WHERE class <= 1 LIMIT ?`,

	holds: `SELECT 0, endpoint_id, held, hold_until, not_before FROM {prefix}endpoint_state WHERE endpoint_id IN {list}`,

	lockStates: `SELECT endpoint_id, tat, tat_depth FROM {prefix}endpoint_state WHERE endpoint_id IN {list}`,

	addState: `INSERT INTO {prefix}endpoint_state (endpoint_id) VALUES (?) ON CONFLICT DO NOTHING`,

	setTAT: `UPDATE {prefix}endpoint_state SET tat = ?, tat_depth = ? WHERE endpoint_id = ?`,

	// All that a lease tells: nobody else writes between this and the lease, whose RETURNING would cost a table of its own.
	// SQLite plans by the value of a bare LIMIT ?, and so parses the statement anew for each lane: hence the + 0.
	pick: `
SELECT id, order_key, seq, due_at, event_id, token, attempts, created_at, reason, expires_at, replay, replay_of FROM {prefix}queue INDEXED BY {name}queue_due
WHERE endpoint_id = ? AND class = ? AND due_at >= ? AND due_at <= ?
ORDER BY due_at LIMIT ? + 0`,

	// The same before the lock is taken, with small events of which nobody else wants a copy. Only length needs none of a payload's
	// pages: what stands behind it in the row, as deliveries does, is found by walking them.
	pickEarly: `
SELECT q.order_key IS NULL AND q.owner IS NULL AND q.replay IS NULL AND q.replay_of IS NULL,
	q.id, q.due_at, q.event_id, q.token, q.attempts, q.created_at, q.reason, q.expires_at, e.type, e.tenant, e.ordering_key,
	CASE WHEN length(e.payload) + coalesce(length(e.header), 0) <= 2048 THEN e.header END,
	CASE WHEN length(e.payload) + coalesce(length(e.header), 0) <= 2048 AND e.deliveries = 1 THEN e.payload END
FROM {prefix}queue q INDEXED BY {name}queue_due LEFT JOIN {prefix}event e ON e.id = q.event_id
WHERE q.endpoint_id = ? AND q.class = ? AND q.due_at >= ? AND q.due_at <= ?
ORDER BY q.due_at LIMIT ? + 0`,

	findBefore: `
SELECT id, endpoint_id, order_key, seq FROM {prefix}queue INDEXED BY {name}queue_order
WHERE (endpoint_id = ? AND order_key = ? AND seq = ?)`,

	park: `UPDATE {prefix}queue SET class = CASE WHEN expires_at = 0 THEN 5 ELSE 2 END, owner = NULL WHERE id IN {list}`,

	keyRanges: `
SELECT id, endpoint_id, order_key, seq, class, owner IS NOT NULL FROM {prefix}queue INDEXED BY {name}queue_order
WHERE (endpoint_id = ? AND order_key = ? AND seq >= ? AND seq <= ?)`,

	lease: `UPDATE {prefix}queue SET due_at = ?, owner = ?, token = token + 1 WHERE token = ? AND id IN {list}`,

	events: `SELECT id, type, tenant, ordering_key, header, payload FROM {prefix}event WHERE id IN {list}`,

	own: `
SELECT id, token, endpoint_id, order_key, seq, attempts, class, reason, expires_at FROM {prefix}queue
WHERE id IN {list} AND owner IS NOT NULL`,

	endLikely: `
DELETE FROM {prefix}queue WHERE token = ? AND attempts = ? AND owner IS NOT NULL AND order_key IS NULL AND id IN {list}`,

	end: `DELETE FROM {prefix}queue WHERE id IN {list}`,

	block: `UPDATE {prefix}queue SET class = ?, due_at = ?, owner = NULL WHERE id IN {list}`,

	again: `UPDATE {prefix}queue SET owner = NULL, class = ?, due_at = ?, attempts = ?, reason = ? WHERE id = ?`,

	// What most have in common stands in the text: to bind those five numbers for each row was an eighth of what it costs.
	deliver: `
UPDATE {prefix}delivery SET state = 'delivered', reason = '', error = '', detail = '', {same}, started_at = ?, duration = ? WHERE id = ?`,

	finish: `
UPDATE {prefix}delivery SET state = ?, reason = ?, attempts = ?, finished_at = ?, token = ?, number = ?, status = ?, started_at = ?, duration = ?,
	error = ?, detail = ?, response = ? WHERE id = ?`,

	extend: `UPDATE {prefix}queue SET due_at = ? WHERE id = ?`,

	addAttempt: `
INSERT INTO {prefix}attempt (delivery_id, token, number, status, started_at, duration, next_at, late, error, detail, response)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,

	addLate: `
INSERT INTO {prefix}attempt (delivery_id, token, number, status, started_at, duration, next_at, late, error, detail, response)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING`,

	findParked: `
SELECT id, endpoint_id, attempts, due_at FROM {prefix}queue INDEXED BY {name}queue_order
WHERE (endpoint_id = ? AND order_key = ? AND seq = ? AND class >= 2)`,

	unpark: `UPDATE {prefix}queue SET class = CASE WHEN attempts > 0 THEN 1 ELSE 0 END WHERE id IN {list} AND class IN (2, 5)`,

	seenDelivery: `SELECT id, token FROM {prefix}delivery WHERE id IN {list}`,

	seenAttempts: `SELECT delivery_id, token, late FROM {prefix}attempt WHERE delivery_id IN {list}`,

	hold: `
INSERT INTO {prefix}endpoint_state (endpoint_id, held, hold_kind, hold_reason, hold_until, version)
VALUES (?, TRUE, ?, ?, ?, (SELECT version FROM {prefix}endpoint_version WHERE one = 2))
ON CONFLICT (endpoint_id) DO UPDATE SET held = TRUE, hold_kind = excluded.hold_kind, hold_reason = excluded.hold_reason,
	hold_until = excluded.hold_until, version = excluded.version`,

	unhold: `
UPDATE {prefix}endpoint_state SET held = FALSE, hold_kind = '', hold_reason = '', hold_until = NULL,
	version = (SELECT version FROM {prefix}endpoint_version WHERE one = 2)
WHERE endpoint_id = ? AND held`,

	readStates: `
SELECT endpoint_id, version, held, hold_kind, hold_reason, hold_until FROM {prefix}endpoint_state WHERE endpoint_id IN {list}`,

	putState: `
INSERT INTO {prefix}endpoint_state (endpoint_id, version, doc, not_before, held, hold_kind, hold_reason, hold_until)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (endpoint_id) DO UPDATE SET version = excluded.version, doc = excluded.doc, not_before = excluded.not_before,
	held = excluded.held, hold_kind = excluded.hold_kind, hold_reason = excluded.hold_reason, hold_until = excluded.hold_until`,
}

// insertSQLite stores those of events whose ID is new, and names them in stored.
func (s *Store) insertSQLite(ctx context.Context, q querier, req *webhook.EnqueueRequest, events []newEvent, stored map[string]bool) error {
	st, err := q.PrepareContext(ctx, s.sql.insertEventID)
	if err != nil {
		return err
	}
	defer st.Close()
	for i := range events {
		res, err := st.ExecContext(ctx, events[i].event.ID, events[i].digest, micros(req.Now))
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if n == 1 {
			stored[events[i].event.ID] = true
		}
	}
	return s.insertEvents(ctx, q, req, events, stored)
}
