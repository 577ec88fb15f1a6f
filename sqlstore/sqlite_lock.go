package sqlstore

import (
	"context"
	"database/sql"
	"slices"
)

// endHeld ends what ends without a block, and leaves it to RETURNING to tell what was held: a read before would cost a fifth of
// the completion, and most deliveries end so. Outcomes that it cannot tell are looked up like the others.
func (s *Store) endHeld(ctx context.Context, q querier, rows []outcomeRow) error {
	byID := byDelivery(rows)
	byToken := make(map[int64][]string) // few: a token counts the leases of one delivery
	for i := range rows {
		if r := &rows[i]; r.ends() && byID[r.id] == r {
			byToken[r.token] = append(byToken[r.token], r.id)
		}
	}
	for token, ids := range byToken {
		for part := range slices.Chunk(ids, maxRows) {
			found, err := q.QueryContext(ctx, withList(s.sql.endHeld, len(part)), append([]any{token}, anys(part)...)...)
			if err != nil {
				return err
			}
			err = eachRow(found, func(rows *sql.Rows) error {
				var id string
				var own ownRow
				var orderKey sql.NullString
				var expires sql.NullInt64
				err := rows.Scan(&id, &own.endpointID, &orderKey, &own.seq, &own.attempts, &expires)
				own.orderKey, own.over = orderKey.String, isOver(expires)
				r := byID[id]
				own.attempts += r.counted
				r.hit, r.gone, r.ownRow = true, true, own
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// peekEvents reads the events that a claim will most likely want, before it takes the only write lock: an event never changes, and
// reading them under the lock was two fifths of what a claim did there. Whatever is missing is read later, so that a failure here
// means nothing. Lanes with a rate limit are left out, of which only a few of many may come.
func (c *claimState) peekEvents(ctx context.Context) map[string]eventRead {
	conn, err := c.store.db.Conn(ctx)
	if err != nil {
		return nil
	}
	defer conn.Close()
	within := context.WithoutCancel(ctx) // as in writeSQLite
	st, err := conn.PrepareContext(within, c.store.sql.peek)
	if err != nil {
		return nil
	}
	defer st.Close()
	var ids []string
	for i := range c.lanes {
		l := &c.lanes[i]
		limit := min(l.ask.Max, c.req.Limit-len(ids))
		if limit <= 0 || limited(l.ask.Rate) {
			continue
		}
		rows, err := st.QueryContext(within, l.ask.EndpointID, int64(l.ask.Class), l.low, micros(c.req.Now), limit)
		if err != nil {
			return nil
		}
		err = eachRow(rows, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
		if err != nil {
			return nil
		}
	}
	events := make(map[string]eventRead, len(ids))
	_ = c.store.readEvents(within, conn, ids, events) // as far as it came
	return events
}
