package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"

	"github.com/signalpost/webhook"
)

// What expires has a column more and a row of the expiry table: it has statements of its own, so that what does not costs what it
// would without.

// insertAll is the statement of PostgreSQL that stores events, plain with "" for all, or for deliveries that may expire.
//
// Of an ordering key, all but the first are parked at once: what they wait for is committed with them, and so cannot have ended.
//
// What is bytes comes in one value, from which each row cuts its own: as elements of an array they would be sent in hex, twice
// as long, and read letter by letter.
func insertAll(args, name, rows string) string {
	return insertNew(args, name) + `, tail AS (
	INSERT INTO {prefix}order_key AS k (endpoint_id, order_key, tail)
	SELECT endpoint_id, order_key, count(*) FROM d WHERE order_key IS NOT NULL
	GROUP BY endpoint_id, order_key ORDER BY endpoint_id COLLATE "C", order_key COLLATE "C"
	ON CONFLICT (endpoint_id, order_key) DO UPDATE SET tail = k.tail + excluded.tail
	RETURNING endpoint_id, order_key, tail
), numbered AS (
	SELECT d.*, 0 AS seq, 0 AS class FROM d WHERE order_key IS NULL
	UNION ALL
	SELECT d.*, tail.tail - count(*) OVER whole + row_number() OVER inOrder, CASE row_number() OVER inOrder WHEN 1 THEN 0 ELSE 2 END
	FROM d JOIN tail USING (endpoint_id, order_key)
	WINDOW whole AS (PARTITION BY d.endpoint_id, d.order_key), inOrder AS (whole ORDER BY place)
), delivery AS (
	INSERT INTO {prefix}delivery (id, event_id, endpoint_id, ordering_key, seq, state, reason, attempts, created_at` + name + `)
	SELECT id, event_id, endpoint_id, coalesce(order_key, ''), seq, 'queued', '', 0, $9::bigint` + name + ` FROM numbered
), queue AS (
	INSERT INTO {prefix}queue (id, event_id, endpoint_id, class, due_at, token, attempts, owner, order_key, seq, created_at` + name + `)
	SELECT id, event_id, endpoint_id, class, due_at, token, 0, CASE WHEN token > 0 THEN $16::text END, order_key, seq, $9::bigint` + name + ` FROM numbered
)` + rows + `
SELECT id FROM new`
}

// insertUnordered is insertAll for deliveries of which none has an ordering key nor expires: half of what the database does for a few.
func insertUnordered() string {
	return insertNew("", "") + `, delivery AS (
	INSERT INTO {prefix}delivery (id, event_id, endpoint_id, ordering_key, seq, state, reason, attempts, created_at)
	SELECT id, event_id, endpoint_id, '', 0, 'queued', '', 0, $9::bigint FROM d
), queue AS (
	INSERT INTO {prefix}queue (id, event_id, endpoint_id, class, due_at, token, attempts, owner, seq, created_at)
	SELECT id, event_id, endpoint_id, 0, due_at, token, 0, CASE WHEN token > 0 THEN $16::text END, 0, $9::bigint FROM d
)
SELECT id FROM new`
}

// insertNew begins a statement that stores events: those whose IDs are new, and in d their deliveries.
func insertNew(args, name string) string {
	return `
WITH e AS (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::int[], $7::int[], $8::int[])
	AS e(id, type, tenant, ordering_key, place, header, payload, deliveries)
), new AS (
	INSERT INTO {prefix}event_id (id, digest, created_at)
	SELECT id, substr($17::bytea, place, 32), $9::bigint FROM e ORDER BY id COLLATE "C"
	ON CONFLICT DO NOTHING
	RETURNING id
), event AS (
	INSERT INTO {prefix}event (id, type, tenant, ordering_key, header, payload, deliveries, created_at)
	SELECT id, type, tenant, ordering_key, substr($17::bytea, place + 32, header),
		substr($17::bytea, place + 32 + coalesce(header, 0), payload), deliveries, $9::bigint
	FROM e WHERE id IN (SELECT id FROM new)
), d AS (
	SELECT * FROM unnest($10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[]` + args + `) WITH ORDINALITY
	AS d(id, event_id, endpoint_id, order_key, due_at, token` + name + `, place)
	WHERE event_id IN (SELECT id FROM new)
)`
}

// insertAllExpiring is insertAll with expires_at as its last argument, and what else is to be done.
func insertAllExpiring(more string) string {
	return insertAll(", $18::bigint[]", ", expires_at", `, expiry AS (
	INSERT INTO {prefix}expiry (expires_at, id) SELECT expires_at, id FROM numbered WHERE expires_at IS NOT NULL
)`+more)
}

// splitExpiring tells the rows that never expire from those that do.
func splitExpiring(rows []newDelivery) (never, expiring []newDelivery) {
	if !anyExpires(rows) {
		return rows, nil
	}
	for i := range rows {
		if rows[i].expiresAt.Valid {
			expiring = append(expiring, rows[i])
		} else {
			never = append(never, rows[i])
		}
	}
	return never, expiring
}

func anyExpires(rows []newDelivery) bool {
	for i := range rows {
		if rows[i].expiresAt.Valid {
			return true
		}
	}
	return false
}

// insertExpiring writes rows that expire: MySQL and SQLite.
func (s *Store) insertExpiring(ctx context.Context, q querier, req *webhook.EnqueueRequest, rows []newDelivery) error {
	if len(rows) == 0 {
		return nil
	}
	now := micros(req.Now)
	err := insertEach(ctx, s, q, withExpiry(s.sql.insertDelivery), rows, func(d *newDelivery) []any {
		return append(d.recordArgs(now), d.expiresAt)
	})
	if err != nil {
		return err
	}
	err = insertEach(ctx, s, q, withExpiry(s.sql.insertQueue), rows, func(d *newDelivery) []any {
		return append(d.queueArgs(req.Owner, now), d.expiresAt)
	})
	if err != nil {
		return err
	}
	at := make([]timedID, len(rows))
	for i := range rows {
		at[i] = timedID{rows[i].expiresAt.Int64, rows[i].id}
	}
	return s.insertExpiry(ctx, q, at)
}

// withExpiry is an INSERT with expires_at as its last column.
func withExpiry(text string) string {
	text = strings.Replace(text, ")\nVALUES", ", expires_at)\nVALUES", 1)
	return strings.TrimSuffix(text, ")") + ", ?)"
}

// sweep ends what has expired. It takes what has left the queue since out of the expiry table, and puts off what is leased until the
// lease ends.
func (s *Store) sweep(ctx context.Context, q querier, req *webhook.EndRequest, limit int, res *webhook.EndResult) error {
	now := micros(req.Now)
	due, err := s.dueExpiry(ctx, q, now, limit+1)
	if err != nil || len(due) == 0 {
		return err
	}
	if len(due) > limit {
		due, res.More = due[:limit], true
	}
	locked, err := s.lockQueue(ctx, q, idsOf(due))
	if err != nil {
		return err
	}
	var rows []*endRow
	var later []timedID
	for _, row := range due {
		switch r := locked[row.id]; {
		case r == nil || r.final():
		case r.leased(now) && !req.Leased:
			later = append(later, timedID{r.due, row.id})
		default:
			rows = append(rows, r)
		}
	}
	if err := s.endRows(ctx, q, req, rows, res); err != nil {
		return err
	}
	if err := s.deleteExpiry(ctx, q, due); err != nil {
		return err
	}
	return s.insertExpiry(ctx, q, later)
}

// dueExpiry reads and locks what is due in the expiry table; what is locked is another sweep's.
func (s *Store) dueExpiry(ctx context.Context, q querier, now int64, most int) ([]timedID, error) {
	text := `SELECT expires_at, id FROM {prefix}expiry WHERE expires_at <= ? ORDER BY expires_at, id LIMIT ` + strconv.Itoa(most)
	if s.dialect != SQLite {
		text += ` FOR UPDATE SKIP LOCKED`
	}
	var due []timedID
	err := s.each(ctx, q, text, []any{now}, func(rows *sql.Rows) error {
		var r timedID
		err := rows.Scan(&r.at, &r.id)
		due = append(due, r)
		return err
	})
	return due, err
}

// deleteExpiry deletes rows that lie together.
func (s *Store) deleteExpiry(ctx context.Context, q querier, rows []timedID) error {
	if s.dialect == PostgreSQL {
		text := s.query(`DELETE FROM {prefix}expiry WHERE expires_at >= ? AND expires_at <= ? AND id = ANY(?::text[])`)
		_, err := q.ExecContext(ctx, text, rows[0].at, rows[len(rows)-1].at, textArray(rows, func(r *timedID) string { return r.id }))
		return err
	}
	text := s.query(`DELETE FROM {prefix}expiry WHERE (expires_at = ? AND id = ?)`)
	for part := range slices.Chunk(rows, maxRows/5) { // each by its key: a range would wait for what another sweep has locked
		var args []any
		for _, r := range part {
			args = append(args, r.at, r.id)
		}
		if _, err := q.ExecContext(ctx, withAny(text, len(part)), args...); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) insertExpiry(ctx context.Context, q querier, rows []timedID) error {
	if len(rows) == 0 {
		return nil
	}
	if s.dialect == PostgreSQL {
		_, err := q.ExecContext(ctx, s.query(`INSERT INTO {prefix}expiry (expires_at, id) SELECT * FROM unnest(?::bigint[], ?::text[])`),
			intArray(rows, func(r *timedID) int64 { return r.at }), textArray(rows, func(r *timedID) string { return r.id }))
		return err
	}
	return insertEach(ctx, s, q, s.query(`INSERT INTO {prefix}expiry (expires_at, id) VALUES (?, ?)`), rows, func(r *timedID) []any {
		return []any{r.at, r.id}
	})
}

func anyOrdered(rows []newDelivery) bool {
	for i := range rows {
		if rows[i].orderKey != "" {
			return true
		}
	}
	return false
}
