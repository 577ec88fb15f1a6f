package dbtest

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// questions is what is asked beside the queue.
func (b *bench) questions(t *testing.T) {
	list := func(what string, most, want int, req webhook.ListDeliveriesRequest) (next string) {
		t.Helper()
		req.Now = at(0)
		b.try(t, what, most, func() {
			res, err := b.s.ListDeliveries(t.Context(), &req)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Deliveries) != want {
				t.Errorf("%s: %d deliveries, want %d", what, len(res.Deliveries), want)
			}
			next = res.Next
		})
		return next
	}
	const page = 101 * 10 // a few probes for each delivery of a page
	for range 6 {
		list("first page", page, 100, webhook.ListDeliveriesRequest{})
	}
	list("the hot endpoint", page, 100, webhook.ListDeliveriesRequest{EndpointID: "hot"})
	list("the hot endpoint's middle", page, 100, webhook.ListDeliveriesRequest{EndpointID: "hot", After: fmt.Sprintf("d%09d", b.hot()/2)})
	list("an endpoint", page, 100, webhook.ListDeliveriesRequest{EndpointID: b.endpoint(7)})
	list("nobody", 50, 0, webhook.ListDeliveriesRequest{EndpointID: "nobody"})
	list("an event", 100, 10, webhook.ListDeliveriesRequest{EventID: "ev000000500"})
	list("an event's one endpoint", 100, 10, webhook.ListDeliveriesRequest{EventID: "ev000000500", EndpointID: "hot"})
	list("what is queued", page, 100, webhook.ListDeliveriesRequest{State: webhook.Queued})
	list("an endpoint's retries", page, 50, webhook.ListDeliveriesRequest{EndpointID: b.endpoint(7), State: webhook.RetryScheduled})

	const bounded = 12_000 * 8 // maxExamined, and as many probes for each
	if next := list("a page of none that is held", bounded, 0, webhook.ListDeliveriesRequest{State: webhook.Held}); next == "" {
		t.Errorf("the walk over %d deliveries ended within its bound", b.rows)
	}
	if next := list("none that expired", 20+b.rows/deadEach, 0, webhook.ListDeliveriesRequest{State: webhook.Expired}); next != "" {
		t.Error("the walk over nothing goes on")
	}

	b.try(t, "endpoint changes, none", 10, func() {
		if ch := changes(t, b.s, 1000); len(ch.Put) != 0 || ch.Version != 1000 {
			t.Errorf("%d endpoints, version %d", len(ch.Put), ch.Version)
		}
	})
	b.try(t, "endpoint changes, three", 50, func() {
		if ch := changes(t, b.s, 997); len(ch.Put) != 3 {
			t.Errorf("%d endpoints", len(ch.Put))
		}
	})
	tenant := "t7"
	b.try(t, "a tenant's endpoints", 50, func() {
		if ids, _ := listEndpoints(t, b.s, &tenant, "", 0); len(ids) != 10 {
			t.Errorf("%d endpoints", len(ids))
		}
	})
	b.try(t, "prune keys, none expired", 10, func() { b.prune(t, 0) })
	b.try(t, "begin of a new key", 20, func() { begin(t, b.s, at(0), "s", "new") })
	b.try(t, "begin of a held key", 20, func() { begin(t, b.s, at(0), "s", "k000000007") })
}

func (b *bench) prune(t *testing.T, want int) {
	t.Helper()
	res, err := b.s.Prune(t.Context(), &webhook.PruneRequest{Now: at(0), DedupeKeys: true})
	if err != nil || res.DedupeKeys != want {
		t.Errorf("%+v, %v, want %d", res, err, want)
	}
}

// fillSide adds 1,000 endpoints of 100 tenants with their states, and 10,000 held keys.
func (sc scale) fillSide(t *testing.T, v variant, db *sql.DB) {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	exec := func(text string) {
		if _, err := tx.Exec(text); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	rows := func(n int, row func(i int) string) (values string) {
		for i := range n {
			if i > 0 {
				values += ", "
			}
			values += row(i)
		}
		return values
	}
	empty := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "'[]'::bytea, '[]'::bytea, '{}'::bytea"}[v.dialect]
	if empty == "" {
		empty = "'[]', '[]', '{}'"
	}
	exec("INSERT INTO webhook_endpoint (id, tenant, version, deleted, url, types, secrets, settings) VALUES " + rows(1000, func(i int) string {
		return fmt.Sprintf("('ep%05d', 't%d', %d, FALSE, 'http://x', %s)", i, i%100, i+1, empty)
	}))
	exec("INSERT INTO webhook_endpoint_state (endpoint_id, version, doc, hold_reason) VALUES " + rows(1000, func(i int) string {
		return fmt.Sprintf("('ep%05d', %d, '{}', '')", i, i+1)
	}))
	exec("UPDATE webhook_endpoint_version SET version = 1000")
	for part := range 10 {
		exec("INSERT INTO webhook_dedupe (scope, dkey, token, state, digest, expires_at) VALUES " + rows(1000, func(i int) string {
			return fmt.Sprintf("('s', 'k%09d', 1, 0, '', %d)", part*1000+i, at(1e9).UnixMicro()+int64(i))
		}))
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if v.dialect == sqlstore.PostgreSQL {
		if _, err := db.Exec("ANALYZE"); err != nil {
			t.Fatal(err)
		}
	}
}
