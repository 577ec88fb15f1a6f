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

const (
	// deliveriesJoined is a page of deliveries with all that tells their states, one probe each: the record, the queue row while
	// unfinished, its endpoint's hold, and the dead letter at the head of its ordering key if that holds the key. {more} is what only
	// some filters ask for.
	deliveriesJoined = `SELECT d.id, d.event_id, d.endpoint_id, d.ordering_key, d.seq, d.state, d.reason, d.attempts, d.created_at, d.finished_at, d.expires_at,
    d.replay, d.replay_of,
    q.class, q.due_at, q.attempts, q.owner IS NOT NULL, q.reason, h.held, h.hold_until, h.hold_reason,
    (SELECT CASE WHEN b.class = 4 THEN b.id END FROM {prefix}queue b
     WHERE b.endpoint_id = q.endpoint_id AND b.order_key = q.order_key ORDER BY b.seq LIMIT 1){more}
FROM ({page}) p
JOIN {prefix}delivery d ON d.id = p.id
LEFT JOIN {prefix}queue q ON q.id = p.id
LEFT JOIN {prefix}endpoint_state h ON h.endpoint_id = q.endpoint_id
ORDER BY p.id`

	// What a filter by the event asks for, and one by the last answer, which stands in the delivery's row or in that of an attempt.
	moreEvent = `,
    (SELECT ev.type FROM {prefix}event ev WHERE ev.id = d.event_id), (SELECT ev.tenant FROM {prefix}event ev WHERE ev.id = d.event_id)`
	noEvent    = `, '', ''`
	moreAnswer = `,
    COALESCE((SELECT a.status FROM {prefix}attempt a WHERE a.delivery_id = d.id AND a.token > COALESCE(d.token, -1)
     ORDER BY a.token DESC LIMIT 1), d.status)`
	noAnswer = `, NULL`

	// All that waits for an endpoint, as far as one page may look at it.
	waitingFor = `SELECT id FROM {prefix}queue {due} WHERE endpoint_id = ? ORDER BY endpoint_id, class, due_at LIMIT {limit}`

	eventsListed = `SELECT e.id, e.type, e.tenant, e.ordering_key, e.deliveries, e.created_at, e.erased_at
FROM ({page}) p JOIN {prefix}event e ON e.id = p.id ORDER BY p.id`
)

// maxExamined bounds how many rows one page looks at to find those that match.
const maxExamined = 10_000

// walk is one way through IDs, in order: along an index whose columns are fixed, and then id.
type walk struct {
	table string
	index string   // MySQL: left to itself it looks up what is fixed and walks from its beginning
	fixed []string // columns
	args  []any    // their values
}

var (
	walkAll       = walk{table: "delivery"}
	walkWaiting   = walk{table: "queue"}
	walkEvents    = walk{table: "event"}
	walkUnmatched = walk{table: "unmatched"}
)

func walkEvent(id string) walk {
	return walk{"delivery", "delivery_event", []string{"event_id"}, []any{id}}
}

func walkEndpoint(id string) walk {
	return walk{"delivery", "delivery_endpoint", []string{"endpoint_id"}, []any{id}}
}

func walkFailed(state webhook.State) walk {
	return walk{"failed", "PRIMARY", []string{"state"}, []any{string(state)}}
}

func walkFailedEndpoint(id string, state webhook.State) walk {
	return walk{"failed", "failed_endpoint", []string{"endpoint_id", "state"}, []any{id, string(state)}}
}

// span is the part of the walks that is left.
type span struct {
	after, before string
	newest        bool
}

// text is the statement for the first IDs of the span along the walk.
func (w *walk) text(dialect Dialect, at span, limit string) (text string, args []any) {
	text = "SELECT id FROM {prefix}" + w.table
	if dialect == MySQL && w.index != "" {
		text += " FORCE INDEX (" + w.index + ")"
	}
	order := "id"
	if dialect == PostgreSQL && len(w.fixed) > 0 && w.index != "delivery_event" {
		// Of an equality it would forget that only this index has the order, and may walk all IDs instead: hence rows.
		cols, marks := strings.Join(w.fixed, ", "), strings.Repeat("?, ", len(w.fixed))
		text += " WHERE (" + cols + ", id) > (" + marks + "?) AND (" + cols + ") <= (" + strings.TrimSuffix(marks, ", ") + ")"
		args = append(slices.Concat(w.args, []any{at.after}), w.args...)
		if at.before != "" {
			text += " AND (" + cols + ", id) < (" + marks + "?)"
			args = append(append(args, w.args...), at.before)
		}
		order = strings.Join(append(slices.Clone(w.fixed), "id"), "{desc}, ")
	} else {
		text += " WHERE "
		for _, col := range w.fixed {
			text += col + " = ? AND "
		}
		text += "id > ?"
		if args = append(slices.Clone(w.args), at.after); at.before != "" {
			text, args = text+" AND id < ?", append(args, at.before)
		}
	}
	return text + at.order(order) + limit, args
}

// order is ORDER BY in the span's order.
func (at *span) order(columns string) string {
	desc := ""
	if at.newest {
		desc = " DESC"
	}
	return " ORDER BY " + strings.ReplaceAll(columns, "{desc}", desc) + desc
}

// page is the statement and arguments for the first IDs of the span, of all the walks together. The limit is written out: PostgreSQL's
// plan for one that it does not know is one for a tenth of the table.
func (s *Store) page(walks []walk, at span, size int) (text string, args []any) {
	limit := " LIMIT " + strconv.Itoa(size)
	if len(walks) == 1 {
		return walks[0].text(s.dialect, at, limit)
	}
	for i := range walks {
		part, values := walks[i].text(s.dialect, at, limit)
		if i > 0 {
			text += " UNION "
		}
		text, args = text+"SELECT id FROM ("+part+") w"+strconv.Itoa(i), append(args, values...)
	}
	return "SELECT id FROM (" + text + ") w" + at.order("id") + limit, args
}

// pass moves the span behind an ID.
func (at *span) pass(id string) {
	if at.newest {
		at.before = id
	} else {
		at.after = id
	}
}

// inOrder puts "ORDER BY p.id" in the span's order.
func (at *span) inOrder(text string) string {
	if at.newest {
		return strings.Replace(text, "ORDER BY p.id", "ORDER BY p.id DESC", 1)
	}
	return text
}

// pages reads pages of growing size until limit rows were taken, the walk is complete or too much was examined, and tells where to go
// on. read reads a page of the span and calls seen for each row with its ID and whether it matches; seen says whether to take it.
func pages(at span, limit int, read func(at span, size int, seen func(id string, match bool) bool) error) (next string, err error) {
	taken, examined, size := 0, 0, limit+1
	for {
		n, last, more := 0, "", false
		err := read(at, size, func(id string, match bool) bool {
			n++
			switch {
			case taken == limit:
				more = true
			case match:
				taken++
				last = id
				return true
			default:
				last = id
			}
			return false
		})
		examined += n
		switch {
		case err != nil:
			return "", err
		case more:
			return last, nil
		case n < size:
			return "", nil
		case taken == limit, examined >= maxExamined:
			return last, nil
		}
		at.pass(last)
		size = min(max(size, min(4*size, 2000)), maxExamined)
	}
}

// ListDeliveries is [webhook.QueryStore.ListDeliveries]. It walks what has the fewest that cannot match, in the order of ID: the deliveries of
// the event; those in the queue and those that failed; those of the endpoint; or all.
func (s *Store) ListDeliveries(ctx context.Context, req *webhook.ListDeliveriesRequest) (*webhook.ListDeliveriesResult, error) {
	res := &webhook.ListDeliveriesResult{}
	for _, arg := range []string{req.EventID, req.EndpointID, req.After, req.Before} {
		if !storable(arg) {
			return res, nil
		}
	}
	find, err := s.finder(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: list deliveries: %w", err)
	}
	text := s.deliveryText(req)
	limit, now := limitOr(req.Limit, 100), micros(req.Now)
	at := span{req.After, req.Before, req.Newest}
	res.Next, err = pages(at, limit, func(at span, size int, seen func(string, bool) bool) error {
		page, args, err := find(at, size)
		if err != nil || page == "" {
			return err
		}
		return s.each(ctx, s.db, strings.Replace(at.inOrder(text), "{page}", page, 1), args, func(rows *sql.Rows) error {
			d, match, err := scanListed(rows, now, req)
			if err == nil && seen(d.ID, match) {
				res.Deliveries = append(res.Deliveries, d)
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: list deliveries: %w", err)
	}
	return res, nil
}

// deliveryText is the statement for a page, which looks up only what the request filters by.
func (s *Store) deliveryText(req *webhook.ListDeliveriesRequest) string {
	more := noEvent
	if req.Type != "" || req.Tenant != nil {
		more = moreEvent
	}
	if req.Response != "" {
		more += moreAnswer
	} else {
		more += noAnswer
	}
	return strings.Replace(s.side().deliveries, "{more}", more, 1)
}

// finder makes what gives the statement for the next IDs of a span; "" when there are none.
func (s *Store) finder(ctx context.Context, req *webhook.ListDeliveriesRequest) (func(at span, size int) (string, []any, error), error) {
	walks, gather := walksFor(req)
	if gather {
		ids, err := s.waitingFor(ctx, req.EndpointID)
		if err != nil {
			return nil, err
		}
		if len(ids) <= maxExamined {
			return func(at span, size int) (string, []any, error) { return s.gathered(ctx, walks, ids, at, size) }, nil
		}
		walks = []walk{walkEndpoint(req.EndpointID)} // so many wait that it meets some soon
	}
	return func(at span, size int) (string, []any, error) {
		page, args := s.page(walks, at, size)
		return page, args, nil
	}, nil
}

// walksFor chooses the ways. With gather, all that waits for the endpoint belongs to them.
func walksFor(req *webhook.ListDeliveriesRequest) (walks []walk, gather bool) {
	states := req.States
	if req.State != "" {
		states = append(slices.Clone(states), req.State)
	}
	switch {
	case req.EventID != "":
		return []walk{walkEvent(req.EventID)}, false
	case len(states) == 0 || slices.Contains(states, webhook.Delivered):
		if req.EndpointID != "" {
			return []walk{walkEndpoint(req.EndpointID)}, false
		}
		return []walk{walkAll}, false
	}
	waiting := false
	for _, st := range slices.Compact(slices.Sorted(slices.Values(states))) {
		switch {
		case !st.Final():
			waiting = true
		case req.EndpointID != "":
			walks = append(walks, walkFailedEndpoint(req.EndpointID, st))
		default:
			walks = append(walks, walkFailed(st))
		}
	}
	if waiting && req.EndpointID == "" {
		walks = append(walks, walkWaiting)
	}
	return walks, waiting && req.EndpointID != ""
}

// waitingFor are the IDs of what waits for an endpoint, in order, and at most one more than a page may look at.
func (s *Store) waitingFor(ctx context.Context, endpointID string) (ids []string, err error) {
	text := strings.Replace(s.dialectText(waitingFor), "{limit}", strconv.Itoa(maxExamined+1), 1)
	read := func(ctx context.Context, q querier) error {
		ids = nil
		return s.each(ctx, q, text, []any{endpointID}, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
	}
	if s.dialect == PostgreSQL { // for the planner's switches
		err = s.write(ctx, func(ctx context.Context, q querier) error {
			if err := s.avoidWalks(ctx, q); err != nil {
				return err
			}
			return read(ctx, q)
		})
	} else {
		err = read(ctx, s.db)
	}
	slices.Sort(ids)
	return ids, err
}

// gathered is the page of the first of ids, which are sorted, and of the walks.
func (s *Store) gathered(ctx context.Context, walks []walk, ids []string, at span, size int) (string, []any, error) {
	size = min(size, maxRows)
	part := at.of(ids, size)
	if len(walks) > 0 {
		page, args := s.page(walks, at, size)
		part = slices.Clone(part)
		err := s.each(ctx, s.db, page, args, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			part = append(part, id)
			return err
		})
		if err != nil {
			return "", nil, err
		}
		slices.Sort(part)
		part = at.of(slices.Compact(part), size)
	}
	if len(part) == 0 {
		return "", nil, nil
	}
	page, args := s.byIDs(`SELECT id FROM {prefix}delivery WHERE id {in}`, nil, part)
	return page, args, nil
}

// of is the first part of sorted IDs that lies in the span, at most so many.
func (at *span) of(ids []string, most int) []string {
	i, found := slices.BinarySearch(ids, at.after)
	if found {
		i++
	}
	ids = ids[i:]
	if at.before != "" {
		i, _ = slices.BinarySearch(ids, at.before)
		ids = ids[:i]
	}
	if at.newest {
		return ids[max(0, len(ids)-most):]
	}
	return ids[:min(len(ids), most)]
}

// scanListed reads a row of the deliveries statement, with the state as of now, and tells whether it matches.
func scanListed(rows *sql.Rows, now int64, req *webhook.ListDeliveriesRequest) (webhook.Delivery, bool, error) {
	var d webhook.Delivery
	var created int64
	var finished, expires, class, due, attempts, holdUntil, answer sql.NullInt64
	var owned, held sql.NullBool
	var reason, holdReason, keyHolder, replay, replayOf, typ, tenant sql.NullString
	err := rows.Scan(&d.ID, &d.EventID, &d.EndpointID, &d.OrderingKey, &d.Sequence, &d.State, &d.Reason, &d.Attempts, &created, &finished, &expires,
		&replay, &replayOf, &class, &due, &attempts, &owned, &reason, &held, &holdUntil, &holdReason, &keyHolder, &typ, &tenant, &answer)
	if err != nil {
		return d, false, err
	}
	d.Replay, d.ReplayOf = replay.String, replayOf.String
	d.CreatedAt, d.FinishedAt, d.ExpiresAt = fromMicros(created), fromOptMicros(finished), fromOptMicros(expires)
	if !d.State.Final() && class.Valid {
		d.DueAt, d.Reason, d.Attempts = fromOptMicros(due), reason.String, int(attempts.Int64)
		switch {
		case owned.Bool && due.Int64 > now:
			d.State = webhook.Delivering
		case held.Bool && (!holdUntil.Valid || holdUntil.Int64 > now):
			d.State, d.Reason = webhook.Held, holdReason.String
		case keyHolder.Valid && keyHolder.String != d.ID:
			d.State, d.Reason = webhook.Held, "ordering key is on hold behind dead letter "+keyHolder.String
		case webhook.Class(class.Int64) == webhook.Retry || d.Attempts > 0:
			d.State = webhook.RetryScheduled
		default:
			d.State = webhook.Queued
		}
	}
	match := req.Matches(&d) && (req.Type == "" && req.Tenant == nil || req.MatchesEvent(typ.String, tenant.String)) &&
		(req.Response == "" || answer.Valid && req.Response.Matches(int(answer.Int64)))
	return d, match, nil
}

// ListEvents is [webhook.QueryStore.ListEvents].
func (s *Store) ListEvents(ctx context.Context, req *webhook.ListEventsRequest) (*webhook.ListEventsResult, error) {
	res := &webhook.ListEventsResult{}
	if !storable(req.After) || !storable(req.Before) {
		return res, nil
	}
	walks := []walk{walkEvents}
	if req.Unmatched {
		walks[0] = walkUnmatched
	}
	var err error
	at := span{req.After, req.Before, req.Newest}
	res.Next, err = pages(at, limitOr(req.Limit, 100), func(at span, size int, seen func(string, bool) bool) error {
		page, args := s.page(walks, at, size)
		return s.each(ctx, s.db, strings.Replace(at.inOrder(s.side().events), "{page}", page, 1), args, func(rows *sql.Rows) error {
			var rec webhook.EventRecord
			ev := &rec.Event
			var created int64
			var erased sql.NullInt64
			err := rows.Scan(&ev.ID, &ev.Type, &ev.Tenant, &ev.OrderingKey, &rec.Deliveries, &created, &erased)
			rec.CreatedAt, rec.ErasedAt = fromMicros(created), fromOptMicros(erased)
			if err == nil && seen(ev.ID, req.Matches(&rec)) {
				res.Events = append(res.Events, rec)
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: list events: %w", err)
	}
	return res, nil
}
