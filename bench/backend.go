package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	_ "github.com/go-sql-driver/mysql" // driver "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	_ "modernc.org/sqlite"             // driver "sqlite"

	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/sqlstore"
)

// backend is a store to be measured, and what its database can tell about itself.
type backend struct {
	name    string
	version string
	store   *counted
	db      *sql.DB // nil: no database
	dialect sqlstore.Dialect
	stop    func() error
	server  *pgServer // nil: none of ours, or no PostgreSQL
	gauges
}

// openBackends opens the stores named. settings are PostgreSQL's, as "name=value".
func openBackends(names string, settings ...string) (backends []*backend, stop func(), err error) {
	stop = func() {
		for _, be := range backends {
			if err := be.stop(); err != nil {
				slog.Warn("bench: stopping a store", slog.String("store", be.name), slog.Any("error", err))
			}
		}
	}
	open := map[string]func() (*backend, error){
		"memory": openMemory, "sqlite": openSQLite,
		"postgres": func() (*backend, error) { return openPostgres(settings...) },
		"mariadb":  openMariaDB,
	}
	for _, name := range splitNames(names) {
		if open[name] == nil {
			err = errors.New("-stores: it is none of memory, sqlite, postgres, mariadb")
		} else {
			var be *backend
			if be, err = open[name](); err == nil {
				backends = append(backends, be)
			}
		}
		if err != nil {
			stop()
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return backends, stop, nil
}

func openMemory() (*backend, error) {
	return &backend{name: "memory", store: &counted{fullStore: memstore.New()}, stop: func() error { return nil }}, nil
}

// prepare makes the tables and asks for the version.
func (be *backend) prepare(versionQuery string) (*backend, error) {
	store, err := sqlstore.New(be.db, be.dialect, nil)
	if err == nil {
		err = store.Migrate(context.Background())
	}
	if err == nil {
		err = be.db.QueryRow(versionQuery).Scan(&be.version)
	}
	if err != nil {
		return nil, errors.Join(err, be.stop())
	}
	be.store = &counted{fullStore: store}
	return be, nil
}

func openSQLite() (*backend, error) {
	dir, err := os.MkdirTemp("", "whbench")
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(dir, "webhook.db"))+
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	db.SetMaxIdleConns(idleConns)
	be := &backend{name: "SQLite", db: db, dialect: sqlstore.SQLite}
	be.stop = func() error { return errors.Join(db.Close(), os.RemoveAll(dir)) }
	return be.prepare("SELECT sqlite_version()")
}

// openPostgres has a server for itself.
func openPostgres(settings ...string) (*backend, error) {
	server, err := startPostgres(settings...)
	if err != nil {
		return nil, err
	}
	be, err := server.backend("webhook")
	if err != nil {
		return nil, errors.Join(err, server.stop())
	}
	closeDB := be.stop
	be.server, be.stop = server, func() error { return errors.Join(closeDB(), server.stop()) }
	return be, nil
}

func openMariaDB() (*backend, error) {
	server, db, err := startMariaDB()
	if err != nil {
		return nil, err
	}
	be := &backend{name: "MariaDB", db: db, dialect: sqlstore.MySQL, gauges: gauges{cpu: server.cpu}}
	be.stop = func() error { return errors.Join(db.Close(), server.stop()) }
	be.wal = func() (n int64, err error) {
		var name string
		err = db.QueryRow("SHOW GLOBAL STATUS LIKE 'Innodb_os_log_written'").Scan(&name, &n)
		return n, err
	}
	return be.prepare("SELECT VERSION()")
}
