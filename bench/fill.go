package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// The waiting deliveries that claims are measured on.
const (
	hotRows     = 900_000 // of one endpoint, all due, and older than everything else
	others      = 1_000   // endpoints
	otherDue    = 50      // due deliveries of each
	otherFuture = 50      // deliveries of each that are due in an hour
	hotEndpoint = "hot"
)

func otherEndpoint(i int) string { return fmt.Sprintf("other-%09d", i) }

// fill makes the backlog, with an ordering key of its own for each delivery when ordered, and returns the due time of the oldest delivery of the others.
func (be *backend) fill(ctx context.Context, ordered bool) (from time.Time, err error) {
	now, err := be.store.Now(ctx)
	if err != nil {
		return from, err
	}
	from = now.Add(-time.Minute)
	if be.db == nil {
		return from, be.fillMemory(ctx, now, ordered)
	}
	return from, be.fillSQL(ctx, now, ordered)
}

// fillMemory enqueues. The events of the hot endpoint have a thousand deliveries each: it is they that count here.
func (be *backend) fillMemory(ctx context.Context, now time.Time, ordered bool) error {
	enqueue := func(due time.Time, endpoints ...string) error {
		ev := webhook.NewEvent{Event: webhook.Event{ID: webhook.NewEventID(), Type: "order_create", Payload: makePayload(0)}}
		for i, ep := range endpoints {
			del := webhook.NewDelivery{ID: fmt.Sprintf("%s_%d", ev.Event.ID, i), EndpointID: ep, DueAt: due}
			if ordered {
				del.OrderingKey = del.ID
			}
			ev.Deliveries = append(ev.Deliveries, del)
		}
		_, err := be.store.Enqueue(ctx, &webhook.EnqueueRequest{Now: now, Events: []webhook.NewEvent{ev}})
		return err
	}
	thousand := strings.Split(strings.Repeat(hotEndpoint+" ", 999)+hotEndpoint, " ")
	for i := range hotRows / len(thousand) {
		if err := enqueue(now.Add(-time.Hour+time.Duration(i)*time.Millisecond), thousand...); err != nil {
			return err
		}
	}
	for i := range others * (otherDue + otherFuture) {
		due := now.Add(-time.Minute + time.Duration(i)*time.Microsecond)
		if i >= others*otherDue {
			due = now.Add(time.Hour)
		}
		if err := enqueue(due, otherEndpoint(i%others)); err != nil {
			return err
		}
	}
	return nil
}

// dialectSQL is what the statements of fillSQL differ in.
type dialectSQL struct {
	series  string // of n, from 1
	padded  string // a prefix and a number in nine digits
	payload string
	analyze string
}

var dialects = map[sqlstore.Dialect]dialectSQL{
	sqlstore.SQLite: {
		series:  "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < %d) SELECT n FROM c) AS s",
		padded:  "printf('%s%%09d', %s)",
		payload: "CAST(replace(hex(zeroblob(512)), '0', 'x') AS BLOB)",
	},
	sqlstore.PostgreSQL: {
		series:  "generate_series(1, %d) AS s(n)",
		padded:  "('%s' || lpad((%s)::text, 9, '0'))",
		payload: "convert_to(repeat('x', 1024), 'UTF8')",
		analyze: "ANALYZE",
	},
	sqlstore.MySQL: {
		series:  "(SELECT seq AS n FROM seq_1_to_%d) AS s",
		padded:  "concat('%s', lpad(%s, 9, '0'))",
		payload: "repeat('x', 1024)",
		analyze: "ANALYZE TABLE webhook_queue, webhook_event",
	},
}

// fillSQL writes the rows that claims read, as the store's migrations describe them. The hot endpoint's share one event.
func (be *backend) fillSQL(ctx context.Context, now time.Time, ordered bool) error {
	d := dialects[be.dialect]
	us := now.UnixMicro()
	hour, minute := time.Hour.Microseconds(), time.Minute.Microseconds()
	pad := func(prefix, number string) string { return fmt.Sprintf(d.padded, prefix, number) }
	order := func(prefix string) string { // sequence number and ordering key
		if ordered {
			return "1, " + pad(prefix, "n")
		}
		return "0, NULL"
	}
	rest := others * (otherDue + otherFuture)
	statements := []string{
		fmt.Sprintf("INSERT INTO webhook_event (id, type, tenant, ordering_key, payload, deliveries, created_at) SELECT %s, 'order_create', '', '', %s, 1, %d FROM %s",
			pad("evt_", "n"), d.payload, us, fmt.Sprintf(d.series, rest)),
		fmt.Sprintf("INSERT INTO webhook_queue (id, event_id, endpoint_id, class, due_at, token, seq, order_key, created_at, attempts) SELECT %s, %s, '%s', 0, %d + n, 0, %s, %d, 0 FROM %s",
			pad("dlv_a", "n"), pad("evt_", "1"), hotEndpoint, us-hour, order("key_a"), us, fmt.Sprintf(d.series, hotRows)),
		fmt.Sprintf("INSERT INTO webhook_queue (id, event_id, endpoint_id, class, due_at, token, seq, order_key, created_at, attempts) SELECT %s, %s, %s, 0, CASE WHEN n <= %d THEN %d + n ELSE %d END, 0, %s, %d, 0 FROM %s",
			pad("dlv_b", "n"), pad("evt_", "n"), pad("other-", fmt.Sprintf("n %% %d", others)), others*otherDue, us-minute, us+hour, order("key_b"), us, fmt.Sprintf(d.series, rest)),
	}
	return be.execAll(ctx, append(statements, d.analyze))
}

// execAll executes statements; "" is none.
func (be *backend) execAll(ctx context.Context, statements []string) error {
	for _, s := range statements {
		if s == "" {
			continue
		}
		if _, err := be.db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.60s…: %w", s, err)
		}
	}
	return nil
}

// fillHanging makes n deliveries for one endpoint, the number-th, that are due at once. They share one event.
func (be *backend) fillHanging(ctx context.Context, endpoint string, number, n int, due time.Time) error {
	prefix := fmt.Sprintf("h%03d_", number)
	if be.db == nil {
		return be.fillHangingMemory(ctx, prefix, endpoint, n, due)
	}
	d := dialects[be.dialect]
	us, event := due.UnixMicro(), "evt_"+prefix
	statements := []string{
		fmt.Sprintf("INSERT INTO webhook_event (id, type, tenant, ordering_key, payload, deliveries, created_at) SELECT '%s', 'order_create', '', '', %s, 1, %d FROM %s",
			event, d.payload, us, fmt.Sprintf(d.series, 1)),
		fmt.Sprintf("INSERT INTO webhook_queue (id, event_id, endpoint_id, class, due_at, token, seq, order_key, created_at, attempts) SELECT %s, '%s', '%s', 0, %d + n, 0, 0, NULL, %d, 0 FROM %s",
			fmt.Sprintf(d.padded, "dlv_"+prefix, "n"), event, endpoint, us, us, fmt.Sprintf(d.series, n)),
	}
	return be.execAll(ctx, append(statements, d.analyze))
}

func (be *backend) fillHangingMemory(ctx context.Context, prefix, endpoint string, n int, due time.Time) error {
	const each = 1_000
	for i := 0; i < n; i += each {
		ev := webhook.NewEvent{Event: webhook.Event{ID: fmt.Sprint("evt_", prefix, i), Type: "order_create", Payload: makePayload(0)}}
		for j := range min(each, n-i) {
			ev.Deliveries = append(ev.Deliveries, webhook.NewDelivery{
				ID: fmt.Sprint("dlv_", prefix, i+j), EndpointID: endpoint, DueAt: due.Add(time.Duration(i+j) * time.Microsecond),
			})
		}
		if _, err := be.store.Enqueue(ctx, &webhook.EnqueueRequest{Now: due, Events: []webhook.NewEvent{ev}}); err != nil {
			return err
		}
	}
	return nil
}
