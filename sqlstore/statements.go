package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// statements are the texts of one dialect that differ between dialects or are worth reading as a whole. Each dialect's file has
// its own. {prefix} stands for the tables' prefix, {name} for that of indexes. {list} is (?,?,…), and the parentheses after
// VALUES are repeated for each row: both are MySQL's and SQLite's only, PostgreSQL takes arrays.
type statements struct {
	now string

	// enqueue
	insertAll          string // PostgreSQL: events and deliveries whose event ID is new
	insertAllExpiring  string // the same where some of them expire
	insertAllUnmatched string // the same where some of the events have no deliveries
	insertUnordered    string // the same where none expires or has an ordering key
	insertEventID      string
	insertEvent        string
	insertDelivery     string
	insertQueue        string
	bumpTail           string
	readTail           string
	digests            string

	// lanes and claim
	lanes      string
	avoidScans string // PostgreSQL
	holds      string
	lockStates string
	addState   string
	setTAT     string
	pickEarly  string // SQLite
	pick       string // PostgreSQL: picks, checks, parks and leases; else: picks
	findBefore string
	lockBefore string
	park       string
	keyRanges  string // locks parts of ordering keys, and reads each in its order
	lease      string
	events     string

	// complete
	complete       string // PostgreSQL: all that a held lease gets
	completeFailed string // PostgreSQL: the same where some ends otherwise than delivered
	deliver        string // the usual end. PostgreSQL: all of it; else: the record's part
	own            string
	end            string
	endLikely      string // SQLite: ends what is most likely so
	block          string
	again          string
	finish         string
	addAttempt     string
	addLate        string
	findParked     string // MySQL, SQLite
	unpark         string
	seenAttempts   string
	seenDelivery   string
	extend         string

	// states
	hold       string
	unhold     string
	readStates string
	putState   string // PostgreSQL: many; MySQL: many; SQLite: one
}

func statementsOf(d Dialect) statements {
	switch d {
	case PostgreSQL:
		return postgresStatements
	case MySQL:
		return mysqlStatements
	}
	return sqliteStatements
}

// filled is st with the tables' names in place.
func (st statements) filled(fill *strings.Replacer) statements {
	for _, text := range []*string{
		&st.now, &st.insertAll, &st.insertAllExpiring, &st.insertAllUnmatched, &st.insertUnordered, &st.insertEventID, &st.insertEvent, &st.insertDelivery, &st.insertQueue, &st.bumpTail, &st.readTail,
		&st.digests, &st.lanes, &st.avoidScans, &st.holds, &st.lockStates, &st.addState, &st.setTAT, &st.pickEarly, &st.pick, &st.findBefore, &st.lockBefore,
		&st.park, &st.keyRanges, &st.lease, &st.events, &st.complete, &st.completeFailed, &st.deliver, &st.own, &st.end, &st.endLikely, &st.block, &st.again, &st.finish,
		&st.addAttempt, &st.addLate, &st.findParked, &st.unpark, &st.seenAttempts, &st.seenDelivery, &st.extend, &st.hold, &st.unhold,
		&st.readStates, &st.putState,
	} {
		*text = fill.Replace(*text)
	}
	return st
}

// withList puts n parameters where {list} stands.
func withList(text string, n int) string {
	return strings.Replace(text, "{list}", "(?"+strings.Repeat(",?", n-1)+")", 1)
}

// withRows repeats the parentheses after VALUES for n rows.
func withRows(text string, n int) string {
	start := strings.Index(text, "VALUES (") + len("VALUES ")
	end := start + strings.IndexByte(text[start:], ')') + 1
	return text[:end] + strings.Repeat(", "+text[start:end], n-1) + text[end:]
}

// withAny repeats the parentheses after WHERE for n alternatives.
func withAny(text string, n int) string {
	start := strings.Index(text, "WHERE (") + len("WHERE ")
	end := start + strings.IndexByte(text[start:], ')') + 1
	return text[:end] + strings.Repeat(" OR "+text[start:end], n-1) + text[end:]
}

// selectByID runs a query over rows of the given IDs, so many at a time that every dialect takes them, and gives each row to read.
func (s *Store) selectByID(ctx context.Context, q querier, text string, ids []string, read func(*sql.Rows) error) error {
	for part := range slices.Chunk(ids, maxRows) {
		var rows *sql.Rows
		var err error
		if s.dialect == PostgreSQL {
			rows, err = q.QueryContext(ctx, text, textArray(part, self))
		} else {
			rows, err = q.QueryContext(ctx, withList(text, len(part)), anys(part)...)
		}
		if err == nil {
			err = eachRow(rows, read)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func self(s *string) string { return *s }

// anys are items as arguments.
func anys[T any](items []T) []any {
	args := make([]any, len(items))
	for i := range items {
		args[i] = items[i]
	}
	return args
}

// eachRow reads all rows and closes them.
func eachRow(rows *sql.Rows, read func(*sql.Rows) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := read(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// insertRows runs a multi-row INSERT for all items, so many at a time that every server takes them.
func insertRows[T any](ctx context.Context, q querier, text string, items []T, args func(*T) []any) error {
	for part := range slices.Chunk(items, maxRows) {
		var all []any
		for i := range part {
			all = append(all, args(&part[i])...)
		}
		if _, err := q.ExecContext(ctx, withRows(text, len(part)), all...); err != nil {
			return err
		}
	}
	return nil
}

// prepared runs one statement for each item, prepared once.
func prepared[T any](ctx context.Context, q querier, text string, items []T, args func(*T) []any) error {
	if len(items) == 0 {
		return nil
	}
	if len(items) == 1 {
		_, err := q.ExecContext(ctx, text, args(&items[0])...)
		return err
	}
	st, err := q.PrepareContext(ctx, text)
	if err != nil {
		return err
	}
	defer st.Close()
	for i := range items {
		if _, err := st.ExecContext(ctx, args(&items[i])...); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	return nil
}
