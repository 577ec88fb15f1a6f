package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/signalpost/webhook"
)

var _ webhook.LifeStore = (*Store)(nil)

// What reads the same in all dialects; see [Store.byIDs] for what stands in braces.
const (
	endEvent    = `SELECT id, finished_at FROM {prefix}delivery WHERE event_id = ? ORDER BY id`
	endDelivery = `SELECT id, finished_at FROM {prefix}delivery WHERE id = ?`

	endOldest = `SELECT id, due_at FROM {prefix}queue {due} WHERE endpoint_id = ? AND class = ?
	AND (owner IS NULL OR {until} <= ?) AND (expires_at IS NULL OR expires_at <> 0) ORDER BY due_at LIMIT {limit}`

	// In order of ID, as completions do.
	endLock = `SELECT id, event_id, endpoint_id, class, {until}, attempts, created_at, owner IS NOT NULL, order_key, seq, expires_at, replay, replay_of
FROM {prefix}queue WHERE id {in} ORDER BY id {lock}`

	endRecord = `UPDATE {prefix}delivery SET state = ?, reason = ?, finished_at = ?,
	attempts = COALESCE((SELECT q.attempts FROM {prefix}queue q WHERE q.id = {prefix}delivery.id), attempts)
WHERE id {in}`

	endGone = `DELETE FROM {prefix}queue WHERE id {in}`

	// A lease that is fenced keeps its end: what comes next must not run beside the attempt that may be under way.
	endKept = `UPDATE {prefix}queue SET due_at = CASE WHEN due_at > ? AND owner IS NULL THEN ? ELSE due_at END,
	class = CASE class WHEN 2 THEN 5 ELSE class END, expires_at = 0, owner = NULL, reason = NULL
WHERE id {in}`
)

// isOver tells a queue row that End has ended.
func isOver(expiresAt sql.NullInt64) bool { return expiresAt.Valid && expiresAt.Int64 == 0 }

// timedID is a delivery's ID with the time that it is found by.
type timedID struct {
	at int64
	id string
}

func idsOf(rows []timedID) []string {
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].id
	}
	return ids
}

// endRow is a locked queue row.
type endRow struct {
	d     webhook.Delivery
	class int64
	due   int64
	owned bool
	over  bool
}

// final says whether the row's delivery is, and the row here for the sake of its key.
func (r *endRow) final() bool { return r.over || r.class == classBlocked || r.class == classHeld }

// leased says whether somebody has it at now.
func (r *endRow) leased(now int64) bool { return r.owned && r.due > now }

// End implements [webhook.LifeStore].
func (s *Store) End(ctx context.Context, req *webhook.EndRequest) (*webhook.EndResult, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	var res *webhook.EndResult
	err := s.write(ctx, func(ctx context.Context, q querier) (err error) {
		res = &webhook.EndResult{}
		return s.end(ctx, q, req, res)
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: end: %w", err)
	}
	return res, nil
}

func (s *Store) end(ctx context.Context, q querier, req *webhook.EndRequest, res *webhook.EndResult) error {
	if err := s.avoidWalks(ctx, q); err != nil {
		return err
	}
	limit := limitOr(req.Limit, 500)
	switch {
	case req.Expired:
		return s.sweep(ctx, q, req, limit, res)
	case req.EndpointID != "":
		limit = min(limit, req.Oldest)
	}
	ids, err := s.endable(ctx, q, req, limit+1, res)
	if err != nil {
		return err
	}
	var rows []*endRow
	for part := range slices.Chunk(ids, min(limit+1, maxRows)) {
		locked, err := s.lockQueue(ctx, q, part)
		if err != nil {
			return err
		}
		for _, id := range part {
			if r := locked[id]; r != nil && !r.final() && (req.Leased || !r.leased(micros(req.Now))) {
				rows = append(rows, r)
			}
		}
		if len(rows) > limit {
			break
		}
	}
	if len(rows) > limit {
		rows, res.More = rows[:limit], req.EndpointID == "" || limit < req.Oldest
	}
	return s.endRows(ctx, q, req, rows, res)
}

// avoidWalks is avoidScans of PostgreSQL for a transaction that asks for the first few rows of a lane as well: of an endpoint that the
// planner does not know it thinks that it has few, and makes a bitmap of all that there are.
func (s *Store) avoidWalks(ctx context.Context, q querier) error {
	if s.dialect != PostgreSQL {
		return nil
	}
	if _, err := q.ExecContext(ctx, s.sql.avoidScans); err != nil {
		return err
	}
	_, err := q.ExecContext(ctx, "SELECT set_config('enable_bitmapscan', 'off', true)")
	return err
}

// endable are the IDs of what a request may end, in that order, and tells res what it found. It locks nothing.
func (s *Store) endable(ctx context.Context, q querier, req *webhook.EndRequest, most int, res *webhook.EndResult) ([]string, error) {
	text, id := endEvent, req.EventID
	switch {
	case req.EndpointID != "":
		return s.oldest(ctx, q, req, most)
	case req.DeliveryID != "":
		text, id = endDelivery, req.DeliveryID
	}
	if !storableID(id) {
		return nil, nil
	}
	var ids []string
	err := s.each(ctx, q, text, []any{id}, func(rows *sql.Rows) error {
		var id string
		var finished sql.NullInt64
		err := rows.Scan(&id, &finished)
		res.Found++
		if !finished.Valid {
			ids = append(ids, id)
		}
		return err
	})
	return ids, err
}

// oldest are the first of an endpoint's unfinished deliveries by due time, of its lanes and of those parked.
func (s *Store) oldest(ctx context.Context, q querier, req *webhook.EndRequest, most int) ([]string, error) {
	if !storableID(req.EndpointID) {
		return nil, nil
	}
	until := micros(req.Now)
	if req.Leased {
		until = math.MaxInt64
	}
	var found []timedID
	text := strings.Replace(s.dialectText(endOldest), "{limit}", strconv.Itoa(most), 1)
	for _, class := range []int{int(webhook.Fresh), int(webhook.Retry), classParked} {
		err := s.each(ctx, q, text, []any{req.EndpointID, class, until}, func(rows *sql.Rows) error {
			var r timedID
			err := rows.Scan(&r.id, &r.at)
			found = append(found, r)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(found, func(a, b timedID) int { return cmp.Compare(a.at, b.at) })
	return idsOf(found[:min(len(found), most)]), nil
}

// lockQueue locks queue rows and reads them, by ID. What has none has left the queue.
func (s *Store) lockQueue(ctx context.Context, q querier, ids []string) (map[string]*endRow, error) {
	locked := make(map[string]*endRow, len(ids))
	for part := range slices.Chunk(slices.Sorted(slices.Values(ids)), maxRows) {
		text, args := s.byIDs(endLock, nil, part)
		err := s.each(ctx, q, text, args, func(rows *sql.Rows) error {
			r := &endRow{}
			d := &r.d
			var created int64
			var orderKey, replay, replayOf sql.NullString
			var expires sql.NullInt64
			err := rows.Scan(&d.ID, &d.EventID, &d.EndpointID, &r.class, &r.due, &d.Attempts, &created, &r.owned, &orderKey, &d.Sequence, &expires, &replay, &replayOf)
			d.Replay, d.ReplayOf = replay.String, replayOf.String
			d.OrderingKey, d.CreatedAt, d.ExpiresAt, r.over = orderKey.String, fromMicros(created), fromOptMicros(expires), isOver(expires)
			locked[d.ID] = r
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return locked, nil
}

// endRows makes the records of locked rows final. What has no ordering key leaves the queue.
func (s *Store) endRows(ctx context.Context, q querier, req *webhook.EndRequest, rows []*endRow, res *webhook.EndResult) error {
	now, reason := micros(req.Now), words(req.Reason, maxReason)
	var all, gone, kept []string
	for _, r := range rows {
		d := r.d
		all = append(all, d.ID)
		if d.OrderingKey == "" {
			gone = append(gone, d.ID)
		} else {
			kept = append(kept, d.ID)
			if r.due > now && !r.owned && r.class <= int64(webhook.Retry) {
				lane := webhook.LaneID{EndpointID: d.EndpointID, Class: webhook.Class(r.class)}
				res.Woken = append(res.Woken, webhook.Lane{LaneID: lane, Earliest: fromMicros(now)})
			}
		}
		d.State, d.Reason, d.FinishedAt = req.Next, reason, fromMicros(now)
		res.Ended = append(res.Ended, d)
	}
	for _, step := range []struct {
		text string
		args []any
		ids  []string
	}{
		{endRecord, []any{string(req.Next), reason, now}, all},
		{endGone, nil, gone},
		{endKept, []any{now, now}, kept},
	} {
		slices.Sort(step.ids)
		for part := range slices.Chunk(step.ids, maxRows) {
			text, args := s.byIDs(step.text, step.args, part)
			if _, err := q.ExecContext(ctx, s.query(text), args...); err != nil {
				return err
			}
		}
	}
	failed := make([]failedRow, len(rows))
	for i, r := range rows {
		failed[i] = failedRow{string(req.Next), r.d.ID, r.d.EndpointID}
	}
	return s.insertFailed(ctx, q, failed)
}

// byIDs is a statement over rows of the given IDs, which are its last arguments.
func (s *Store) byIDs(text string, args []any, ids []string) (string, []any) {
	text = s.dialectText(text)
	if s.dialect == PostgreSQL {
		return strings.Replace(text, "{in}", "= ANY(?::text[])", 1), append(args, textArray(ids, self))
	}
	return strings.Replace(text, "{in}", "IN (?"+strings.Repeat(",?", len(ids)-1)+")", 1), slices.Concat(args, anys(ids))
}

// dialectText fills in what dialects say differently: {lock} locks rows where there are row locks, {skip} passes over those locked, {due} names the index that is walked, {until} is when a row may be claimed, or its lease ends.
func (s *Store) dialectText(text string) string {
	switch s.dialect {
	case PostgreSQL:
		return strings.NewReplacer("{lock}", "FOR UPDATE", "{skip}", "FOR UPDATE SKIP LOCKED", "{due}", "", "{until}", "coalesce(leased_until, due_at)").Replace(text)
	case MySQL:
		return strings.NewReplacer("{lock}", "FOR UPDATE", "{skip}", "FOR UPDATE SKIP LOCKED", "{due}", "FORCE INDEX (queue_due)", "{until}", "due_at").Replace(text)
	}
	return strings.NewReplacer("{lock}", "", "{skip}", "", "{due}", "INDEXED BY {name}queue_due", "{until}", "due_at").Replace(text)
}
