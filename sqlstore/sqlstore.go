// Package sqlstore keeps webhooks in the database that a service already has: SQLite, PostgreSQL, or MySQL 8 and MariaDB.
// It works over any [database/sql] driver and imports none.
//
//	db, err := sql.Open("pgx", dsn)
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
//	err = store.Migrate(ctx)
//
// A [Store] is a [webhook.Store] with all its siblings. [Store.Tx] sends within the caller's own transaction.
//
// # What it keeps
//
// An event is written once. A delivery has a record, rewritten at its end only, and while it is unfinished a
// narrow row in the queue. Attempts are appended, except the one that ends a delivery, which its record has room for. Times are microseconds since the Unix epoch, in UTC, so that no driver, session
// time zone or rounding matters. The tables are described where they are made, in migrations.
//
// # What the database must offer
//
// PostgreSQL 12, MySQL 8.0.1, MariaDB 10.6 or SQLite 3.35, or later. On PostgreSQL and MySQL the store's own transactions are READ COMMITTED;
// MySQL servers with a binary log need binlog_format MIXED or ROW for that. A SQLite database is put in WAL mode and must not be
// on a network file system; one in memory needs db.SetMaxOpenConns(1). SQLite has one writer at a time: a transaction of the caller's
// that has written holds up every send and claim until it ends, and an application that writes besides should open the file with
// a busy timeout.
//
// Text that a database cannot keep exactly (a NUL, invalid UTF-8, more than 255 bytes in an ID or key) is refused before
// anything is written, on all databases alike. In what is said in words ([webhook.Outcome].Reason and the like) it is replaced
// instead, so that an outcome can always be recorded.
package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// Dialect is the kind of database.
type Dialect int8

// The dialects. MySQL is MariaDB's too.
const (
	SQLite Dialect = 1 + iota
	PostgreSQL
	MySQL
)

// String is the dialect's name.
func (d Dialect) String() string {
	switch d {
	case SQLite:
		return "SQLite"
	case PostgreSQL:
		return "PostgreSQL"
	case MySQL:
		return "MySQL"
	}
	return "Dialect(" + strconv.Itoa(int(d)) + ")"
}

// Options are the optional arguments of [New].
type Options struct {
	// Prefix of all tables and indexes: lower-case letters, digits and underscores, at most 30. "" is "webhook_".
	Prefix string

	// Schema of all tables, PostgreSQL only: letters, digits and underscores, at most 63. "" leaves it to the search path.
	// Migrate creates it.
	Schema string

	// Cipher seals what is secret of endpoints before it goes to the database: Secrets, Retiring, Header, Auth, TLS, Proxy and URL, of which
	// the table then shows scheme and host alone. Events, their headers and payloads, recorded answers, tenants and types are not sealed. Nil: nothing is. What was stored
	// before is read as it is, and sealed when it is next put, or by [Store.Reseal]. Every process on the tables needs one that opens what the others seal.
	Cipher webhook.Cipher

	// SealedOnly refuses endpoints that are not sealed ([webhook.ErrNotSealed]), so that nobody who can write to the database can slip in a
	// secret, a credential or a URL of their own. Tenant, types and settings are not protected. Set it when Reseal is through. It needs a Cipher.
	SealedOnly bool
}

// Store keeps everything in one SQL database. Any number of goroutines, processes and Stores may use the same
// tables at once. It has nothing to close, and no goroutine outlives the calls that it serves: db stays the caller's.
type Store struct {
	db      *sql.DB
	dialect Dialect
	name    string // prefix of names that take no schema: indexes
	schema  string
	fill    *strings.Replacer
	sql     statements
	sealer  sealer

	writer  chan struct{} // SQLite: holds a token while a goroutine of this Store writes
	crowded crowding      // SQLite: whether others claim too

	keySQL           keyStatements
	begins, finishes gatherer // of idempotency keys
}

// String names the database, as "sqlstore on PostgreSQL".
func (s *Store) String() string { return "sqlstore on " + s.dialect.String() }

// Format shows String for every verb: fmt would show what the pool and the cipher hold, a password in the DSN for one.
func (s *Store) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

var (
	_ webhook.Store     = (*Store)(nil)
	_ webhook.HoldStore = (*Store)(nil)
)

var (
	prefixPattern = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,29}$`)
	schemaPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
)

// New makes a Store over db. It does not talk to the database. opts may be nil.
func New(db *sql.DB, dialect Dialect, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Prefix == "" {
		o.Prefix = "webhook_"
	}
	switch {
	case db == nil:
		return nil, optionError("db", "is nil")
	case dialect < SQLite || dialect > MySQL:
		return nil, optionError("dialect", "is "+dialect.String()+", want SQLite, PostgreSQL or MySQL")
	case !prefixPattern.MatchString(o.Prefix):
		return nil, optionError("Prefix", fmt.Sprintf("is %q, want at most 30 lower-case letters, digits and underscores", o.Prefix))
	case o.SealedOnly && o.Cipher == nil:
		return nil, optionError("SealedOnly", "needs a Cipher")
	case o.Schema != "" && dialect != PostgreSQL:
		return nil, optionError("Schema", "is for PostgreSQL only")
	case o.Schema != "" && !schemaPattern.MatchString(o.Schema):
		return nil, optionError("Schema", fmt.Sprintf("is %q, want letters, digits and underscores", o.Schema))
	}
	s := &Store{db: db, dialect: dialect, name: o.Prefix, schema: o.Schema, writer: make(chan struct{}, 1)}
	s.sealer = sealer{cipher: o.Cipher, only: o.SealedOnly}
	table := o.Prefix
	if o.Schema != "" {
		table = `"` + o.Schema + `".` + o.Prefix
	}
	s.fill = strings.NewReplacer("{prefix}", table, "{name}", o.Prefix)
	s.sql = statementsOf(dialect).filled(s.fill)
	s.gatherKeys()
	return s, nil
}

// Tables is what the names of the store's tables begin with: the prefix, after the schema and a full stop where Options.Schema is set. It tells
// stores in one database apart.
func (s *Store) Tables() string {
	if s.schema == "" {
		return s.name
	}
	return s.schema + "." + s.name
}

func optionError(field, reason string) error {
	return &webhook.FieldError{Op: "sqlstore", Field: field, Reason: reason}
}

// Now is the database server's clock, on SQLite this process's.
func (s *Store) Now(ctx context.Context) (time.Time, error) { return s.now(ctx, s.db) }

func (s *Store) now(ctx context.Context, q querier) (time.Time, error) {
	if s.dialect == SQLite {
		if err := ctx.Err(); err != nil {
			return time.Time{}, fmt.Errorf("webhook: sqlstore: now: %w", err)
		}
		return floor(time.Now()), nil
	}
	var us int64
	if err := q.QueryRowContext(ctx, s.sql.now).Scan(&us); err != nil {
		return time.Time{}, fmt.Errorf("webhook: sqlstore: now: %w", err)
	}
	return fromMicros(us), nil
}

// query makes a statement out of one that reads the same in all dialects: {prefix} is the tables', each ? a parameter.
func (s *Store) query(text string) string {
	text = s.fill.Replace(text)
	if s.dialect != PostgreSQL {
		return text
	}
	var b strings.Builder
	n := 0
	for i := range len(text) {
		if text[i] != '?' {
			b.WriteByte(text[i])
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}

// micros is t for the database: microseconds since the Unix epoch, rounded down.
func micros(t time.Time) int64 { return t.UnixMicro() }

// fromMicros is the way back.
func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

// optMicros and fromOptMicros keep the zero time as NULL.
func optMicros(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: micros(t), Valid: true}
}

func fromOptMicros(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return fromMicros(us.Int64)
}

// floor is t as it would come back from the database.
func floor(t time.Time) time.Time { return fromMicros(micros(t)) }
