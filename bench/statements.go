package main

import "strings"

// statementSettings load pg_stat_statements. Planning is tracked too: it is much of what a short statement costs.
var statementSettings = []string{
	"shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_planning=on", "pg_stat_statements.max=1000",
}

func (c *contest) tellsStatements(e *entry) bool {
	return c.statements != nil && e.be != nil && e.be.server != nil
}

// resetStatements begins to count what statements cost, where that was asked for.
func (c *contest) resetStatements(e *entry) error {
	if !c.tellsStatements(e) {
		return nil
	}
	if _, err := e.be.db.Exec("CREATE EXTENSION IF NOT EXISTS pg_stat_statements"); err != nil {
		return err
	}
	_, err := e.be.db.Exec("SELECT pg_stat_statements_reset()")
	return err
}

const statementsQuery = `
SELECT query, calls, total_plan_time, total_exec_time, rows, wal_bytes::float8
FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query NOT LIKE '%pg_stat_statements%'
ORDER BY total_plan_time + total_exec_time DESC LIMIT 25`

// readStatements adds what they cost since, the dearest first. Times are in µs.
func (c *contest) readStatements(e *entry) error {
	if !c.tellsStatements(e) {
		return nil
	}
	rows, err := e.be.db.Query(statementsQuery)
	if err != nil {
		return err
	}
	defer rows.Close()
	each := float64(c.n)
	for rows.Next() {
		var text string
		var calls, planned, executed, returned, wal float64 // times in ms
		if err := rows.Scan(&text, &calls, &planned, &executed, &returned, &wal); err != nil {
			return err
		}
		row := statementName(text)
		c.statements.add(row, "calls", calls/each)
		c.statements.add(row, "plan µs", planned*1000/each)
		c.statements.add(row, "exec µs", executed*1000/each)
		c.statements.add(row, "exec µs a call", executed*1000/calls)
		c.statements.add(row, "rows", returned/each)
		c.statements.add(row, "WAL bytes", wal/each)
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
