package dbtest

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalpost/webhook/sqlstore"
)

// ledger is what the tables say of the events of one prefix. It is read while no child runs, or when all is final.
type ledger struct {
	now        time.Time       // the store's
	events     map[string]int  // deliveries that each event says it has
	remembered map[string]bool // event IDs
	deliveries map[string]*row // by "event endpoint"
	queue      int             // rows, of all prefixes
}

// row is a delivery with its attempts.
type row struct {
	id         string
	state      string // of the record: the end, or what came before it
	attempts   int    // that count, by the record; 0 until the end
	queued     bool
	leaseUntil time.Time // zero: not leased
	tries      []try
}

// try is an attempt as it is recorded.
type try struct {
	status int
	err    string
	late   bool
}

// childDB is a test's own connection to the database of its children: one, so that the others can be counted.
type childDB struct {
	variant
	db    *sql.DB
	store *sqlstore.Store
	d     DB
}

// openChildDB opens a database with the tables in it.
func openChildDB(t *testing.T, v variant, d DB) *childDB {
	t.Helper()
	s, db := v.handle(t, d)
	db.SetMaxOpenConns(1)
	migrate(t, s)
	return &childDB{variant: v, db: db, store: s, d: d}
}

// config is a child's, on this database.
func (c *childDB) config() childConfig {
	return childConfig{Driver: c.driver, DSN: c.d.DSN, Dialect: c.dialect}
}

// alone waits until no process but this one is connected: then what a killed one had under way is committed or rolled back.
func (c *childDB) alone(t *testing.T) {
	t.Helper()
	query := map[sqlstore.Dialect]string{
		sqlstore.PostgreSQL: "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
		sqlstore.MySQL:      "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
		sqlstore.SQLite:     "SELECT 0", // its locks ended with the process
	}[c.dialect]
	waitFor(t, 20*time.Second, "the connections of a killed process to end", func() bool {
		var n int
		c.scan(t, query, &n)
		return n == 0
	})
}

func (c *childDB) scan(t *testing.T, query string, dest ...any) {
	t.Helper()
	if err := c.db.QueryRowContext(t.Context(), query).Scan(dest...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// waitFor asks again and again until ok.
func waitFor(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", limit, what)
		}
	}
}

// read reads the ledger of a prefix.
func (c *childDB) read(t *testing.T, prefix string) *ledger {
	t.Helper()
	l := &ledger{events: map[string]int{}, remembered: map[string]bool{}, deliveries: map[string]*row{}}
	var err error
	if l.now, err = c.store.Now(t.Context()); err != nil {
		t.Fatal(err)
	}
	// IDs are the prefix, a '-' and digits; '.' is the next character.
	of := func(column string) string {
		return fmt.Sprintf(" WHERE %s >= '%s-' AND %s < '%s.'", column, prefix, column, prefix)
	}
	each := func(query string, fn func(*sql.Rows) error) {
		t.Helper()
		if err := c.each(t, query, fn); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	each("SELECT id, deliveries FROM webhook_event"+of("id"), func(r *sql.Rows) error {
		var id string
		var n int
		err := r.Scan(&id, &n)
		l.events[id] = n
		return err
	})
	each("SELECT id FROM webhook_event_id"+of("id"), func(r *sql.Rows) error {
		var id string
		err := r.Scan(&id)
		l.remembered[id] = true
		return err
	})
	byID := map[string]*row{}
	each("SELECT id, event_id, endpoint_id, state, attempts FROM webhook_delivery"+of("event_id"), func(r *sql.Rows) error {
		d := &row{}
		var event, endpoint string
		err := r.Scan(&d.id, &event, &endpoint, &d.state, &d.attempts)
		byID[d.id], l.deliveries[event+" "+endpoint] = d, d
		return err
	})
	each("SELECT a.delivery_id, a.status, a.error, a.late, a.token FROM webhook_attempt a JOIN webhook_delivery d ON d.id = a.delivery_id"+
		of("d.event_id")+" UNION ALL SELECT id, status, error, FALSE, token FROM webhook_delivery"+of("event_id")+
		" AND token IS NOT NULL ORDER BY 1, 5", func(r *sql.Rows) error {
		var id string
		var a try
		var token int64
		err := r.Scan(&id, &a.status, &a.err, &a.late, &token)
		byID[id].tries = append(byID[id].tries, a)
		return err
	})
	until := "due_at"
	if c.dialect == sqlstore.PostgreSQL {
		until = "coalesce(leased_until, due_at)"
	}
	each("SELECT id, owner, "+until+" FROM webhook_queue", func(r *sql.Rows) error {
		var id string
		var owner sql.NullString
		var due int64
		err := r.Scan(&id, &owner, &due)
		l.queue++
		if d := byID[id]; d != nil {
			d.queued = true
			if owner.Valid {
				d.leaseUntil = time.UnixMicro(due)
			}
		}
		return err
	})
	return l
}

func (c *childDB) each(t *testing.T, query string, fn func(*sql.Rows) error) error {
	rows, err := c.db.QueryContext(t.Context(), query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// queued is how many deliveries are unfinished, and how many of those with the given IDs.
func (c *childDB) queued(t *testing.T, ids map[string]bool) (all, some int) {
	t.Helper()
	if err := c.each(t, "SELECT id FROM webhook_queue", func(r *sql.Rows) error {
		var id string
		err := r.Scan(&id)
		all++
		if ids[id] {
			some++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all, some
}

// leased are the IDs of the deliveries that are leased.
func (l *ledger) leased() map[string]bool {
	ids := map[string]bool{}
	for _, d := range l.deliveries {
		if !d.leaseUntil.IsZero() {
			ids[d.id] = true
		}
	}
	return ids
}

// unrecorded is, by delivery, how many of the requests received have no attempt that was answered or timed out.
func (l *ledger) unrecorded(received map[string]int) map[string]int {
	lost := map[string]int{}
	for key, n := range received {
		if d := l.deliveries[key]; d != nil {
			n -= len(d.tries)
		}
		if n > 0 {
			lost[key] = n
		}
	}
	return lost
}

// whole tells of events that are there in part.
func (l *ledger) whole(endpoints int) (faults []string) {
	parts := map[string]int{}
	for key, d := range l.deliveries {
		id, _, _ := strings.Cut(key, " ")
		parts[id]++
		if final := isFinal(d.state); final == d.queued {
			faults = append(faults, fmt.Sprintf("torn: delivery %s is %q, in the queue: %t", key, d.state, d.queued))
		}
	}
	for id, n := range l.events {
		if n != endpoints || parts[id] != n || !l.remembered[id] {
			faults = append(faults, fmt.Sprintf("torn: event %s says %d deliveries, has %d, want %d; its ID is remembered: %t",
				id, n, parts[id], endpoints, l.remembered[id]))
		}
		delete(parts, id)
		delete(l.remembered, id)
	}
	for id := range parts {
		faults = append(faults, fmt.Sprintf("torn: event %s has deliveries and no record", id))
	}
	for id := range l.remembered {
		faults = append(faults, fmt.Sprintf("torn: event %s is remembered and has no record", id))
	}
	slices.Sort(faults)
	return faults
}

func isFinal(state string) bool {
	return state == "delivered" || state == "dead_letter" || state == "canceled" || state == "expired"
}

// delivered tells of events that are lost or not delivered to each endpoint.
func (l *ledger) delivered(events []string, endpoints int) (faults []string) {
	for _, id := range events {
		for i := range endpoints {
			key := id + " " + childEndpoint(i)
			switch d := l.deliveries[key]; {
			case d == nil:
				faults = append(faults, "lost: no delivery of "+key)
			case d.state != "delivered":
				faults = append(faults, fmt.Sprintf("stuck: delivery of %s is %q", key, d.state))
			}
		}
	}
	return faults
}

// repeats counts requests beyond the first of each delivery, and tells of those that nothing explains: neither a request
// that a kill kept from being recorded, nor an attempt that is recorded as failed or late.
func (l *ledger) repeats(received, lost map[string]int) (n int, faults []string) {
	for key, got := range received {
		d := l.deliveries[key]
		if d == nil {
			faults = append(faults, "unexpected: a request for "+key+", which is not stored")
			continue
		}
		n += got - 1
		explained := lost[key]
		for _, a := range d.tries {
			if a.late || a.status != 200 {
				explained++
			}
		}
		if got-1 > explained {
			faults = append(faults, fmt.Sprintf("repeated: %s was sent %d times, %d of them explained", key, got, 1+explained))
		}
	}
	return n, faults
}
