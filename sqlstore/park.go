package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"

	"github.com/signalpost/webhook"
)

// parkMost is how many rows a claim looks at beyond those it examines, on each side of rows that it has parked. It bounds how
// long a claim takes, and how many claims a key in which very many wait keeps from the rest of its endpoint.
const parkMost = 1000

// parkRuns parks what waits around the rows that a round has parked in lanes that have more, so that no later claim has to
// look at each by itself: first what comes after them in their keys and, when there is little of that because due
// times are in another order, what comes before.
func (c *claimState) parkRuns(ctx context.Context, q querier, rows []pickedRow) error {
	var after, before []keyRange
	places := make(map[keyName]int)
	for i := range rows {
		r := &rows[i]
		if r.fate != fatePark || c.lanes[r.lane].done {
			continue
		}
		key := keyName{r.endpointID, r.orderKey}
		n, known := places[key]
		if !known {
			n, places[key] = len(after), len(after)
			after = append(after, keyRange{key, r.seq, r.seq})
			before = append(before, keyRange{key, r.seq, r.seq})
		}
		after[n].low = max(after[n].low, r.seq)
		before[n].high = min(before[n].high, r.seq)
	}
	if len(after) == 0 || c.walked >= parkMost {
		return nil
	}
	each := int64((parkMost - c.walked) / len(after))
	for i := range after {
		after[i].high = after[i].low + each
		before[i].low = before[i].high - each
	}
	walked, parked, err := c.store.parkRanges(ctx, q, after)
	if err == nil && parked < parkMost/2 {
		var more int
		more, _, err = c.store.parkRanges(ctx, q, before)
		walked = max(walked, more)
	}
	c.walked += max(walked, len(after))
	return err
}

// keyName is an ordering key of an endpoint.
type keyName struct{ endpointID, orderKey string }

// keyRange is a part of an ordering key, its ends included.
type keyRange struct {
	keyName
	low, high int64
}

// parkRanges parks, in each range, what waits in a lane behind the first row that can be locked, and tells how many rows it walked
// and parked. What proves that a row may be
// parked is that its predecessor cannot end before this transaction does. Nothing of a key ends before what precedes it, so the
// one lock proves that for all that comes after.
func (s *Store) parkRanges(ctx context.Context, q querier, keys []keyRange) (walked, parked int, err error) {
	type row struct {
		keyName
		id         string
		seq, class int64
		owned      bool
	}
	var found []row
	read := func(rows *sql.Rows) error {
		var r row
		err := rows.Scan(&r.id, &r.endpointID, &r.orderKey, &r.seq, &r.class, &r.owned)
		found = append(found, r)
		return err
	}
	for part := range slices.Chunk(keys, maxRows/5) {
		var rows *sql.Rows
		if s.dialect == PostgreSQL {
			rows, err = q.QueryContext(ctx, s.sql.keyRanges,
				textArray(part, func(k *keyRange) string { return k.endpointID }),
				textArray(part, func(k *keyRange) string { return k.orderKey }),
				intArray(part, func(k *keyRange) int64 { return k.low }),
				intArray(part, func(k *keyRange) int64 { return k.high }))
		} else {
			var args []any
			for _, k := range part {
				args = append(args, k.endpointID, k.orderKey, k.low, k.high)
			}
			rows, err = q.QueryContext(ctx, withAny(s.sql.keyRanges, len(part)), args...)
		}
		if err == nil {
			err = eachRow(rows, read)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	slices.SortFunc(found, func(a, b row) int {
		return cmp.Or(strings.Compare(a.endpointID, b.endpointID), strings.Compare(a.orderKey, b.orderKey), cmp.Compare(a.seq, b.seq))
	})
	var ids []string
	for i, r := range found {
		if i > 0 && found[i-1].keyName == r.keyName && r.class <= int64(webhook.Retry) && !r.owned {
			ids = append(ids, r.id)
		}
	}
	return len(found), len(ids), s.park(ctx, q, ids)
}

// park takes rows that are locked out of their lanes.
func (s *Store) park(ctx context.Context, q querier, ids []string) error {
	for part := range slices.Chunk(ids, maxRows) {
		text, args := s.sql.park, []any{textArray(part, self)}
		if s.dialect != PostgreSQL {
			text, args = withList(text, len(part)), anys(part)
		}
		if _, err := q.ExecContext(ctx, text, args...); err != nil {
			return err
		}
	}
	return nil
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
