package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// HandleTxOptions configure [Store.HandleTx]. The zero value is right for most.
type HandleTxOptions struct {
	// Receive says how requests are taken in, as [webhook.ReceiveOnce] says.
	Receive webhook.ReceiveOptions

	// Isolation of the transaction. [sql.LevelDefault]: READ COMMITTED. SQLite has one level, and it is ignored there. At the levels above,
	// a conflict with another transaction fails the request with 503, and the sender comes again.
	Isolation sql.IsolationLevel

	// Response is what is answered once the transaction is committed, and to repeats. A Status of zero: 200. It must be 200 to 299.
	Response webhook.StoredResponse
}

// HandleTx verifies requests and runs handle once for each idempotency key, within a transaction of the database that has the store's
// tables. handle writes through tx what the event asks for; it must neither commit nor roll back. When it returns nil, its writes and the
// key are committed together, and then answered with 200: a crash at any point leaves both or neither. When it returns
// an error or panics, both are rolled back and the answer is 500, so that the sender comes again ([webhook.RetryAfter] tells it when). A repeat is
// answered from the record, with [webhook.ReplayedHeader].
//
// A second request with the same key waits for the first, for ReceiveOptions.Wait, and is then answered 409. What the database asks to try
// again is tried again before handle has run, and never after. When the connection breaks at the commit nobody knows what became
// of it; the answer is 503, and the sender's next try finds the key done, or not. A client that hangs up changes nothing. ctx ends after
// ReceiveOptions.HandlerTimeout (30 s), and the transaction with it.
//
// Each request that is being handled has a connection for itself: handle must not wait for a second one of the same pool. On SQLite it has the only write lock
// as well, so other writes of the process wait for it: what handle wants to send, it sends with [webhook.Dispatcher.SendTx] and [Store.Tx].
//
// What is wrong with the arguments is told as [webhook.Middleware] does. opts may be nil and is copied.
func (s *Store) HandleTx(
	v *webhook.Verifier, handle func(ctx context.Context, tx *sql.Tx, ev webhook.Event) error, opts *HandleTxOptions,
) http.Handler {
	var o HandleTxOptions
	if opts != nil {
		o = *opts
	}
	if handle == nil {
		return webhook.ReceiveOnce(v, nil, o.Response, &o.Receive)
	}
	isolation := o.Isolation
	switch {
	case s.dialect == SQLite:
		isolation = sql.LevelDefault
	case isolation == sql.LevelDefault:
		isolation = sql.LevelReadCommitted
	}
	return webhook.ReceiveOnce(v, &onceTx{s: s, handle: handle, isolation: isolation}, o.Response, &o.Receive)
}

// onceTx is a [webhook.OnceStore].
type onceTx struct {
	s         *Store
	handle    func(ctx context.Context, tx *sql.Tx, ev webhook.Event) error
	isolation sql.IsolationLevel
}

// holdMargin is added to the handler's time limit to make the hold of a key, which nobody sees before the commit ends it.
const holdMargin = time.Minute

// Now is [Store.Now].
func (o *onceTx) Now(ctx context.Context) (time.Time, error) { return o.s.Now(ctx) }

// Once is [webhook.OnceStore.Once].
func (o *onceTx) Once(ctx context.Context, req *webhook.OnceRequest) (res *webhook.OnceResult, err error) {
	if err := checkKey(req.Scope, req.Key.ID); err != nil {
		return nil, err
	}
	leave, err := o.s.queueToWrite(ctx)
	if err != nil {
		return nil, keyError("once", req.Scope, req.Key.ID, err)
	}
	defer leave()
	var after error // what went wrong once the handler had run: not to be tried again
	err = o.s.retry(ctx, func(ctx context.Context) (err error) {
		var ran bool
		res, ran, err = o.once(ctx, req)
		if ran {
			after, err = err, nil
		}
		return err
	})
	if err = cmp.Or(err, after); err != nil {
		return nil, keyError("once", req.Scope, req.Key.ID, o.s.doubtful(err))
	}
	return res, nil
}

// writerPatience is how long a request waits for its turn to write to a SQLite file, behind other writers of this process.
const writerPatience = 5 * time.Second

var errWriterBusy = errors.New("the database is busy with other writes of this process")

// queueToWrite waits for the turn to write, on SQLite. leave ends it.
func (s *Store) queueToWrite(ctx context.Context) (leave func(), err error) {
	if s.dialect != SQLite {
		return func() {}, nil
	}
	timer := time.NewTimer(writerPatience)
	defer timer.Stop()
	select {
	case s.writer <- struct{}{}:
		return func() { <-s.writer }, nil
	case <-timer.C:
		return nil, errWriterBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// once is one transaction. ran says that the handler has run.
func (o *onceTx) once(ctx context.Context, req *webhook.OnceRequest) (res *webhook.OnceResult, ran bool, err error) {
	tx, err := o.s.db.BeginTx(ctx, &sql.TxOptions{Isolation: o.isolation})
	if err != nil {
		return nil, false, err
	}
	defer tx.Rollback() // does nothing after the commit
	res = &webhook.OnceResult{}
	token, err := o.take(ctx, tx, req, res)
	if err != nil || res.Status != webhook.KeyTaken {
		return res, false, err
	}
	// The record is written before the handler runs: nobody sees it before the commit, and after the handler nothing is left to
	// fail but that.
	if err := o.record(ctx, tx, req, token); err != nil {
		return nil, false, err
	}
	if err := o.handle(ctx, tx, req.Event); err != nil {
		if rolledBack := rollbackError(tx.Rollback()); rolledBack != nil {
			err = fmt.Errorf("%w (rollback: %w)", err, rolledBack)
		}
		res.Failed = err
		return res, true, nil
	}
	if err := o.intact(ctx, tx, req, token); err != nil {
		return nil, true, err
	}
	return res, true, tx.Commit()
}

var errRolledBack = errors.New("the database has rolled the transaction back while the handler ran, as after a deadlock, and the handler went on")

// intact finds out whether a transaction is what it was. MySQL ends it after a deadlock, and runs what comes then each by itself.
func (o *onceTx) intact(ctx context.Context, tx *sql.Tx, req *webhook.OnceRequest, token int64) error {
	if o.s.dialect != MySQL {
		return nil
	}
	row, err := o.s.readKey(ctx, tx, req.Scope, req.Key.ID)
	if errors.Is(err, sql.ErrNoRows) || err == nil && (row.token != token || row.state != keyDone) {
		return errRolledBack
	}
	return err
}

// take takes the key. A transaction that has it, and is not over when the wait is, makes it a key that is running.
func (o *onceTx) take(ctx context.Context, tx *sql.Tx, req *webhook.OnceRequest, res *webhook.OnceResult) (token int64, err error) {
	begin := &webhook.BeginRequest{
		Now: req.Now, Scope: req.Scope, Key: req.Key.ID, Digest: req.Key.Digest, Hold: req.Limit + holdMargin,
	}
	limited, cancel := context.WithTimeout(ctx, req.Wait)
	defer cancel()
	found, err := o.s.begin(limited, tx, begin)
	switch {
	case err == nil:
		res.BeginResult = *found
		return found.Token, nil
	case o.s.dialect == SQLite: // it has no lock on a row: whatever stands in the way may be anything
	case limited.Err() != nil && ctx.Err() == nil, lockTimeout(err):
		res.Status = webhook.KeyRunning
		return 0, nil
	}
	return 0, err
}

// lockTimeout tells that the database would not wait longer for a row that another transaction has.
func lockTimeout(err error) bool {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState() == "55P03"
	}
	return strings.Contains(err.Error(), "Error 1205") // MySQL
}

func (o *onceTx) record(ctx context.Context, tx *sql.Tx, req *webhook.OnceRequest, token int64) error {
	header, err := encodeKeyHeader(req.Response.Header)
	if err != nil {
		return err
	}
	return o.s.finish(ctx, tx, &finishArgs{
		scope: req.Scope, key: req.Key.ID, token: token, now: micros(req.Now), until: micros(req.Now.Add(req.Keep)),
		status: req.Response.Status, header: header, body: notNil(req.Response.Body),
	})
}
