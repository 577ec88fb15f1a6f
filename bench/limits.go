package main

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// limitBatches are the sizes of batches for SQL alone, and limitClients how many connections do them.
var limitBatches = []int{100, 500, 2000}

const limitClients = 2

// measureLimits measures what nothing here can beat: requests without a store, SQL without requests, the disk.
func measureLimits(o *options) ([]*table, error) {
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	server, err := startPostgres()
	if err != nil {
		return nil, err
	}
	defer server.stop()
	db, err := server.database("limits")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	c := &contest{n: o.n, receiver: r, table: newTable(fmt.Sprintf("Requests without a store: %d, %d rounds", o.n, o.rounds))}
	statements := newTable(fmt.Sprintf("PostgreSQL without requests: rows of 1 KiB a second, %d connections", limitClients))
	tables := []*table{c.table, statements}
	for range o.rounds {
		if _, err := c.raw(o); err != nil {
			return tables, err
		}
		if _, err := rawLimit(r, c.table, wireRow, r.url+"/0", c.n, o.rawSenders, postWire); err != nil {
			return tables, err
		}
		c.table.add(wireRow, drainRawColumn, c.table.last(wireRow, drainColumn)/c.table.last(rawRow, drainColumn))
		if err := c.rawSlow(); err != nil {
			return tables, err
		}
		for _, size := range limitBatches {
			if err := limitSQL(db, server, statements, o.n, size); err != nil {
				return tables, err
			}
		}
		if err := server.addSync(statements); err != nil {
			return tables, err
		}
	}
	return tables, nil
}

const limitTables = `
DROP TABLE IF EXISTS limits;
CREATE TABLE limits (id bigserial PRIMARY KEY, body bytea NOT NULL, state smallint NOT NULL DEFAULT 0);
CREATE INDEX limits_waiting ON limits (id) WHERE state < 2`

// limitSQL inserts, claims and completes n rows in batches.
func limitSQL(db *sql.DB, server *pgServer, t *table, n, size int) error {
	if _, err := db.Exec(limitTables); err != nil {
		return err
	}
	row := fmt.Sprintf("batches of %d", size)
	bodies := make([][]byte, size)
	for i := range bodies {
		bodies[i] = makePayload(i)
	}
	batches := (n + size - 1) / size
	began, used := time.Now(), server.cpu()
	err := sendMany(0, batches, limitClients, func(int) error {
		_, err := db.Exec("INSERT INTO limits (body) SELECT unnest($1::bytea[])", bodies)
		return err
	})
	if err != nil {
		return err
	}
	each := float64(batches * size)
	t.add(row, "insert/s", each/time.Since(began).Seconds())
	t.add(row, "insert, database CPU s/1000", (server.cpu()-used).Seconds()/each*1000)
	began, used = time.Now(), server.cpu()
	var done atomic.Int64
	err = sendMany(0, batches, limitClients, func(int) error {
		n, err := claimAndComplete(db, size)
		done.Add(int64(n))
		return err
	})
	if err == nil && done.Load() != int64(batches*size) {
		err = fmt.Errorf("claimed %d rows of %d", done.Load(), batches*size)
	}
	t.add(row, "claim+complete/s", each/time.Since(began).Seconds())
	t.add(row, "claim+complete, database CPU s/1000", (server.cpu()-used).Seconds()/each*1000)
	return err
}

func claimAndComplete(db *sql.DB, size int) (n int, err error) {
	rows, err := db.Query(`UPDATE limits SET state = 1 WHERE id = ANY(ARRAY(
		SELECT id FROM limits WHERE state = 0 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING id, body`, size)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var id int64
		var body sql.RawBytes
		if err := rows.Scan(&id, &body); err != nil {
			return 0, err
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	_, err = db.Exec("UPDATE limits SET state = 2 WHERE id = ANY($1)", ids)
	return len(ids), err
}

const syncColumn = "fdatasync/s"

// addSync adds what pg_test_fsync says of fdatasync on the server's disk: the most commits a second that are not grouped.
func (p *pgServer) addSync(t *table) error {
	rate, err := p.syncRate()
	if err == nil && rate > 0 {
		t.add("pg_test_fsync", syncColumn, rate)
	}
	return err
}

// syncRate is 0 when pg_test_fsync is not installed. It is ended as soon as it has said what counts: its other tests take 15 s.
func (p *pgServer) syncRate() (rate float64, err error) {
	program := filepath.Join(p.bin, "pg_test_fsync")
	if _, err := os.Stat(program); err != nil {
		return 0, nil
	}
	cmd := p.command(program, "-s", "1", "-f", filepath.Join(p.dir, "sync"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	limit := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer limit.Stop()
	lines := bufio.NewScanner(out)
	for rate == 0 && lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) > 2 && f[0] == "fdatasync" {
			if rate, err = strconv.ParseFloat(f[1], 64); err != nil {
				break
			}
		}
	}
	// TERM lets it remove its file.
	err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM))
	cmd.Wait()
	if err == nil && rate == 0 {
		err = errors.New("pg_test_fsync says nothing of fdatasync")
	}
	return rate, err
}
