package dbtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"
	"strings"
	"sync"
	"testing"
)

// recorder stands between database/sql and a driver and keeps what is sent, so that tests explain the very statements that
// a store runs.
type recorder struct {
	driver.Connector

	commit func(tx driver.Tx) error // instead of the driver's, if set; set before use
	before func(text string)        // a statement without rows is run; likewise

	mu   sync.Mutex
	sent []statement
	txs  int // begun, and statements outside of any
}

// statement is a text with its arguments.
type statement struct {
	text string
	args []any
}

// record opens the database through a recorder, with one connection.
func record(t testing.TB, driverName, dsn string) (*sql.DB, *recorder) {
	t.Helper()
	plain := open(t, driverName, dsn)
	var connector driver.Connector = dsnConnector{dsn, plain.Driver()}
	if dc, ok := plain.Driver().(driver.DriverContext); ok {
		var err error
		if connector, err = dc.OpenConnector(dsn); err != nil {
			t.Fatal(err)
		}
	}
	r := &recorder{Connector: connector}
	db := sql.OpenDB(r)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db, r
}

type dsnConnector struct {
	dsn    string
	driver driver.Driver
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }

func (r *recorder) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &recordedConn{Conn: c, r: r}, nil
}

func (c *recordedConn) add(text string, named []driver.NamedValue) {
	r := c.r
	args := make([]any, len(named))
	for i, arg := range named {
		args[i] = arg.Value
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, statement{text, args})
	word, _, _ := strings.Cut(text, " ")
	if !c.inTx {
		r.txs++
	}
	switch word { // SQLite's own transactions are statements
	case "BEGIN":
		c.inTx = true
	case "COMMIT", "ROLLBACK":
		c.inTx = false
	}
}

// take returns what was sent since the last call.
func (r *recorder) take() []statement {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := slices.Clone(r.sent)
	r.sent, r.txs = nil, 0
	return sent
}

// transactions is how many there were since take.
func (r *recorder) transactions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.txs
}

type recordedConn struct {
	driver.Conn
	r    *recorder
	inTx bool // used by one goroutine at a time, as all of a connection
}

func (c *recordedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.add(query, args)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *recordedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.r.before != nil {
		c.r.before(query)
	}
	c.add(query, args)
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *recordedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	st, err := c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	return &recordedStmt{st, query, c}, err
}

func (c *recordedConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.r.mu.Lock()
	c.r.txs++
	c.r.mu.Unlock()
	c.inTx = true
	return recordedTx{tx, c}, nil
}

type recordedTx struct {
	driver.Tx
	c *recordedConn
}

func (tx recordedTx) Commit() error {
	tx.c.inTx = false
	if tx.c.r.commit != nil {
		return tx.c.r.commit(tx.Tx)
	}
	return tx.Tx.Commit()
}

func (tx recordedTx) Rollback() error {
	tx.c.inTx = false
	return tx.Tx.Rollback()
}

func (c *recordedConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.Conn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type recordedStmt struct {
	driver.Stmt
	text string
	c    *recordedConn
}

func (s *recordedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	s.c.add(s.text, args)
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

func (s *recordedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.c.add(s.text, args)
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}
