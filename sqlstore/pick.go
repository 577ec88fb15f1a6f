package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
)

// pick runs one round: it picks candidates of the lanes by their cap, parks or leases them, and returns them in order of
// lane and due time, at most as many as may still be claimed.
func (c *claimState) pick(ctx context.Context, q querier) ([]pickedRow, error) {
	if c.store.dialect == PostgreSQL {
		return c.pickPostgres(ctx, q)
	}
	candidates := c.candidatesSQLite
	if c.store.dialect == MySQL {
		candidates = c.candidatesMySQL
	}
	rows, err := candidates(ctx, q)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(rows, func(a, b pickedRow) int {
		return cmp.Or(cmp.Compare(a.lane, b.lane), cmp.Compare(a.dueAt, b.dueAt))
	})
	rows = rows[:min(len(rows), c.req.Limit-len(c.found))]
	if err := c.judge(ctx, q, rows); err != nil {
		return nil, err
	}
	if err := c.move(ctx, q, rows); err != nil {
		return nil, err
	}
	return rows, nil
}

// candidatesSQLite reads lane by lane, and stops when it has enough.
func (c *claimState) candidatesSQLite(ctx context.Context, q querier) ([]pickedRow, error) {
	picked := make([]pickedRow, 0, c.early.size())
	var st *sql.Stmt
	for i := range c.lanes {
		l := &c.lanes[i]
		limit := min(l.cap, c.req.Limit-len(c.found)-len(picked))
		if limit <= 0 {
			continue
		}
		if rows, ok := c.early.take(i, limit); ok {
			picked = append(picked, rows...)
			continue
		}
		if st == nil {
			var err error
			if st, err = q.PrepareContext(ctx, c.store.sql.pick); err != nil {
				return nil, err
			}
			defer st.Close()
		}
		rows, err := st.QueryContext(ctx, l.ask.EndpointID, int64(l.ask.Class), l.low, micros(c.req.Now), limit)
		if err != nil {
			return nil, err
		}
		err = eachRow(rows, func(rows *sql.Rows) error {
			r := pickedRow{lane: i, leaseEnd: l.leaseEnd, endpointID: l.ask.EndpointID}
			var orderKey, reason sql.NullString
			err := rows.Scan(&r.id, &orderKey, &r.seq, &r.dueAt, &r.eventID, &r.token, &r.attempts, &r.createdAt, &reason, &r.expiresAt,
				&r.replay, &r.replayOf)
			r.orderKey, r.reason = orderKey.String, reason.String
			r.token++ // by the lease
			picked = append(picked, r)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return picked, nil
}

// lanesAStatement is how many lanes one statement of MySQL asks for.
const lanesAStatement = 100

// candidatesMySQL locks the candidates of many lanes with one statement.
func (c *claimState) candidatesMySQL(ctx context.Context, q querier) ([]pickedRow, error) {
	var places []int
	for i := range c.lanes {
		if c.lanes[i].cap > 0 {
			places = append(places, i)
		}
	}
	var picked []pickedRow
	for part := range slices.Chunk(places, lanesAStatement) {
		texts := make([]string, len(part))
		var args []any
		for i, place := range part {
			l := &c.lanes[place]
			texts[i] = c.store.sql.pick
			args = append(args, place, l.ask.EndpointID, int64(l.ask.Class), l.low, micros(c.req.Now), l.cap)
		}
		rows, err := q.QueryContext(ctx, strings.Join(texts, " UNION ALL "), args...)
		if err != nil {
			return nil, err
		}
		err = eachRow(rows, func(rows *sql.Rows) error {
			var r pickedRow
			var orderKey, reason sql.NullString
			err := rows.Scan(&r.lane, &r.id, &orderKey, &r.seq, &r.dueAt, &r.eventID, &r.token, &r.attempts, &r.createdAt, &reason, &r.expiresAt,
				&r.replay, &r.replayOf)
			if err != nil {
				return err
			}
			l := &c.lanes[r.lane]
			r.endpointID, r.leaseEnd = l.ask.EndpointID, l.leaseEnd
			r.orderKey, r.reason = orderKey.String, reason.String
			r.token++ // by the lease
			picked = append(picked, r)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(picked) >= c.req.Limit-len(c.found) {
			break
		}
	}
	return picked, nil
}

// place is where a delivery stands in its ordering key.
type place struct {
	endpointID, orderKey string
	seq                  int64
}

// judge decides the fate of ordered rows. One whose predecessor is unfinished is parked while that one is locked here, so that
// its completion comes after and sees the parked row; where it is locked already, the row is left for a later claim.
func (c *claimState) judge(ctx context.Context, q querier, rows []pickedRow) error {
	waiting := make(map[place]*pickedRow) // by the place of the predecessor
	var before []place
	for i := range rows {
		if r := &rows[i]; r.orderKey != "" && r.seq > 1 {
			p := place{r.endpointID, r.orderKey, r.seq - 1}
			waiting[p] = r
			before = append(before, p)
		}
	}
	blockers := make(map[string]*pickedRow) // by the predecessor's ID
	for part := range slices.Chunk(before, maxRows/5) {
		var args []any
		for _, p := range part {
			args = append(args, p.endpointID, p.orderKey, p.seq)
		}
		found, err := q.QueryContext(ctx, withAny(c.store.sql.findBefore, len(part)), args...)
		if err != nil {
			return err
		}
		err = eachRow(found, func(rows *sql.Rows) error {
			var id string
			var p place
			err := rows.Scan(&id, &p.endpointID, &p.orderKey, &p.seq)
			if r := waiting[p]; r != nil {
				r.fate = fateLeave
				blockers[id] = r
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if c.store.dialect == SQLite { // nobody else writes
		for _, r := range blockers {
			r.fate = fatePark
		}
		return nil
	}
	ids := make([]string, 0, len(blockers))
	for id := range blockers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return c.store.selectByID(ctx, q, c.store.sql.lockBefore, ids, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		if r := blockers[id]; r != nil {
			r.fate = fatePark
		}
		return err
	})
}

// move parks and leases rows by their fate.
func (c *claimState) move(ctx context.Context, q querier, rows []pickedRow) error {
	type kind struct{ end, token int64 }
	var park []string
	leases := make(map[kind][]string)
	for i := range rows {
		switch r := &rows[i]; r.fate {
		case fatePark:
			park = append(park, r.id)
		case fateLease:
			k := kind{end: r.leaseEnd}
			if c.store.dialect == SQLite {
				k.token = r.token - 1
			}
			leases[k] = append(leases[k], r.id)
		}
	}
	if err := c.store.park(ctx, q, park); err != nil {
		return err
	}
	for k, ids := range leases {
		for part := range slices.Chunk(ids, maxRows) {
			text := withList(c.store.sql.lease, len(part))
			args := []any{k.end, c.req.Owner}
			var err error
			if c.store.dialect == SQLite {
				err = execAll(ctx, q, text, append(append(args, k.token), anys(part)...), len(part))
			} else {
				_, err = q.ExecContext(ctx, text, append(args, anys(part)...)...)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
