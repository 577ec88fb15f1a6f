package sqlstore

import (
	"archive/zip"
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations
var migrations embed.FS

// migrationLockWait is how long a process waits for another one's migration on MySQL.
const migrationLockWait = 10 * time.Minute

// Migrate brings the tables up to this version of the package, or leaves them when they are as new or newer: an older
// binary goes on working on a newer schema. Any number of processes may call it at once; one does the
// work while the others wait. It needs the right to create tables; where the service has not, run the files of [Store.Migrations].
//
// On SQLite it also sets the file to WAL mode.
func (s *Store) Migrate(ctx context.Context) error {
	steps, err := s.migrationSteps()
	if err == nil {
		switch s.dialect {
		case SQLite:
			err = s.migrateSQLite(ctx, steps)
		case PostgreSQL:
			err = s.migratePostgres(ctx, steps)
		default:
			err = s.migrateMySQL(ctx, steps)
		}
	}
	if err != nil {
		return fmt.Errorf("webhook: sqlstore: migrate: %w", err)
	}
	return nil
}

// Migrations are the files that Migrate runs, with this Store's prefix and schema filled in, named 0001_init.sql and so on, for
// services that run migrations with a tool of their own. Statements end with a semicolon at the end of a line. Migrate
// recognises what such a tool has done by its table of versions only, so use one of the two, not both.
func (s *Store) Migrations() (fs.FS, error) {
	steps, err := s.migrationSteps()
	if err != nil {
		return nil, err
	}
	// A zip archive in memory is the standard library's read-only file system over made-up files.
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	for _, step := range steps {
		f, err := w.Create(step.name)
		if err != nil {
			return nil, err
		}
		if _, err := f.Write([]byte(step.text)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return zip.NewReader(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
}

// migrationStep is one file.
type migrationStep struct {
	version int
	name    string
	text    string
}

func (s *Store) migrationSteps() ([]migrationStep, error) {
	dir := "migrations/" + map[Dialect]string{SQLite: "sqlite", PostgreSQL: "postgres", MySQL: "mysql"}[s.dialect]
	entries, err := migrations.ReadDir(dir) // in order of name
	if err != nil {
		return nil, err
	}
	var steps []migrationStep
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		}
		text, err := migrations.ReadFile(path.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		steps = append(steps, migrationStep{version, entry.Name(), s.fill.Replace(string(text))})
	}
	return steps, nil
}

// run executes those of the steps that the database has not seen.
func (s *Store) runMigrations(ctx context.Context, q querier, steps []migrationStep) error {
	create := `CREATE TABLE IF NOT EXISTS {prefix}migration (version INTEGER PRIMARY KEY, applied_at BIGINT NOT NULL)`
	if _, err := q.ExecContext(ctx, s.query(create)); err != nil {
		return err
	}
	var current sql.NullInt64
	if err := q.QueryRowContext(ctx, s.query(`SELECT MAX(version) FROM {prefix}migration`)).Scan(&current); err != nil {
		return err
	}
	for _, step := range steps {
		if int64(step.version) <= current.Int64 {
			continue
		}
		for statement := range strings.SplitSeq(step.text, ";\n") {
			if strings.TrimSpace(statement) == "" {
				continue
			}
			if _, err := q.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
		}
		insert := `INSERT INTO {prefix}migration (version, applied_at) VALUES (?, ?)`
		if _, err := q.ExecContext(ctx, s.query(insert), step.version, micros(time.Now())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) migratePostgres(ctx context.Context, steps []migrationStep) error {
	return s.write(ctx, func(ctx context.Context, q querier) error {
		if _, err := q.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext($1))`, "webhook migrate "+s.schema+"."+s.name); err != nil {
			return err
		}
		if s.schema != "" {
			var exists bool
			look := `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)`
			if err := q.QueryRowContext(ctx, look, s.schema).Scan(&exists); err != nil {
				return err
			}
			if !exists {
				if _, err := q.ExecContext(ctx, `CREATE SCHEMA "`+s.schema+`"`); err != nil {
					return err
				}
			}
		}
		return s.runMigrations(ctx, q, steps)
	})
}

// migrateMySQL holds a named lock of the server instead of a transaction, because MySQL commits at every CREATE TABLE.
func (s *Store) migrateMySQL(ctx context.Context, steps []migrationStep) (err error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Names of locks belong to the whole server and have at most 64 characters.
	const lock = `CONCAT('webhook:', MD5(CONCAT(DATABASE(), '.', ?)))`
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, `SELECT GET_LOCK(`+lock+`, ?)`, s.name, int(migrationLockWait.Seconds())).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("another process has been migrating for " + migrationLockWait.String())
	}
	defer func() {
		var released sql.NullInt64
		unlock := conn.QueryRowContext(context.WithoutCancel(ctx), `SELECT RELEASE_LOCK(`+lock+`)`, s.name)
		err = errors.Join(err, unlock.Scan(&released))
	}()
	return s.runMigrations(ctx, conn, steps)
}

func (s *Store) migrateSQLite(ctx context.Context, steps []migrationStep) error {
	// The mode cannot be changed within a transaction, and with another process at it the change fails instead of waiting.
	if err := s.retry(ctx, s.setWAL); err != nil {
		return err
	}
	return s.write(ctx, func(ctx context.Context, q querier) error { return s.runMigrations(ctx, q, steps) })
}

func (s *Store) setWAL(ctx context.Context) error {
	var mode string
	if err := s.db.QueryRowContext(ctx, `PRAGMA journal_mode = WAL`).Scan(&mode); err != nil {
		return err
	}
	switch mode {
	case "wal":
		return nil
	case "memory":
		if s.db.Stats().MaxOpenConnections == 1 {
			return nil
		}
		return errors.New("the database is in memory, where every connection may have its own: use a file, or db.SetMaxOpenConns(1)")
	}
	return fmt.Errorf("journal_mode is %q, want wal", mode)
}
