package dbtest

import (
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/signalpost/webhook/sqlstore"
)

// variant is a database, a driver and its settings.
type variant struct {
	name    string
	dialect sqlstore.Dialect
	driver  string
	params  []string
}

// mainVariants is each database once.
var mainVariants = []variant{
	{"sqlite", sqlstore.SQLite, "sqlite", nil},
	{"postgres", sqlstore.PostgreSQL, "pgx", nil},
	{"mariadb", sqlstore.MySQL, "mysql", nil},
}

// allVariants is every way of talking to each database that changes how arguments and results travel.
var allVariants = append(mainVariants[:len(mainVariants):len(mainVariants)],
	variant{"pgx-cache-describe", sqlstore.PostgreSQL, "pgx", []string{"default_query_exec_mode=cache_describe"}},
	variant{"pgx-describe-exec", sqlstore.PostgreSQL, "pgx", []string{"default_query_exec_mode=describe_exec"}},
	variant{"pgx-exec", sqlstore.PostgreSQL, "pgx", []string{"default_query_exec_mode=exec"}},
	variant{"pgx-simple", sqlstore.PostgreSQL, "pgx", []string{"default_query_exec_mode=simple_protocol"}},
	variant{"pq", sqlstore.PostgreSQL, "postgres", nil},
	variant{"pq-binary", sqlstore.PostgreSQL, "postgres", []string{"binary_parameters=yes"}},
	variant{"mariadb-found-rows", sqlstore.MySQL, "mysql", []string{"clientFoundRows=true"}},
	variant{"mariadb-prepared", sqlstore.MySQL, "mysql", []string{"interpolateParams=false", "parseTime=false"}},
)

// database makes a fresh database for the variant, or skips.
func (v variant) database(t testing.TB) DB {
	t.Helper()
	switch v.dialect {
	case sqlstore.PostgreSQL:
		return Postgres(t).NewDB(t)
	case sqlstore.MySQL:
		return MariaDB(t).NewDB(t)
	}
	return SQLite(t)
}

// pool opens a pool of connections of its own on the database.
func (v variant) pool(t testing.TB, d DB) *sql.DB {
	t.Helper()
	db := d.OpenWith(t, v.driver, v.params...)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	return db
}

// handle opens a Store of its own on the database.
func (v variant) handle(t testing.TB, d DB) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db := v.pool(t, d)
	s, err := sqlstore.New(db, v.dialect, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, db
}

// open makes a fresh database with the tables, and two handles on it.
func (v variant) open(t testing.TB) (a, b *sqlstore.Store) {
	t.Helper()
	d := v.database(t)
	a, _ = v.handle(t, d)
	b, _ = v.handle(t, d)
	migrate(t, a)
	return a, b
}

func migrate(t testing.TB, s *sqlstore.Store) {
	t.Helper()
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// each runs fn for each variant.
func each(t *testing.T, variants []variant, fn func(t *testing.T, v variant)) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) { fn(t, v) })
	}
}

// eachAtOnce is each with all variants side by side: for what mostly waits, for other processes or for time to pass.
func eachAtOnce(t *testing.T, variants []variant, fn func(t *testing.T, v variant)) {
	each(t, variants, func(t *testing.T, v variant) {
		t.Parallel()
		fn(t, v)
	})
}

// at is the tests' clock: an instant with microseconds.
func at(d time.Duration) time.Time {
	return time.Date(2030, 1, 2, 3, 4, 5, 678901000, time.UTC).Add(d)
}

// together calls fn n times at once and waits for all.
func together(n int, fn func(i int)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	wg.Wait()
}
