package dbtest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/pgxwebhook"
)

// BenchmarkSendTx commits transactions with one event each, from one goroutine and from 16, on a server that syncs each commit: through database/sql,
// natively, and with hints, sent with the commit or after it by a Notifier. One operation is one transaction.
func BenchmarkSendTx(b *testing.B) {
	h := newHinted(b, Start(b, PostgreSQL, &Options{Durable: true}), nil)
	go func() {
		for range h.arrived {
		}
	}()
	go func() {
		for range h.wakes {
		}
	}()
	pool := pgxPool(b, h.d.DSN, pgx.QueryExecModeCacheStatement)
	db := h.d.Open(b)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	notifier, err := pgxwebhook.NewNotifier(h.store, h.pool, nil)
	if err != nil {
		b.Fatal(err)
	}
	h.background(b, notifier.Run)
	ctx := context.Background()
	native := func(enqueuer func(pgx.Tx) *pgxwebhook.Enqueuer, after func()) func() error {
		return func() error {
			tx, err := pool.Begin(ctx)
			if err != nil {
				return err
			}
			defer tx.Rollback(ctx)
			if _, err := h.hooks.SendTx(ctx, enqueuer(tx), webhook.Event{Type: "x"}); err != nil {
				return err
			}
			err = tx.Commit(ctx)
			after()
			return err
		}
	}
	plain := func(tx pgx.Tx) *pgxwebhook.Enqueuer { return pgxwebhook.Tx(h.store, tx) }
	hint := func(tx pgx.Tx) *pgxwebhook.Enqueuer { return pgxwebhook.NotifyTx(h.store, tx) }
	nothing := func() {}
	for _, way := range []struct {
		name string
		send func() error
	}{
		{"database-sql", func() error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := h.hooks.SendTx(ctx, h.store.Tx(tx), webhook.Event{Type: "x"}); err != nil {
				return err
			}
			return tx.Commit()
		}},
		{"pgx", native(plain, nothing)},
		{"NotifyTx", native(hint, nothing)},
		{"Notifier", native(plain, notifier.Notify)},
	} {
		for _, workers := range []int{1, 16} {
			b.Run(way.name+map[int]string{1: "/one", 16: "/sixteen"}[workers], func(b *testing.B) {
				began := time.Now()
				var left atomic.Int64
				left.Store(int64(b.N))
				var wg sync.WaitGroup
				for range workers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							if err := way.send(); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "tx/s")
			})
		}
	}
}
