package main

import "strings"

// statementSettings load pg_stat_statements. Planning is tracked too: it is much of what a short statement costs.
var statementSettings = []string{
	"shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_planning=on", "pg_stat_statements.max=1000",
}

// resetStatements begins to count what statements cost. On other databases than PostgreSQL it does nothing.
func (be *backend) resetStatements() error {
	if be.server == nil {
		return nil
	}
	if _, err := be.db.Exec("CREATE EXTENSION IF NOT EXISTS pg_stat_statements"); err != nil {
		return err
	}
	_, err := be.db.Exec("SELECT pg_stat_statements_reset()")
	return err
}

const statementsQuery = `
SELECT query, calls, total_plan_time, total_exec_time, rows, wal_bytes::float8, shared_blks_hit, shared_blks_read
FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query NOT LIKE '%pg_stat_statements%'
ORDER BY total_plan_time + total_exec_time DESC LIMIT 25`

// readStatements adds what they cost since, the dearest first, for each of n deliveries. Times are in µs, blocks are of 8 KB. Columns begin
// with prefix.
func (be *backend) readStatements(t *table, prefix string, n int) error {
	if be.server == nil {
		return nil
	}
	rows, err := be.db.Query(statementsQuery)
	if err != nil {
		return err
	}
	defer rows.Close()
	each := float64(n)
	for rows.Next() {
		var text string
		var calls, planned, executed, returned, wal, hit, read float64 // times in ms
		if err := rows.Scan(&text, &calls, &planned, &executed, &returned, &wal, &hit, &read); err != nil {
			return err
		}
		row := statementName(text)
		t.add(row, prefix+"calls", calls/each)
		t.add(row, prefix+"plan µs", planned*1000/each)
		t.add(row, prefix+"exec µs", executed*1000/each)
		t.add(row, prefix+"exec µs a call", executed*1000/calls)
		t.add(row, prefix+"rows", returned/each)
		t.add(row, prefix+"WAL bytes", wal/each)
		t.add(row, prefix+"blocks looked at", (hit+read)/each)
		t.add(row, prefix+"blocks fetched", read/each)
	}
	return rows.Err()
}

// statementName is the statement on one line, cut where a table cell would get too wide.
func statementName(text string) string {
	const most = 160
	r := []rune(strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", "¦"))
	if len(r) > most {
		r = append(r[:most], '…')
	}
	return "`" + string(r) + "`"
}
