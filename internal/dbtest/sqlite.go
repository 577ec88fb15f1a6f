package dbtest

import (
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite" // driver "sqlite"
)

// SQLite returns a database in a new file, removed when the test ends. Several handles may be opened on it.
func SQLite(t testing.TB) DB {
	t.Helper()
	return SQLiteFile(filepath.Join(t.TempDir(), "webhook.db"))
}

// SQLiteFile is the database in a given file, with the settings that sqlstore asks for: write-ahead log, every commit
// synced, waiting for the one writer instead of failing, and transactions that take the write lock at their beginning.
func SQLiteFile(path string) DB {
	dsn := "file:" + filepath.ToSlash(path) +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"
	return DB{Name: path, Driver: "sqlite", DSN: dsn}
}
