package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"

	"github.com/signalpost/webhook"
)

const (
	// A page of deliveries, of which {erased} tells whether the payload is gone; without a question for payloads it is TRUE.
	retainPage = `SELECT d.id, d.event_id, d.state, d.finished_at, {erased} FROM {prefix}delivery d WHERE d.id > ?{before} ORDER BY d.id LIMIT {limit}`

	retainErased = `(SELECT ev.erased_at IS NOT NULL FROM {prefix}event ev WHERE ev.id = d.event_id)`

	// What is locked by another process is left to it.
	retainLock   = `SELECT id, event_id, state, finished_at FROM {prefix}delivery WHERE id {in} AND finished_at IS NOT NULL ORDER BY id {skip}`
	retainPlaces = `SELECT id FROM {prefix}queue WHERE id {in}`

	// Whoever adds a delivery to an event that is stored locks its row first, so that the event does not go at that moment. What has
	// deliveries is looked up by a statement of its own, which sees what was committed before the lock was had.
	eventLock      = `SELECT id FROM {prefix}event WHERE id {in} ORDER BY id {lock}`
	eventWhole     = `SELECT id FROM {prefix}event WHERE id {in} AND erased_at IS NULL ORDER BY id {lock}`
	eventOccupied  = `SELECT event_id FROM {prefix}delivery WHERE event_id {in}`
	eventUnready   = `SELECT event_id FROM {prefix}delivery WHERE event_id {in} AND (state <> 'delivered' OR finished_at IS NULL OR finished_at >= ?)`
	unmatchedOlder = `SELECT id FROM {prefix}unmatched WHERE created_at < ? ORDER BY created_at LIMIT {limit}`

	eventErase     = `UPDATE {prefix}event SET payload = ?, header = NULL, erased_at = ? WHERE id {in}`
	eventDelete    = `DELETE FROM {prefix}event WHERE id {in}`
	unmatchedGone  = `DELETE FROM {prefix}unmatched WHERE id {in}`
	attemptDelete  = `DELETE FROM {prefix}attempt WHERE delivery_id {in}`
	failedDelete   = `DELETE FROM {prefix}failed WHERE state = ? AND id {in}`
	deliveryDelete = `DELETE FROM {prefix}delivery WHERE id {in}`
)

// kept is what retention asks about a delivery.
type kept struct {
	id, eventID string
	state       webhook.State
	finished    sql.NullInt64
	erased      bool
}

// old says whether the delivery is to be forgotten.
func (k *kept) old(b *webhook.EndedBefore) bool {
	before := b.Of(k.state)
	return k.finished.Valid && !before.IsZero() && k.finished.Int64 < micros(before)
}

// ready says whether the delivery, for its part, lets the payload go.
func (k *kept) ready(req *webhook.PruneRequest) bool {
	return !req.PayloadsBefore.IsZero() && !k.erased && k.state == webhook.Delivered && k.finished.Valid && k.finished.Int64 < micros(req.PayloadsBefore)
}

// pruneDeliveries forgets deliveries and erases payloads.
func (s *Store) pruneDeliveries(ctx context.Context, req *webhook.PruneRequest, limit int, res *webhook.PruneResult) error {
	if req.Ended == (webhook.EndedBefore{}) && req.PayloadsBefore.IsZero() || !storable(req.After) || !storable(req.Before) {
		return nil
	}
	var gone []string
	var events []string // of payloads
	var err error
	res.Next, err = pages(span{after: req.After, before: req.Before}, limit, func(at span, size int, seen func(string, bool) bool) error {
		text, args := s.retainPage(req, at, size)
		return s.each(ctx, s.db, text, args, func(rows *sql.Rows) error {
			var k kept
			var erased sql.NullBool
			err := rows.Scan(&k.id, &k.eventID, &k.state, &k.finished, &erased)
			k.erased = erased.Bool
			switch old := k.old(&req.Ended); {
			case err != nil:
			case !seen(k.id, old || k.ready(req)):
			case old:
				gone = append(gone, k.id)
			default:
				events = append(events, k.eventID)
			}
			return err
		})
	})
	if err != nil || len(gone)+len(events) == 0 {
		return err
	}
	next := res.Next
	err = s.write(ctx, func(ctx context.Context, q querier) error {
		*res = webhook.PruneResult{EventIDs: res.EventIDs, DedupeKeys: res.DedupeKeys, Next: next}
		if err := s.avoidWalks(ctx, q); err != nil {
			return err
		}
		if err := s.forget(ctx, q, req, gone, res); err != nil {
			return err
		}
		return s.erasePayloads(ctx, q, req, events, res)
	})
	return err
}

func (s *Store) retainPage(req *webhook.PruneRequest, at span, size int) (string, []any) {
	args, before, erased := []any{at.after}, "", "TRUE"
	if at.before != "" {
		before, args = " AND d.id < ?", append(args, at.before)
	}
	if !req.PayloadsBefore.IsZero() {
		erased = retainErased
	}
	return strings.NewReplacer("{before}", before, "{erased}", erased, "{limit}", strconv.Itoa(size)).Replace(retainPage), args
}

// forget removes deliveries that are old still when they are locked, and have left their keys.
func (s *Store) forget(ctx context.Context, q querier, req *webhook.PruneRequest, ids []string, res *webhook.PruneResult) error {
	for part := range slices.Chunk(ids, maxRows) {
		var rows []kept
		text, args := s.byIDs(retainLock, nil, part)
		err := s.each(ctx, q, text, args, func(found *sql.Rows) error {
			var k kept
			err := found.Scan(&k.id, &k.eventID, &k.state, &k.finished)
			if err == nil && k.old(&req.Ended) {
				rows = append(rows, k)
			}
			return err
		})
		if err != nil {
			return err
		}
		places, err := s.idSet(ctx, q, retainPlaces, part)
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(k kept) bool { return places[k.id] })
		if err := s.deleteRecords(ctx, q, rows); err != nil {
			return err
		}
		res.Deliveries += len(rows)
		n, err := s.deleteEmpty(ctx, q, eventIDs(rows))
		if err != nil {
			return err
		}
		res.Events += n
	}
	return nil
}

// deleteRecords deletes deliveries with all that is told of them.
func (s *Store) deleteRecords(ctx context.Context, q querier, rows []kept) error {
	byState := make(map[webhook.State][]string)
	var ids []string
	for i := range rows {
		ids = append(ids, rows[i].id)
		byState[rows[i].state] = append(byState[rows[i].state], rows[i].id)
	}
	if err := s.execIDs(ctx, q, attemptDelete, nil, ids); err != nil {
		return err
	}
	for _, state := range []webhook.State{webhook.DeadLetter, webhook.Canceled, webhook.Expired} {
		if err := s.execIDs(ctx, q, failedDelete, []any{string(state)}, byState[state]); err != nil {
			return err
		}
	}
	return s.execIDs(ctx, q, deliveryDelete, nil, ids)
}

// deleteEmpty deletes those of the events that have no delivery, and reports how many.
func (s *Store) deleteEmpty(ctx context.Context, q querier, ids []string) (deleted int, err error) {
	for part := range slices.Chunk(ids, maxRows) {
		there, err := s.idList(ctx, q, eventLock, nil, part)
		if err != nil {
			return deleted, err
		}
		occupied, err := s.idSet(ctx, q, eventOccupied, there)
		if err != nil {
			return deleted, err
		}
		empty := slices.DeleteFunc(there, func(id string) bool { return occupied[id] })
		if err := s.execIDs(ctx, q, unmatchedGone, nil, empty); err != nil { // it may have matched nothing, and been replayed since
			return deleted, err
		}
		if err := s.execIDs(ctx, q, eventDelete, nil, empty); err != nil {
			return deleted, err
		}
		deleted += len(empty)
	}
	return deleted, nil
}

// erasePayloads erases payload and header of those of the events whose deliveries have all been delivered.
func (s *Store) erasePayloads(ctx context.Context, q querier, req *webhook.PruneRequest, ids []string, res *webhook.PruneResult) error {
	slices.Sort(ids)
	for part := range slices.Chunk(slices.Compact(ids), maxRows) {
		whole, err := s.idList(ctx, q, eventWhole, nil, part)
		if err != nil {
			return err
		}
		unready, err := s.idSet(ctx, q, eventUnready, whole, micros(req.PayloadsBefore))
		if err != nil {
			return err
		}
		ready := slices.DeleteFunc(whole, func(id string) bool { return unready[id] })
		if err := s.execIDs(ctx, q, eventErase, []any{[]byte{}, micros(req.Now)}, ready); err != nil {
			return err
		}
		res.Payloads += len(ready)
	}
	return nil
}

// pruneUnmatched forgets events that matched nothing. One that has got deliveries since goes with the last of them.
func (s *Store) pruneUnmatched(ctx context.Context, req *webhook.PruneRequest, limit int, res *webhook.PruneResult) error {
	if req.UnmatchedBefore.IsZero() {
		return nil
	}
	before := res.Events
	return s.write(ctx, func(ctx context.Context, q querier) error {
		res.Events = before
		if err := s.avoidWalks(ctx, q); err != nil {
			return err
		}
		var ids []string
		text := strings.Replace(unmatchedOlder, "{limit}", strconv.Itoa(limit), 1)
		err := s.each(ctx, q, text, []any{micros(req.UnmatchedBefore)}, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
		if err != nil {
			return err
		}
		slices.Sort(ids)
		n, err := s.deleteEmpty(ctx, q, ids)
		res.Events += n
		if err != nil {
			return err
		}
		return s.execIDs(ctx, q, unmatchedGone, nil, ids)
	})
}

// idList runs a query over rows of the given IDs that gives IDs. args come after them.
func (s *Store) idList(ctx context.Context, q querier, text string, args []any, ids []string) (found []string, err error) {
	for part := range slices.Chunk(ids, maxRows) {
		text, all := s.byIDs(text, nil, part)
		err = s.each(ctx, q, text, append(all, args...), func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			found = append(found, id)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// idSet is idList as a set.
func (s *Store) idSet(ctx context.Context, q querier, text string, ids []string, args ...any) (map[string]bool, error) {
	found, err := s.idList(ctx, q, text, args, ids)
	set := make(map[string]bool, len(found))
	for _, id := range found {
		set[id] = true
	}
	return set, err
}

// execIDs runs a statement over rows of the given IDs, which come after args.
func (s *Store) execIDs(ctx context.Context, q querier, text string, args []any, ids []string) error {
	for part := range slices.Chunk(ids, maxRows) {
		text, all := s.byIDs(text, args, part)
		if _, err := q.ExecContext(ctx, s.query(text), all...); err != nil {
			return err
		}
	}
	return nil
}

// eventIDs are those of the events of rows, in order and each once.
func eventIDs(rows []kept) []string {
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].eventID
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
