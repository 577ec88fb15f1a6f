package dbtest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// leaseBench is an empty PostgreSQL database, and what adds deliveries for "ep" to it, due from a time on.
func leaseBench(t *testing.T, params ...string) (b *bench, add func(n int, due time.Time)) {
	b = longKeyBench(t, variant{"postgres", sqlstore.PostgreSQL, "pgx", params}, 0, nil)
	if _, err := b.db.Exec("DELETE FROM webhook_queue"); err != nil {
		t.Fatal(err)
	}
	made := 0
	return b, func(n int, due time.Time) {
		t.Helper()
		var events []webhook.NewEvent
		for i := range n {
			made++ // with IDs as long as those that are made up
			ev := newEvent(fmt.Sprintf("msg_01jd5t0000000000000%07d", made), "ep", "")
			ev.Deliveries[0].ID = fmt.Sprintf("dlv_01jd5t0000000000000%07d", made)
			ev.Deliveries[0].DueAt = due.Add(time.Duration(i) * time.Microsecond)
			events = append(events, ev)
		}
		for part := range slices.Chunk(events, 500) {
			enqueue(t.Context(), t, b.s, part...)
		}
	}
}

// TestClaimsRewriteRowsInPlace guards what a claim costs in PostgreSQL: no index knows what it changes, and pages have room for it.
func TestClaimsRewriteRowsInPlace(t *testing.T) {
	b, add := leaseBench(t)
	add(4096, at(-time.Hour))
	updates := func() (all, inPlace int) {
		t.Helper()
		b.read(t)
		err := b.db.QueryRow("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'webhook_queue'").Scan(&all, &inPlace)
		if err != nil {
			t.Fatal(err)
		}
		return all, inPlace
	}
	all, inPlace := updates()
	for range 8 {
		res, err := b.s.Claim(t.Context(), &webhook.ClaimRequest{Now: at(0), Owner: "run_01jd5t00000000000000000001", Limit: 512,
			Lanes: []webhook.LaneClaim{lane("ep", webhook.Fresh, 512)}})
		if err != nil || len(res.Deliveries) != 512 {
			t.Fatalf("%d claimed, %v", len(res.Deliveries), err)
		}
	}
	allNow, inPlaceNow := updates()
	if n, in := allNow-all, inPlaceNow-inPlace; n < 4096 || in*20 < n*19 {
		t.Errorf("of %d rows claimed, %d were rewritten in place", n, in)
	}
}

// TestLanesDespiteOldStatistics has statistics of a time when all was leased, and then a backlog: Lanes and its like must not sort it, nor
// be compiled for what the planner believes to be leased.
func TestLanesDespiteOldStatistics(t *testing.T) {
	const leased, waiting = 500, 20_000
	for _, mode := range []string{"auto", "force_generic_plan", "force_custom_plan"} {
		t.Run(mode, func(t *testing.T) {
			b, add := leaseBench(t, "plan_cache_mode="+mode, "jit_above_cost=2000")
			exec := func(text string) {
				t.Helper()
				if _, err := b.db.Exec(text); err != nil {
					t.Fatal(err)
				}
			}
			exec("ALTER TABLE webhook_queue SET (autovacuum_enabled = false)")
			add(leased, at(-2*time.Hour))
			b.claimLanes(t, leased, leased, []webhook.LaneClaim{lane("ep", webhook.Fresh, leased)})
			exec("VACUUM ANALYZE webhook_queue")
			add(waiting, at(-time.Hour))
			b.rec.take()
			for range 7 {
				b.try(t, "lanes", 2*leased+50, func() {
					res, err := b.s.Lanes(t.Context(), &webhook.LanesRequest{Limit: 256})
					if err != nil || len(res.Lanes) != 1 || !res.Lanes[0].Earliest.Equal(at(-time.Hour)) || !res.Lanes[0].From.Equal(at(-2*time.Hour)) {
						t.Errorf("lanes %+v, %v", res, err)
					}
				})
				b.try(t, "backlog", 2*leased+50, func() {
					res, err := b.s.Backlog(t.Context(), &webhook.BacklogRequest{Now: at(0)})
					if err != nil || len(res.Endpoints) != 1 || !res.Endpoints[0].OldestDue.Equal(at(-time.Hour)) {
						t.Errorf("backlog %+v, %v", res, err)
					}
				})
			}
			for range 7 {
				b.try(t, "claim", 3*leased, func() { b.claimLanes(t, 10, 10, []webhook.LaneClaim{lane("ep", webhook.Fresh, 10)}) })
			}
		})
	}
}
