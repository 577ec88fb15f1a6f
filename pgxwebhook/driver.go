package pgxwebhook

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signalpost/webhook/sqlstore"
)

// within runs fn in what sqlstore takes for a transaction of database/sql: a driver whose only connection is e.tx, which neither begins nor
// ends anything. So what is sent, and how, is sqlstore's alone. It is made anew each time because nobody would close it.
func (e *Enqueuer) within(fn func(tx *sqlstore.Tx) error) error {
	if e.store == nil || e.tx == nil {
		return errors.New("webhook: pgxwebhook: the store or the transaction is nil")
	}
	db := sql.OpenDB(connector{e.tx})
	defer db.Close()
	tx, err := db.BeginTx(context.Background(), nil) // fn's statements have contexts of their own
	if err != nil {
		return fmt.Errorf("webhook: pgxwebhook: %w", err)
	}
	defer tx.Rollback() // which ends nothing
	return fn(e.store.Tx(tx))
}

// connector gives connections that are all the one transaction.
type connector struct{ tx pgx.Tx }

func (c connector) Connect(context.Context) (driver.Conn, error) { return &conn{c.tx}, nil }
func (c connector) Driver() driver.Driver                        { return c }

// Open is what a driver has to have.
func (c connector) Open(string) (driver.Conn, error) { return &conn{c.tx}, nil }

// conn is a transaction of pgx as database/sql sees a connection.
type conn struct{ tx pgx.Tx }

var (
	_ driver.QueryerContext = (*conn)(nil)
	_ driver.ExecerContext  = (*conn)(nil)
	_ driver.ConnBeginTx    = (*conn)(nil)
)

func (c *conn) Close() error                                                 { return nil }
func (c *conn) Begin() (driver.Tx, error)                                    { return noTx{}, nil }
func (c *conn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return noTx{}, nil }

// Prepare is not needed: sqlstore prepares nothing on PostgreSQL.
func (c *conn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("webhook: pgxwebhook: statements are not prepared within a transaction")
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	tag, err := c.tx.Exec(ctx, query, values(args)...)
	return result{tag}, err
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	found, err := c.tx.Query(ctx, query, values(args)...)
	if err != nil {
		return nil, err
	}
	r := &rows{rows: found}
	if r.more = found.Next(); !r.more { // most errors come with the first row
		if err := found.Err(); err != nil {
			return nil, err
		}
	}
	for _, f := range found.FieldDescriptions() {
		r.columns = append(r.columns, f.Name)
		r.cells = append(r.cells, newCell(f.DataTypeOID))
	}
	return r, nil
}

func values(args []driver.NamedValue) []any {
	all := make([]any, len(args))
	for i := range args {
		all[i] = args[i].Value
	}
	return all
}

// noTx ends nothing: the transaction is the caller's.
type noTx struct{}

func (noTx) Commit() error   { return nil }
func (noTx) Rollback() error { return nil }

type result struct{ tag pgconn.CommandTag }

func (r result) RowsAffected() (int64, error) { return r.tag.RowsAffected(), nil }

func (r result) LastInsertId() (int64, error) {
	return 0, errors.New("webhook: pgxwebhook: PostgreSQL has no last insert ID")
}

// rows are rows of pgx as database/sql reads them.
type rows struct {
	rows    pgx.Rows
	columns []string
	cells   []any // where a row is scanned to
	more    bool  // the current row of rows has not been read
}

func (r *rows) Columns() []string { return r.columns }

func (r *rows) Close() error {
	r.rows.Close()
	return r.rows.Err()
}

func (r *rows) Next(dest []driver.Value) error {
	if !r.more {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	if err := r.rows.Scan(r.cells...); err != nil {
		return err
	}
	for i, cell := range r.cells {
		dest[i] = value(cell)
	}
	r.more = r.rows.Next()
	return nil
}

// newCell is what a column is scanned to: sqlstore's are these kinds. What an application has told the connection about types of its own does not
// matter then, as it would to Values.
func newCell(oid uint32) any {
	switch oid {
	case pgtype.BoolOID:
		return new(pgtype.Bool)
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
		return new(pgtype.Int8)
	case pgtype.ByteaOID:
		return new([]byte)
	}
	return new(pgtype.Text)
}

// value is a cell as drivers give it, nil for NULL.
func value(cell any) driver.Value {
	switch v := cell.(type) {
	case *pgtype.Bool:
		if v.Valid {
			return v.Bool
		}
	case *pgtype.Int8:
		if v.Valid {
			return v.Int64
		}
	case *pgtype.Text:
		if v.Valid {
			return v.String
		}
	case *[]byte:
		if *v != nil {
			return slices.Clone(*v)
		}
	}
	return nil
}
