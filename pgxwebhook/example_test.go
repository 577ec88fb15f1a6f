package pgxwebhook_test

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/pgxwebhook"
	"github.com/signalpost/webhook/sqlstore"
)

// The order and its event commit together, and whoever delivers hears of it with the commit.
func ExampleNotifyTx() {
	order := func(ctx context.Context, pool *pgxpool.Pool, store *sqlstore.Store, hooks *webhook.Dispatcher, body []byte) error {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		if _, err := tx.Exec(ctx, `INSERT INTO orders (body) VALUES ($1)`, body); err != nil {
			return err
		}
		if _, err := hooks.SendTx(ctx, pgxwebhook.NotifyTx(store, tx), webhook.Event{Type: "order_create", Payload: body}); err != nil {
			return err
		}
		return tx.Commit(ctx)
	}
	_ = order
}

// A process that delivers runs this beside its dispatcher's Run.
func ExampleListen() {
	deliver := func(ctx context.Context, dsn string, store *sqlstore.Store, hooks *webhook.Dispatcher) error {
		config, err := pgx.ParseConfig(dsn) // of the server itself, not of a pooler
		if err != nil {
			return err
		}
		go pgxwebhook.Listen(ctx, config, store, hooks.Wake, nil)
		return hooks.Run(ctx)
	}
	_ = deliver
}

// A process that only sends, and much: one hint for all that commits within 5 ms.
func ExampleNotifier() {
	start := func(ctx context.Context, pool *pgxpool.Pool, store *sqlstore.Store) (*webhook.Dispatcher, error) {
		notifier, err := pgxwebhook.NewNotifier(store, pool, nil)
		if err != nil {
			return nil, err
		}
		go notifier.Run(ctx)
		return webhook.NewDispatcher(notifier.Store(), nil)
	}
	_ = start
}
