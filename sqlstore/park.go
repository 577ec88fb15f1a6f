package sqlstore

import (
	"context"
	"database/sql"
	"slices"

	"github.com/signalpost/webhook"
)

// parkMost is how many rows a claim parks, beyond those it examines, behind rows that it has parked. It bounds how long a claim
// takes; and a key in which many more wait keeps the rest of its endpoint for one claim in so many.
const parkMost = 1000

// parkBehind parks what waits behind the rows that a round has parked, so that no later claim has to look at each one by
// itself. What proves that a row may be parked is that its predecessor cannot end before this transaction does. That holds for
// all that comes after a row of its key that is parked and locked here, for nothing of a key ends before what precedes it.
func (c *claimState) parkBehind(ctx context.Context, q querier, rows []pickedRow) error {
	last := make(map[place]int64) // of each key that had a row parked: the last one's number
	for i := range rows {
		if r := &rows[i]; r.fate == fatePark {
			key := place{endpointID: r.endpointID, orderKey: r.orderKey}
			last[key] = max(last[key], r.seq)
		}
	}
	left := parkMost - c.parked
	if len(last) == 0 || left < len(last) {
		return nil
	}
	keys := make([]place, 0, len(last))
	for key, seq := range last {
		keys = append(keys, place{key.endpointID, key.orderKey, seq})
	}
	parked, err := c.store.parkRuns(ctx, q, keys, int64(left/len(last)))
	c.parked += parked
	return err
}

// parkRuns parks the rows behind each place, as far as the sequence numbers reach: in a key whose due times are
// in another order they may be parked already, and must not be walked again and again.
func (s *Store) parkRuns(ctx context.Context, q querier, keys []place, most int64) (parked int, err error) {
	if s.dialect == PostgreSQL {
		res, err := q.ExecContext(ctx, s.sql.parkBehind,
			textArray(keys, func(p *place) string { return p.endpointID }),
			textArray(keys, func(p *place) string { return p.orderKey }),
			intArray(keys, func(p *place) int64 { return p.seq }), most)
		if err != nil {
			return 0, err
		}
		n, err := res.RowsAffected()
		return int(n), err
	}
	var ids []string
	for part := range slices.Chunk(keys, maxRows/5) {
		var args []any
		for _, p := range part {
			args = append(args, p.endpointID, p.orderKey, p.seq, p.seq+most)
		}
		rows, err := q.QueryContext(ctx, withAny(s.sql.parkBehind, len(part)), args...)
		if err == nil {
			err = eachRow(rows, func(rows *sql.Rows) error {
				var id string
				err := rows.Scan(&id)
				ids = append(ids, id)
				return err
			})
		}
		if err != nil {
			return 0, err
		}
	}
	for part := range slices.Chunk(ids, maxRows) {
		if _, err := q.ExecContext(ctx, withList(s.sql.park, len(part)), anys(part)...); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// unpark gives rows their lane back, and tells which lane that is and when they are due. It reads without locks and with eyes of
// its own: a row parked before its predecessor was locked here shows by now, and one that a sender has not committed is
// not waited for.
func (s *Store) unpark(ctx context.Context, q querier, places []place) ([]webhook.Lane, error) {
	if len(places) == 0 {
		return nil, nil
	}
	if s.dialect == PostgreSQL {
		return s.unparkPostgres(ctx, q, places)
	}
	var woken []webhook.Lane
	var ids []string
	for part := range slices.Chunk(places, maxRows/5) {
		var args []any
		for _, p := range part {
			args = append(args, p.endpointID, p.orderKey, p.seq)
		}
		rows, err := q.QueryContext(ctx, withAny(s.sql.findParked, len(part)), args...)
		if err == nil {
			err = eachRow(rows, func(rows *sql.Rows) error {
				var id string
				var lane webhook.Lane
				var attempts, due int64
				err := rows.Scan(&id, &lane.EndpointID, &attempts, &due)
				if lane.Earliest = fromMicros(due); attempts > 0 {
					lane.Class = webhook.Retry
				}
				ids, woken = append(ids, id), append(woken, lane)
				return err
			})
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(ids)
	for part := range slices.Chunk(ids, maxRows) {
		if _, err := q.ExecContext(ctx, withList(s.sql.unpark, len(part)), anys(part)...); err != nil {
			return nil, err
		}
	}
	return woken, nil
}

func (s *Store) unparkPostgres(ctx context.Context, q querier, places []place) ([]webhook.Lane, error) {
	// Here it is the loop that probes the index: a merge would walk the whole index of ordering keys.
	if _, err := q.ExecContext(ctx, "SELECT set_config('enable_nestloop', 'on', true)"); err != nil {
		return nil, err
	}
	rows, err := q.QueryContext(ctx, s.sql.unpark,
		textArray(places, func(p *place) string { return p.endpointID }),
		textArray(places, func(p *place) string { return p.orderKey }),
		intArray(places, func(p *place) int64 { return p.seq }))
	if err != nil {
		return nil, err
	}
	var woken []webhook.Lane
	err = eachRow(rows, func(rows *sql.Rows) error {
		var lane webhook.Lane
		var due int64
		err := rows.Scan(&lane.EndpointID, &lane.Class, &due)
		lane.Earliest = fromMicros(due)
		woken = append(woken, lane)
		return err
	})
	return woken, err
}
