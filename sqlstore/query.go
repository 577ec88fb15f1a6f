package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

var _ webhook.QueryStore = (*Store)(nil)

const (
	eventGet = `SELECT type, tenant, ordering_key, header, payload, deliveries, created_at FROM {prefix}event WHERE id = ?`

	// The one that ended the delivery may stand in its row.
	attemptList = `SELECT token, number, started_at, duration, status, error, detail, response, next_at, late
FROM {prefix}attempt WHERE delivery_id = ?
UNION ALL
SELECT token, number, started_at, duration, status, error, detail, response, NULL, FALSE
FROM {prefix}delivery WHERE id = ? AND token IS NOT NULL
ORDER BY 1`

	// deliveriesJoined is a page of deliveries with all that tells their states, one probe each: the record, the queue row while
	// unfinished, its endpoint's hold, and the dead letter at the head of its ordering key if that holds the key.
	deliveriesJoined = `SELECT d.id, d.event_id, d.endpoint_id, d.ordering_key, d.seq, d.state, d.reason, d.attempts, d.created_at, d.finished_at, d.expires_at,
    d.replay, d.replay_of,
    q.class, q.due_at, q.attempts, q.owner IS NOT NULL, q.reason, h.held, h.hold_until, h.hold_reason,
    (SELECT CASE WHEN b.class = 4 THEN b.id END FROM {prefix}queue b
     WHERE b.endpoint_id = q.endpoint_id AND b.order_key = q.order_key ORDER BY b.seq LIMIT 1)
FROM ({page}) p
JOIN {prefix}delivery d ON d.id = p.id
LEFT JOIN {prefix}queue q ON q.id = p.id
LEFT JOIN {prefix}endpoint_state h ON h.endpoint_id = q.endpoint_id
ORDER BY p.id`

	// The pages, each along an index. {limit} is written out: PostgreSQL's plan for a limit that it does not know is
	// one for a tenth of the table.
	pageAll      = `SELECT id FROM {prefix}delivery WHERE id > ? ORDER BY id LIMIT {limit}`
	pageWaiting  = `SELECT id FROM {prefix}queue WHERE id > ? ORDER BY id LIMIT {limit}`
	pageEvent    = `SELECT id FROM {prefix}delivery {event} WHERE event_id = ? AND id > ? ORDER BY id LIMIT {limit}`
	pageEndpoint = `SELECT id FROM {prefix}delivery {endpoint} WHERE endpoint_id = ? AND id > ? ORDER BY id LIMIT {limit}`
)

// mysqlPages makes MySQL begin where ID is reached: left to itself it looks up the endpoint or event and walks from its beginning.
var mysqlPages = strings.NewReplacer("{event}", "FORCE INDEX (delivery_event)", "{endpoint}", "FORCE INDEX (delivery_endpoint)")

var plainPages = strings.NewReplacer("{event}", "", "{endpoint}", "")

// maxExamined bounds how many deliveries one ListDeliveries looks at to find those that match.
const maxExamined = 10_000

// GetEvent is [webhook.QueryStore.GetEvent].
func (s *Store) GetEvent(ctx context.Context, id string) (*webhook.EventRecord, error) {
	if !storableID(id) {
		return nil, notFound("event", id)
	}
	rec := &webhook.EventRecord{Event: webhook.Event{ID: id}}
	ev := &rec.Event
	var header []byte
	var created int64
	err := s.db.QueryRowContext(ctx, s.query(eventGet), id).Scan(
		&ev.Type, &ev.Tenant, &ev.OrderingKey, &header, &ev.Payload, &rec.Deliveries, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("event", id)
	}
	if err == nil && len(header) > 0 {
		err = json.Unmarshal(header, &ev.Header)
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: get event %q: %w", id, err)
	}
	rec.CreatedAt = fromMicros(created)
	return rec, nil
}

// ListDeliveries is [webhook.QueryStore.ListDeliveries]. It walks the deliveries of the event or the endpoint, or all of them,
// in the order of ID and judges their states; when few match, a page may be shorter than the limit, even
// empty, with Next saying where to go on.
func (s *Store) ListDeliveries(ctx context.Context, req *webhook.ListDeliveriesRequest) (*webhook.ListDeliveriesResult, error) {
	page, args := deliveryPage(req)
	if page == "" {
		return &webhook.ListDeliveriesResult{}, nil
	}
	hints := plainPages
	if s.dialect == MySQL {
		hints = mysqlPages
	}
	text := strings.ReplaceAll(s.side().deliveries, "{page}", hints.Replace(page))
	limit, now, after := limitOr(req.Limit, 100), micros(req.Now), req.After
	res := &webhook.ListDeliveriesResult{}
	size := limit + 1
	for examined := 0; examined < maxExamined; {
		n := 0
		err := s.each(ctx, s.db, strings.ReplaceAll(text, "{limit}", strconv.Itoa(size)), append(args, after), func(rows *sql.Rows) error {
			d, err := scanDelivery(rows, now)
			n, after = n+1, cmp.Or(d.ID, after)
			if err == nil && matches(&d, req) {
				res.Deliveries = append(res.Deliveries, d)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("webhook: list deliveries: %w", err)
		}
		if len(res.Deliveries) > limit {
			res.Deliveries = res.Deliveries[:limit]
			res.Next = res.Deliveries[limit-1].ID
			return res, nil
		}
		if n < size {
			return res, nil
		}
		examined += n
		size = max(size, min(4*size, 2000))
	}
	res.Next = after
	return res, nil
}

// deliveryPage chooses the index to walk: its statement and the arguments before ID and limit. "" when nothing can match.
func deliveryPage(req *webhook.ListDeliveriesRequest) (text string, args []any) {
	for _, arg := range []string{req.EventID, req.EndpointID, req.After} {
		if !storable(arg) {
			return "", nil
		}
	}
	switch {
	case req.EventID != "":
		return pageEvent, []any{req.EventID}
	case req.EndpointID != "":
		return pageEndpoint, []any{req.EndpointID}
	case req.State != "" && !req.State.Final():
		return pageWaiting, nil
	}
	return pageAll, nil
}

func matches(d *webhook.Delivery, req *webhook.ListDeliveriesRequest) bool {
	return (req.EndpointID == "" || d.EndpointID == req.EndpointID) && (req.State == "" || d.State == req.State)
}

// scanDelivery reads a row of the deliveries statement, with the state as of now.
func scanDelivery(rows *sql.Rows, now int64) (webhook.Delivery, error) {
	var d webhook.Delivery
	var created int64
	var finished, expires, class, due, attempts, holdUntil sql.NullInt64
	var owned, held sql.NullBool
	var reason, holdReason, keyHolder, replay, replayOf sql.NullString
	err := rows.Scan(&d.ID, &d.EventID, &d.EndpointID, &d.OrderingKey, &d.Sequence, &d.State, &d.Reason, &d.Attempts, &created, &finished, &expires, &replay, &replayOf,
		&class, &due, &attempts, &owned, &reason, &held, &holdUntil, &holdReason, &keyHolder)
	if err != nil {
		return d, err
	}
	d.CreatedAt, d.FinishedAt, d.ExpiresAt = fromMicros(created), fromOptMicros(finished), fromOptMicros(expires)
	d.Replay, d.ReplayOf = replay.String, replayOf.String
	if d.State.Final() || !class.Valid {
		return d, nil
	}
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
	return d, nil
}

// ListAttempts is [webhook.QueryStore.ListAttempts]. A delivery that is not there has none.
func (s *Store) ListAttempts(ctx context.Context, deliveryID string) ([]webhook.Attempt, error) {
	if !storableID(deliveryID) {
		return nil, nil
	}
	var attempts []webhook.Attempt
	err := s.each(ctx, s.db, attemptList, []any{deliveryID, deliveryID}, func(rows *sql.Rows) error {
		a := webhook.Attempt{DeliveryID: deliveryID}
		var started, duration int64
		var next sql.NullInt64
		err := rows.Scan(&a.Token, &a.Number, &started, &duration, &a.Status, &a.Error, &a.Detail, &a.Response, &next, &a.Late)
		a.StartedAt, a.Duration, a.NextAt = fromMicros(started), time.Duration(duration), fromOptMicros(next)
		attempts = append(attempts, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("webhook: list attempts of %q: %w", deliveryID, err)
	}
	return attempts, nil
}
