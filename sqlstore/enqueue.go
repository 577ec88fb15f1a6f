package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/signalpost/webhook"
)

// Enqueue implements [webhook.Enqueuer].
func (s *Store) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	events, err := newEvents(req)
	if err != nil {
		return nil, err
	}
	var status []webhook.EnqueueStatus
	store := func(ctx context.Context, q querier) (err error) {
		status, err = s.enqueue(ctx, q, req, events)
		return err
	}
	if s.dialect == PostgreSQL && len(parts(events)) == 1 {
		// One statement stores all, so it needs no transaction around it.
		err = s.retry(ctx, func(ctx context.Context) error { return store(ctx, s.db) })
	} else {
		err = s.write(ctx, store)
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: enqueue: %w", s.doubtful(err))
	}
	return &webhook.EnqueueResult{Events: status}, nil
}

// Enqueue implements [webhook.Enqueuer] within the caller's transaction.
func (t *Tx) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	for _, e := range req.Events {
		for _, d := range e.Deliveries {
			if d.Lease > 0 {
				return nil, fmt.Errorf("webhook: sqlstore: enqueue: delivery %q: %w", d.ID, webhook.ErrLeaseInTx)
			}
		}
	}
	events, err := newEvents(req)
	if err != nil {
		return nil, err
	}
	var status []webhook.EnqueueStatus
	enqueue := func(ctx context.Context) (err error) {
		status, err = t.store.enqueue(ctx, t.tx, req, events)
		return err
	}
	if t.store.dialect == SQLite {
		err = t.waitSQLite(ctx, enqueue)
	} else {
		err = enqueue(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: enqueue: %w", err)
	}
	return &webhook.EnqueueResult{Events: status}, nil
}

// waitSQLite waits for the write lock: the first statement of an enqueue fails for want of it with nothing done and the transaction
// as it was, unless that has read already what another one has changed since.
func (t *Tx) waitSQLite(ctx context.Context, enqueue func(context.Context) error) error {
	var final error
	err := t.store.retry(ctx, func(ctx context.Context) error {
		err := enqueue(ctx)
		if err != nil && staleSnapshot(err) {
			final = err
			return nil
		}
		return err
	})
	return errors.Join(final, err)
}

// enqueue stores the events whose IDs are new and tells what became of each of the request.
func (s *Store) enqueue(ctx context.Context, q querier, req *webhook.EnqueueRequest, events []newEvent) ([]webhook.EnqueueStatus, error) {
	status := make([]webhook.EnqueueStatus, len(req.Events))
	first := make(map[string]int, len(events)) // where an ID stands first in the request
	fresh := make([]newEvent, 0, len(events))
	for i := range events {
		id := events[i].event.ID
		if _, twice := first[id]; !twice {
			first[id] = i
			fresh = append(fresh, events[i])
		}
	}
	if len(fresh) == 0 {
		return status, nil
	}
	stored := make(map[string]bool, len(fresh))
	for _, part := range parts(fresh) {
		var err error
		switch s.dialect {
		case PostgreSQL:
			err = s.insertPostgres(ctx, q, req, part, stored)
		case MySQL:
			err = s.insertMySQL(ctx, q, req, part, stored)
		default:
			err = s.insertSQLite(ctx, q, req, part, stored)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(stored) == len(events) {
		return status, nil
	}
	known, err := s.digests(ctx, q, fresh, stored)
	if err != nil {
		return nil, err
	}
	for i := range events {
		id := events[i].event.ID
		digest, old := known[id]
		switch {
		case !old && first[id] == i: // stored
		case !old:
			status[i] = compareDigests(string(events[first[id]].digest), events[i].digest)
		default:
			status[i] = compareDigests(digest, events[i].digest)
		}
	}
	return status, nil
}

func compareDigests(known string, digest []byte) webhook.EnqueueStatus {
	if known == string(digest) {
		return webhook.Repeat
	}
	return webhook.Conflict
}

// digests reads what is known of the events that were not stored.
func (s *Store) digests(ctx context.Context, q querier, events []newEvent, stored map[string]bool) (map[string]string, error) {
	known := make(map[string]string)
	var ids []string
	for i := range events {
		if !stored[events[i].event.ID] {
			ids = append(ids, events[i].event.ID)
		}
	}
	read := func(ctx context.Context, q querier) error {
		return s.selectByID(ctx, q, s.sql.digests, ids, func(rows *sql.Rows) error {
			var id string
			var digest []byte
			err := rows.Scan(&id, &digest)
			known[id] = string(digest)
			return err
		})
	}
	var err error
	if q == querier(s.db) { // PostgreSQL, after a statement that was a transaction by itself
		err = s.write(ctx, func(ctx context.Context, q querier) error {
			if _, err := q.ExecContext(ctx, s.sql.avoidScans); err != nil {
				return err
			}
			return read(ctx, q)
		})
	} else {
		err = read(ctx, q)
	}
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, ok := known[id]; !ok { // forgotten between the two statements
			return nil, fmt.Errorf("the ID of event %q was being forgotten just now: send again", id)
		}
	}
	return known, nil
}

// insertEvents writes the events named in stored: MySQL and SQLite, which take rows rather than arrays.
func (s *Store) insertEvents(ctx context.Context, q querier, req *webhook.EnqueueRequest, events []newEvent, stored map[string]bool) error {
	now := micros(req.Now)
	fresh := make([]newEvent, 0, len(events))
	for i := range events {
		if stored[events[i].event.ID] {
			fresh = append(fresh, events[i])
		}
	}
	rows := deliveriesOf(fresh)
	if err := s.number(ctx, q, rows); err != nil {
		return err
	}
	err := insertEach(ctx, s, q, s.sql.insertEvent, fresh, func(e *newEvent) []any {
		ev := e.event
		return []any{ev.ID, ev.Type, ev.Tenant, ev.OrderingKey, e.header, e.payload, len(e.rows), now}
	})
	if err != nil {
		return err
	}
	if err := s.insertUnmatched(ctx, q, now, fresh); err != nil {
		return err
	}
	rows, expiring := splitExpiring(rows)
	if err := s.insertExpiring(ctx, q, req, expiring); err != nil {
		return err
	}
	err = insertEach(ctx, s, q, s.sql.insertDelivery, rows, func(d *newDelivery) []any { return d.recordArgs(now) })
	if err != nil {
		return err
	}
	return insertEach(ctx, s, q, s.sql.insertQueue, rows, func(d *newDelivery) []any { return d.queueArgs(req.Owner, now) })
}

// recordArgs are the values of a delivery's row, in the order of insertDelivery.
func (d *newDelivery) recordArgs(now int64) []any {
	return []any{d.id, d.eventID, d.endpointID, d.orderKey, d.seq, now}
}

// queueArgs are the values of a queue row, in the order of insertQueue.
func (d *newDelivery) queueArgs(owner string, now int64) []any {
	holder := sql.NullString{String: owner, Valid: d.token > 0}
	return []any{d.id, d.eventID, d.endpointID, d.class, d.dueAt, d.token, holder, orNull(d.orderKey), d.seq, now}
}

// orNull is "" as NULL.
func orNull(text string) sql.NullString { return sql.NullString{String: text, Valid: text != ""} }

// tailKey is an ordering key of an endpoint.
type tailKey struct {
	endpointID, orderKey string
	count, tail          int64
	begun                bool
}

// number gives ordered rows their sequence numbers, and with that locks their keys until the transaction ends.
func (s *Store) number(ctx context.Context, q querier, rows []newDelivery) error {
	type name struct{ endpointID, orderKey string }
	keys := make(map[name]*tailKey)
	for i := range rows {
		if rows[i].orderKey == "" {
			continue
		}
		n := name{rows[i].endpointID, rows[i].orderKey}
		if keys[n] == nil {
			keys[n] = &tailKey{endpointID: n.endpointID, orderKey: n.orderKey}
		}
		keys[n].count++
	}
	if len(keys) == 0 {
		return nil
	}
	// In one order, so that two requests do not lock each other's keys crosswise.
	sorted := make([]*tailKey, 0, len(keys))
	for _, k := range keys {
		sorted = append(sorted, k)
	}
	slices.SortFunc(sorted, func(a, b *tailKey) int {
		return cmp.Or(strings.Compare(a.endpointID, b.endpointID), strings.Compare(a.orderKey, b.orderKey))
	})
	err := insertEach(ctx, s, q, s.sql.bumpTail, sorted, func(k **tailKey) []any { return []any{(*k).endpointID, (*k).orderKey, (*k).count} })
	if err != nil {
		return err
	}
	if err := s.readTails(ctx, q, sorted, func(endpointID, orderKey string, tail int64) {
		if k := keys[name{endpointID, orderKey}]; k != nil {
			k.tail = tail
		}
	}); err != nil {
		return err
	}
	for i := range rows {
		if k := keys[name{rows[i].endpointID, rows[i].orderKey}]; k != nil {
			k.count--
			rows[i].seq = k.tail - k.count
			if rows[i].class = 0; k.begun {
				rows[i].class = classParked
			}
			k.begun = true
		}
	}
	return nil
}

// readTails tells the last sequence numbers of keys.
func (s *Store) readTails(ctx context.Context, q querier, keys []*tailKey, tell func(endpointID, orderKey string, tail int64)) error {
	for part := range slices.Chunk(keys, maxRows/5) {
		var args []any
		for _, k := range part {
			args = append(args, k.endpointID, k.orderKey)
		}
		found, err := q.QueryContext(ctx, withAny(s.sql.readTail, len(part)), args...)
		if err != nil {
			return err
		}
		err = eachRow(found, func(rows *sql.Rows) error {
			var endpointID, orderKey string
			var tail int64
			err := rows.Scan(&endpointID, &orderKey, &tail)
			tell(endpointID, orderKey, tail)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// insertEach inserts items with multi-row statements on MySQL and one by one on SQLite, where a statement costs no round trip.
func insertEach[T any](ctx context.Context, s *Store, q querier, text string, items []T, args func(*T) []any) error {
	if s.dialect == SQLite {
		return prepared(ctx, q, text, items, args)
	}
	return insertRows(ctx, q, text, items, args)
}
