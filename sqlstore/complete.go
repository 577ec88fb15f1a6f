package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/signalpost/webhook"
)

// Complete implements [webhook.Store].
func (s *Store) Complete(ctx context.Context, req *webhook.CompleteRequest) (*webhook.CompleteResult, error) {
	rows, err := outcomeRows(req)
	if err != nil {
		return nil, err
	}
	res := &webhook.CompleteResult{Outcomes: make([]webhook.OutcomeStatus, len(rows))}
	if len(rows) == 0 {
		return res, nil
	}
	if s.dialect == SQLite {
		for i := range rows {
			o := &req.Outcomes[i]
			rows[i].likely = o.Next == webhook.Delivered && o.Attempt != nil && o.OrderingKey == ""
		}
	}
	err = s.complete(ctx, req, rows, res)
	if errors.Is(err, errSupposed) {
		for i := range rows {
			rows[i].likely = false
		}
		err = s.complete(ctx, req, rows, res)
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: complete: %w", err)
	}
	return res, nil
}

// complete is one try of a completion.
func (s *Store) complete(ctx context.Context, req *webhook.CompleteRequest, rows []outcomeRow, res *webhook.CompleteResult) error {
	return s.write(ctx, func(ctx context.Context, q querier) error {
		for i := range rows {
			rows[i].hit, rows[i].gone, rows[i].over = false, false, false
		}
		apply := s.completeRows
		if s.dialect == PostgreSQL {
			apply = s.completePostgres
		}
		if err := apply(ctx, q, micros(req.Now), rows); err != nil {
			return err
		}
		if err := s.unparkAfter(ctx, q, rows, res); err != nil {
			return err
		}
		return s.completeMissed(ctx, q, rows, res.Outcomes)
	})
}

// completeRows applies what is held under its token: MySQL and SQLite.
func (s *Store) completeRows(ctx context.Context, q querier, now int64, rows []outcomeRow) error {
	if err := s.endLikely(ctx, q, rows); err != nil { // on MySQL nothing is
		return err
	}
	if err := s.lockOwn(ctx, q, rows); err != nil {
		return err
	}
	var delivered, ended, tried []*outcomeRow
	for i := range rows {
		if r := &rows[i]; r.hit {
			switch {
			case r.plain():
				delivered = append(delivered, r)
			case r.op == opEnd && !r.over:
				ended = append(ended, r)
			}
			if r.tried && !r.folds() {
				tried = append(tried, r)
			}
		}
	}
	if err := s.moveRows(ctx, q, now, rows); err != nil {
		return err
	}
	if err := s.recordDelivered(ctx, q, now, delivered); err != nil {
		return err
	}
	err := insertEach(ctx, s, q, s.sql.finish, ended, func(r **outcomeRow) []any { return (*r).finishArgs(now) })
	if err != nil {
		return err
	}
	if err := s.insertFailed(ctx, q, failedRows(ended)); err != nil {
		return err
	}
	return insertEach(ctx, s, q, s.sql.addAttempt, tried, func(r **outcomeRow) []any { return (*r).attemptArgs(false) })
}

// recordDelivered makes the records of plain outcomes final.
func (s *Store) recordDelivered(ctx context.Context, q querier, now int64, rows []*outcomeRow) error {
	if s.dialect == SQLite {
		return s.recordAlike(ctx, q, now, rows)
	}
	return insertEach(ctx, s, q, s.sql.deliver, rows, func(r **outcomeRow) []any {
		a := (*r).attempt
		return []any{(*r).attempts, now, (*r).token, a.Number, a.Status, micros(a.StartedAt), int64(a.Duration), (*r).id}
	})
}

// moveRows does to the queue what the outcomes say.
func (s *Store) moveRows(ctx context.Context, q querier, now int64, rows []outcomeRow) error {
	var gone []string
	var again []*outcomeRow
	blocked := make(map[int64][]string) // by class
	for i := range rows {
		switch r := &rows[i]; {
		case !r.hit, r.gone:
		case r.blocks():
			blocked[r.block] = append(blocked[r.block], r.id)
		case r.op == opEnd || r.over:
			gone = append(gone, r.id)
		default:
			again = append(again, r)
		}
	}
	for part := range slices.Chunk(gone, maxRows) {
		if _, err := q.ExecContext(ctx, withList(s.sql.end, len(part)), anys(part)...); err != nil {
			return err
		}
	}
	for class, ids := range blocked {
		for part := range slices.Chunk(ids, maxRows) {
			if _, err := q.ExecContext(ctx, withList(s.sql.block, len(part)), append([]any{class, now}, anys(part)...)...); err != nil {
				return err
			}
		}
	}
	return insertEach(ctx, s, q, s.sql.again, again, func(r **outcomeRow) []any {
		class, reason := int64(webhook.Retry), (*r).reason
		if (*r).op == opBack {
			if (*r).attempts == 0 {
				class = (*r).class
			}
			if reason == "" {
				reason = (*r).oldReason
			}
		}
		return []any{class, (*r).dueAt, (*r).attempts, orNull(reason), (*r).id}
	})
}

// lockOwn finds, and on MySQL locks in order of ID, the queue rows that are held under the outcomes' tokens.
func (s *Store) lockOwn(ctx context.Context, q querier, rows []outcomeRow) error {
	var ids []string
	for i := range rows {
		if !rows[i].gone {
			ids = append(ids, rows[i].id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	byID := byDelivery(rows)
	return s.selectByID(ctx, q, s.sql.own, ids, func(rows *sql.Rows) error {
		var id string
		var token int64
		var own ownRow
		var orderKey, reason sql.NullString
		var expires sql.NullInt64
		if err := rows.Scan(&id, &token, &own.endpointID, &orderKey, &own.seq, &own.attempts, &own.class, &reason, &expires); err != nil {
			return err
		}
		if r := byID[id]; r != nil && r.token == token {
			own.orderKey, own.oldReason, own.over = orderKey.String, reason.String, isOver(expires)
			own.attempts += r.counted
			r.hit, r.ownRow = true, own
		}
		return nil
	})
}

// unparkAfter gives those their lane back that were parked behind what has ended, and tells of them in res.
func (s *Store) unparkAfter(ctx context.Context, q querier, rows []outcomeRow, res *webhook.CompleteResult) (err error) {
	var next []place
	for i := range rows {
		if r := &rows[i]; r.hit && (r.op == opEnd || r.over) && r.orderKey != "" && !r.blocks() {
			next = append(next, place{r.endpointID, r.orderKey, r.seq + 1})
		}
	}
	res.Woken, err = s.unpark(ctx, q, next)
	return err
}

// completeMissed tells what became of outcomes that are not held under their token, and records their attempts as late.
func (s *Store) completeMissed(ctx context.Context, q querier, rows []outcomeRow, status []webhook.OutcomeStatus) error {
	var ids []string
	for i := range rows {
		status[rows[i].place] = webhook.Applied
		if !rows[i].hit {
			ids = append(ids, rows[i].id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	known, recorded, err := s.recorded(ctx, q, ids)
	if err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		if r.hit {
			continue
		}
		late, repeat := recorded[attemptKey{r.id, r.token}]
		switch {
		case !known[r.id]:
			status[r.place] = webhook.Unknown
		case r.tried && repeat && !late:
			status[r.place] = webhook.Applied
		default:
			status[r.place] = webhook.Stale
			if !r.tried || repeat {
				continue
			}
			if _, err := q.ExecContext(ctx, s.sql.addLate, r.attemptArgs(true)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// unfold records attempts that were to go into their delivery's row where that is final already: PostgreSQL.
func (s *Store) unfold(ctx context.Context, q querier, rows []outcomeRow) error {
	for i := range rows {
		if r := &rows[i]; r.hit && r.over && r.foldable() {
			if _, err := q.ExecContext(ctx, s.sql.addLate, r.attemptArgs(false)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// attemptKey names an attempt.
type attemptKey struct {
	deliveryID string
	token      int64
}

// recorded is which of the deliveries exist, and of the attempts that they have whether each was late.
func (s *Store) recorded(ctx context.Context, q querier, ids []string) (known map[string]bool, late map[attemptKey]bool, err error) {
	known, late = make(map[string]bool), make(map[attemptKey]bool)
	err = s.selectByID(ctx, q, s.sql.seenDelivery, ids, func(rows *sql.Rows) error {
		var id string
		var token sql.NullInt64
		err := rows.Scan(&id, &token)
		known[id] = true
		if token.Valid {
			late[attemptKey{id, token.Int64}] = false
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	err = s.selectByID(ctx, q, s.sql.seenAttempts, ids, func(rows *sql.Rows) error {
		var key attemptKey
		var isLate bool
		err := rows.Scan(&key.deliveryID, &key.token, &isLate)
		late[key] = isLate
		return err
	})
	return known, late, err
}

// knownDeliveries are those of the IDs that exist.
func (s *Store) knownDeliveries(ctx context.Context, q querier, ids []string) (map[string]bool, error) {
	known := make(map[string]bool)
	err := s.selectByID(ctx, q, s.sql.seenDelivery, ids, func(rows *sql.Rows) error {
		var id string
		var token sql.NullInt64
		err := rows.Scan(&id, &token)
		known[id] = true
		return err
	})
	return known, err
}

// Extend implements [webhook.Store].
func (s *Store) Extend(ctx context.Context, req *webhook.ExtendRequest) (*webhook.ExtendResult, error) {
	rows := make([]outcomeRow, len(req.Leases))
	for i, l := range req.Leases {
		rows[i] = outcomeRow{place: i, id: l.DeliveryID, token: l.Token, dueAt: micros(l.Until)}
		if checkText("extend", "LeaseRef.DeliveryID", l.DeliveryID, true) != nil {
			rows[i].id = ""
		}
	}
	res := &webhook.ExtendResult{Leases: make([]webhook.OutcomeStatus, len(rows))}
	if len(rows) == 0 {
		return res, nil
	}
	err := s.write(ctx, func(ctx context.Context, q querier) error {
		if err := s.extendRows(ctx, q, rows); err != nil {
			return err
		}
		var missed []string
		for i := range rows {
			res.Leases[i] = webhook.Applied
			if !rows[i].hit {
				missed = append(missed, rows[i].id)
			}
		}
		known, err := s.knownDeliveries(ctx, q, missed)
		for i := range rows {
			if !rows[i].hit {
				res.Leases[i] = webhook.Unknown
				if known[rows[i].id] {
					res.Leases[i] = webhook.Stale
				}
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: extend: %w", err)
	}
	return res, nil
}

func (s *Store) extendRows(ctx context.Context, q querier, rows []outcomeRow) error {
	if s.dialect == PostgreSQL {
		if _, err := q.ExecContext(ctx, s.sql.avoidScans); err != nil {
			return err
		}
	}
	for i := range rows {
		rows[i].hit = false
	}
	if err := s.lockOwn(ctx, q, rows); err != nil {
		return err
	}
	var held []*outcomeRow
	for i := range rows {
		if rows[i].hit {
			held = append(held, &rows[i])
		}
	}
	if s.dialect == PostgreSQL {
		_, err := q.ExecContext(ctx, s.sql.extend,
			textArray(held, func(r **outcomeRow) string { return (*r).id }),
			intArray(held, func(r **outcomeRow) int64 { return (*r).dueAt }))
		return err
	}
	return insertEach(ctx, s, q, s.sql.extend, held, func(r **outcomeRow) []any { return []any{(*r).dueAt, (*r).id} })
}
