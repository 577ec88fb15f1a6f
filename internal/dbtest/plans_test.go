package dbtest

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// meter tells how many rows of the tables the server reads while fn runs. On SQLite it cannot, and returns 0.
type meter struct {
	v  variant
	db *sql.DB // with one connection, as the counters are the session's
}

func (m meter) read(t *testing.T) (rows int) {
	t.Helper()
	switch m.v.dialect {
	case sqlstore.PostgreSQL:
		if _, err := m.db.Exec("SELECT pg_stat_force_next_flush()"); err != nil {
			if os.Getenv("WEBHOOK_REQUIRE_DB") == "1" {
				t.Fatal("rows cannot be counted before PostgreSQL 15:", err)
			}
			t.Skip("needs PostgreSQL 15 for its counters:", err)
		}
		// Entries read from indexes, dead ones included, and rows read by sequential scans.
		query := `SELECT coalesce((SELECT sum(idx_tup_read) FROM pg_stat_user_indexes), 0)
+ coalesce((SELECT sum(seq_tup_read) FROM pg_stat_user_tables), 0)`
		if err := m.db.QueryRow(query).Scan(&rows); err != nil {
			t.Fatal(err)
		}
	case sqlstore.MySQL:
		res, err := m.db.Query("SHOW SESSION STATUS LIKE 'Handler_read%'")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Close()
		for res.Next() {
			var name string
			var n int
			if err := res.Scan(&name, &n); err != nil {
				t.Fatal(err)
			}
			rows += n
		}
	}
	return rows
}

func (m meter) measure(t *testing.T, fn func()) (rows int) {
	t.Helper()
	m.read(t)
	before := m.read(t)
	fn()
	after := m.read(t)
	// MariaDB's counters count the reading of the counters.
	overhead := m.read(t) - after
	return after - before - overhead
}

// planVariants adds what decides on plans: PostgreSQL's prepared statements may use a plan made without looking at the arguments.
var planVariants = append(mainVariants[:len(mainVariants):len(mainVariants)],
	variant{"postgres-generic", sqlstore.PostgreSQL, "pgx", []string{"plan_cache_mode=force_generic_plan"}},
	variant{"pq-custom", sqlstore.PostgreSQL, "postgres", []string{"plan_cache_mode=force_custom_plan"}},
)

// bench is a filled database behind a recorder and a meter.
type bench struct {
	meter
	scale
	s   *sqlstore.Store
	rec *recorder

	settings []string // of the transaction whose statements are looked at: calls of set_config
}

// newBench copies what was filled, or fills, a database of the variant's.
func newBench(t *testing.T, v variant, filled map[sqlstore.Dialect]DB) *bench {
	t.Helper()
	sc := testScale(v.dialect)
	d, ok := filled[v.dialect]
	if !ok {
		d = v.database(t)
		s, db := v.handle(t, d)
		migrate(t, s)
		sc.fill(t, v, db)
		sc.fillSide(t, v, db)
		sc.fillEnded(t, v, db)
		db.Close() // nobody may be connected to what is copied
		filled[v.dialect] = d
	}
	if v.dialect == sqlstore.PostgreSQL {
		d = Postgres(t).copyDB(t, d)
	}
	dsn := d.DSN
	for _, p := range v.params {
		dsn = WithParam(dsn, p)
	}
	db, rec := record(t, v.driver, dsn)
	s, err := sqlstore.New(db, v.dialect, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{meter: meter{v, db}, scale: sc, s: s, rec: rec}
}

// TestNoBacklogIsRead looks at plans and at rows read, not at times, with a large backlog.
func TestNoBacklogIsRead(t *testing.T) {
	filled := map[sqlstore.Dialect]DB{}
	for _, v := range planVariants {
		// Not in a subtest: the first database of its kind is there for the others.
		b := newBench(t, v, filled)
		t.Run(v.name+"/questions", b.questions)
		t.Run(v.name+"/states", b.states)
		t.Run(v.name+"/claims", b.claims)
		t.Run(v.name+"/life", b.life)
		t.Run(v.name+"/ended", b.ended)
		t.Run(v.name+"/replay", b.replay)
	}
}

// try measures fn, checks the rows it read against most, and looks at the plans of what it sent.
func (b *bench) try(t *testing.T, what string, most int, fn func()) {
	t.Helper()
	b.rec.take()
	start := time.Now()
	var took time.Duration
	rows := b.measure(t, func() {
		start = time.Now()
		fn()
		took = time.Since(start)
	})
	t.Logf("%s: %d rows read, at most %d expected, %v", what, rows, most, took.Round(10*time.Microsecond))
	if rows > most {
		t.Errorf("%s: %d rows read, want at most %d", what, rows, most)
	}
	b.settings = nil
	for _, st := range b.rec.take() {
		for _, fault := range b.faults(t, st, most) {
			t.Errorf("%s: %s\n%s", what, fault, st.text)
		}
	}
}

// faults explains a statement and names what reads or sorts a backlog.
func (b *bench) faults(t *testing.T, st statement, most int) []string {
	t.Helper()
	word, _, _ := strings.Cut(strings.TrimSpace(st.text), " ")
	word, _, _ = strings.Cut(strings.TrimSpace(word), "\n")
	if !slices.Contains([]string{"SELECT", "WITH", "UPDATE", "DELETE", "INSERT", "(SELECT"}, word) || strings.Contains(st.text, "pg_stat_") {
		return nil
	}
	switch b.v.dialect {
	case sqlstore.PostgreSQL:
		return b.faultsPostgres(t, st, most)
	case sqlstore.SQLite:
		return b.faultsSQLite(t, st)
	}
	return nil // the counters tell all
}

// faultsSQLite: no scan of a stored table without an index, no sort.
func (b *bench) faultsSQLite(t *testing.T, st statement) (faults []string) {
	t.Helper()
	rows, err := b.db.Query("EXPLAIN QUERY PLAN "+st.text, st.args...)
	if err != nil {
		t.Fatalf("explain: %v\n%s", err, st.text)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		if os.Getenv("WEBHOOK_PLANS") != "" {
			t.Log(detail)
		}
		if sqliteWalk(st.text, detail) {
			faults = append(faults, detail)
		}
		byEvent := strings.Contains(st.text, "event_id = ?") || strings.Contains(st.text, "event_id IN") // an event's own deliveries may be sorted
		merged := strings.Contains(st.text, " UNION SELECT id FROM (SELECT id")                          // and the first of several walks
		ties := strings.HasSuffix(detail, "FOR LAST TERM OF ORDER BY")
		if strings.Contains(detail, "TEMP B-TREE") && !byEvent && !merged && !ties {
			faults = append(faults, detail)
		}
	}
	return faults
}

// sqliteWalk tells a step that may walk a backlog: a scan of a stored table, or a search along an index that uses
// less of it than the statement's conditions allow.
func sqliteWalk(text, detail string) bool {
	if strings.Contains(text, "ORDER BY endpoint_id, class, due_at LIMIT 10001") {
		return false // a part of what waits for an endpoint, whichever: that is what it wants
	}
	action, rest, _ := strings.Cut(detail, " ")
	name, rest, _ := strings.Cut(rest, " ")
	stored := strings.HasPrefix(name, "webhook_") || slices.Contains([]string{"q", "d", "b"}, name) // aliases of the big tables
	switch action {
	case "SCAN":
		return stored
	case "SEARCH":
		filtered := strings.Contains(text, "endpoint_id = ?") || strings.Contains(text, "event_id = ?")
		return stored && (filtered && strings.HasSuffix(rest, "(id>?)") || strings.HasSuffix(rest, "queue_due (endpoint_id=?)") ||
			strings.HasSuffix(rest, "delivery_endpoint (endpoint_id=?)"))
	}
	return false
}

// pgNode is a node of a plan as PostgreSQL describes it.
type pgNode struct {
	Type     string   `json:"Node Type"`
	Relation string   `json:"Relation Name"`
	Rows     float64  `json:"Actual Rows"`
	Loops    float64  `json:"Actual Loops"`
	Filtered float64  `json:"Rows Removed by Filter"`
	Joined   float64  `json:"Rows Removed by Join Filter"`
	Plans    []pgNode `json:"Plans"`
}

// setConfig is what ends with its transaction.
var setConfig = regexp.MustCompile(`set_config\('\w+', '\w+', true\)`)

// faultsPostgres runs the statement once more, in a transaction that is rolled back: no sequential scan of a big table, no sort or
// hash of more rows than may be read, and no join that tries more pairs than that.
func (b *bench) faultsPostgres(t *testing.T, st statement, most int) (faults []string) {
	t.Helper()
	tx, err := b.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	// What the store's own transaction set is gone by now.
	for _, set := range b.settings {
		if _, err := tx.Exec("SELECT " + set); err != nil {
			t.Fatal(err)
		}
	}
	b.settings = append(b.settings, setConfig.FindAllString(st.text, -1)...)
	var doc []byte
	if err := tx.QueryRow("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+st.text, st.args...).Scan(&doc); err != nil {
		t.Fatalf("explain: %v\n%s", err, st.text)
	}
	var plans []struct {
		Plan pgNode
		JIT  json.RawMessage
	}
	if err := json.Unmarshal(doc, &plans); err != nil {
		t.Fatal(err)
	}
	if plans[0].JIT != nil {
		faults = append(faults, "compiled")
	}
	var walk func(n pgNode)
	walk = func(n pgNode) {
		rows := int((n.Rows + n.Filtered) * n.Loops)
		switch {
		case n.Type == "Seq Scan" && (n.Relation == "webhook_queue" || n.Relation == "webhook_delivery"):
			faults = append(faults, "Seq Scan on "+n.Relation)
		case (n.Type == "Sort" || n.Type == "Hash") && rows > most, n.Filtered*n.Loops > float64(most):
			faults = append(faults, fmt.Sprintf("%s of %d rows", n.Type, rows))
		case n.Joined*n.Loops > float64(most):
			faults = append(faults, fmt.Sprintf("%s that tries %.0f pairs", n.Type, n.Joined*n.Loops))
		}
		for _, child := range n.Plans {
			walk(child)
		}
	}
	walk(plans[0].Plan)
	return faults
}

// claimLanes claims and checks how many come.
func (b *bench) claimLanes(t *testing.T, limit, want int, lanes []webhook.LaneClaim) []webhook.Claimed {
	t.Helper()
	res, err := b.s.Claim(t.Context(), &webhook.ClaimRequest{Now: at(0), Owner: "bench", Limit: limit, Lanes: lanes})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Deliveries) != want {
		t.Errorf("claimed %d, want %d", len(res.Deliveries), want)
	}
	return res.Deliveries
}

// allLanes is Lanes, which may read so many rows beside those that it must.
func (b *bench) allLanes(t *testing.T, what string, more int) {
	lanes := 1 + 2*b.others
	b.try(t, what, 8*lanes+50+more, func() {
		seen, req := 0, &webhook.LanesRequest{Limit: 256}
		for {
			res, err := b.s.Lanes(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			seen += len(res.Lanes)
			if req.After = res.Next; req.After == (webhook.LaneID{}) {
				break
			}
		}
		if seen != lanes {
			t.Errorf("%d lanes, want %d", seen, lanes)
		}
	})
}

// claims is Lanes, Claim, Extend and Complete.
func (b *bench) claims(t *testing.T) {
	b.allLanes(t, "all lanes", 0)
	var due, future []webhook.LaneClaim
	for i := range min(64, b.others) {
		due = append(due, lane(b.endpoint(i), webhook.Fresh, 16))
		future = append(future, lane(b.endpoint(i), webhook.Retry, 16))
	}
	const most = 100 * 10
	for i := range 7 { // PostgreSQL may change to a generic plan after five
		b.try(t, fmt.Sprint("claim for the others ", i), most, func() { b.claimLanes(t, 100, 100, due[i*8:i*8+8]) })
	}
	b.try(t, "claim of hot and others", most, func() {
		b.claimLanes(t, 100, 100, append([]webhook.LaneClaim{lane("hot", webhook.Fresh, 16)}, due...))
	})
	b.try(t, "claim of hot alone", most, func() { b.claimLanes(t, 100, 100, []webhook.LaneClaim{lane("hot", webhook.Fresh, 100)}) })
	for i := range 7 {
		b.allLanes(t, fmt.Sprint("all lanes, some leased ", i), b.leasedTwice(t))
	}
	b.try(t, "claim of lanes with nothing due", 8*len(future)+50, func() { b.claimLanes(t, 100, 0, future) })
	half := lane("hot", webhook.Fresh, 100)
	half.From = at(-2*time.Hour + time.Duration(b.hot()/2)*time.Microsecond)
	var claimed []webhook.Claimed
	b.try(t, "claim of hot from its middle", most, func() { claimed = b.claimLanes(t, 100, 100, []webhook.LaneClaim{half}) })

	b.try(t, "extension of 50", 50*10, func() {
		var refs []webhook.LeaseRef
		for _, c := range claimed[:50] {
			refs = append(refs, webhook.LeaseRef{EndpointID: "hot", DeliveryID: c.Delivery.ID, Token: c.Token, Until: at(time.Hour)})
		}
		if _, err := b.s.Extend(t.Context(), &webhook.ExtendRequest{Now: at(0), Leases: refs}); err != nil {
			t.Error(err)
		}
	})
	b.try(t, "completion of 100", 100*20, func() { b.completeAll(t, claimed) })
}

// completeAll ends half as delivered and retries half.
func (b *bench) completeAll(t *testing.T, claimed []webhook.Claimed) {
	t.Helper()
	req := &webhook.CompleteRequest{Now: at(0)}
	for i, c := range claimed {
		out := webhook.Outcome{EndpointID: c.Delivery.EndpointID, DeliveryID: c.Delivery.ID, Token: c.Token, Next: webhook.Delivered,
			Attempt: &webhook.Attempt{DeliveryID: c.Delivery.ID, Number: 1, Token: c.Token, StartedAt: at(0), Status: 200}}
		if i%2 == 1 {
			out.Next, out.DueAt, out.Attempt.Status = webhook.RetryScheduled, at(time.Minute), 503
		}
		req.Outcomes = append(req.Outcomes, out)
	}
	res, err := b.s.Complete(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for i, status := range res.Outcomes {
		if status != webhook.Applied {
			t.Fatalf("outcome %d: status %d", i, status)
		}
	}
}
