package dbtest

import (
	"database/sql"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// TestOrderedBacklogIsNotWalked lets 3,000 deliveries of one ordering key wait (100,000 with WEBHOOK_SCALE=full), each sent by itself.
// Claims must get past them soon: about one claim for 1,000 of them, each of them looked at a few times in all. Where they are due in
// no order at all, it takes more, but no claim walks what others have parked.
func TestOrderedBacklogIsNotWalked(t *testing.T) {
	keyed := 3000
	if os.Getenv("WEBHOOK_SCALE") == "full" {
		keyed = 100_000
	}
	orders := []struct {
		name         string
		due          func(i int) time.Duration
		claims, rows int // at most, of claims for 4,000 and of rows for each
	}{
		{"as sent", func(i int) time.Duration { return time.Duration(i) }, 5, 8},
		{"backwards", func(i int) time.Duration { return time.Duration(-i) }, 5, 8},
		{"together", func(int) time.Duration { return 0 }, 5, 8},
		{"at random", func(i int) time.Duration { return time.Duration(i * 7919 % 104_729) }, 20, 20},
	}
	each(t, append(planVariants[:4:4], planVariants[4]), func(t *testing.T, v variant) {
		for _, order := range orders {
			t.Run(order.name, func(t *testing.T) {
				b := longKeyBench(t, v, keyed, func(i int) time.Time { return at(-time.Hour + order.due(i)*time.Microsecond) })
				b.claimPast(t, keyed, keyed*order.claims/4000+10, keyed*order.rows)
			})
		}
	})
}

// longKeyBench is a database with that many deliveries of one key of "ep", and 20 without that are due later.
func longKeyBench(t *testing.T, v variant, keyed int, due func(i int) time.Time) *bench {
	t.Helper()
	d := v.database(t)
	dsn := d.DSN
	for _, p := range v.params {
		dsn = WithParam(dsn, p)
	}
	db, rec := record(t, v.driver, dsn)
	s, err := sqlstore.New(db, v.dialect, nil)
	if err != nil {
		t.Fatal(err)
	}
	migrate(t, s)
	var events []webhook.NewEvent
	for i := range keyed {
		ev := newEvent(fmt.Sprintf("k%06d", i), "ep", "key")
		ev.Deliveries[0].DueAt = due(i)
		events = append(events, ev)
	}
	for i := range 20 {
		events = append(events, newEvent(fmt.Sprintf("u%06d", i), "ep", ""))
	}
	for part := range slices.Chunk(events, 500) {
		enqueue(t.Context(), t, s, part...)
	}
	// As if each had been sent by itself.
	statements := []string{"UPDATE webhook_queue SET class = 0"}
	if v.dialect == sqlstore.PostgreSQL {
		statements = append(statements, "VACUUM ANALYZE webhook_queue")
	}
	for _, text := range statements {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	rec.take()
	return &bench{meter: meter{v, db}, scale: scale{}, s: s, rec: rec}
}

// claimPast claims until it has the first of the key and what has none, and wants that within few claims and rows.
func (b *bench) claimPast(t *testing.T, keyed, most, mostRows int) {
	t.Helper()
	const limit = 10
	total, worst, claims, got := 0, 0, 0, map[string]bool{}
	ask := lane("ep", webhook.Fresh, limit)
	start := time.Now()
	for ; claims < most && len(got) < 21; claims++ {
		rows := b.measure(t, func() {
			res, err := b.s.Claim(t.Context(), &webhook.ClaimRequest{Now: at(0), Owner: "test", Limit: limit, Lanes: []webhook.LaneClaim{ask}})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range res.Deliveries {
				got[c.Delivery.ID] = true
			}
			ask.From = res.Lanes[0].NextFrom
		})
		total, worst = total+rows, max(worst, rows)
	}
	t.Logf("%d claims in %v, %d rows read (%.1f for each of %d parked), %d at most in one claim",
		claims, time.Since(start).Round(time.Millisecond), total, float64(total)/float64(keyed), keyed, worst)
	if len(got) != 21 || !got["k000000"] {
		t.Errorf("%d claims got %d, want the first of the key and the 20 unordered ones", claims, len(got))
	}
	var lanes int
	if err := b.db.QueryRow("SELECT COUNT(*) FROM webhook_queue WHERE class = 2").Scan(&lanes); err != nil && err != sql.ErrNoRows || lanes != keyed-1 {
		t.Errorf("%d parked, %v, want %d", lanes, err, keyed-1)
	}
	// PostgreSQL walks what was parked until it has marked those index entries dead.
	if total > mostRows || worst > 10_000 {
		t.Errorf("%d rows read in all, %d in one claim, want at most %d and 10,000", total, worst, mostRows)
	}
}
