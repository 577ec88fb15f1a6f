package main

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/signalpost/webhook/sqlstore"
)

// pgServer is a PostgreSQL server of our own, with any number of databases. All that is compared runs on one, so that it is
// set up alike.
type pgServer struct {
	*dbServer
	bin   string  // folder of its programs
	admin *sql.DB // to its first database, which holds nothing
}

// startPostgres starts a server. settings are added to its command line, as "name=value".
func startPostgres(settings ...string) (*pgServer, error) {
	program, err := findProgram("postgres", "/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return nil, err
	}
	s, err := newServer("postgres")
	if err != nil {
		return nil, err
	}
	data, bin := filepath.Join(s.dir, "data"), filepath.Dir(program)
	initdb := s.command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--locale=C", "-E", "UTF8")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w\n%s", err, out), s.stop())
	}
	args := []string{program, "-D", data}
	for _, setting := range append([]string{
		"listen_addresses=", "unix_socket_directories=" + s.dir, "max_connections=300",
		"shared_buffers=1GB", "max_wal_size=4GB", "dynamic_shared_memory_type=mmap",
		"fsync=on", "synchronous_commit=on", "full_page_writes=on",
	}, settings...) {
		args = append(args, "-c", setting)
	}
	p := &pgServer{dbServer: s, bin: bin}
	if p.admin, err = s.start("pgx", p.dsn("postgres"), args...); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return p, nil
}

func (p *pgServer) dsn(database string) string {
	return "host=" + p.dir + " user=postgres dbname=" + database + " sslmode=disable"
}

func (p *pgServer) stop() error { return errors.Join(p.admin.Close(), p.dbServer.stop()) }

// database makes one.
func (p *pgServer) database(name string) (*sql.DB, error) {
	if _, err := p.admin.Exec("CREATE DATABASE " + name); err != nil {
		return nil, err
	}
	db, err := sql.Open("pgx", p.dsn(name))
	if err == nil {
		db.SetMaxIdleConns(idleConns)
	}
	return db, err
}

// gauges of a database; flush ends its idle connections, since one tells its count when it has been idle for ten seconds, or ends.
func (p *pgServer) gauges(database string, flush func()) gauges {
	return gauges{
		cpu: p.cpu,
		wal: func() (n int64, err error) {
			err = p.admin.QueryRow("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").Scan(&n)
			return n, err
		},
		txs: func() (n int64, err error) {
			flush()
			err = p.admin.QueryRow("SELECT xact_commit FROM pg_stat_database WHERE datname = $1", database).Scan(&n)
			return n, err
		},
	}
}

// flushTime is enough for connections in use to be given back, and for those given back to end.
const flushTime = 200 * time.Millisecond

// flushIdle is the flush of a pool of database/sql.
func flushIdle(db *sql.DB, idle int) func() {
	return func() {
		db.SetMaxIdleConns(-1)
		time.Sleep(flushTime)
		db.SetMaxIdleConns(idle)
	}
}

// backend is our store on a database of its own; its stop leaves the server running.
func (p *pgServer) backend(database string) (*backend, error) {
	db, err := p.database(database)
	if err != nil {
		return nil, err
	}
	be := &backend{
		name: "PostgreSQL", db: db, dialect: sqlstore.PostgreSQL, server: p, stop: db.Close,
		gauges: p.gauges(database, flushIdle(db, idleConns)),
	}
	return be.prepare("SHOW server_version")
}
