package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

const migrators = 8

// migratePart migrates the database named in the environment once the starting file exists.
func migratePart() error {
	dialect, err := strconv.Atoi(os.Getenv("DBTEST_DIALECT"))
	if err != nil {
		return err
	}
	db, err := sql.Open(os.Getenv("DBTEST_DRIVER"), os.Getenv("DBTEST_DSN"))
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := sqlstore.New(db, sqlstore.Dialect(dialect), nil)
	if err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(os.Getenv("DBTEST_START")); err == nil {
			break
		}
	}
	return s.Migrate(context.Background())
}

// TestEightProcessesMigrateAtOnce: one schema, no error.
func TestEightProcessesMigrateAtOnce(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		start := t.TempDir() + "/start"
		var cmds []*exec.Cmd
		outputs := make([]bytes.Buffer, migrators)
		for i := range migrators {
			cmd := helper(t, "migrate", "DBTEST_DIALECT="+strconv.Itoa(int(v.dialect)), "DBTEST_DRIVER="+v.driver,
				"DBTEST_DSN="+d.DSN, "DBTEST_START="+start)
			cmd.Stdout, cmd.Stderr = &outputs[i], &outputs[i]
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			cmds = append(cmds, cmd)
		}
		if err := os.WriteFile(start, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for i, cmd := range cmds {
			if err := cmd.Wait(); err != nil {
				t.Errorf("process %d: %v\n%s", i, err, &outputs[i])
			}
		}
		s, db := v.handle(t, d)
		migrate(t, s) // nothing left to do
		var versions, rows int
		if err := db.QueryRow("SELECT COUNT(*) FROM webhook_migration").Scan(&versions); err != nil || versions == 0 {
			t.Errorf("%d versions recorded, %v", versions, err)
		}
		if err := db.QueryRow("SELECT COUNT(*) FROM webhook_endpoint_version").Scan(&rows); err != nil || rows != 2 {
			t.Errorf("%d rows of versions, want 2, %v", rows, err)
		}
		put(t, s, webhook.Endpoint{ID: "a", URL: "http://x"})
	})
}

// TestTwoPrefixesShareADatabase also covers a prefix that is not the default.
func TestTwoPrefixesShareADatabase(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		_, db := v.handle(t, v.database(t))
		for i := range 2 {
			s, err := sqlstore.New(db, v.dialect, &sqlstore.Options{Prefix: fmt.Sprintf("p%d_", i)})
			if err != nil {
				t.Fatal(err)
			}
			migrate(t, s)
			put(t, s, webhook.Endpoint{ID: "a", URL: fmt.Sprint("http://", i)})
			begin(t, s, at(0), "s", "k")
			if ch := changes(t, s, 0); len(ch.Put) != 1 || ch.Put[0].URL != fmt.Sprint("http://", i) {
				t.Errorf("prefix %d: %+v", i, ch)
			}
		}
	})
}

func TestPostgresSchema(t *testing.T) {
	v := mainVariants[1]
	_, db := v.handle(t, v.database(t))
	s, err := sqlstore.New(db, v.dialect, &sqlstore.Options{Schema: "Hooks"})
	if err != nil {
		t.Fatal(err)
	}
	migrate(t, s)
	put(t, s, webhook.Endpoint{ID: "a", URL: "http://x"})
	wantStatus(t, "a new key", begin(t, s, at(0), "s", "k"), webhook.KeyTaken)
	var n int
	if err := db.QueryRow(`SELECT count(*) FROM "Hooks".webhook_endpoint`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d endpoints in the schema, %v", n, err)
	}
}
