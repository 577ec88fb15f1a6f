package dbtest

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// deadEach says how rare dead letters are among what has ended.
const deadEach = 1000

// fillEnded adds as many deliveries that have ended as wait, of endpoint "done" and tenant "acme", one for each event, an hour before at(0);
// one in deadEach is a dead letter. Their IDs come after those of the backlog.
func (sc scale) fillEnded(t *testing.T, v variant, db *sql.DB) {
	t.Helper()
	pad := "CONCAT('%s', LPAD(%s, %d, '0'))"
	switch v.dialect {
	case sqlstore.PostgreSQL:
		pad = "'%s' || lpad((%s)::text, %d, '0')"
	case sqlstore.SQLite:
		pad = "printf('%s%%0*d', %[3]d, %[2]s)"
	}
	ago := at(-time.Hour).UnixMicro()
	id, event := fmt.Sprintf(pad, "x", "i", 9), fmt.Sprintf(pad, "xv", "i", 9)
	state := fmt.Sprintf("CASE WHEN i %% %d = 7 THEN 'dead_letter' ELSE 'delivered' END", deadEach)
	statements := []string{
		fmt.Sprintf(`INSERT INTO webhook_event (id, type, tenant, ordering_key, payload, deliveries, created_at)
SELECT %s, 'order_create', 'acme', '', '{}', 1, %d FROM (%s) n`, event, ago, integers(sc.rows)),
		fmt.Sprintf(`INSERT INTO webhook_event (id, type, tenant, ordering_key, payload, deliveries, created_at)
SELECT %s, 'refund', 'acme', '', '{}', 0, %d FROM (%s) n`, fmt.Sprintf(pad, "un", "i", 9), ago, integers(300)),
		fmt.Sprintf(`INSERT INTO webhook_unmatched (id, created_at) SELECT %s, %d FROM (%s) n`, fmt.Sprintf(pad, "un", "i", 9), ago, integers(300)),
		fmt.Sprintf(`INSERT INTO webhook_delivery (id, event_id, endpoint_id, ordering_key, seq, state, reason, attempts, created_at, finished_at,
token, number, status, started_at, duration, error, detail)
SELECT %s, %s, 'done', '', 0, %s, '', 1, %d, %d + i, 1, 1, 200, %d, 1000, '', '' FROM (%s) n`, id, event, state, ago, ago, ago, integers(sc.rows)),
		fmt.Sprintf(`INSERT INTO webhook_attempt (delivery_id, token, number, status, started_at, duration, late, error, detail)
SELECT %s, 0, 1, 503, %d, 1000, FALSE, '', '' FROM (%s) n WHERE i %% 5 = 3`, id, ago, integers(sc.rows)),
		`INSERT INTO webhook_failed (state, id, endpoint_id) SELECT state, id, endpoint_id FROM webhook_delivery WHERE state = 'dead_letter'`,
	}
	switch v.dialect {
	case sqlstore.PostgreSQL:
		statements = append(statements, "ANALYZE")
	case sqlstore.MySQL:
		statements = append(statements, "ANALYZE TABLE webhook_failed, webhook_attempt, webhook_delivery, webhook_event, webhook_unmatched")
	}
	for _, st := range statements {
		if _, err := db.Exec(st); err != nil {
			t.Fatalf("%s: %v", st, err)
		}
	}
}

// ended is lists, retention and erasure among as many that have ended as wait. It forgets some of them.
func (b *bench) ended(t *testing.T) {
	const page = 101 * 10
	dead := b.rows / deadEach
	list := func(what string, most int, req webhook.ListDeliveriesRequest, want int) string {
		t.Helper()
		req.Now = at(0)
		next := ""
		b.try(t, what, most, func() {
			res, err := b.s.ListDeliveries(t.Context(), &req)
			if err != nil {
				t.Fatal(err)
			}
			if next = res.Next; len(res.Deliveries) != want {
				t.Errorf("%s: %d deliveries, want %d", what, len(res.Deliveries), want)
			}
		})
		return next
	}
	failed := []webhook.State{webhook.DeadLetter, webhook.Canceled, webhook.Expired}
	for range 6 {
		list("dead letters, newest first", page, webhook.ListDeliveriesRequest{State: webhook.DeadLetter, Newest: true}, min(100, dead))
	}
	// Of several walks, the first of each are read and merged.
	list("what failed", 3*page, webhook.ListDeliveriesRequest{States: failed}, 100) // some have expired by now
	list("an endpoint's dead letters", page, webhook.ListDeliveriesRequest{State: webhook.DeadLetter, EndpointID: "done"}, min(100, dead))
	list("an endpoint's canceled, none", 20, webhook.ListDeliveriesRequest{State: webhook.Canceled, EndpointID: "done"}, 0)
	list("what waits for an endpoint for which nothing does", 20, webhook.ListDeliveriesRequest{State: webhook.Queued, EndpointID: "done"}, 0)
	list("what failed or waits for it", 3*page, webhook.ListDeliveriesRequest{States: append(failed, webhook.Queued), EndpointID: "done"}, min(100, dead))
	list("what failed or waits", 10*page, webhook.ListDeliveriesRequest{States: append(failed, webhook.RetryScheduled, webhook.Queued)}, 100)
	list("the newest delivered", page, webhook.ListDeliveriesRequest{State: webhook.Delivered, Newest: true}, 100)
	list("the newest of an endpoint", page, webhook.ListDeliveriesRequest{EndpointID: "hot", Newest: true}, 100)
	list("a span of IDs", page, webhook.ListDeliveriesRequest{After: fmt.Sprintf("x%09d", b.rows/2), Before: fmt.Sprintf("x%09d", b.rows/2+51)}, 50)
	acme, nobody := "acme", "nobody"
	list("a tenant's newest", page, webhook.ListDeliveriesRequest{Tenant: &acme, Newest: true}, 100)
	list("an endpoint's by answer", page, webhook.ListDeliveriesRequest{Response: webhook.Response2xx, EndpointID: "done"}, 100)
	const bounded = 12_000 * 8 // maxExamined, and as many probes for each
	if list("a tenant's, none", bounded, webhook.ListDeliveriesRequest{Tenant: &nobody}, 0) == "" {
		t.Error("the walk ended within its bound")
	}
	b.eventLists(t)
	b.retention(t)
	b.erasure(t)
}

func (b *bench) eventLists(t *testing.T) {
	b.try(t, "events that matched nothing", 101*10, func() {
		res, err := b.s.ListEvents(t.Context(), &webhook.ListEventsRequest{Unmatched: true, Newest: true})
		if err != nil || len(res.Events) != 100 {
			t.Errorf("%d events, %v", len(res.Events), err)
		}
	})
	b.try(t, "the newest events", 101*10, func() {
		res, err := b.s.ListEvents(t.Context(), &webhook.ListEventsRequest{Newest: true})
		if err != nil || len(res.Events) != 100 {
			t.Errorf("%d events, %v", len(res.Events), err)
		}
	})
	b.try(t, "the head of a key that is not there", 10, func() {
		_, _ = b.s.KeyHead(t.Context(), "hot", "k")
	})
}

func (b *bench) retention(t *testing.T) {
	prune := func(what string, most int, req webhook.PruneRequest, want webhook.PruneResult) string {
		t.Helper()
		req.Now = at(0)
		next := ""
		b.try(t, what, most, func() {
			res, err := b.s.Prune(t.Context(), &req)
			if err != nil {
				t.Fatal(err)
			}
			if next, res.Next = res.Next, ""; *res != want {
				t.Errorf("%s: %+v, want %+v", what, *res, want)
			}
		})
		return next
	}
	const each = 40 // rows read to forget one delivery and its event
	ended := webhook.EndedBefore{Delivered: at(-time.Minute)}
	middle := fmt.Sprintf("x%09d", b.rows/2-1)
	for i := range 7 {
		middle = prune(fmt.Sprint("forgetting 100 from the middle ", i), 101*each, webhook.PruneRequest{Ended: ended, After: middle, Limit: 100},
			webhook.PruneResult{Deliveries: 100, Events: 100})
	}
	const bounded = 12_000 * 4
	if prune("a batch of what waits", bounded, webhook.PruneRequest{Ended: ended}, webhook.PruneResult{}) == "" {
		t.Error("the walk ended within its bound")
	}
	for i := range 7 {
		prune(fmt.Sprint("100 payloads ", i), 201*each, webhook.PruneRequest{PayloadsBefore: at(-time.Minute), After: fmt.Sprintf("x%09d", 1000+200*i), Limit: 100},
			webhook.PruneResult{Payloads: 100})
	}
	prune("events that matched nothing", 101*each, webhook.PruneRequest{UnmatchedBefore: at(-time.Minute), Limit: 100}, webhook.PruneResult{Events: 100})
}

func (b *bench) erasure(t *testing.T) {
	erase := func(what string, most int, req webhook.EraseTenantRequest, want int) {
		t.Helper()
		req.Now = at(0)
		b.try(t, what, most, func() {
			res, err := b.s.EraseTenant(t.Context(), &req)
			if err != nil || res.Events != want {
				t.Errorf("%s: %+v, %v, want %d", what, res, err, want)
			}
		})
	}
	const each = 40
	for i := range 7 {
		erase(fmt.Sprint("100 events ", i), 101*each, webhook.EraseTenantRequest{Tenant: "acme", After: fmt.Sprintf("xv%09d", b.rows-5000), Limit: 100}, 100)
	}
	erase("nobody's", 12_000*2, webhook.EraseTenantRequest{Tenant: "nobody"}, 0)
}
