// Package dbtest gives tests real database servers: private PostgreSQL and MariaDB servers that live no longer than the test
// binary, with a fresh database a test, and SQLite files.
//
// A server is looked for in this order: WEBHOOK_TEST_POSTGRES_DSN or WEBHOOK_TEST_MYSQL_DSN (a server that runs already);
// WEBHOOK_PG_BIN (the folder of initdb and postgres); PATH; Debian's folders. When none is found the test is skipped, or
// fails where WEBHOOK_REQUIRE_DB=1 is set, as in CI.
//
// The package links four drivers, which is why it is a module of its own.
package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	_ "github.com/lib/pq"              // driver "postgres"
)

// Kind is a family of database servers.
type Kind string

// The kinds of servers.
const (
	PostgreSQL Kind = "postgresql"
	MySQL      Kind = "mysql" // MariaDB, or MySQL by WEBHOOK_TEST_MYSQL_DSN
)

// Options of [Start]. The zero value is a fast server that forgets everything in a power cut.
type Options struct {
	// Durable keeps the data on disk and has every commit synced, for tests that kill the server.
	Durable bool
}

// Server is a database server. Its methods may be called by several goroutines, except Stop, Kill and Start.
type Server struct {
	kind  Kind
	admin string   // DSN of a database to connect to for CREATE DATABASE
	proc  *process // nil: it runs already and is not ours
}

// DB is a fresh database of one test.
type DB struct {
	Name   string
	Driver string // "pgx" or "mysql", for sql.Open; "postgres" (lib/pq) takes the same DSN as "pgx"
	DSN    string
}

var (
	sharedPostgres shared
	sharedMySQL    shared
)

type shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Postgres returns the PostgreSQL server of this test binary. The first call starts it.
func Postgres(t testing.TB) *Server {
	t.Helper()
	return sharedPostgres.get(t, PostgreSQL)
}

// MariaDB returns the MariaDB (or MySQL) server of this test binary. The first call starts it.
func MariaDB(t testing.TB) *Server {
	t.Helper()
	return sharedMySQL.get(t, MySQL)
}

func (s *shared) get(t testing.TB, kind Kind) *Server {
	t.Helper()
	s.once.Do(func() {
		if dsn := os.Getenv(dsnVariable(kind)); dsn != "" {
			s.server = &Server{kind: kind, admin: dsn}
			return
		}
		s.server, s.err = start(kind, Options{})
	})
	if s.err != nil {
		unavailable(t, s.err)
	}
	return s.server
}

// Start starts a server of the test's own, to be stopped and killed. It is gone when the test ends.
func Start(t testing.TB, kind Kind, opts *Options) *Server {
	t.Helper()
	var o Options
	if opts != nil {
		o = *opts
	}
	s, err := start(kind, o)
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(s.remove)
	return s
}

func dsnVariable(kind Kind) string {
	if kind == PostgreSQL {
		return "WEBHOOK_TEST_POSTGRES_DSN"
	}
	return "WEBHOOK_TEST_MYSQL_DSN"
}

// unavailable ends the test: a server that is not installed skips it, unless databases are required; one that does not
// start always fails it.
func unavailable(t testing.TB, err error) {
	t.Helper()
	if _, missing := err.(*missingError); missing && os.Getenv("WEBHOOK_REQUIRE_DB") != "1" {
		t.Skip(err.Error())
	}
	t.Fatal(err)
}

// missingError says which server is not installed and how to get it.
type missingError struct {
	what, dsn, pkg string
}

func (e *missingError) Error() string {
	return fmt.Sprintf("dbtest: no %s found: set %s, or install it with: apt-get install -y --no-install-recommends %s",
		e.what, e.dsn, e.pkg)
}

// NewDB creates an empty database, dropped when the test ends.
func (s *Server) NewDB(t testing.TB) DB {
	t.Helper()
	return s.create(t, "")
}

// copyDB creates a copy of a database to which nobody is connected: PostgreSQL only.
func (s *Server) copyDB(t testing.TB, from DB) DB {
	t.Helper()
	return s.create(t, " TEMPLATE "+from.Name)
}

func (s *Server) create(t testing.TB, suffix string) DB {
	t.Helper()
	var b [8]byte
	rand.Read(b[:])
	name := "webhook_" + hex.EncodeToString(b[:])
	if err := s.exec("CREATE DATABASE " + name + suffix); err != nil {
		t.Fatalf("dbtest: create a database: %v", err)
	}
	t.Cleanup(func() {
		drop := "DROP DATABASE " + name
		if s.kind == PostgreSQL {
			drop += " WITH (FORCE)"
		}
		_ = s.exec(drop) // the server may have been killed by the test
	})
	return DB{Name: name, Driver: s.driver(), DSN: s.dsn(name)}
}

// Open opens the database and closes it when the test ends, before it is dropped.
func (d DB) Open(t testing.TB) *sql.DB {
	t.Helper()
	return open(t, d.Driver, d.DSN)
}

// OpenWith opens the database with another driver or further DSN parameters, each "key=value".
func (d DB) OpenWith(t testing.TB, driver string, params ...string) *sql.DB {
	t.Helper()
	dsn := d.DSN
	for _, p := range params {
		dsn = WithParam(dsn, p)
	}
	return open(t, driver, dsn)
}

func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatalf("dbtest: open: %v", err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// WithParam adds "key=value" to a DSN of any of the drivers. The value must need no quoting.
func WithParam(dsn, param string) string {
	switch {
	case strings.HasPrefix(dsn, "postgres://"), strings.HasPrefix(dsn, "postgresql://"),
		strings.HasPrefix(dsn, "file:"), strings.Contains(dsn, ")/"):
		if strings.Contains(dsn, "?") {
			return dsn + "&" + param
		}
		return dsn + "?" + param
	}
	return dsn + " " + param // PostgreSQL's key=value form
}

func (s *Server) driver() string {
	if s.kind == PostgreSQL {
		return "pgx"
	}
	return "mysql"
}

// dsn is the admin DSN with another database.
func (s *Server) dsn(name string) string {
	if s.kind == MySQL {
		cfg, err := mysql.ParseDSN(s.admin)
		if err != nil {
			return s.admin
		}
		cfg.DBName = name
		return cfg.FormatDSN()
	}
	if u, err := url.Parse(s.admin); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		u.Path = "/" + name
		return u.String()
	}
	return s.admin + " dbname=" + name
}

func (s *Server) exec(statement string) error {
	db, err := sql.Open(s.driver(), s.admin)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// Owned reports whether the server is ours to stop and kill.
func (s *Server) Owned() bool { return s.proc != nil }
