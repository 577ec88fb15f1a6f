package dbtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// states is StateChanges and PutStates, among 1,000 states.
func (b *bench) states(t *testing.T) {
	changes := func(since int64, want int) {
		t.Helper()
		res, err := b.s.StateChanges(t.Context(), since)
		if err != nil || len(res.States) != want {
			t.Fatalf("%d states since %d, %v, want %d", len(res.States), since, err, want)
		}
	}
	for i := range 7 { // PostgreSQL may change to a generic plan after five
		b.try(t, fmt.Sprint("state changes, none ", i), 10, func() { changes(1000, 0) })
		b.try(t, fmt.Sprint("state changes, three ", i), 50, func() { changes(997, 3) })
	}
	var put []webhook.NewState
	for i := range 256 {
		put = append(put, webhook.NewState{EndpointID: b.endpoint(i), Version: int64(i + 1), Doc: []byte("{}")})
	}
	for i := range 3 {
		b.try(t, fmt.Sprint("put of 256 states ", i), 256*12, func() {
			res, err := b.s.PutStates(t.Context(), &webhook.PutStatesRequest{Now: at(0), States: put})
			if err != nil {
				t.Fatal(err)
			}
			for j := range put {
				if res.States[j] != webhook.Applied {
					t.Fatalf("state %d: status %d", j, res.States[j])
				}
				put[j].Version = res.Version
			}
		})
	}
	b.try(t, "put of one state", 50, func() {
		if _, err := b.s.PutStates(t.Context(), &webhook.PutStatesRequest{Now: at(0), States: put[:1]}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWokenIsTold: each store of ours tells, exactly, which lanes an end has let the next of its ordering key into.
func TestWokenIsTold(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		s, _ := v.open(t)
		ctx := t.Context()
		// Each by itself: the second of them is parked by a claim. Then both at once: it is parked as it is stored.
		enqueue(ctx, t, s, newEvent("a1", "a", "key"))
		enqueue(ctx, t, s, newEvent("a2", "a", "key"))
		enqueue(ctx, t, s, newEvent("b1", "b", "key"), newEvent("b2", "b", "key"))
		for _, ep := range []string{"a", "b"} {
			c := claim(ctx, t, s, ep)[ep+"1"]
			claim(ctx, t, s, ep)
			res, err := s.Complete(ctx, &webhook.CompleteRequest{Now: at(time.Second), Outcomes: []webhook.Outcome{
				{EndpointID: ep, DeliveryID: ep + "1", Token: c.Token, Next: webhook.Delivered}}})
			if err != nil {
				t.Fatal(err)
			}
			want := []webhook.Lane{{LaneID: webhook.LaneID{EndpointID: ep}, Earliest: at(0)}}
			if diff := cmp.Diff(want, res.Woken); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
		}
	})
}

// TestStateChangeBlocksNobody changes states in transactions that do not end: neither sends nor claims wait for them, with a rate or without.
func TestStateChangeBlocksNobody(t *testing.T) {
	each(t, mainVariants[1:], func(t *testing.T, v variant) { // SQLite has one writer at a time
		d := v.database(t)
		s, db := v.handle(t, d)
		migrate(t, s)
		limited := lane("a", webhook.Fresh, 1)
		limited.Rate = webhook.Rate{Events: 100}
		claimLimited := func(ctx context.Context) (*webhook.ClaimResult, error) {
			return s.Claim(ctx, &webhook.ClaimRequest{Now: at(0), Owner: "test", Limit: 9, Lanes: []webhook.LaneClaim{limited, lane("b", webhook.Fresh, 1)}})
		}
		enqueue(t.Context(), t, s, newEvent("a0", "a", ""), newEvent("b0", "b", ""))
		if _, err := claimLimited(t.Context()); err != nil {
			t.Fatal(err)
		}
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		for _, text := range []string{
			"UPDATE webhook_endpoint_version SET version = version + 1 WHERE one = 2",
			"UPDATE webhook_endpoint_state SET version = 1",
			"INSERT INTO webhook_endpoint_state (endpoint_id, version, hold_reason) VALUES ('b', 1, '')",
		} {
			if _, err := tx.Exec(text); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		enqueue(ctx, t, s, newEvent("a1", "a", ""), newEvent("b1", "b", "key"))
		res, err := claimLimited(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Deliveries) != 1 || res.Deliveries[0].Delivery.ID != "b1" || !res.Lanes[0].More || res.Lanes[0].RateUntil.IsZero() {
			t.Errorf("got %+v, want b1, and to come again for a", res)
		}
		complete(ctx, t, s, res.Deliveries[0], webhook.Delivered)
	})
}

// TestStatesAndRatesDoNotDeadlock puts states of endpoints half of which get their first row from a rate at the same time, in all orders.
func TestStatesAndRatesDoNotDeadlock(t *testing.T) {
	const rounds, endpoints = 30, 6
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		s, db := v.handle(t, d)
		other, _ := v.handle(t, d)
		migrate(t, s)
		for round := range rounds {
			name := func(i int) string { return fmt.Sprintf("ep%02d-%d", round, i%endpoints) }
			var known []webhook.NewState // the second half
			for i := range endpoints / 2 {
				known = append(known, webhook.NewState{EndpointID: name(endpoints/2 + i)})
			}
			first, err := s.PutStates(t.Context(), &webhook.PutStatesRequest{Now: at(0), States: known})
			if err != nil {
				t.Fatal(err)
			}
			together(6, func(i int) {
				var states []webhook.NewState
				var lanes []webhook.LaneClaim
				for k := range endpoints {
					st := webhook.NewState{EndpointID: name(i + k)}
					if (i+k)%endpoints >= endpoints/2 {
						st.Version = first.Version
					}
					states = append(states, st)
					l := lane(name(i-k+endpoints), webhook.Fresh, 1)
					l.Rate = webhook.Rate{Events: 1}
					lanes = append(lanes, l)
				}
				store := []*sqlstore.Store{s, other}[i/3]
				if i%3 == 0 {
					if _, err := store.PutStates(t.Context(), &webhook.PutStatesRequest{Now: at(0), States: states}); err != nil {
						t.Error(err)
					}
				} else if _, err := store.Claim(t.Context(), &webhook.ClaimRequest{Now: at(0), Owner: "test", Limit: 9, Lanes: lanes}); err != nil {
					t.Error(err)
				}
			})
		}
		// Nobody would notice: the store tries again. But PostgreSQL looks for deadlocks only after a second.
		if v.dialect == sqlstore.PostgreSQL {
			var n int
			if err := db.QueryRow("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&n); err != nil || n > 0 {
				t.Errorf("%d deadlocks, %v", n, err)
			}
		}
	})
}
