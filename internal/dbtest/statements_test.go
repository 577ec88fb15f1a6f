package dbtest

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// TestStatementsPerDelivery counts what deliveries cost a database: they share statements and transactions, on SQLite, which no statement
// travels to, transactions.
func TestStatementsPerDelivery(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		db, rec := record(t, v.driver, v.database(t).DSN)
		db.SetMaxOpenConns(8)
		db.SetMaxIdleConns(8)
		s, err := sqlstore.New(db, v.dialect, nil)
		if err != nil {
			t.Fatal(err)
		}
		migrate(t, s)
		var came atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { came.Add(1) }))
		t.Cleanup(server.Close)
		opts := &webhook.DispatcherOptions{AllowPrivate: true, Logger: slog.New(slog.DiscardHandler)}
		for i := range 4 {
			opts.Endpoints = append(opts.Endpoints, webhook.Endpoint{ID: fmt.Sprint("ep", i), URL: server.URL, Secrets: []webhook.Secret{webhook.GenerateSecret()}})
		}
		d, err := webhook.NewDispatcher(s, opts)
		if err != nil {
			t.Fatal(err)
		}
		events := make([]webhook.Event, 250)
		for i := range events {
			events[i] = webhook.Event{Type: "x", Payload: make([]byte, 1<<10)}
		}
		// What a process asks once, about endpoints and the clock, is asked now.
		if _, err := d.Send(t.Context(), events[0]); err != nil {
			t.Fatal(err)
		}
		count := func(what string, statements, transactions int, fn func()) {
			t.Helper()
			rec.take()
			fn()
			txs := rec.transactions()
			n := len(rec.take())
			t.Logf("%s: %d statements, %d transactions", what, n, txs)
			if n > statements && v.dialect != sqlstore.SQLite || txs > transactions {
				t.Errorf("%s: %d statements in %d transactions, want at most %d in %d", what, n, txs, statements, transactions)
			}
		}
		count("a send to four", 5, 1, func() {
			if _, err := d.Send(t.Context(), events[0]); err != nil {
				t.Fatal(err)
			}
		})
		const batches = 4
		const between = 6 // questions about endpoints, which a slow machine asks again meanwhile
		count("250 sends together", 6*batches+between, batches+between, func() {
			for range batches {
				if _, err := d.SendBatch(t.Context(), events); err != nil {
					t.Fatal(err)
				}
			}
		})
		// Batches are as large as what comes together, which a slow machine makes smaller: one for each would be 4,000 and more.
		deliveries := 4 * (2 + batches*len(events))
		count(fmt.Sprint(deliveries, " deliveries"), deliveries/4, deliveries/10, func() {
			startRun(t, d)
			waitFor(t, time.Minute, "all", func() bool { return int(came.Load()) >= deliveries })
		})
	})
}
