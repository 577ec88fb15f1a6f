package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// querier is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// Tx sends within a transaction of the caller's: see [Store.Tx].
type Tx struct {
	store *Store
	tx    *sql.Tx
}

var _ webhook.Enqueuer = (*Tx)(nil)

// Tx is an Enqueuer that writes within tx, so that its events are sent if and only if tx commits. It never
// commits, rolls back or changes tx, and works at any isolation level. tx must be of the database that holds the store's tables.
//
// When Enqueue fails, roll tx back: PostgreSQL has already given it up. At REPEATABLE READ and SERIALIZABLE, a send to an ordering key
// that another transaction has sent to in the meantime fails with the database's serialization failure, as any
// write there would: run the transaction again. Two transactions that send to the same two ordering keys in different order can
// deadlock, and on MySQL so may several that wait for the very first send to a key when that one is rolled back; the database
// ends one of them.
//
// Leases are refused with [webhook.ErrLeaseInTx].
func (s *Store) Tx(tx *sql.Tx) *Tx { return &Tx{store: s, tx: tx} }

// Now is [Store.Now], asked within the transaction: a dispatcher that has not read the clock yet must not wait for a second
// connection, which a pool of one does not have.
func (t *Tx) Now(ctx context.Context) (time.Time, error) { return t.store.now(ctx, t.tx) }

// Retries of what the database asks to retry. A deadlock or a serialization failure passes at once or not at all; a busy SQLite file is
// only as patient as its driver was told to be, which may be not at all, while another process holds the write lock.
const (
	maxTries   = 8
	maxWait    = 10 * time.Second
	firstPause = 2 * time.Millisecond
	maxPause   = 100 * time.Millisecond
)

// retry calls fn until it succeeds, fails for good or has failed often enough.
func (s *Store) retry(ctx context.Context, fn func(context.Context) error) error {
	pause, begin := firstPause, time.Now()
	for try := 1; ; try++ {
		err := fn(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && !errors.Is(err, ctx.Err()): // drivers say it in words of their own
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case ctx.Err() != nil || !retryable(err):
			return err
		case time.Since(begin) >= maxWait, !busy(err) && try == maxTries:
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-timer.C:
		}
		pause = min(2*pause, maxPause)
	}
}

// write runs fn in a transaction of the store's own and commits it, again from the start when the database asks for that.
func (s *Store) write(ctx context.Context, fn func(context.Context, querier) error) error {
	return s.retry(ctx, func(ctx context.Context) error {
		if s.dialect == SQLite {
			return s.writeSQLite(ctx, fn)
		}
		tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			return err
		}
		if err := fn(ctx, tx); err != nil {
			return errors.Join(err, rollbackError(tx.Rollback()))
		}
		return tx.Commit()
	})
}

// rollbackError drops what a rollback says when the transaction is over already.
func rollbackError(err error) error {
	if errors.Is(err, sql.ErrTxDone) || errors.Is(err, driver.ErrBadConn) {
		return nil
	}
	return err
}

// writeSQLite takes the database's only write lock at the beginning (BEGIN IMMEDIATE): a transaction that reads first and writes
// then may fail with SQLITE_BUSY at once. Writers of this process queue for it in Go, because SQLite's own waiting is a sleep.
func (s *Store) writeSQLite(ctx context.Context, fn func(context.Context, querier) error) error {
	select {
	case s.writer <- struct{}{}:
		defer func() { <-s.writer }()
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	done := false
	defer func() {
		if !done {
			endSQLite(ctx, conn)
		}
	}()
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	// Statements run on a context that cannot end: a driver in the same process needs a goroutine a statement to watch one
	// that can, which costs as much as the statement. The transaction is short, and looks at ctx before it commits.
	within := context.WithoutCancel(ctx)
	if err := fn(within, conn); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := conn.ExecContext(within, "COMMIT"); err != nil {
		return err
	}
	done = true
	return nil
}

// endSQLite rolls back what may have begun: a connection must not go back to the pool within a transaction, whatever became of ctx.
func endSQLite(ctx context.Context, conn *sql.Conn) {
	_, err := conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	if err != nil && !strings.Contains(err.Error(), "no transaction") {
		conn.Raw(func(any) error { return driver.ErrBadConn }) // not to be used again
	}
}

// retryable tells what the database asks to try again from what failed for good, without knowing the driver.
func retryable(err error) bool {
	var state interface{ SQLState() string } // pgx, lib/pq
	if errors.As(err, &state) {
		switch state.SQLState() {
		case "40001", "40P01", "55P03":
			return true
		}
		return false
	}
	text := err.Error()
	return busy(err) ||
		strings.Contains(text, "Error 1213") || // MySQL: deadlock
		strings.Contains(text, "Error 1205") // MySQL: lock wait timeout
}

// busy tells that another connection to a SQLite file stands in the way.
func busy(err error) bool {
	text := err.Error()
	return strings.Contains(text, "SQLITE_BUSY") || strings.Contains(text, "database is locked") ||
		strings.Contains(text, "SQLITE_LOCKED") || strings.Contains(text, "database table is locked")
}

// staleSnapshot tells that a SQLite transaction has read what another one has changed since, and so can never write.
func staleSnapshot(err error) bool {
	return strings.Contains(err.Error(), "SQLITE_BUSY_SNAPSHOT") || strings.Contains(err.Error(), "(517)")
}

// duplicateKey tells that a statement was refused because of a row that exists: MySQL only.
func duplicateKey(err error) bool {
	return err != nil && strings.Contains(err.Error(), "Error 1062")
}
