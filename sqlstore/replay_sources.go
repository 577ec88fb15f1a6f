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

// A page of what may be sources, each along an index. {limit} is written out, as in ListDeliveries.
const (
	sourceRows = `SELECT d.id, d.event_id, d.endpoint_id, d.state, d.created_at, e.type, e.tenant, 1
FROM ({page}) p JOIN {prefix}delivery d ON d.id = p.id LEFT JOIN {prefix}event e ON e.id = d.event_id ORDER BY p.id`

	// OFFSET 0 keeps each join a probe for each row of the page.
	sourceRowsPostgres = `SELECT d.id, d.event_id, d.endpoint_id, d.state, d.created_at, e.type, e.tenant, 1
FROM ({page}) p
CROSS JOIN LATERAL (SELECT * FROM {prefix}delivery WHERE id = p.id OFFSET 0) d
LEFT JOIN LATERAL (SELECT type, tenant FROM {prefix}event WHERE id = d.event_id OFFSET 0) e ON TRUE
ORDER BY p.id`

	sourceEvents = `SELECT id, id, '', '', created_at, type, tenant, deliveries FROM {prefix}event
WHERE id > ?{to} ORDER BY id LIMIT {limit}`

	sourcesAll      = `SELECT id FROM {prefix}delivery WHERE id > ?{to} ORDER BY id LIMIT {limit}`
	sourcesEndpoint = `SELECT id FROM {prefix}delivery {endpoint} WHERE endpoint_id = ? AND id > ?{to} ORDER BY id LIMIT {limit}`
)

// sourceRow is a delivery or an event that a walk has come by.
type sourceRow struct {
	src       webhook.ReplaySource
	state     webhook.State
	createdAt int64
	fanout    int
	stored    bool // its event is
}

// ReplaySources implements [webhook.ReplayStore].
func (s *Store) ReplaySources(ctx context.Context, req *webhook.ReplaySourcesRequest) (*webhook.ReplaySourcesResult, error) {
	if req.Limit < 1 || req.Examine < 1 {
		return nil, fieldError("replay sources", "Limit", "and Examine want 1 or more")
	}
	res := &webhook.ReplaySourcesResult{}
	for _, text := range []string{req.Filter.Endpoint, req.After, req.To} {
		if !storable(text) {
			return res, nil
		}
	}
	text, args := s.sourcePage(req)
	after, size := req.After, 2*req.Limit
	for examined := 0; examined < req.Examine; {
		size = min(size, req.Examine-examined)
		page, err := s.readSources(ctx, strings.ReplaceAll(text, "{limit}", strconv.Itoa(size)), args(after))
		if err == nil {
			err = s.judgeSources(ctx, req, page, res)
		}
		if err != nil {
			return nil, fmt.Errorf("webhook: sqlstore: replay sources: %w", err)
		}
		if len(res.Sources) >= req.Limit {
			res.Sources = res.Sources[:req.Limit]
			res.Next = res.Sources[req.Limit-1].ID
			return res, nil
		}
		if len(page) < size {
			return res, nil
		}
		after = page[len(page)-1].src.ID
		examined += len(page)
		size = 4 * size
	}
	res.Next = after
	return res, nil
}

// sourcePage is the statement of a page, and its arguments for the ID that it comes after.
func (s *Store) sourcePage(req *webhook.ReplaySourcesRequest) (text string, args func(after string) []any) {
	f := &req.Filter
	var first, last []any
	switch {
	case req.Events || f.State == webhook.Unmatched:
		text = sourceEvents
	case s.dialect == PostgreSQL:
		text = sourceRowsPostgres
	default:
		text = sourceRows
	}
	page := sourcesAll
	if f.Endpoint != "" && text != sourceEvents {
		page, first = sourcesEndpoint, []any{f.Endpoint}
	}
	if text = replaceOne(text, "{page}", page); req.To != "" {
		text, last = replaceOne(text, "{to}", " AND id < ?"), []any{req.To}
	}
	hints := plainPages
	if s.dialect == MySQL {
		hints = mysqlPages
	}
	text = hints.Replace(replaceOne(text, "{to}", ""))
	return text, func(after string) []any { return slices.Concat(first, []any{after}, last) }
}

func replaceOne(text, old, with string) string { return strings.Replace(text, old, with, 1) }

func (s *Store) readSources(ctx context.Context, text string, args []any) (page []sourceRow, err error) {
	err = s.each(ctx, s.db, text, args, func(rows *sql.Rows) error {
		var r sourceRow
		var typ, tenant sql.NullString
		err := rows.Scan(&r.src.ID, &r.src.EventID, &r.src.EndpointID, &r.state, &r.createdAt, &typ, &tenant, &r.fanout)
		r.src.Type, r.src.Tenant, r.stored = typ.String, tenant.String, typ.Valid
		page = append(page, r)
		return err
	})
	return page, err
}

// judgeSources adds to res those of a page that are sources.
func (s *Store) judgeSources(ctx context.Context, req *webhook.ReplaySourcesRequest, page []sourceRow, res *webhook.ReplaySourcesResult) error {
	f := req.Filter
	events := req.Events || f.State == webhook.Unmatched
	unmatched := events && !req.Events
	if events {
		f.Endpoint, f.State = "", ""
	}
	var likely []sourceRow
	var ids []string
	for _, r := range page {
		d := webhook.Delivery{EndpointID: r.src.EndpointID, State: r.state, CreatedAt: fromMicros(r.createdAt)}
		ev := webhook.Event{Type: r.src.Type, Tenant: r.src.Tenant}
		if !r.stored || !d.CreatedAt.Before(req.Before) || !f.Match(&d, &ev) || unmatched && r.fanout > 0 || !events && !r.state.Final() {
			continue
		}
		likely, ids = append(likely, r), append(ids, r.src.EventID)
	}
	if req.Events {
		ids = nil
	}
	made, err := s.deliveriesOfSources(ctx, ids)
	if err != nil {
		return err
	}
	end := micros(earliest(req.Before, f.Until))
	for i := range likely {
		r := &likely[i]
		if unmatched && len(made[r.src.EventID]) > 0 || !events && superseded(r, made[r.src.EventID], end) {
			continue
		}
		res.Sources = append(res.Sources, r.src)
	}
	return nil
}

// superseded reports whether a later delivery of the same event to the same endpoint counts instead.
func superseded(r *sourceRow, made []madeDelivery, end int64) bool {
	return slices.ContainsFunc(made, func(m madeDelivery) bool {
		if m.endpointID != r.src.EndpointID || m.before(r.createdAt, r.src.ID) {
			return false
		}
		return m.createdAt < end || !m.state.Final() || m.state == webhook.Delivered && r.state != webhook.Delivered
	})
}

// deliveriesOfSources is deliveriesMade on its own.
func (s *Store) deliveriesOfSources(ctx context.Context, events []string) (made map[string][]madeDelivery, err error) {
	if s.dialect != PostgreSQL || len(events) == 0 {
		return s.deliveriesMade(ctx, s.db, events)
	}
	err = s.write(ctx, func(ctx context.Context, q querier) error {
		if _, err := q.ExecContext(ctx, s.sql.avoidScans); err != nil {
			return err
		}
		made, err = s.deliveriesMade(ctx, q, events)
		return err
	})
	return made, err
}
