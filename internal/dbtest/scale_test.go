package dbtest

import (
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// scale is the backlog that plans are looked at with: one endpoint, "hot", has nine tenths of it, all due and
// older than any other; ten deliveries an event. Each of the others has 50 due and 50 that are due later; all of theirs expire
// from two hours after at(0) on, one each microsecond.
type scale struct {
	rows   int
	others int
}

// testScale is 100,000 rows, and 1,000,000 with WEBHOOK_SCALE=full. SQLite, slow under the race detector, gets fewer: its plans do
// not depend on how many there are.
func testScale(d sqlstore.Dialect) scale {
	switch {
	case os.Getenv("WEBHOOK_SCALE") == "full":
		return scale{rows: 1_000_000, others: 1000}
	case d == sqlstore.SQLite:
		return scale{rows: 20_000, others: 100}
	}
	return scale{rows: 100_000, others: 100}
}

func (sc scale) hot() int { return sc.rows - 100*sc.others }

func (sc scale) endpoint(i int) string { return fmt.Sprintf("ep%05d", i) }

// fill writes the backlog straight into the tables, as of at(0).
func (sc scale) fill(t *testing.T, v variant, db *sql.DB) {
	t.Helper()
	pad := "CONCAT('%s', LPAD(%s, %d, '0'))"
	switch v.dialect {
	case sqlstore.PostgreSQL:
		pad = "'%s' || lpad((%s)::text, %d, '0')"
	case sqlstore.SQLite:
		pad = "printf('%s%%0*d', %[3]d, %[2]s)"
	}
	div := "/"
	if v.dialect == sqlstore.MySQL {
		div = " DIV "
	}
	base := at(0).UnixMicro()
	insert := `INSERT INTO webhook_queue (id, event_id, endpoint_id, class, due_at, token, seq, created_at, attempts) `
	statements := []string{
		fmt.Sprintf(`INSERT INTO webhook_event (id, type, tenant, ordering_key, payload, deliveries, created_at)
SELECT %s, 'order_create', '', '', '{}', 10, %d FROM (%s) n`, fmt.Sprintf(pad, "ev", "i", 9), base, integers(sc.rows/10)),
		insert + fmt.Sprintf(`SELECT %s, %s, 'hot', 0, %d + i, 0, 0, %d, 0 FROM (%s) n`,
			fmt.Sprintf(pad, "d", "i", 9), fmt.Sprintf(pad, "ev", "i"+div+"10", 9), base-3600e6*2, base, integers(sc.hot())),
		// For the others, i / 100 is the endpoint, and of each 100 the first 50 are fresh and due.
		strings.Replace(insert, ")", ", expires_at)", 1) + fmt.Sprintf(`SELECT %s, %s, %s, CASE WHEN i %% 100 < 50 THEN 0 ELSE 1 END,
CASE WHEN i %% 100 < 50 THEN %d + i ELSE %d + i END, 0, 0, %d, CASE WHEN i %% 100 < 50 THEN 0 ELSE 1 END, %d + i FROM (%s) n`,
			fmt.Sprintf(pad, "e", "i", 9), fmt.Sprintf(pad, "ev", fmt.Sprintf("(i + %d)%s10", sc.hot(), div), 9), fmt.Sprintf(pad, "ep", "i"+div+"100", 5), base-3600e6, base+3600e6, base, base+7200e6, integers(100*sc.others)),
		`INSERT INTO webhook_delivery (id, event_id, endpoint_id, ordering_key, seq, state, reason, attempts, created_at)
SELECT id, event_id, endpoint_id, '', 0, 'queued', '', 0, created_at FROM webhook_queue`,
		`INSERT INTO webhook_expiry (expires_at, id) SELECT expires_at, id FROM webhook_queue WHERE expires_at IS NOT NULL`,
	}
	switch v.dialect {
	case sqlstore.PostgreSQL:
		statements = append(statements, "ANALYZE")
	case sqlstore.MySQL:
		statements = append(statements, "ANALYZE TABLE webhook_queue, webhook_delivery, webhook_event")
	}
	start := time.Now()
	for _, st := range statements {
		if _, err := db.Exec(st); err != nil {
			t.Fatalf("%s: %v", st, err)
		}
	}
	var n int
	if err := db.QueryRow("SELECT COUNT(*) FROM webhook_queue").Scan(&n); err != nil || n != sc.rows {
		t.Fatalf("%d rows, %v", n, err)
	}
	t.Logf("%d rows in %v", n, time.Since(start).Round(time.Millisecond))
}

// integers selects i from 0 to n-1, on any database.
func integers(n int) string {
	const digits = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 " +
		"UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)"
	sum, from := "0", ""
	for i, power := 0, 1; power < n; i, power = i+1, power*10 {
		sum += fmt.Sprintf(" + %d*t%d.d", power, i)
		from += fmt.Sprintf(", %s t%d", digits, i)
	}
	return fmt.Sprintf("SELECT * FROM (SELECT %s AS i FROM %s) a WHERE i < %d", sum, strings.TrimPrefix(from, ", "), n)
}

// lane names a lane for a claim.
func lane(endpoint string, class webhook.Class, most int) webhook.LaneClaim {
	return webhook.LaneClaim{LaneID: webhook.LaneID{EndpointID: endpoint, Class: class}, Max: most, Lease: time.Minute}
}
