package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/signalpost/webhook"
)

var _ webhook.Eraser = (*Store)(nil)

const (
	erasePage       = `SELECT id, tenant FROM {prefix}event WHERE id > ? ORDER BY id LIMIT {limit}`
	eraseDeliveries = `SELECT id, event_id, state, finished_at FROM {prefix}delivery WHERE event_id {in} ORDER BY id {lock}`
	eraseAnswers    = `UPDATE {prefix}attempt SET response = NULL, detail = '' WHERE delivery_id {in}`
	eraseRecords    = `UPDATE {prefix}delivery SET reason = '', response = NULL, detail = CASE WHEN detail IS NULL THEN NULL ELSE '' END WHERE id {in}`
)

// EraseTenant is [webhook.Eraser.EraseTenant].
func (s *Store) EraseTenant(ctx context.Context, req *webhook.EraseTenantRequest) (*webhook.EraseTenantResult, error) {
	res := &webhook.EraseTenantResult{}
	if !storable(req.After) || !storable(req.Tenant) {
		return res, nil
	}
	var mine []string
	next, err := pages(span{after: req.After}, limitOr(req.Limit, 500), func(at span, size int, seen func(string, bool) bool) error {
		text := strings.Replace(erasePage, "{limit}", strconv.Itoa(size), 1)
		return s.each(ctx, s.db, text, []any{at.after}, func(rows *sql.Rows) error {
			var id, tenant string
			err := rows.Scan(&id, &tenant)
			if err == nil && seen(id, tenant == req.Tenant) {
				mine = append(mine, id)
			}
			return err
		})
	})
	if err == nil && len(mine) > 0 {
		err = s.write(ctx, func(ctx context.Context, q querier) error {
			res = &webhook.EraseTenantResult{}
			if err := s.avoidWalks(ctx, q); err != nil {
				return err
			}
			for part := range slices.Chunk(mine, maxRows) {
				if err := s.eraseEvents(ctx, q, req, part, res); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: erase tenant %q: %w", req.Tenant, err)
	}
	res.Next = next
	return res, nil
}

// eraseEvents erases what may go of events, or only tells what that would be.
func (s *Store) eraseEvents(ctx context.Context, q querier, req *webhook.EraseTenantRequest, ids []string, res *webhook.EraseTenantResult) error {
	ids, err := s.idList(ctx, q, eventLock, nil, ids)
	if err != nil {
		return err
	}
	byEvent, err := s.deliveriesOfEvents(ctx, q, ids)
	if err != nil {
		return err
	}
	var deliveries []string
	for _, rows := range byEvent {
		for i := range rows {
			deliveries = append(deliveries, rows[i].id)
		}
	}
	slices.Sort(deliveries)
	places, err := s.idSet(ctx, q, retainPlaces, deliveries)
	if err != nil {
		return err
	}
	var gone, blank []string
	var goneRows []kept
	var blankRows []string
	for _, id := range ids {
		rows := byEvent[id]
		switch {
		case slices.ContainsFunc(rows, func(k kept) bool { return !k.finished.Valid }):
			res.Waiting = append(res.Waiting, id)
		case slices.ContainsFunc(rows, func(k kept) bool { return places[k.id] }):
			res.Kept++
			blank = append(blank, id)
			for i := range rows {
				blankRows = append(blankRows, rows[i].id)
			}
		default:
			res.Events++
			res.Deliveries += len(rows)
			gone, goneRows = append(gone, id), append(goneRows, rows...)
		}
	}
	if req.Count {
		return nil
	}
	if err := s.blank(ctx, q, micros(req.Now), blank, blankRows); err != nil {
		return err
	}
	if err := s.deleteRecords(ctx, q, goneRows); err != nil {
		return err
	}
	if err := s.execIDs(ctx, q, unmatchedGone, nil, gone); err != nil {
		return err
	}
	return s.execIDs(ctx, q, eventDelete, nil, gone)
}

// deliveriesOfEvents locks and reads the deliveries of events.
func (s *Store) deliveriesOfEvents(ctx context.Context, q querier, ids []string) (map[string][]kept, error) {
	byEvent := make(map[string][]kept)
	for part := range slices.Chunk(ids, maxRows) {
		text, args := s.byIDs(eraseDeliveries, nil, part)
		err := s.each(ctx, q, text, args, func(rows *sql.Rows) error {
			var k kept
			err := rows.Scan(&k.id, &k.eventID, &k.state, &k.finished)
			byEvent[k.eventID] = append(byEvent[k.eventID], k)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return byEvent, nil
}

// blank erases what was sent and answered, and leaves the records that an ordering key needs.
func (s *Store) blank(ctx context.Context, q querier, now int64, events, deliveries []string) error {
	if err := s.execIDs(ctx, q, eventErase, []any{[]byte{}, now}, events); err != nil {
		return err
	}
	if err := s.execIDs(ctx, q, eraseAnswers, nil, deliveries); err != nil {
		return err
	}
	return s.execIDs(ctx, q, eraseRecords, nil, deliveries)
}
