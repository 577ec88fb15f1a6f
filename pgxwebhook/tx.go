// Package pgxwebhook is for services that talk to PostgreSQL through pgx itself: it enqueues within a native [pgx.Tx], and hints to other
// processes over LISTEN and NOTIFY that there is something to send, which brings their latency from a poll down to some milliseconds.
//
//	store, err := sqlstore.New(stdlib.OpenDBFromPool(pool), sqlstore.PostgreSQL, nil)
//	hooks, err := webhook.NewDispatcher(store, nil)
//
//	tx, err := pool.Begin(ctx)
//	_, err = tx.Exec(ctx, `INSERT INTO orders …`)
//	_, err = hooks.SendTx(ctx, pgxwebhook.NotifyTx(store, tx), webhook.Event{Type: "order_create", Payload: body})
//	err = tx.Commit(ctx)
//
// and in the processes that deliver, beside Run:
//
//	err = pgxwebhook.Listen(ctx, pool.Config().ConnConfig, store, hooks.Wake, nil)
//
// Hints are never needed: what is lost with them comes a poll later ([webhook.DispatcherOptions].Poll).
//
// # Poolers
//
// The store and all of this but [Listen] work behind PgBouncer in transaction mode. The connections of the store's pool must not keep prepared
// statements then, unless PgBouncer does (1.21 with max_prepared_statements): set DefaultQueryExecMode to [pgx.QueryExecModeExec], or
// default_query_exec_mode=exec in the DSN. Listen needs a connection to the server itself.
package pgxwebhook

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// Enqueuer writes events within a transaction: see [Tx]. Use it as the transaction, by one goroutine at a time.
type Enqueuer struct {
	store   *sqlstore.Store
	tx      pgx.Tx
	channel string // of the hint; "": none
}

var _ webhook.Enqueuer = (*Enqueuer)(nil)

// Tx is [sqlstore.Store.Tx] for a transaction of pgx, of a connection, a pool or nested in another: its events are sent if and only
// if tx commits. It never commits or rolls back tx, and works in every query mode and isolation level. All that is said there holds: after an
// error roll tx back, to its savepoint where it is a nested one, and leases are refused.
//
// tx must be of the database that holds the tables of store, which is one on PostgreSQL. store's own connections are not used.
func Tx(store *sqlstore.Store, tx pgx.Tx) *Enqueuer { return &Enqueuer{store: store, tx: tx} }

// NotifyTx is [Tx] that sends the hint as well, with the commit: whoever listens ([Listen]) looks for work at once. It costs a round trip, and
// PostgreSQL commits transactions that notify one after the other, each waiting for the other's flush to disk: with 16 at once, a fifth of
// the commits a second that there are without (BenchmarkSendTx in internal/dbtest). Where hundreds commit a second, use Tx and a [Notifier] after
// the commit.
func NotifyTx(store *sqlstore.Store, tx pgx.Tx) *Enqueuer {
	return &Enqueuer{store: store, tx: tx, channel: channelOf(store)}
}

// Enqueue is [webhook.Enqueuer.Enqueue].
func (e *Enqueuer) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	var res *webhook.EnqueueResult
	err := e.within(func(tx *sqlstore.Tx) (err error) {
		res, err = tx.Enqueue(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	if e.channel != "" && isWork(req, res) {
		if err := notify(ctx, e.tx, e.channel); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// Now is [sqlstore.Tx.Now].
func (e *Enqueuer) Now(ctx context.Context) (now time.Time, err error) {
	err = e.within(func(tx *sqlstore.Tx) (err error) {
		now, err = tx.Now(ctx)
		return err
	})
	return now, err
}

// EndpointChanges is [sqlstore.Tx.EndpointChanges].
func (e *Enqueuer) EndpointChanges(ctx context.Context, since int64) (changes *webhook.EndpointChanges, err error) {
	err = e.within(func(tx *sqlstore.Tx) (err error) {
		changes, err = tx.EndpointChanges(ctx, since)
		return err
	})
	return changes, err
}

// isWork reports whether something was stored that others may send now.
func isWork(req *webhook.EnqueueRequest, res *webhook.EnqueueResult) bool {
	for i, ev := range req.Events {
		if i < len(res.Events) && res.Events[i] != webhook.Stored {
			continue
		}
		for _, d := range ev.Deliveries {
			if d.Lease == 0 && !d.DueAt.After(req.Now) {
				return true
			}
		}
	}
	return false
}
