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
WHERE id > ? ORDER BY id LIMIT {limit}`

	sourcesAll      = `SELECT id FROM {prefix}delivery WHERE id > ? ORDER BY id LIMIT {limit}`
	sourcesEndpoint = `SELECT id FROM {prefix}delivery {endpoint} WHERE endpoint_id = ? AND id > ? ORDER BY id LIMIT {limit}`
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
	err := s.steady(ctx, func(ctx context.Context, q querier) error {
		*res = webhook.ReplaySourcesResult{}
		return s.replaySources(ctx, q, req, res)
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: replay sources: %w", err)
	}
	return res, nil
}

// steady runs what reads. On PostgreSQL it does so in a transaction with the switches of avoidWalks: of an endpoint that the planner does not know it
// thinks that it has fewer deliveries than a page, and sorts them all.
func (s *Store) steady(ctx context.Context, fn func(context.Context, querier) error) error {
	if s.dialect != PostgreSQL {
		return fn(ctx, s.db)
	}
	return s.write(ctx, func(ctx context.Context, q querier) error {
		if err := s.avoidWalks(ctx, q); err != nil {
			return err
		}
		return fn(ctx, q)
	})
}

func (s *Store) replaySources(ctx context.Context, q querier, req *webhook.ReplaySourcesRequest, res *webhook.ReplaySourcesResult) error {
	text, args := s.sourcePage(req)
	after, size := req.After, 2*req.Limit
	for examined := 0; examined < req.Examine; {
		size = min(size, req.Examine-examined)
		all, err := s.readSources(ctx, q, strings.ReplaceAll(text, "{limit}", strconv.Itoa(size)), args(after))
		if err != nil {
			return err
		}
		page := upTo(all, req.To)
		if err := s.judgeSources(ctx, q, req, page, res); err != nil {
			return err
		}
		if len(res.Sources) >= req.Limit {
			res.Sources = res.Sources[:req.Limit]
			res.Next = res.Sources[req.Limit-1].ID
			return nil
		}
		if len(page) < size {
			return nil
		}
		after = page[len(page)-1].src.ID
		examined += len(page)
		size = 4 * size
	}
	res.Next = after
	return nil
}

// upTo is a page up to where the walk ends.
func upTo(page []sourceRow, to string) []sourceRow {
	i := slices.IndexFunc(page, func(r sourceRow) bool { return to != "" && r.src.ID >= to })
	if i < 0 {
		return page
	}
	return page[:i]
}

// sourcePage is the statement of a page, and its arguments for the ID that it comes after.
func (s *Store) sourcePage(req *webhook.ReplaySourcesRequest) (text string, args func(after string) []any) {
	f := &req.Filter
	var first []any
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
	hint := ""
	if s.dialect == MySQL { // left to itself it walks from the endpoint's beginning
		hint = "FORCE INDEX (delivery_endpoint)"
	}
	text = replaceOne(replaceOne(text, "{page}", page), "{endpoint}", hint)
	return text, func(after string) []any { return append(first[:len(first):len(first)], after) }
}

func replaceOne(text, old, with string) string { return strings.Replace(text, old, with, 1) }

func (s *Store) readSources(ctx context.Context, q querier, text string, args []any) (page []sourceRow, err error) {
	err = s.each(ctx, q, text, args, func(rows *sql.Rows) error {
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
func (s *Store) judgeSources(ctx context.Context, q querier, req *webhook.ReplaySourcesRequest, page []sourceRow, res *webhook.ReplaySourcesResult) error {
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
	made, err := s.deliveriesMade(ctx, q, ids)
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
