package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/signalpost/webhook"
)

// What both MySQL 8 and MariaDB 10.6 understand: no RETURNING, no LATERAL, no partial index, no row alias in ON DUPLICATE KEY.
var mysqlStatements = statements{
	now: `SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))`,

	insertEventID: `INSERT INTO {prefix}event_id (id, digest, created_at) VALUES (?, ?, ?)`,

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
ON DUPLICATE KEY UPDATE tail = tail + VALUES(tail)`,

	readTail: `SELECT endpoint_id, order_key, tail FROM {prefix}order_key WHERE (endpoint_id = ? AND order_key = ?)`,

	// Locking, because within a caller's REPEATABLE READ transaction a plain read shows the past.
	digests: `SELECT id, digest FROM {prefix}event_id WHERE id IN {list} LOCK IN SHARE MODE`,

	// Loose index scan: one probe a lane ("Using index for group-by").
	lanes: `
(SELECT endpoint_id, class, MIN(due_at), MIN(due_at) FROM {prefix}queue FORCE INDEX (queue_due)
 WHERE endpoint_id = ? AND class > ? AND class <= 1 GROUP BY endpoint_id, class)
UNION ALL
(SELECT endpoint_id, class, MIN(due_at), MIN(due_at) FROM {prefix}queue FORCE INDEX (queue_due)
 WHERE endpoint_id > ? AND class <= 1 GROUP BY endpoint_id, class)
LIMIT ?`,

	holds: `
SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)), s.endpoint_id, s.held, s.hold_until, s.not_before
FROM (SELECT 1 AS one) one LEFT JOIN {prefix}endpoint_state s ON s.endpoint_id IN {list}`,

	lockStates: `SELECT endpoint_id, tat, tat_depth FROM {prefix}endpoint_state WHERE endpoint_id IN {list} ORDER BY endpoint_id FOR UPDATE SKIP LOCKED`,

	addState: `INSERT IGNORE INTO {prefix}endpoint_state (endpoint_id, hold_reason) VALUES (?, '')`,

	setTAT: `UPDATE {prefix}endpoint_state SET tat = ?, tat_depth = ? WHERE endpoint_id = ?`,

	// One lane; a claim joins as many as it has with UNION ALL. All that a lease tells: the rows are locked from here on.
	pick: `
(SELECT ? AS n, id, order_key, seq, due_at, event_id, token, attempts, created_at, reason, expires_at, replay, replay_of FROM {prefix}queue FORCE INDEX (queue_due)
 WHERE endpoint_id = ? AND class = ? AND due_at >= ? AND due_at <= ?
 ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED)`,

	findBefore: `
SELECT id, endpoint_id, order_key, seq FROM {prefix}queue FORCE INDEX (queue_order)
WHERE (endpoint_id = ? AND order_key = ? AND seq = ?)`,

	lockBefore: `SELECT id FROM {prefix}queue WHERE id IN {list} FOR UPDATE SKIP LOCKED`,

	park: `UPDATE {prefix}queue SET class = CASE WHEN expires_at = 0 THEN 5 ELSE 2 END, owner = NULL WHERE id IN {list}`,

	keyRanges: `
SELECT id, endpoint_id, order_key, seq, class, owner IS NOT NULL FROM {prefix}queue FORCE INDEX (queue_order)
WHERE (endpoint_id = ? AND order_key = ? AND seq >= ? AND seq <= ?)
FOR UPDATE SKIP LOCKED`,

	lease: `UPDATE {prefix}queue SET due_at = ?, owner = ?, token = token + 1 WHERE id IN {list}`,

	events: `SELECT id, type, tenant, ordering_key, header, payload FROM {prefix}event WHERE id IN {list}`,

	own: `
SELECT id, token, endpoint_id, order_key, seq, attempts, class, reason, expires_at FROM {prefix}queue
WHERE id IN {list} AND owner IS NOT NULL
ORDER BY id FOR UPDATE`,

	end: `DELETE FROM {prefix}queue WHERE id IN {list}`,

	block: `UPDATE {prefix}queue SET class = ?, due_at = ?, owner = NULL WHERE id IN {list}`,

	// Many rows, each with values of its own. They exist and are locked, so nothing is ever inserted.
	again: `
INSERT INTO {prefix}queue (class, due_at, attempts, reason, id, event_id, endpoint_id, token, seq, created_at)
VALUES (?, ?, ?, ?, ?, '', '', 0, 0, 0)
ON DUPLICATE KEY UPDATE owner = NULL, class = VALUES(class), due_at = VALUES(due_at), attempts = VALUES(attempts), reason = VALUES(reason)`,

	// Like again, these two insert nothing.
	deliver: `
INSERT INTO {prefix}delivery (attempts, finished_at, token, number, status, started_at, duration, id,
	state, reason, event_id, endpoint_id, ordering_key, seq, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', '', '', '', 0, 0)
ON DUPLICATE KEY UPDATE state = 'delivered', reason = '', error = '', detail = '', attempts = VALUES(attempts),
	finished_at = VALUES(finished_at), token = VALUES(token), number = VALUES(number), status = VALUES(status),
	started_at = VALUES(started_at), duration = VALUES(duration)`,

	finish: `
INSERT INTO {prefix}delivery (state, reason, attempts, finished_at, token, number, status, started_at, duration, error, detail, response,
	id, event_id, endpoint_id, ordering_key, seq, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', '', 0, 0)
ON DUPLICATE KEY UPDATE state = VALUES(state), reason = VALUES(reason), attempts = VALUES(attempts), finished_at = VALUES(finished_at),
	token = VALUES(token), number = VALUES(number), status = VALUES(status), started_at = VALUES(started_at), duration = VALUES(duration),
	error = VALUES(error), detail = VALUES(detail), response = VALUES(response)`,

	extend: `
INSERT INTO {prefix}queue (due_at, id, event_id, endpoint_id, class, token, seq, created_at, attempts)
VALUES (?, ?, '', '', 0, 0, 0, 0, 0)
ON DUPLICATE KEY UPDATE due_at = VALUES(due_at)`,

	addAttempt: `
INSERT INTO {prefix}attempt (delivery_id, token, number, status, started_at, duration, next_at, late, error, detail, response)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,

	addLate: `
INSERT INTO {prefix}attempt (delivery_id, token, number, status, started_at, duration, next_at, late, error, detail, response)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON DUPLICATE KEY UPDATE late = late`,

	findParked: `
SELECT id, endpoint_id, attempts, due_at FROM {prefix}queue FORCE INDEX (queue_order)
WHERE (endpoint_id = ? AND order_key = ? AND seq = ? AND class >= 2)`,

	unpark: `UPDATE {prefix}queue SET class = CASE WHEN attempts > 0 THEN 1 ELSE 0 END WHERE id IN {list} AND class IN (2, 5)`,

	seenDelivery: `SELECT id, token FROM {prefix}delivery WHERE id IN {list}`,

	seenAttempts: `SELECT delivery_id, token, late FROM {prefix}attempt WHERE delivery_id IN {list}`,

	hold: `
INSERT INTO {prefix}endpoint_state (endpoint_id, held, hold_kind, hold_reason, hold_until, version)
VALUES (?, TRUE, ?, ?, ?, (SELECT version FROM {prefix}endpoint_version WHERE one = 2))
ON DUPLICATE KEY UPDATE held = TRUE, hold_kind = VALUES(hold_kind), hold_reason = VALUES(hold_reason), hold_until = VALUES(hold_until),
	version = VALUES(version)`,

	unhold: `
UPDATE {prefix}endpoint_state SET held = FALSE, hold_kind = '', hold_reason = '', hold_until = NULL,
	version = (SELECT version FROM {prefix}endpoint_version WHERE one = 2)
WHERE endpoint_id = ? AND held`,

	readStates: `
SELECT endpoint_id, version, held, hold_kind, hold_reason, hold_until FROM {prefix}endpoint_state WHERE endpoint_id IN {list}`,

	putState: `
INSERT INTO {prefix}endpoint_state (endpoint_id, version, doc, not_before, held, hold_kind, hold_reason, hold_until)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON DUPLICATE KEY UPDATE version = VALUES(version), doc = VALUES(doc), not_before = VALUES(not_before), held = VALUES(held),
	hold_kind = VALUES(hold_kind), hold_reason = VALUES(hold_reason), hold_until = VALUES(hold_until)`,
}

// insertMySQL stores those of events whose ID is new, and names them in stored.
func (s *Store) insertMySQL(ctx context.Context, q querier, req *webhook.EnqueueRequest, events []newEvent, stored map[string]bool) error {
	// In order of ID, so that two requests that share IDs wait for each other in one direction.
	sorted := slices.SortedFunc(slices.Values(events), func(a, b newEvent) int { return strings.Compare(a.event.ID, b.event.ID) })
	for part := range slices.Chunk(sorted, maxRows) {
		if err := s.reserveMySQL(ctx, q, micros(req.Now), part, stored); err != nil {
			return err
		}
	}
	return s.insertEvents(ctx, q, req, events, stored)
}

// reserveMySQL takes the IDs of events that are new. An INSERT that meets a known one is undone as a whole, by itself.
func (s *Store) reserveMySQL(ctx context.Context, q querier, now int64, events []newEvent, stored map[string]bool) error {
	const tries = 5
	for try := 1; len(events) > 0; try++ {
		err := insertRows(ctx, q, s.sql.insertEventID, events, func(e *newEvent) []any { return []any{e.event.ID, e.digest, now} })
		if err == nil {
			break
		}
		if !duplicateKey(err) || try == tries {
			return err
		}
		// What stood in the way is committed by now, for the INSERT waited.
		known := make(map[string]bool)
		ids := make([]string, len(events))
		for i := range events {
			ids[i] = events[i].event.ID
		}
		err = s.selectByID(ctx, q, s.sql.digests, ids, func(rows *sql.Rows) error {
			var id string
			var digest []byte
			err := rows.Scan(&id, &digest)
			known[id] = true
			return err
		})
		if err != nil {
			return err
		}
		events = slices.DeleteFunc(slices.Clone(events), func(e newEvent) bool { return known[e.event.ID] })
	}
	for i := range events {
		stored[events[i].event.ID] = true
	}
	return nil
}
