package sqlstore

import (
	"context"
	"database/sql"
	"slices"

	"github.com/signalpost/webhook"
)

// One statement a table and batch, rows as arrays. Two rules hold for all that reads or changes rows of the queue:
//
//   - Rows are named by id = ANY(array), never by a join alone: of a join over a batch of 500 the planner may think that
//     scanning the whole table is cheaper.
//   - They are planned with the switches of avoidScans, for a prepared statement keeps the plan that was best when the table was
//     empty (a scan) or for ten rows (loops over the batch within the batch). Compiling what such a switch makes look dear would take
//     longer than running it.
var postgresStatements = statements{
	now: `SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`,

	insertAll:         insertAll("", "", ""),
	insertAllExpiring: insertAllExpiring(""),
	insertAllUnmatched: insertAllExpiring(`, unmatched AS (
	INSERT INTO {prefix}unmatched (id, created_at) SELECT id, $9::bigint FROM e WHERE deliveries = 0 AND id IN (SELECT id FROM new)
)`),
	insertUnordered: insertUnordered(),

	digests: `SELECT id, digest FROM {prefix}event_id WHERE id = ANY($1::text[])`,

	// One probe of the index a lane. Classes beyond 1 are no lanes and are jumped over as one. None is below 0: said, because the planner then expects
	// few lanes, and does not compile the statement for what it thinks is leased in each.
	lanes: `
WITH RECURSIVE hop AS (
	(SELECT endpoint_id, class, due_at, leased_until FROM {prefix}queue WHERE (endpoint_id, class) > ($1::text, $2::smallint)
	 ORDER BY endpoint_id, class, due_at LIMIT 1)
	UNION ALL
	SELECT n.* FROM hop CROSS JOIN LATERAL (
		SELECT q.endpoint_id, q.class, q.due_at, q.leased_until FROM {prefix}queue q
		WHERE (q.endpoint_id, q.class) > (hop.endpoint_id, CASE hop.class WHEN 0 THEN 0 ELSE 32767 END::smallint)
		ORDER BY q.endpoint_id, q.class, q.due_at LIMIT 1
	) n
)
SELECT endpoint_id, class, CASE WHEN leased_until IS NULL THEN due_at ELSE ` + earliestOf("hop.endpoint_id", "hop.class", "hop.due_at") + ` END, due_at
FROM hop WHERE class BETWEEN 0 AND 1 LIMIT $3::int`,

	// The switch lasts until the transaction ends.
	holds: `
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint, s.endpoint_id, s.held, s.hold_until, s.not_before
FROM (SELECT set_config('enable_seqscan', 'off', true), set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true)) switches
LEFT JOIN LATERAL (
	SELECT s.* FROM unnest($1::text[]) a(id)
	CROSS JOIN LATERAL (SELECT * FROM {prefix}endpoint_state s WHERE s.endpoint_id = a.id OFFSET 0) s -- a probe each
) s ON true`,

	avoidScans: `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true)`,

	lockStates: `
SELECT endpoint_id, tat, tat_depth FROM {prefix}endpoint_state WHERE endpoint_id = ANY($1::text[])
ORDER BY endpoint_id FOR UPDATE SKIP LOCKED`,

	addState: `INSERT INTO {prefix}endpoint_state (endpoint_id) VALUES ($1) ON CONFLICT DO NOTHING`,

	setTAT: `UPDATE {prefix}endpoint_state SET tat = $1, tat_depth = $2 WHERE endpoint_id = $3`,

	// fate: see the constants. An ordered row whose predecessor is unfinished is parked while that one is locked here, so
	// that its completion comes after and sees the parked row; where it is locked already, the row is left for a later claim.
	// All verdicts are there before the first row moves, because of the array: a row that has moved cannot be locked any more by
	// the same statement, and would be taken for one that somebody else has.
	pick: `
WITH lane AS (
	SELECT * FROM unnest($1::text[], $2::smallint[], $3::bigint[], $4::bigint[], $5::int[]) WITH ORDINALITY
	AS l(endpoint_id, class, low, lease_end, cap, n)
), pick AS MATERIALIZED (
	SELECT lane.n, lane.lease_end, p.*
	FROM lane CROSS JOIN LATERAL (
		SELECT q.id, q.endpoint_id, q.order_key, q.seq, q.due_at FROM {prefix}queue q
		WHERE q.endpoint_id = lane.endpoint_id AND q.class = lane.class AND q.due_at >= lane.low AND q.due_at <= $6::bigint AND (q.leased_until IS NULL OR q.leased_until <= $6::bigint)
		ORDER BY q.due_at LIMIT lane.cap
		FOR UPDATE SKIP LOCKED
	) p
	LIMIT $7::int
), verdict AS MATERIALIZED (
	SELECT pick.*, CASE
		WHEN before.id IS NULL THEN 0
		WHEN (SELECT b.id FROM {prefix}queue b WHERE b.id = before.id FOR UPDATE SKIP LOCKED) IS NOT NULL THEN 1
		ELSE 2 END AS fate
	FROM pick LEFT JOIN LATERAL (
		SELECT b.id FROM {prefix}queue b
		WHERE b.endpoint_id = pick.endpoint_id AND b.order_key = pick.order_key AND b.seq = pick.seq - 1
		OFFSET 0 -- one probe a row: as a join it would be a hash of the whole queue, loops being off
	) before ON pick.order_key IS NOT NULL
), moved AS (
	UPDATE {prefix}queue q SET
		class = CASE WHEN v.fate = 0 THEN q.class WHEN q.expires_at = 0 THEN 5 ELSE 2 END,
		leased_until = CASE v.fate WHEN 0 THEN v.lease_end END,
		token = CASE v.fate WHEN 0 THEN q.token + 1 ELSE q.token END,
		owner = CASE v.fate WHEN 0 THEN $8::text END
	FROM verdict v
	WHERE q.id = ANY(ARRAY(SELECT id FROM verdict WHERE fate < 2)) AND v.id = q.id AND v.fate < 2
	RETURNING v.n, v.due_at, v.fate, v.id, v.order_key, v.seq, q.event_id, q.token, q.attempts, q.created_at, q.reason, q.expires_at,
		q.replay, q.replay_of
)
SELECT * FROM moved
UNION ALL
SELECT n, due_at, fate, id, order_key, seq, '', 0, 0, 0, NULL, NULL, NULL, NULL FROM verdict WHERE fate = 2
ORDER BY 1, 2`,

	events: `SELECT id, type, tenant, ordering_key, header, payload FROM {prefix}event WHERE id = ANY($1::text[])`,

	complete:       completeText(""),
	completeFailed: completeText(noteFailed),

	// complete for what ends alike, by an attempt that its row keeps and that said nothing: what is delivered.
	deliver: `
WITH o AS MATERIALIZED (
	SELECT * FROM unnest($1::text[], $2::bigint[], $3::int[], $4::int[], $5::bigint[], $6::bigint[])
	WITH ORDINALITY AS o(id, token, number, status, started_at, duration, n)
), gone AS (
	DELETE FROM {prefix}queue q USING o
	WHERE q.id = ANY($1::text[]) AND o.id = q.id AND o.token = q.token AND q.owner IS NOT NULL
	RETURNING o.n, q.id, q.endpoint_id, q.order_key, q.seq, q.expires_at, q.attempts + 1 AS attempts,
		o.token, o.number, o.status, o.started_at, o.duration
), ended AS (
	UPDATE {prefix}delivery d SET state = 'delivered', reason = '', attempts = gone.attempts, finished_at = $7::bigint, token = gone.token,
		number = gone.number, status = gone.status, started_at = gone.started_at, duration = gone.duration, error = '', detail = ''
	FROM gone
	WHERE d.id = ANY($1::text[]) AND d.id = gone.id AND d.finished_at IS NULL
)
SELECT n, CASE WHEN order_key IS NOT NULL THEN endpoint_id END, order_key, seq, expires_at FROM gone`,

	own: `
SELECT id, token, endpoint_id, order_key, seq, attempts, class, reason, expires_at FROM {prefix}queue
WHERE id = ANY($1::text[]) AND owner IS NOT NULL
ORDER BY id FOR UPDATE`,

	// A plan kept from when few waited must not walk all that do: hence no join, and no class that an index knows.
	unpark: `
UPDATE {prefix}queue SET class = CASE WHEN attempts > 0 THEN 1 ELSE 0 END
WHERE class + 0 IN (2, 5) AND id = ANY(ARRAY(
	SELECT s.id FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n(endpoint_id, order_key, seq)
	CROSS JOIN LATERAL (
		SELECT s.id FROM {prefix}queue s WHERE s.endpoint_id = n.endpoint_id AND s.order_key = n.order_key AND s.seq = n.seq
		OFFSET 0
	) s
))
RETURNING endpoint_id, class, coalesce(leased_until, due_at)`,

	park: `UPDATE {prefix}queue SET class = CASE WHEN expires_at = 0 THEN 5 ELSE 2 END, owner = NULL WHERE id = ANY($1::text[])`,

	keyRanges: `
SELECT s.id, s.endpoint_id, s.order_key, s.seq, s.class, s.owner IS NOT NULL
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS k(endpoint_id, order_key, low, high)
CROSS JOIN LATERAL (
	SELECT * FROM {prefix}queue s
	WHERE s.endpoint_id = k.endpoint_id AND s.order_key = k.order_key AND s.seq >= k.low AND s.seq <= k.high
	FOR UPDATE SKIP LOCKED
) s`,

	seenDelivery: `SELECT id, token FROM {prefix}delivery WHERE id = ANY($1::text[])`,

	seenAttempts: `SELECT delivery_id, token, late FROM {prefix}attempt WHERE delivery_id = ANY($1::text[])`,

	addLate: `
INSERT INTO {prefix}attempt (delivery_id, token, number, status, started_at, duration, next_at, late, error, detail, response)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT DO NOTHING`,

	extend: `
UPDATE {prefix}queue q SET leased_until = l.until, due_at = least(q.due_at, l.until)
FROM unnest($1::text[], $2::bigint[]) AS l(id, until)
WHERE q.id = ANY($1::text[]) AND l.id = q.id`,

	hold: `
INSERT INTO {prefix}endpoint_state (endpoint_id, held, hold_kind, hold_reason, hold_until, version)
VALUES ($1, true, $2, $3, $4, (SELECT version FROM {prefix}endpoint_version WHERE one = 2))
ON CONFLICT (endpoint_id) DO UPDATE SET held = true, hold_kind = excluded.hold_kind, hold_reason = excluded.hold_reason,
	hold_until = excluded.hold_until, version = excluded.version`,

	unhold: `
UPDATE {prefix}endpoint_state SET held = false, hold_kind = '', hold_reason = '', hold_until = NULL,
	version = (SELECT version FROM {prefix}endpoint_version WHERE one = 2)
WHERE endpoint_id = $1 AND held`,

	readStates: `
SELECT endpoint_id, version, held, hold_kind, hold_reason, hold_until FROM {prefix}endpoint_state WHERE endpoint_id = ANY($1::text[])`,

	putState: `
INSERT INTO {prefix}endpoint_state (endpoint_id, version, doc, not_before, held, hold_kind, hold_reason, hold_until)
SELECT id, $2::bigint, doc, not_before, held, kind, reason, until
FROM unnest($1::text[], $3::bytea[], $4::bigint[], $5::boolean[], $6::text[], $7::text[], $8::bigint[])
	AS n(id, doc, not_before, held, kind, reason, until)
ORDER BY id COLLATE "C"
ON CONFLICT (endpoint_id) DO UPDATE SET version = excluded.version, doc = excluded.doc, not_before = excluded.not_before,
	held = excluded.held, hold_kind = excluded.hold_kind, hold_reason = excluded.hold_reason, hold_until = excluded.hold_until`,
}

// insertPostgres stores those of events whose ID is new, and names them in stored.
func (s *Store) insertPostgres(ctx context.Context, q querier, req *webhook.EnqueueRequest, events []newEvent, stored map[string]bool) error {
	all := deliveriesOf(events)
	data, places := joinBytes(events)
	args := []any{
		textArray(events, func(e *newEvent) string { return e.event.ID }),
		textArray(events, func(e *newEvent) string { return e.event.Type }),
		textArray(events, func(e *newEvent) string { return e.event.Tenant }),
		textArray(events, func(e *newEvent) string { return e.event.OrderingKey }),
		intArray(places, func(at *int64) int64 { return *at }),
		optIntArray(events, func(e *newEvent) sql.NullInt64 {
			return sql.NullInt64{Int64: int64(len(e.header)), Valid: e.header != nil}
		}),
		intArray(events, func(e *newEvent) int64 { return int64(len(e.payload)) }),
		intArray(events, func(e *newEvent) int64 { return int64(len(e.rows)) }),
		micros(req.Now),
		textArray(all, func(d *newDelivery) string { return d.id }),
		textArray(all, func(d *newDelivery) string { return d.eventID }),
		textArray(all, func(d *newDelivery) string { return d.endpointID }),
		optTextArray(all, func(d *newDelivery) string { return d.orderKey }),
		intArray(all, func(d *newDelivery) int64 { return d.dueAt }),
		intArray(all, func(d *newDelivery) int64 { return d.token }),
		req.Owner, data,
	}
	text := s.sql.insertAll
	switch {
	case slices.ContainsFunc(events, func(e newEvent) bool { return len(e.rows) == 0 }):
		text = s.sql.insertAllUnmatched
		args = append(args, optIntArray(all, func(d *newDelivery) sql.NullInt64 { return d.expiresAt }))
	case !anyOrdered(all) && !anyExpires(all):
		text = s.sql.insertUnordered
	case anyExpires(all):
		text = s.sql.insertAllExpiring
		args = append(args, optIntArray(all, func(d *newDelivery) sql.NullInt64 { return d.expiresAt }))
	}
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	return eachRow(rows, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		stored[id] = true
		return err
	})
}

// joinBytes is the digest, header and payload of each event, all in one, and where each event's begin, counted from 1.
func joinBytes(events []newEvent) (data []byte, places []int64) {
	size := 0
	for i := range events {
		size += len(events[i].digest) + len(events[i].header) + len(events[i].payload)
	}
	data, places = make([]byte, 0, size), make([]int64, len(events))
	for i := range events {
		places[i] = int64(len(data)) + 1
		data = append(data, events[i].digest...)
		data = append(data, events[i].header...)
		data = append(data, events[i].payload...)
	}
	return data, places
}

// pickPostgres picks candidates of the lanes, parks or leases them and returns them in order of lane and due time.
func (c *claimState) pickPostgres(ctx context.Context, q querier) ([]pickedRow, error) {
	type ask struct{ place int }
	var asks []ask
	most := 0
	for i := range c.lanes {
		if c.lanes[i].cap > 0 {
			asks = append(asks, ask{i})
			most += c.lanes[i].cap
		}
	}
	most = min(most, c.req.Limit-len(c.found))
	lane := func(a *ask) *laneState { return &c.lanes[a.place] }
	rows, err := q.QueryContext(ctx, c.store.sql.pick,
		textArray(asks, func(a *ask) string { return lane(a).ask.EndpointID }),
		intArray(asks, func(a *ask) int64 { return int64(lane(a).ask.Class) }),
		intArray(asks, func(a *ask) int64 { return lane(a).low }),
		intArray(asks, func(a *ask) int64 { return lane(a).leaseEnd }),
		intArray(asks, func(a *ask) int64 { return int64(lane(a).cap) }),
		micros(c.req.Now), c.req.Limit-len(c.found), c.req.Owner)
	if err != nil {
		return nil, err
	}
	picked := make([]pickedRow, 0, min(most, 1024)) // which is as many as a dispatcher asks for
	err = eachRow(rows, func(rows *sql.Rows) error {
		var r pickedRow
		var place int
		var orderKey, reason sql.NullString
		err := rows.Scan(&place, &r.dueAt, &r.fate, &r.id, &orderKey, &r.seq, &r.eventID, &r.token, &r.attempts, &r.createdAt, &reason, &r.expiresAt,
			&r.replay, &r.replayOf)
		if err != nil {
			return err
		}
		r.lane = asks[place-1].place
		l := &c.lanes[r.lane]
		r.endpointID, r.leaseEnd = l.ask.EndpointID, l.leaseEnd
		r.orderKey, r.reason = orderKey.String, reason.String
		picked = append(picked, r)
		return nil
	})
	return picked, err
}

// completePostgres applies what is held under its token.
func (s *Store) completePostgres(ctx context.Context, q querier, now int64, rows []outcomeRow) error {
	if _, err := q.ExecContext(ctx, s.sql.avoidScans); err != nil {
		return err
	}
	var plain, other []*outcomeRow
	for i := range rows {
		if r := &rows[i]; r.plain() {
			plain = append(plain, r)
		} else {
			other = append(other, r)
		}
	}
	for _, part := range []struct {
		rows []*outcomeRow
		run  func(context.Context, querier, int64, []*outcomeRow) (*sql.Rows, error)
	}{{plain, s.deliverPostgres}, {other, s.completeOther}} {
		if len(part.rows) == 0 {
			continue
		}
		found, err := part.run(ctx, q, now, part.rows)
		if err == nil {
			err = readHits(found, part.rows)
		}
		if err != nil {
			return err
		}
	}
	return s.unfold(ctx, q, rows)
}

// readHits reads which of rows were held under their token, by their place counted from 1.
func readHits(found *sql.Rows, rows []*outcomeRow) error {
	return eachRow(found, func(found *sql.Rows) error {
		var n int
		var seq int64
		var endpointID, orderKey sql.NullString // both, or none
		var expires sql.NullInt64
		err := found.Scan(&n, &endpointID, &orderKey, &seq, &expires)
		if err == nil {
			r := rows[n-1]
			r.hit, r.ownRow = true, ownRow{endpointID: endpointID.String, orderKey: orderKey.String, seq: seq, over: isOver(expires)}
		}
		return err
	})
}

func (s *Store) deliverPostgres(ctx context.Context, q querier, now int64, rows []*outcomeRow) (*sql.Rows, error) {
	return q.QueryContext(ctx, s.sql.deliver,
		textArray(rows, func(r **outcomeRow) string { return (*r).id }),
		intArray(rows, func(r **outcomeRow) int64 { return (*r).token }),
		intArray(rows, func(r **outcomeRow) int64 { return int64((*r).attempt.Number) }),
		intArray(rows, func(r **outcomeRow) int64 { return int64((*r).attempt.Status) }),
		intArray(rows, func(r **outcomeRow) int64 { return micros((*r).attempt.StartedAt) }),
		intArray(rows, func(r **outcomeRow) int64 { return int64((*r).attempt.Duration) }),
		now)
}

func (s *Store) completeOther(ctx context.Context, q querier, now int64, rows []*outcomeRow) (*sql.Rows, error) {
	text := s.sql.complete
	if len(failedRows(rows)) > 0 {
		text = s.sql.completeFailed
	}
	return q.QueryContext(ctx, text,
		textArray(rows, func(r **outcomeRow) string { return (*r).id }),
		intArray(rows, func(r **outcomeRow) int64 { return (*r).token }),
		intArray(rows, func(r **outcomeRow) int64 { return (*r).op }),
		intArray(rows, func(r **outcomeRow) int64 { return (*r).block }),
		textArray(rows, func(r **outcomeRow) string { return (*r).state }),
		textArray(rows, func(r **outcomeRow) string { return (*r).reason }),
		intArray(rows, func(r **outcomeRow) int64 { return (*r).dueAt }),
		intArray(rows, func(r **outcomeRow) int64 { return (*r).counted }),
		intArray(rows, func(r **outcomeRow) int64 { return int64((*r).attempt.Number) }),
		intArray(rows, func(r **outcomeRow) int64 { return int64((*r).attempt.Status) }),
		intArray(rows, func(r **outcomeRow) int64 { return micros((*r).attempt.StartedAt) }),
		intArray(rows, func(r **outcomeRow) int64 { return int64((*r).attempt.Duration) }),
		optIntArray(rows, func(r **outcomeRow) sql.NullInt64 { return optMicros((*r).attempt.NextAt) }),
		textArray(rows, func(r **outcomeRow) string { return (*r).failed }),
		textArray(rows, func(r **outcomeRow) string { return (*r).detail }),
		bytesArray(rows, func(r **outcomeRow) []byte { return (*r).attempt.Response }),
		intArray(rows, func(r **outcomeRow) int64 { return (*r).kept() }),
		now)
}
